/** All videos of an index as a wall of pictures: the newest first, and more as one scrolls. */

import { asApiError, isAborted } from "./api.js";
import { focusCard, moveAmong, skeletons } from "./cards.js";
import { captionOf } from "./captions.js";
import { button, byId, make } from "./dom.js";
import { count, sentence, time } from "./format.js";
import { loadPicture } from "./pictures.js";
import { previewOn } from "./preview.js";

/** @typedef {import("./api.js").ListedVideo} ListedVideo */

const PAGE = 40;
const SKELETONS = 8;
/** How far below the screen the end may be before more is asked for. */
const AHEAD = "800px";

export class Wall {
  #list = byId("wall");
  #end = byId("wall-end");
  #loading = new AbortController();
  #index = "";
  #where = "";
  #next = "";
  #busy = false;

  /** @param {import("./api.js").Api} api @param {(id: string) => void} onOpen */
  constructor(api, onOpen) {
    this.api = api;
    this.onOpen = onOpen;
    this.#list.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => moveAmong(this.#tiles, event));
    const seen = (/** @type {IntersectionObserverEntry[]} */ entries) => entries.some((entry) => entry.isIntersecting) && this.#more();
    new IntersectionObserver(seen, { rootMargin: AHEAD }).observe(this.#end);
  }

  /** @param {string} index @param {string} where A filter; empty for all videos. */
  async show(index, where) {
    this.clear();
    this.#loading = new AbortController();
    [this.#index, this.#where] = [index, where];
    this.#list.replaceChildren(...skeletons(SKELETONS));
    await this.#load("");
  }

  clear() {
    this.#loading.abort();
    this.#next = "";
    this.#busy = false;
    this.#list.replaceChildren();
    this.#end.replaceChildren();
  }

  /** @returns {boolean} Whether there was a picture to go to. */
  focusFirst() {
    this.#tiles[0]?.focus();
    return this.#tiles.length > 0;
  }

  /** @param {string} id @returns {boolean} Whether the video is on the wall. */
  focus(id) {
    const tile = this.#tiles.find((one) => one.dataset.id === id);
    focusCard(tile);
    return tile !== undefined;
  }

  get #tiles() {
    return /** @type {HTMLElement[]} */ ([...this.#list.querySelectorAll(".tile")]);
  }

  #more() {
    if (this.#next && !this.#busy) void this.#load(this.#next);
  }

  /** @param {string} after */
  async #load(after) {
    const { signal } = this.#loading;
    this.#busy = true;
    try {
      const { videos, next } = await this.api.newest(this.#index, this.#where, PAGE, after, signal);
      if (!after) this.#list.replaceChildren();
      this.#list.append(...videos.map((video) => make("li", {}, this.#tile(video))));
      this.#next = next ?? "";
      this.#end.replaceChildren(...(next ? [button("More videos", () => this.#more(), { class: "quiet wide" })] : []));
      if (!after && !videos.length && this.#where) this.#end.replaceChildren(make("p", { text: "No video passes the filters." }));
      this.#busy = false;
      if (this.#end.getBoundingClientRect().top < window.innerHeight) this.#more(); // the observer reports changes alone
    } catch (error) {
      if (isAborted(error)) return;
      this.#busy = false;
      const { message, remedy } = asApiError(error);
      if (!after) this.#list.replaceChildren();
      this.#end.replaceChildren(make("p", { class: "problem-text", text: `${sentence(message)} ${remedy}` }));
    }
  }

  /** @param {ListedVideo} video */
  #tile(video) {
    const picture = make("span", { class: "picture" });
    picture.append(video.thumbnail ? loadPicture(video.thumbnail) : make("span", { class: "no-picture", text: "no file" }));
    if (video.duration) picture.append(make("span", { class: "moment", text: time(video.duration) }));
    const caption = captionOf(video.metadata, video.id);
    const words = make("span", { class: "words" }, make("span", { class: "title", text: caption }));
    const facts = [caption === video.id ? "" : video.id, video.windows ? count(video.windows, "part") : ""].filter(Boolean);
    if (facts.length) words.append(make("span", { class: "facts", text: facts.join(" · ") }));
    const tile = make("button", { type: "button", class: "tile", "data-id": video.id }, picture, words);
    tile.addEventListener("click", () => this.onOpen(video.id));
    if (video.playable && video.media) previewOn(tile, picture, video.media, video.start, video.end);
    return tile;
  }
}
