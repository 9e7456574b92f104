/** The dialog of one video: its player, its moments, and why it was found. */

import { asApiError, isAborted } from "./api.js";
import { captionOf, factsOf } from "./captions.js";
import { button, byId, make } from "./dom.js";
import { plain, score, sentence, span, time } from "./format.js";
import { HeatStrips } from "./heatstrip.js";
import { MomentTools } from "./momenttools.js";
import { Occurrences } from "./occurrences.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./api.js").Moment} Moment */
/** @typedef {import("./api.js").Result} Result */
/** @typedef {import("./api.js").Video} Video */
/**
 * @typedef {{id: string, index: string, query: string, time: number | null, result: Result | null, play: boolean}} Wanted
 *   `time`: where to begin, null for the best moment; `result`: the hit, null if the video was opened by its address.
 */

export class Viewer {
  #dialog = byId("viewer");
  #loading = new AbortController();
  /** @type {Player | null} */
  #player = null;
  /** @type {Wanted | null} */
  #wanted = null;
  /** @type {Video | null} */
  #video = null;
  #explained = "";
  /** @type {HeatStrips} */
  #strips;

  /**
   * @param {import("./api.js").Api} api
   * @param {{onClose: (id: string) => void, onTime: (seconds: number) => void, onStep: (step: number) => void,
   *   onLike: (like: import("./state.js").Like) => void}} listener `onTime`:
   *   playing stopped there; `onStep`: the previous or next result is wanted.
   */
  constructor(api, listener) {
    this.api = api;
    this.listener = listener;
    this.#strips = new HeatStrips(byId("heat"), (seconds) => this.#seek(seconds));
    this.timeline = new Timeline(byId("timeline"), (seconds) => this.#seek(seconds));
    this.occurrences = new Occurrences(api, this.timeline, (moment) => this.#play(moment));
    this.tools = new MomentTools(api, () => this.#player, (like) => listener.onLike(like));
    byId("viewer-close").addEventListener("click", () => this.#dialog.close());
    byId("viewer-previous").addEventListener("click", () => listener.onStep(-1));
    byId("viewer-next").addEventListener("click", () => listener.onStep(1));
    byId("viewer-link").addEventListener("click", () => this.#copyLink());
    this.#dialog.addEventListener("close", () => this.#closed());
    this.#dialog.addEventListener("click", (/** @type {Event} */ event) => event.target === this.#dialog && this.#dialog.close());
  }

  /** @returns {string} Id of the open video; empty if none is. */
  get openId() {
    return this.#wanted?.id ?? "";
  }

  /** @param {Wanted} wanted */
  async open(wanted) {
    this.#clear();
    this.#wanted = wanted;
    this.#loading = new AbortController();
    const { id, index, result } = wanted;
    byId("viewer-title").textContent = captionOf(result?.metadata ?? {}, id);
    byId("viewer-sub").textContent = subtitle(id, result);
    this.#note("Loading…");
    if (!this.#dialog.open) this.#dialog.showModal();
    byId("viewer-title").focus();
    try {
      this.#video = await this.api.video(id, index, this.#loading.signal);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#note("");
    this.#showVideo(this.#video, wanted);
    const { window, time } = momentAt(wanted);
    void this.#drawCurve(wanted);
    void this.occurrences.show(this.#video, wanted.query, wanted.index, this.#loading.signal);
    await this.#explain(window ?? id, window === null ? time : null);
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#player?.seek(seconds);
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  /** @param {{previous: boolean, next: boolean}} steps Which neighbours there are. */
  set steps({ previous, next }) {
    byId("viewer-previous").disabled = !previous;
    byId("viewer-next").disabled = !next;
  }

  /** @param {Video} video @param {Wanted} wanted */
  #showVideo(video, wanted) {
    const { result } = wanted;
    byId("viewer-title").textContent = captionOf(video.metadata, video.id);
    this.#player = new Player(byId("player"), this.api, (seconds, settled) => {
      this.#strips.mark(seconds);
      this.#markMoment(seconds);
      this.timeline.mark(seconds);
      this.occurrences.mark(seconds);
      if (settled) this.listener.onTime(seconds);
    });
    const begin = wanted.time ?? result?.start ?? 0;
    const moments = result && result.start !== null ? momentsOf(result) : [];
    this.timeline.show(video.duration, moments);
    this.timeline.mark(begin);
    this.tools.show(video, result, moments.find(({ start, end }) => begin >= start && begin < end) ?? null);
    this.#player.show(video, begin, wanted.play);
    this.#showMoments(result);
    this.#markMoment(begin);
    byId("facts").replaceChildren(facts(video));
  }

  /** @param {Result | null} result */
  #showMoments(result) {
    if (!result || result.start === null) return;
    const all = momentsOf(result);
    const chips = all.map((moment) => {
      const chip = button(span(moment.start, moment.end), () => this.#goTo(moment), {
        class: "chip", "data-start": moment.start, "data-end": moment.end,
      });
      chip.append(make("span", { class: "chip-score", text: score(moment.score) }));
      return chip;
    });
    const title = all.length > 1 ? "Moments" : "Best moment";
    byId("moments").replaceChildren(make("h3", { text: title }), make("div", { class: "chips" }, ...chips));
  }

  /** @param {number} seconds Tell which moment is being watched. */
  #markMoment(seconds) {
    for (const chip of byId("moments").querySelectorAll(".chip")) {
      const inside = seconds >= Number(chip.dataset.start) && seconds < Number(chip.dataset.end);
      chip.setAttribute("aria-current", String(inside));
    }
  }

  /** @param {Moment} moment Play it, and explain the window in which it was found. */
  #play(moment) {
    this.#goTo(moment);
    this.#player?.playFrom(moment.start);
  }

  /** @param {Moment} moment Go to it, and explain the window in which it was found. */
  #goTo(moment) {
    this.#seek(moment.start);
    this.tools.moment = moment;
    if (moment.window) void this.#explain(moment.window, null);
  }

  /** @param {number} seconds */
  #seek(seconds) {
    this.#player?.seek(seconds);
  }

  /** @param {Wanted} wanted Show how well the words fit over the whole video. */
  async #drawCurve({ query, id, index }) {
    if (!query) return;
    try {
      const { times, relevance } = await this.api.relevance(query, id, index, this.#loading.signal);
      if (this.openId === id) this.timeline.draw(times, relevance);
    } catch {
      // the line shows the moments all the same
    }
  }

  /** @param {string} id @param {number | null} time Of a video in windows, one that holds it. */
  async #explain(id, time) {
    const wanted = this.#wanted;
    if (!wanted || id === this.#explained) return;
    this.#explained = id; // a later call changes it, and then this answer comes too late
    if (!wanted.query) {
      this.#strips.say("Heat strips show how the words of a query fit the frames; this video was not found by words.");
      return;
    }
    try {
      const found = await this.api.explain(wanted.query, id, wanted.index, time, this.#loading.signal);
      if (this.#explained !== id) return;
      this.#strips.show(found);
      if (this.#player?.isShowing) this.#strips.mark(this.#player.time);
    } catch (error) {
      if (isAborted(error) || this.#explained !== id) return;
      this.#explained = "";
      const { message, remedy } = asApiError(error);
      this.#strips.say(`The score could not be explained: ${message} ${remedy}`);
    }
  }

  async #copyLink() {
    const link = byId("viewer-link");
    try {
      await navigator.clipboard.writeText(location.href);
      link.textContent = "Copied";
    } catch {
      this.#note(`Copy this address: ${location.href}`); // browsers keep the clipboard from pages without https
    }
    window.setTimeout(() => (link.textContent = "Copy link"), 2000);
  }

  /** @param {unknown} error */
  #failed(error) {
    if (isAborted(error)) return;
    const { message, remedy } = asApiError(error);
    this.#note(`${sentence(message)} ${remedy}`);
  }

  /** @param {string} text */
  #note(text) {
    byId("viewer-note").textContent = text;
  }

  #clear() {
    this.#loading.abort();
    this.#player?.close();
    this.#player = null;
    this.#wanted = null;
    this.#video = null;
    this.#explained = "";
    this.#strips.say("");
    this.timeline.clear();
    this.occurrences.clear();
    this.tools.clear();
    for (const id of ["moments", "facts"]) byId(id).replaceChildren();
  }

  #closed() {
    const id = this.openId;
    this.#clear();
    this.listener.onClose(id);
  }
}

/** @param {string} id @param {Result | null} result */
function subtitle(id, result) {
  if (!result) return "";
  const name = captionOf(result.metadata, id) === id ? [] : [id];
  return [...name, `result ${result.rank}`, `score ${score(result.score)}`].join(" · ");
}

/** @param {Result} result @returns {Moment[]} All its moments, the best first. */
function momentsOf(result) {
  const { start, end, score: found, window } = result;
  return [{ start: start ?? 0, end: end ?? 0, score: found, window: window ?? "" }, ...result.moments];
}

/**
 * @param {Wanted} wanted
 * @returns {{window: string | null, time: number | null}} The window to explain, where a moment of the result holds the
 *   time at which it was opened; else the time alone, of which the service chooses the best window.
 */
function momentAt({ time, result }) {
  if (!result) return { window: null, time };
  if (time === null) return { window: result.window, time };
  const holding = momentsOf(result).find((one) => time >= one.start && time < one.end);
  return { window: holding?.window || null, time };
}

/** @param {Video} video */
function facts(video) {
  const known = [
    ["duration", video.duration && time(video.duration)],
    ["format", [video.container, video.codec].filter(Boolean).join(", ")],
    ["parts", video.windows.length || null],
    ...factsOf(video.metadata).map(([name, value]) => [name, plain(value)]),
  ].filter(([, value]) => value !== null && value !== "" && value !== undefined);
  const rows = known.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value })));
  return make("dl", {}, ...rows);
}
