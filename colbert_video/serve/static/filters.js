/** The panel that builds conditions on metadata, and the ways of searching. */

import { BUILT_IN, OPERATORS, fromWhere, problemOf, takesValue, toWhere } from "./conditions.js";
import { button, make } from "./dom.js";
import { MEANINGS } from "./terms.js";

/** @typedef {import("./conditions.js").Condition} Condition */
/** @typedef {{where: string, exact: boolean, windows: boolean, also: string, then: string, without: string}} FilterState */

/** @type {("also" | "then" | "without")[]} */
const PARTS = ["also", "then", "without"];

export class Filters {
  #rows = make("div", { class: "conditions" });
  #joint = make("select", { "aria-label": "How conditions combine" });
  #raw = make("textarea", { rows: 3, spellcheck: "false", placeholder: '{"duration": {">": 60}}' });
  #problem = make("p", { class: "problem-text", role: "alert" });
  #exact = make("input", { type: "checkbox" });
  #windows = make("input", { type: "checkbox" });
  /** What is asked besides the words of the search box. */
  #parts = {
    also: make("input", { type: "text", placeholder: "a dog", autocomplete: "off" }),
    then: make("input", { type: "text", placeholder: "it catches a ball", autocomplete: "off" }),
    without: make("input", { type: "text", placeholder: "snow", autocomplete: "off" }),
  };
  #fields = make("datalist", { id: "known-fields" });
  #values = make("datalist", { id: "known-values" });
  /** @type {Map<string, Set<string>>} */
  #known = new Map(BUILT_IN.map((name) => [name, new Set()]));

  /**
   * @param {HTMLElement} panel Where the filters are shown.
   * @param {HTMLButtonElement} toggle Opens and closes the panel.
   * @param {HTMLElement} badge Says how many conditions there are.
   * @param {() => void} onChange
   */
  constructor(panel, toggle, badge, onChange) {
    this.panel = panel;
    this.toggle = toggle;
    this.badge = badge;
    this.onChange = onChange;
    this.#joint.append(make("option", { value: "and", text: "all hold" }), make("option", { value: "or", text: "any holds" }));
    this.#build();
    toggle.addEventListener("click", () => this.#open(panel.hidden));
  }

  /** @returns {FilterState} */
  get state() {
    const { also, then, without } = this.#parts;
    const parts = { also: also.value.trim(), then: then.value.trim(), without: without.value.trim() };
    return { where: this.#raw.value.trim(), exact: this.#exact.checked, windows: this.#windows.checked, ...parts };
  }

  /** @param {FilterState} state Show what an address says. */
  set state(state) {
    this.#exact.checked = state.exact;
    this.#windows.checked = state.windows;
    for (const name of PARTS) this.#parts[name].value = state[name];
    if (state.where !== this.#raw.value.trim()) {
      this.#raw.value = state.where;
      this.#fromRaw();
    }
    this.#count();
  }

  /** @returns {string | null} Why the filter cannot be used. */
  get problem() {
    return problemOf(this.#raw.value);
  }

  /** @param {Record<string, unknown>[]} metadata Of results: their keys and values are offered. */
  learn(metadata) {
    for (const [name, value] of metadata.flatMap((one) => Object.entries(one ?? {}))) {
      if (!this.#known.has(name)) this.#known.set(name, new Set());
      if (["string", "number", "boolean"].includes(typeof value)) this.#known.get(name)?.add(String(value));
    }
    this.#fields.replaceChildren(...[...this.#known.keys()].map((value) => make("option", { value })));
  }

  clear() {
    this.where = "";
  }

  /** @param {string} where Use another filter. */
  set where(where) {
    this.#raw.value = where;
    this.#fromRaw();
    this.#changed();
  }

  #build() {
    const raw = make("label", { class: "raw" }, "The same as JSON", this.#raw);
    this.#raw.addEventListener("input", () => {
      this.#fromRaw();
      this.#changed();
    });
    const change = () => this.#changed();
    for (const box of [this.#exact, this.#windows]) box.addEventListener("change", change);
    this.#joint.addEventListener("change", () => this.#fromRows());
    const add = button("Add a condition", () => this.#add().querySelector("input")?.focus(), { class: "quiet wide" });
    for (const name of PARTS) this.#parts[name].addEventListener("change", change);
    this.panel.append(
      make("div", { class: "parts", role: "group", "aria-label": "Besides the words above" },
        make("label", {}, "Shown too", this.#parts.also),
        make("label", {}, "Shown after that", this.#parts.then),
        make("label", {}, "Not shown", this.#parts.without)),
      this.#rows,
      make("div", { class: "row" }, add, make("label", { class: "joint", hidden: true }, "Of these, ", this.#joint)),
      make("div", { class: "row" },
        make("label", {}, this.#windows, " Every part of long videos by itself"),
        make("label", { title: MEANINGS.exact }, this.#exact, " Exact: look closely at every video (slower)")),
      make("details", {}, make("summary", { text: "Write the filter as JSON" }), raw),
      this.#problem, this.#fields, this.#values,
    );
  }

  /** @param {boolean} open */
  #open(open) {
    this.panel.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open && !this.#rows.children.length) this.#add();
  }

  /** @param {Condition} [condition] @returns {HTMLElement} */
  #add(condition = { field: "", operator: "=", value: "" }) {
    const field = make("input", { list: "known-fields", placeholder: "field", "aria-label": "Field", class: "field" });
    const operator = make("select", { "aria-label": "Comparison" });
    const value = make("input", { list: "known-values", placeholder: "value", "aria-label": "Value", class: "value" });
    for (const [name, text] of Object.entries(OPERATORS)) operator.append(make("option", { value: name, text }));
    field.value = condition.field;
    operator.value = condition.operator;
    value.value = condition.value;
    const remove = button("", () => {
      row.remove();
      this.#fromRows();
    }, { class: "quiet", "aria-label": "Remove this condition" });
    remove.append(make("span", { "aria-hidden": "true", text: "✕" }));
    const row = make("div", { class: "condition", role: "group", "aria-label": "Condition" }, field, operator, value, remove);
    const changed = () => {
      value.hidden = !takesValue(operator.value);
      this.#fromRows();
    };
    value.hidden = !takesValue(operator.value);
    for (const input of [field, operator, value]) input.addEventListener("input", changed);
    value.addEventListener("focus", () => this.#offer(field.value));
    this.#rows.append(row);
    return row;
  }

  /** @param {string} field Offer the values that were seen in it. */
  #offer(field) {
    const seen = [...(this.#known.get(field.trim()) ?? [])].slice(0, 100);
    this.#values.replaceChildren(...seen.map((value) => make("option", { value })));
  }

  #fromRows() {
    const conditions = [...this.#rows.children].map((row) => {
      const [field, operator, value] = row.querySelectorAll("input, select");
      return { field: field.value, operator: operator.value, value: value.value };
    });
    const where = toWhere({ all: this.#joint.value === "and", conditions });
    this.#showJoint(conditions.length);
    if (where === this.#raw.value.trim()) return;
    this.#raw.value = where;
    this.#changed();
  }

  #fromRaw() {
    const found = fromWhere(this.#raw.value);
    this.#rows.replaceChildren();
    this.#rows.classList.toggle("beyond", found === null);
    if (found === null) this.#rows.append(make("p", { text: "This filter is written as JSON below." }));
    else found.conditions.forEach((condition) => this.#add(condition));
    this.#joint.value = found && !found.all ? "or" : "and";
    this.#showJoint(found?.conditions.length ?? 0);
  }

  /** @param {number} conditions */
  #showJoint(conditions) {
    this.#joint.parentElement.hidden = conditions < 2;
  }

  #changed() {
    this.#problem.textContent = this.problem ?? "";
    this.#count();
    if (!this.problem) this.onChange();
  }

  #count() {
    const { where, exact, windows, ...parts } = this.state;
    const rows = where ? (fromWhere(where)?.conditions.length ?? 1) : 0;
    const used = rows + Number(exact) + Number(windows) + Object.values(parts).filter(Boolean).length;
    this.badge.textContent = used ? ` · ${used}` : "";
  }
}
