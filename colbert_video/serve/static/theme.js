/** Light and dark: the system's choice until the switch is used, which is remembered. */

import { make } from "./dom.js";
import { remember, remembered } from "./storage.js";

const ORDER = ["system", "light", "dark"];
/** @type {Record<string, string>} */
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

/**
 * Let a button go through system, light and dark.
 * @param {HTMLButtonElement} button
 */
export function installTheme(button) {
  let theme = remembered("theme") ?? "system";
  if (!ORDER.includes(theme)) theme = "system";
  const show = () => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
    button.title = `Theme: ${theme}`;
    button.replaceChildren(make("span", { "aria-hidden": "true", text: SIGNS[theme] }));
  };
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    remember("theme", theme);
    show();
  });
  show();
}
