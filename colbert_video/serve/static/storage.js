/** Small choices kept in this browser; without storage they last as long as the page. */

const PREFIX = "colbert_video.";

/** @param {string} name @returns {string | null} */
export function remembered(name) {
  try {
    return window.localStorage.getItem(PREFIX + name);
  } catch {
    return null; // storage is switched off
  }
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try {
    window.localStorage.setItem(PREFIX + name, value);
  } catch {
    // storage is full or switched off: the choice is not kept
  }
}
