/** Playing a moment, muted, while its card is pointed at or focused. */

import { make, reducedMotion } from "./dom.js";

const PAUSE = 250;
const LEAST_SECONDS = 1;

/**
 * @param {HTMLElement} card What is pointed at.
 * @param {HTMLElement} picture Where the video is laid over.
 * @param {string} media
 * @param {number | null} start
 * @param {number | null} end
 */
export function previewOn(card, picture, media, start, end) {
  let timer = 0;
  /** @type {HTMLVideoElement | null} */
  let video = null;
  const stop = () => {
    window.clearTimeout(timer);
    if (video) drop(video);
    video = null;
  };
  const begin = () => {
    stop();
    if (reducedMotion()) return;
    timer = window.setTimeout(() => {
      const shown = overlay(media, start ?? 0, end);
      picture.append(shown);
      video = shown;
    }, PAUSE);
  };
  card.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && begin());
  card.addEventListener("pointerleave", stop);
  card.addEventListener("focus", () => card.matches(":focus-visible") && begin());
  card.addEventListener("blur", stop);
  card.addEventListener("click", stop);
}

/** @param {string} media @param {number} start @param {number | null} end @returns {HTMLVideoElement} */
function overlay(media, start, end) {
  const video = make("video", { class: "preview", playsinline: true, tabindex: "-1", "aria-hidden": "true" });
  const last = end === null ? Infinity : Math.max(end, start + LEAST_SECONDS);
  const again = () => {
    video.currentTime = start;
    video.play().catch(() => drop(video));
  };
  video.muted = true;
  video.addEventListener("timeupdate", () => video.currentTime >= last && again());
  video.addEventListener("ended", again);
  video.addEventListener("playing", () => video.classList.add("ready"), { once: true });
  video.addEventListener("error", () => video.remove());
  video.src = `${media}#t=${start}`;
  video.play().catch(() => drop(video));
  return video;
}

/** @param {HTMLVideoElement} video End its download too. */
function drop(video) {
  video.remove();
  video.pause();
  video.removeAttribute("src");
  video.load();
}
