/** Making elements. Text only ever becomes text: nothing in this page is parsed as HTML. */

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [properties] `text` is the element's text, the
 *   others are attributes; true gives an empty one, false, null and undefined none.
 * @param {...(Node | string)} children
 * @returns {any} The element.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "text") element.textContent = String(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * @param {string} text
 * @param {() => void} action
 * @param {Record<string, string | number | boolean | null | undefined>} [properties]
 * @returns {HTMLButtonElement}
 */
export function button(text, action, properties = {}) {
  const made = make("button", { type: "button", text, ...properties });
  made.addEventListener("click", action);
  return made;
}

/** @param {string} id @returns {any} The element of the page that has this id. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

/** @returns {boolean} Whether people asked for little motion. */
export function reducedMotion() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** @param {EventTarget | null} target @returns {boolean} Whether keys typed there are text. */
export function takesText(target) {
  return target instanceof HTMLElement && target.closest("input, textarea, select") !== null;
}
