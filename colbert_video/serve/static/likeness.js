/** A video, or a moment of one, to which others are looked for that look alike. */

import { button, byId, make } from "./dom.js";
import { span } from "./format.js";

/** @typedef {import("./state.js").Like} Like */

export class Likeness {
  #chip = byId("like-chip");
  /** @type {Like | null} */
  #like = null;

  /** @param {() => void} onChange Called when people remove it. */
  constructor(onChange) {
    this.onChange = onChange;
  }

  /** @returns {Like | null} */
  get like() {
    return this.#like;
  }

  /** Show it, or nothing, without searching. */
  set like(like) {
    this.#like = like;
    this.#chip.hidden = like === null;
    this.#chip.replaceChildren();
    if (!like) return;
    const remove = button("", () => {
      this.like = null;
      this.onChange();
    }, { class: "quiet", "aria-label": "Remove the example" });
    remove.append(make("span", { "aria-hidden": "true", text: "✕" }));
    this.#chip.append(make("span", { text: nameOf(like) }), remove);
  }
}

/** @param {Like} like @returns {string} */
export function nameOf({ id, start, end }) {
  const moment = span(start, end);
  return `More like ${id}${moment ? `, ${moment}` : ""}`;
}
