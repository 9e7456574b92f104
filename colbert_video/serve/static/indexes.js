/** Which index is searched, and what it allows. */

import { byId, make } from "./dom.js";

/** @typedef {import("./api.js").IndexInfo} IndexInfo */

const MOST_RESULTS = 1000;

export class IndexChoice {
  #select = byId("index");
  #field = byId("index-field");
  /** @type {IndexInfo[]} */
  #indexes = [];
  mostResults = MOST_RESULTS;

  /** @param {import("./api.js").Api} api @param {() => void} onChange */
  constructor(api, onChange) {
    this.api = api;
    this.#select.addEventListener("change", onChange);
  }

  /** @param {string} wanted Name of an index; empty for the default. */
  async load(wanted) {
    this.#indexes = (await this.api.indexes()).indexes;
    this.#select.replaceChildren(...this.#indexes.map(({ name }) => make("option", { value: name, text: name })));
    this.#field.hidden = this.#indexes.length < 2;
    this.chosen = wanted;
    if (!this.current) return;
    const { limits } = await this.api.index(this.current.name);
    this.mostResults = limits.most_results;
    byId("query").maxLength = limits.most_query_characters;
  }

  /** @returns {string} Name of the chosen index; empty for the default. */
  get chosen() {
    return this.#select.selectedIndex > 0 ? this.#select.value : "";
  }

  set chosen(name) {
    const place = this.#indexes.findIndex((index) => index.name === name);
    this.#select.selectedIndex = Math.max(place, 0);
  }

  /** @returns {boolean} Whether nothing was ever indexed in the chosen one. */
  get isEmpty() {
    return this.current?.state === "empty";
  }

  /** @returns {IndexInfo | undefined} */
  get current() {
    return this.#indexes[Math.max(this.#select.selectedIndex, 0)];
  }
}
