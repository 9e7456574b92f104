/** What can be done with the moment that is watched: where playing ends, and files of it. */

import { asApiError, isAborted } from "./api.js";
import { byId } from "./dom.js";
import { sentence, span } from "./format.js";
import { momentRows, saveFrom, saveText, toCsv, toEdl } from "./momentfiles.js";
import { waitForCopy } from "./player.js";
import { remember, remembered } from "./storage.js";

/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {import("./api.js").Result} Result */
/** @typedef {import("./api.js").Video} Video */

export class MomentTools {
  #place = byId("moment-tools");
  #save = byId("clip-save");
  #state = byId("clip-state");
  #atEnd = byId("at-end");
  #working = new AbortController();
  /** @type {Moment | null} */
  #moment = null;
  /** @type {Video | null} */
  #video = null;
  /** @type {Result | null} */
  #result = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {() => import("./player.js").Player | null} player
   * @param {(like: import("./state.js").Like) => void} onLike Videos are wanted that look like this moment.
   */
  constructor(api, player, onLike) {
    byId("more-like").addEventListener("click", () => {
      const [video, moment] = [this.#video, this.#moment];
      if (video && moment) onLike({ id: video.id, start: rounded(moment.start), end: rounded(moment.end) });
    });
    this.api = api;
    this.player = player;
    this.#atEnd.value = remembered("at-end") ?? "stop";
    if (this.#atEnd.selectedIndex < 0) this.#atEnd.value = "stop";
    this.#atEnd.addEventListener("change", () => {
      remember("at-end", this.#atEnd.value);
      this.#tellPlayer();
    });
    this.#save.addEventListener("click", () => this.#saveClip());
    byId("moments-csv").addEventListener("click", () => saveMoments("csv", this.#results, this.#name));
    byId("moments-edl").addEventListener("click", () => saveMoments("edl", this.#results, this.#name));
  }

  /** @param {Video} video @param {Result | null} result @param {Moment | null} moment The one that is watched. */
  show(video, result, moment) {
    this.#video = video;
    this.#result = result;
    this.moment = moment ?? (result && result.start !== null && result.end !== null ? bestOf(result) : null);
  }

  /** @param {Moment | null} moment */
  set moment(moment) {
    this.#moment = moment;
    this.#place.hidden = moment === null || this.#video === null;
    if (!moment) return;
    this.#save.textContent = `Save clip ${span(moment.start, moment.end)}`;
    this.#save.hidden = !this.#video?.media;
    this.#state.textContent = "";
    this.#tellPlayer();
  }

  clear() {
    this.#working.abort();
    this.#working = new AbortController();
    this.#video = this.#result = null;
    this.moment = null;
    this.#save.disabled = false;
  }

  get #results() {
    return this.#result ? [this.#result] : [];
  }

  get #name() {
    return this.#video?.id ?? "";
  }

  #tellPlayer() {
    const player = this.player();
    if (!player) return;
    player.part = this.#moment;
    player.atEnd = this.#atEnd.value;
  }

  async #saveClip() {
    const [video, moment] = [this.#video, this.#moment];
    if (!video || !moment) return;
    const { signal } = this.#working;
    const address = this.api.clip(video.id, video.index, moment.start, moment.end);
    this.#save.disabled = true;
    try {
      await waitForCopy(this.api, address, "Cutting", (text) => (this.#state.textContent = text), signal);
      saveFrom(address);
      this.#state.textContent = "Saved";
    } catch (error) {
      if (isAborted(error)) return;
      const { message, remedy } = asApiError(error);
      this.#state.textContent = `${sentence(message)} ${remedy}`;
    } finally {
      if (!signal.aborted) this.#save.disabled = false;
    }
  }
}

/** @param {"csv" | "edl"} kind @param {Result[]} results @param {string} name Of the file. */
export function saveMoments(kind, results, name) {
  saveRows(kind, momentRows(results), name);
}

/** @param {"csv" | "edl"} kind @param {import("./momentfiles.js").MomentRow[]} rows @param {string} name Of the file. */
export function saveRows(kind, rows, name) {
  const file = `${name.replace(/^.*[\\/]/, "").replace(/[^\p{L}\p{N} ._-]/gu, "_").slice(0, 80) || "moments"}.${kind}`;
  if (kind === "csv") saveText(file, toCsv(rows), "text/csv");
  else saveText(file, toEdl(rows, name), "text/plain");
}

/** @param {number} seconds */
function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

/** @param {Result} result @returns {Moment} */
function bestOf({ start, end, score, window }) {
  return { start: start ?? 0, end: end ?? 0, score, window: window ?? "" };
}
