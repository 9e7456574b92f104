/** Showing a video: as it is, as a copy made for browsers, or as a flip-book of pictures. */

import { asApiError, isAborted } from "./api.js";
import { button, make, reducedMotion } from "./dom.js";
import { sentence } from "./format.js";
import { FlipBook } from "./flipbook.js";

/** @typedef {import("./api.js").Video} Video */

export class Player {
  #stopped = new AbortController();
  /** @type {HTMLVideoElement | FlipBook | null} */
  #shown = null;
  #time = 0;
  /** @type {{start: number, end: number} | null} The moment that is played, at whose end playing stops or begins again. */
  part = null;
  /** @type {"stop" | "loop" | "on"} */
  atEnd = "stop";

  /**
   * @param {HTMLElement} place
   * @param {import("./api.js").Api} api
   * @param {(seconds: number, settled: boolean) => void} onTime `settled`: playing stopped there.
   */
  constructor(place, api, onTime) {
    this.place = place;
    this.api = api;
    this.onTime = onTime;
  }

  /** @param {Video} video @param {number} start @param {boolean} play Begin to play, muted. */
  show(video, start, play) {
    this.#time = start;
    if (video.playable && video.media) this.#showVideo(video, video.media, play && !reducedMotion());
    else if (video.media && video.thumbnail) this.#showPictures(video, video.reason);
    else this.#note(video.reason ?? "There is no file for this video.");
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#time = seconds;
    if (this.#shown instanceof FlipBook) this.#shown.seek(seconds);
    else if (this.#shown) this.#shown.currentTime = seconds;
    if (this.#shown) this.onTime(seconds, true);
  }

  /** @param {number} seconds Go there and play on, where that is possible. */
  playFrom(seconds) {
    this.seek(seconds);
    if (this.#shown instanceof HTMLVideoElement) this.#shown.play().catch(() => {}); // a browser may want a click first
  }

  /** @returns {boolean} Whether there is anything to see. */
  get isShowing() {
    return this.#shown !== null;
  }

  /** @returns {number} Seconds. */
  get time() {
    return this.#time;
  }

  close() {
    this.#stopped.abort();
    this.#drop();
    this.place.replaceChildren();
  }

  /** @param {Video} video @param {string} address @param {boolean} play */
  #showVideo(video, address, play) {
    this.#drop();
    const made = make("video", { controls: true, playsinline: true, preload: "auto", "aria-label": "Player" });
    made.muted = play;
    made.addEventListener("loadedmetadata", () => (made.currentTime = this.#time), { once: true });
    made.addEventListener("loadeddata", () => play && made.play().catch(() => {}), { once: true });
    for (const name of ["seeked", "pause"]) made.addEventListener(name, () => this.#moved(made.currentTime, made.paused));
    made.addEventListener("error", () => this.#shown === made && this.#showPictures(video, "This browser cannot play the file."));
    made.src = address;
    this.#shown = made;
    this.place.replaceChildren(made);
    this.#follow(made);
  }

  /** @param {HTMLVideoElement} made Tell the time with every picture, as `timeupdate` comes too rarely. */
  #follow(made) {
    if (this.#shown !== made) return;
    if (!made.paused) this.#moved(made.currentTime, false);
    window.requestAnimationFrame(() => this.#follow(made));
  }

  /** @param {number} seconds @param {boolean} settled */
  #moved(seconds, settled) {
    const before = this.#time;
    this.#time = seconds;
    if (!settled) this.#watchEnd(before, seconds);
    this.onTime(seconds, settled);
  }

  /** @param {number} before @param {number} seconds Stop, or begin again, once the moment's end is passed. */
  #watchEnd(before, seconds) {
    if (!this.part || this.atEnd === "on" || !(this.#shown instanceof HTMLVideoElement)) return;
    const { start, end } = this.part;
    const last = Math.min(end, this.#shown.duration - 0.05 || end); // some end before what their index says
    if (before >= last || seconds < last) return;
    if (this.atEnd === "loop") this.#shown.currentTime = start;
    else this.#shown.pause();
  }

  /** @param {Video} video @param {string | null} reason */
  #showPictures(video, reason) {
    this.#drop();
    const book = new FlipBook(video, this.#time, (seconds) => this.#moved(seconds, true));
    this.#shown = book;
    const note = make("div", { class: "player-note" }, make("p", { text: sentence(reason ?? "browsers cannot play this file") }));
    if (video.copy) note.append(this.#converter(video, video.copy));
    this.place.replaceChildren(book.element, note);
  }

  /** @param {Video} video @param {string} address Offers a copy that browsers play. */
  #converter(video, address) {
    const state = make("span", { role: "status" });
    const start = button("Convert to play", async () => {
      start.disabled = true;
      try {
        await waitForCopy(this.api, address, "Converting", (text) => (state.textContent = text), this.#stopped.signal);
        this.#showVideo({ ...video, copy: null }, address, !reducedMotion());
      } catch (error) {
        if (isAborted(error)) return;
        const { message, remedy } = asApiError(error);
        state.textContent = `${sentence(message)} ${remedy}`;
        start.disabled = false;
      }
    }, { class: "main" });
    return make("p", { class: "convert" }, start, state);
  }

  /** @param {string} text */
  #note(text) {
    this.#drop();
    this.place.replaceChildren(make("p", { class: "player-note missing", text: sentence(text) }));
  }

  #drop() {
    const shown = this.#shown;
    this.#shown = null;
    if (shown instanceof FlipBook) shown.close();
    else if (shown) {
      shown.pause();
      shown.removeAttribute("src");
      shown.load();
    }
  }
}

/**
 * Ask for a copy or a clip until the service has made it.
 * @param {import("./api.js").Api} api
 * @param {string} address
 * @param {string} work What is being done, for people.
 * @param {(text: string) => void} tell
 * @param {AbortSignal} signal
 */
export async function waitForCopy(api, address, work, tell, signal) {
  const begun = Date.now();
  for (;;) {
    const { ready, seconds } = await api.copy(address, signal);
    if (ready) return;
    tell(`${work}… ${Math.round((Date.now() - begun) / 1000)} s`);
    await pause(seconds * 1000, signal);
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = window.setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
