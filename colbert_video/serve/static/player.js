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
    this.#time = seconds;
    this.onTime(seconds, settled);
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
        await this.#convert(address, (text) => (state.textContent = text));
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

  /** @param {string} address @param {(text: string) => void} tell */
  async #convert(address, tell) {
    const begun = Date.now();
    for (;;) {
      const { ready, seconds } = await this.api.copy(address, this.#stopped.signal);
      if (ready) return;
      tell(`Converting… ${Math.round((Date.now() - begun) / 1000)} s`);
      await pause(seconds * 1000, this.#stopped.signal);
    }
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
