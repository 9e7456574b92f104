/** A video as a row of pictures, for files that browsers do not play. */

import { button, make } from "./dom.js";
import { time } from "./format.js";
import { loadPicture, pictureAt } from "./pictures.js";

const PAGES = 12;
const PAGE_SECONDS = 0.6;

export class FlipBook {
  #timer = 0;

  /**
   * @param {import("./api.js").Video} video With a thumbnail.
   * @param {number} start Seconds.
   * @param {(seconds: number) => void} onTime
   */
  constructor(video, start, onTime) {
    this.thumbnail = /** @type {string} */ (video.thumbnail);
    this.times = pageTimes(video);
    this.onTime = onTime;
    this.picture = loadPicture(pictureAt(this.thumbnail, start), { eager: true });
    this.label = make("output", { class: "number", text: time(start) });
    this.slider = make("input", { type: "range", min: 0, max: this.times.length - 1, step: 1, value: this.#page(start), "aria-label": "Picture" });
    this.slider.addEventListener("input", () => this.#turn(Number(this.slider.value)));
    this.play = button("Flip through", () => (this.#timer ? this.#stop() : this.#start()), { class: "quiet wide" });
    const controls = make("div", { class: "flip-controls" }, this.play, this.slider, this.label);
    this.element = make("div", { class: "flip" }, this.picture, controls);
    this.picture.alt = `Picture at ${time(start)}`;
  }

  /** @param {number} seconds Show the picture of exactly this time. */
  seek(seconds) {
    this.slider.value = String(this.#page(seconds));
    this.#show(seconds);
  }

  close() {
    this.#stop();
  }

  #start() {
    this.play.textContent = "Stop";
    const next = () => this.#turn((Number(this.slider.value) + 1) % this.times.length);
    this.#timer = window.setInterval(next, PAGE_SECONDS * 1000);
    next();
  }

  #stop() {
    this.play.textContent = "Flip through";
    window.clearInterval(this.#timer);
    this.#timer = 0;
  }

  /** @param {number} page */
  #turn(page) {
    this.slider.value = String(page);
    this.#show(this.times[page]);
    this.onTime(this.times[page]);
  }

  /** @param {number} seconds */
  #show(seconds) {
    this.picture.src = pictureAt(this.thumbnail, seconds);
    this.picture.alt = `Picture at ${time(seconds)}`;
    this.label.textContent = time(seconds);
    this.slider.setAttribute("aria-valuetext", time(seconds));
  }

  /** @param {number} seconds @returns {number} The last page that is not after it. */
  #page(seconds) {
    const next = this.times.findIndex((at) => at > seconds + 1e-3);
    return next < 0 ? this.times.length - 1 : Math.max(next - 1, 0);
  }
}

/** @param {import("./api.js").Video} video @returns {number[]} The sampled frames, or times spread over the video. */
function pageTimes(video) {
  if (video.frame_times.length) return video.frame_times;
  const duration = video.duration ?? 0;
  return duration ? Array.from({ length: PAGES }, (_, page) => ((page + 0.5) * duration) / PAGES) : [0];
}
