/** Pictures of moments; the service decodes a few at a time, so that one may have to be asked for again. */

import { make } from "./dom.js";

const WAITS = [1500, 4000, 10000];

/**
 * @param {string} address
 * @param {{eager?: boolean}} [how] `eager`: load it also while it is out of sight.
 * @returns {HTMLImageElement}
 */
export function loadPicture(address, { eager = false } = {}) {
  const picture = make("img", { alt: "", loading: eager ? "eager" : "lazy", decoding: "async" });
  let tried = 0;
  picture.addEventListener("error", () => {
    picture.classList.add("broken");
    if (tried < WAITS.length) window.setTimeout(() => (picture.src = picture.src), WAITS[tried++]);
  });
  picture.addEventListener("load", () => picture.classList.remove("broken"));
  picture.src = address;
  return picture;
}

/** @param {string} address @param {number} time @param {number} [width] @returns {string} The picture of another moment. */
export function pictureAt(address, time, width = 640) {
  const [path, query] = address.split("?");
  const parameters = new URLSearchParams(query);
  parameters.set("t", time.toFixed(2));
  parameters.set("width", String(width));
  return `${path}?${parameters}`;
}
