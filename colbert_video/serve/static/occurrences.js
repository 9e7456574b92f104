/** Every part of the open video in which the words are met: marks below the timeline, and a list, in the order of time. */

import { isAborted } from "./api.js";
import { button, byId, make } from "./dom.js";
import { count, score, span } from "./format.js";
import { saveRows } from "./momenttools.js";

/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {import("./api.js").Video} Video */

/** Parts that are listed and marked; files have all of them. */
const MOST_SHOWN = 200;

export class Occurrences {
  #place = byId("occurrences");
  /** @type {Moment[]} */
  #found = [];
  /** @type {Video | null} */
  #video = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./timeline.js").Timeline} timeline
   * @param {(moment: Moment) => void} onPlay
   */
  constructor(api, timeline, onPlay) {
    this.api = api;
    this.timeline = timeline;
    this.onPlay = onPlay;
  }

  clear() {
    this.#found = [];
    this.#video = null;
    this.#place.hidden = true;
    this.#place.replaceChildren();
  }

  /** @param {Video} video @param {string} query @param {string} index @param {AbortSignal} signal */
  async show(video, query, index, signal) {
    this.clear();
    if (!query || !video.duration) return;
    this.#video = video;
    try {
      const { occurrences } = await this.api.occurrences(query, video.id, index, signal);
      if (this.#video !== video || !occurrences.length) return;
      if (occurrences.length === 1 && !video.windows.length) return; // the best moment of a short clip, which is shown already
      this.#found = occurrences;
    } catch (error) {
      if (!isAborted(error)) this.clear(); // an index without times knows none
      return;
    }
    const shown = this.#found.slice(0, MOST_SHOWN);
    this.timeline.lane(shown, this.onPlay);
    this.#place.replaceChildren(this.#head(), make("ol", { class: "chips occurrence-list", tabindex: 0, "aria-label": "Every place" }, ...shown.map((one) => this.#item(one))));
    if (shown.length < this.#found.length) this.#place.append(make("p", { class: "heat-note", text: `The first ${shown.length}; the files have all.` }));
    this.#place.hidden = false;
  }

  /** @param {number} seconds Tell which one is being watched. */
  mark(seconds) {
    for (const chip of this.#place.querySelectorAll(".chip")) {
      const inside = seconds >= Number(chip.dataset.start) && seconds < Number(chip.dataset.end);
      chip.setAttribute("aria-current", String(inside));
    }
  }

  #head() {
    const files = /** @type {("csv" | "edl")[]} */ (["csv", "edl"]).map((kind) =>
      button(kind.toUpperCase(), () => this.#save(kind), { class: "link", "aria-label": `Save every place as ${kind === "csv" ? "a table (CSV)" : "a cut list (EDL)"}` }),
    );
    return make("div", { class: "occurrence-head" }, make("h3", { text: `Every place: ${count(this.#found.length, "part")}` }), ...files);
  }

  /** @param {Moment} moment */
  #item(moment) {
    const chip = button(span(moment.start, moment.end), () => this.onPlay(moment), {
      class: "chip", "data-start": moment.start, "data-end": moment.end, title: "Play this part",
    });
    chip.append(make("span", { class: "chip-score", text: score(moment.score) }));
    return make("li", {}, chip);
  }

  /** @param {"csv" | "edl"} kind */
  #save(kind) {
    const video = this.#video;
    if (!video) return;
    const { id, frame_rate: rate } = video;
    saveRows(kind, this.#found.map(({ start, end, score: own }) => ({ id, text: id, rate, start, end, score: own })), id);
  }
}
