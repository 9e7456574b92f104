/** Pictures of moments; the service decodes a few at a time, so that one may have to be asked for again. */

import { make } from "./dom.js";

const WAITS = [1500, 4000, 10000];
const NARROWEST = 4 / 5;
const WIDEST = 16 / 9;

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
  picture.addEventListener("load", () => {
    picture.classList.remove("broken");
    shapePlace(picture);
  });
  picture.src = address;
  return picture;
}

/** @param {HTMLImageElement} picture Give its place its shape, within limits, and those that still wait the same. */
function shapePlace(picture) {
  const place = picture.parentElement;
  if (!place?.classList.contains("picture") || !picture.naturalHeight) return;
  const shape = Math.min(Math.max(picture.naturalWidth / picture.naturalHeight, NARROWEST), WIDEST).toFixed(3);
  place.style.aspectRatio = shape;
  const list = /** @type {HTMLElement | null} */ (place.closest(".results"));
  if (list && !list.style.getPropertyValue("--shape")) list.style.setProperty("--shape", shape);
}

/** @param {string} address @param {number} time @param {number} [width] @returns {string} The picture of another moment. */
export function pictureAt(address, time, width = 640) {
  const [path, query] = address.split("?");
  const parameters = new URLSearchParams(query);
  parameters.set("t", time.toFixed(2));
  parameters.set("width", String(width));
  return `${path}?${parameters}`;
}
