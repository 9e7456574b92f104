/** The page before anything is asked: what the index holds, what can be asked, and its videos. */

import { fromWhere, conditionOf, sameCondition, toWhere } from "./conditions.js";
import { button, byId, make } from "./dom.js";
import { count, plain } from "./format.js";
import { Wall } from "./wall.js";

/** @typedef {import("./api.js").IndexInfo} IndexInfo */
/** @typedef {import("./api.js").Facet} Facet */

const FEW = 8;

export class Start {
  #place = byId("start");
  #examples = byId("examples");
  #facets = byId("facets");
  /** @type {Facet[]} */
  #known = [];
  #asked = "";
  #shown = "";

  /**
   * @param {import("./api.js").Api} api
   * @param {{onQuery: (text: string) => void, onWhere: (where: string) => void, onOpen: (id: string) => void}} listener
   */
  constructor(api, listener) {
    this.api = api;
    this.listener = listener;
    this.wall = new Wall(api, listener.onOpen);
  }

  hide() {
    if (this.#place.hidden) return;
    this.#place.hidden = true;
    this.#shown = "";
    this.wall.clear();
  }

  /** @param {IndexInfo | undefined} index @param {string} where The filter that is in force. */
  show(index, where) {
    const videos = index?.videos ?? 0;
    this.#place.hidden = !videos;
    if (!index || !videos) return;
    const wanted = `${index.name}\n${index.version}\n${where}`;
    if (this.#shown === wanted) return;
    this.#shown = wanted;
    byId("wall-title").textContent = where ? "Videos that pass the filters" : "Newest videos";
    void this.wall.show(index.name, where);
    void this.#suggest(index, where);
  }

  /** @param {IndexInfo} index @param {string} where */
  async #suggest(index, where) {
    const asked = `${index.name}\n${index.version}\n${index.state}`;
    if (asked !== this.#asked) {
      this.#asked = asked;
      try {
        const { examples, facets } = await this.api.start(index.name);
        if (this.#asked !== asked) return;
        this.#known = facets;
        this.#showExamples(index.text_queries ? examples : []);
      } catch {
        this.#asked = ""; // the wall says what is wrong
        return;
      }
    }
    this.#showFacets(where);
  }

  /** @param {string[]} examples */
  #showExamples(examples) {
    this.#examples.hidden = !examples.length;
    const chips = examples.map((text) => make("li", {}, button(text, () => this.listener.onQuery(text), { class: "chip" })));
    this.#examples.replaceChildren(make("h2", { text: "Try" }), make("ul", { class: "chips" }, ...chips));
  }

  /** @param {string} where */
  #showFacets(where) {
    this.#facets.hidden = !this.#known.length;
    this.#facets.replaceChildren(...this.#known.map((facet) => this.#facet(facet, where)));
  }

  /** @param {Facet} facet @param {string} where */
  #facet({ field, in_lists: inLists, values }, where) {
    const given = fromWhere(where);
    const chips = values.map(({ value, videos }) => {
      const condition = conditionOf(field, inLists, value);
      const chosen = given?.conditions.some((one) => sameCondition(one, condition)) ?? false;
      const chip = button("", () => this.listener.onWhere(toggled(where, condition)), { class: "chip", "aria-pressed": String(chosen) });
      chip.append(make("span", { text: plain(value) }), make("span", { class: "chip-score", text: videos.toLocaleString("en") }), make("span", { class: "hidden", text: videos === 1 ? " video" : " videos" }));
      return { chip, chosen };
    });
    const list = make("ul", { class: "chips" }, ...chips.map(({ chip, chosen }, place) => make("li", { hidden: place >= FEW && !chosen }, chip)));
    const hidden = [...list.children].filter((item) => item.hidden);
    if (hidden.length) {
      const more = button(`${hidden.length} more`, () => {
        hidden.forEach((item) => (item.hidden = false));
        more.parentElement?.remove();
        hidden[0].querySelector("button")?.focus();
      }, { class: "link", "aria-label": `${count(hidden.length, "more value")} of ${field}` });
      list.append(make("li", {}, more));
    }
    return make("div", { class: "facet", role: "group", "aria-label": field }, make("h3", { text: field }), list);
  }
}

/**
 * @param {string} where
 * @param {import("./conditions.js").Condition} condition
 * @returns {string} The filter with the condition, or without it if it was there.
 */
function toggled(where, condition) {
  const given = fromWhere(where);
  if (!given || (!given.all && given.conditions.length > 1)) {
    return JSON.stringify({ and: [JSON.parse(where), JSON.parse(toWhere({ all: true, conditions: [condition] }))] });
  }
  const others = given.conditions.filter((one) => !sameCondition(one, condition));
  const conditions = others.length < given.conditions.length ? others : [...given.conditions, condition];
  return toWhere({ all: true, conditions });
}
