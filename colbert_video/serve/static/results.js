/** Results as cards: the best moment's picture, what was found, and what its score is made of. */

import { focusCard, moveAmong, skeletons } from "./cards.js";
import { captionOf, factsOf } from "./captions.js";
import { make } from "./dom.js";
import { plain, score, sentence, span } from "./format.js";
import { previewOn } from "./preview.js";
import { loadPicture } from "./pictures.js";

/** @typedef {import("./api.js").Result} Result */

const FACTS = 3;
const MATCHES = {
  strong: "Clearly better than chance: this stands out among these videos.",
  fair: "Better than chance, but not by much.",
  weak: "No better than chance: words without meaning find as much. This video probably shows something else.",
};
const SKELETONS = 8;
const LONGEST_FACT = 40;

export class Results {
  /** @type {Result[]} */
  shown = [];
  /** @type {Record<string, number>} */
  weights = {};

  /** @param {HTMLElement} list @param {(result: Result) => void} onOpen */
  constructor(list, onOpen) {
    this.list = list;
    this.onOpen = onOpen;
    list.addEventListener("keydown", (event) => moveAmong(this.#cards, event));
  }

  /** @param {Result[]} results @param {Record<string, number>} weights How much each bag counts in a score. */
  show(results, weights) {
    this.shown = results;
    const most = Math.max(...results.map((result) => total(result, weights)), 1e-6);
    this.weights = weights;
    this.list.replaceChildren(...results.map((result) => make("li", {}, this.#card(result, most))));
    this.list.setAttribute("aria-busy", "false");
  }

  /** @param {boolean} busy Older results stay while newer ones are looked for. */
  set busy(busy) {
    this.list.setAttribute("aria-busy", String(busy));
  }

  /** Show places of results, where there are none yet. */
  wait() {
    if (!this.list.children.length) this.list.replaceChildren(...skeletons(SKELETONS));
  }

  /** @returns {boolean} Whether there was a card to go to. */
  focusFirst() {
    const first = this.#cards[0];
    first?.focus();
    return first !== undefined;
  }

  /** @param {string} id */
  focus(id) {
    const place = this.shown.findIndex((result) => result.id === id);
    focusCard(this.#cards[place]);
    return place >= 0;
  }

  get #cards() {
    return /** @type {HTMLElement[]} */ ([...this.list.querySelectorAll(".card")]);
  }

  /** @param {Result} result @param {number} most */
  #card(result, most) {
    const card = make("button", { type: "button", class: result.match === "weak" ? "card weak" : "card" }, this.#picture(result), this.#words(result, most));
    card.addEventListener("click", () => this.onOpen(result));
    if (result.playable && result.media) previewOn(card, card.querySelector(".picture"), result.media, result.start, result.end);
    return card;
  }

  /** @param {Result} result */
  #picture(result) {
    const picture = make("span", { class: "picture" });
    if (result.thumbnail) picture.append(loadPicture(result.thumbnail));
    else picture.append(make("span", { class: "no-picture", text: "no file" }));
    const moment = span(result.start, result.end);
    if (moment) picture.append(make("span", { class: "moment", text: moment }));
    if (!result.playable) picture.append(make("span", { class: "flag", text: result.media ? "not playable as it is" : "file missing" }));
    return picture;
  }

  /** @param {Result} result @param {number} most */
  #words(result, most) {
    const words = make("span", { class: "words" });
    const caption = captionOf(result.metadata, result.id);
    words.append(make("span", { class: "title", text: caption }));
    const facts = factsOf(result.metadata).filter(([, value]) => isShort(value));
    const shown = facts.slice(0, FACTS).map(([name, value]) => `${name}: ${plain(value)}`);
    if (caption !== result.id) shown.unshift(result.id);
    if (shown.length) words.append(make("span", { class: "facts", text: shown.join(" · ") }));
    const further = result.moments.length;
    if (result.line) words.append(make("span", { class: "line", text: `“${result.line.text}”` }));
    if (further) words.append(make("span", { class: "facts more", text: `+ ${further} more moment${further === 1 ? "" : "s"}` }));
    if (result.match) words.append(make("span", { class: "match", text: `${sentence(result.match)} match`, title: MATCHES[result.match] }));
    words.append(scoreBar(result, this.weights, most));
    return words;
  }
}

/**
 * @param {Result} result
 * @param {Record<string, number>} weights
 * @param {number} most The best result's total, which fills the bar.
 */
function scoreBar(result, weights, most) {
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  const parts = partsOf(result, weights);
  for (const { bag, value, weight } of parts) {
    const part = make("span", { class: bag === "frame" || bag === "video" ? bag : "other", title: bag });
    part.style.width = `${(100 * weight * Math.max(value, 0)) / most}%`;
    bar.append(part);
  }
  const sum = parts.map(({ value, weight }) => (weight === 1 ? score(value) : `${weight} × ${score(value)}`)).join(" + ");
  const text = parts.length > 1 ? `${score(result.score)} = ${sum}` : score(result.score);
  return make("span", { class: "score" }, bar, make("span", { class: "hidden", text: " Score " }), make("span", { class: "number", text }));
}

/** @param {Result} result @param {Record<string, number>} weights */
function total(result, weights) {
  return partsOf(result, weights).reduce((sum, { value, weight }) => sum + weight * Math.max(value, 0), 0);
}

/**
 * @param {Result} result
 * @param {Record<string, number>} weights
 * @returns {{bag: string, value: number, weight: number}[]} What a score is the sum of; that of lines is one part.
 */
function partsOf(result, weights) {
  const parts = Object.entries(result.bag_scores).map(([bag, value]) => ({ bag, value, weight: weights[bag] ?? 1 }));
  return parts.length ? parts : [{ bag: "lines", value: result.score, weight: 1 }];
}

/** @param {unknown} value */
function isShort(value) {
  return value !== null && typeof value !== "object" && String(value).length <= LONGEST_FACT;
}
