/** Keys that work everywhere on the page. */

import { byId, takesText } from "./dom.js";

/** @param {{onStep: (step: number) => void, onDown: () => void, isOpen: () => boolean}} actions */
export function installShortcuts(actions) {
  const query = byId("query");
  const help = byId("help");
  byId("help-open").addEventListener("click", () => help.showModal());
  help.addEventListener("click", (/** @type {Event} */ event) => event.target === help && help.close());
  query.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "ArrowDown" || event.isComposing) return;
    event.preventDefault();
    actions.onDown();
  });
  document.addEventListener("keydown", (event) => {
    if (takesText(event.target) || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.key === "?") help.showModal();
    else if (event.key === "/" && !actions.isOpen()) query.select();
    else if (event.key === "[" && actions.isOpen()) actions.onStep(-1);
    else if (event.key === "]" && actions.isOpen()) actions.onStep(1);
    else return;
    event.preventDefault();
  });
}
