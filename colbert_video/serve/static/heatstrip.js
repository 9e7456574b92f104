/** The heat strips: query tokens × frames, one strip a bag. Every cell can be reached by keyboard and seeks. */

import { make } from "./dom.js";
import { score, time } from "./format.js";
import { heatModel, level } from "./heatmodel.js";
import { MEANINGS, term } from "./terms.js";

/** @typedef {import("./heatmodel.js").HeatModel} HeatModel */
/** @typedef {import("./heatmodel.js").Row} Row */
/** @typedef {import("./heatmodel.js").Strip} Strip */

/** @type {Record<string, string>} */
const TITLES = { frame: "Frame tokens", video: "Video tokens" };
/** @type {Record<string, string>} */
const ABOUT = {
  frame: "What each frame shows by itself.",
  video: "Frames seen in their order; the expansion tokens E stand for the whole video.",
};
const MOST_LABELS = 8;
const DENSE = 24;
const CELL_PIXELS = 26;
const DENSE_PIXELS = 11;
const BESIDE_PIXELS = 250;
const LABEL_PIXELS = 56;
const EDGE_PIXELS = 40;
const TWO_STRIPS_PIXELS = 900;

export class HeatStrips {
  /** @type {{grid: HTMLElement, heads: HTMLElement[], line: HTMLElement}[]} */
  #strips = [];
  /** @type {number[]} */
  #times = [];

  /** @param {HTMLElement} place @param {(seconds: number) => void} onSeek */
  constructor(place, onSeek) {
    this.place = place;
    this.onSeek = onSeek;
    this.readout = make("p", { class: "readout", "aria-hidden": "true" });
  }

  /** @param {import("./api.js").Explanation} explanation */
  show(explanation) {
    const model = heatModel(explanation);
    this.#times = explanation.times;
    const grids = make("div", { class: explanation.times.length > DENSE ? "strips long" : "strips" });
    this.#strips = model.strips.map((strip) => this.#strip(model, strip, grids));
    this.readout.textContent = "Point at a cell, or move to it with the arrow keys; click or Enter plays from there.";
    const { start, end } = explanation;
    this.#strips.forEach(({ heads }) => heads.forEach((head, place) => {
      const inside = start !== null && end !== null && this.#times[place] >= start && this.#times[place] < end;
      head.classList.toggle("in-moment", inside);
    }));
    const head = make("div", { class: "heat-head" }, make("h3", { text: "Why it was found" }), legend(model));
    this.place.replaceChildren(head, this.readout, grids);
  }

  /** @param {string} text Instead of strips. */
  say(text) {
    this.#strips = [];
    this.place.replaceChildren(...(text ? [make("p", { class: "heat-note", text })] : []));
  }

  /** @param {number} seconds Mark what is being played. */
  mark(seconds) {
    const column = nearest(this.#times, seconds);
    for (const { heads, line, grid } of this.#strips.filter((strip) => strip.heads.length)) {
      const inside = isInside(this.#times, seconds);
      heads.forEach((head, place) => head.classList.toggle("now", inside && place === column));
      line.hidden = !inside;
      if (inside) line.style.left = `${position(heads, this.#times, seconds)}px`;
      line.style.height = `${grid.offsetHeight - heads[0].offsetHeight}px`;
      line.style.top = `${heads[0].offsetHeight}px`;
    }
  }

  /** @param {HeatModel} model @param {Strip} strip @param {HTMLElement} place */
  #strip(model, strip, place) {
    const named = TITLES[strip.bag] ?? `Tokens of ${strip.bag}`;
    const title = make("h4", {}, term(named, MEANINGS[named.toLowerCase()]));
    title.append(make("span", { class: "strip-score", text: ` ${score(strip.score)}` }));
    const dense = strip.times.length > DENSE;
    const grid = make("table", { role: "grid", class: dense ? "strip dense" : "strip", "aria-label": `${named}: similarity of query tokens and ${strip.times.length ? "moments" : "these tokens"}` });
    grid.style.minWidth = `${(strip.times.length || strip.expansion) * (dense ? DENSE_PIXELS : CELL_PIXELS) + BESIDE_PIXELS}px`;
    const { head, heads } = headRow(strip, this.#labels(strip));
    grid.append(columnWidths(strip), make("thead", {}, head));
    grid.append(make("tbody", {}, ...model.rows.map((row) => this.#row(model, row, strip))));
    const line = make("div", { class: "playhead", hidden: true });
    const scroll = make("div", { class: "strip-scroll" }, make("div", { class: "strip-inside" }, grid, line));
    const tokens = model.rows.reduce((sum, row) => sum + row.tokens, 0);
    const about = make("p", { class: "strip-about", text: `${strip.times.length && ABOUT[strip.bag] || "These tokens stand for no moment."} The score is the mean of the ${tokens} tokens' maxima.` });
    place.append(make("div", { class: "strip-block" }, title, about, scroll));
    this.#install(grid);
    return { grid, heads, line };
  }

  /** @param {Strip} strip @returns {number} How many times can be written above its columns without touching. */
  #labels(strip) {
    const room = (this.place.parentElement?.clientWidth ?? 0) - EDGE_PIXELS; // the place itself is empty yet
    const two = room > TWO_STRIPS_PIXELS && strip.times.length <= DENSE ? 2 : 1;
    return Math.min(Math.max(Math.floor((room / two - BESIDE_PIXELS * 0.75 - strip.expansion * CELL_PIXELS) / LABEL_PIXELS), 2), MOST_LABELS);
  }

  /** @param {HeatModel} model @param {Row} row @param {Strip} strip */
  #row(model, row, strip) {
    const made = make("tr", { class: row.kind }, make("th", { scope: "row", text: row.label, title: MEANINGS[row.kind === "padding" ? "padding" : row.label] }));
    row.values[strip.bag].forEach((value, column) => {
      const expansion = column - strip.times.length;
      const where = expansion < 0 ? time(strip.times[column]) : `${kind(strip)} ${expansion + 1}`;
      const best = column === row.best[strip.bag];
      const cell = make("td", {
        role: "gridcell",
        tabindex: "-1",
        class: `cell${best ? " best" : ""}${expansion === 0 ? " first-expansion" : ""}${expansion >= 0 ? " expansion" : ""}`,
        "aria-label": `${row.label}, ${where}, ${score(value)}${best ? ", best" : ""}`,
        "data-time": expansion < 0 ? strip.times[column] : null,
      });
      cell.style.setProperty("--level", level(model, value).toFixed(3));
      made.append(cell);
    });
    made.append(make("td", { role: "gridcell", class: "most", text: score(row.most[strip.bag]) }));
    return made;
  }

  /** @param {HTMLElement} grid */
  #install(grid) {
    const best = grid.querySelector("tr.word .cell.best") ?? grid.querySelector(".cell");
    best?.setAttribute("tabindex", "0");
    grid.addEventListener("click", (event) => this.#use(cellOf(event)));
    grid.addEventListener("keydown", (event) => this.#key(grid, event));
    const tell = (/** @type {Event} */ event) => this.#tell(cellOf(event));
    grid.addEventListener("pointerover", tell);
    grid.addEventListener("focusin", tell);
  }

  /** @param {HTMLElement | null} cell */
  #tell(cell) {
    if (cell) this.readout.textContent = cell.getAttribute("aria-label")?.replaceAll(", ", "  ·  ") ?? "";
  }

  /** @param {HTMLElement | null} cell */
  #use(cell) {
    if (!cell) return;
    this.#rove(cell);
    if (cell.dataset.time !== undefined) this.onSeek(Number(cell.dataset.time));
    else this.readout.textContent = "This token stands for the whole video, not for a moment of it.";
  }

  /** @param {HTMLElement} cell The one cell of its grid that Tab reaches. */
  #rove(cell) {
    cell.closest("table")?.querySelector('.cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    cell.focus();
  }

  /** @param {HTMLElement} grid @param {KeyboardEvent} event */
  #key(grid, event) {
    const cell = cellOf(event);
    if (!cell || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#use(cell);
      return;
    }
    const rows = [...grid.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll(".cell")]);
    const at = rows.findIndex((row) => row.includes(cell));
    const next = target(rows, at, rows[at].indexOf(cell), event);
    if (!next) return;
    event.preventDefault();
    this.#rove(/** @type {HTMLElement} */ (next));
  }
}

/** @param {Element[][]} rows @param {number} row @param {number} column @param {KeyboardEvent} event */
function target(rows, row, column, event) {
  const last = rows[row].length - 1;
  /** @type {Record<string, number[]>} */
  const places = {
    ArrowRight: [row, column + 1],
    ArrowLeft: [row, column - 1],
    ArrowDown: [row + 1, column],
    ArrowUp: [row - 1, column],
    Home: [event.ctrlKey ? 0 : row, 0],
    End: [event.ctrlKey ? rows.length - 1 : row, last],
  };
  const place = places[event.key];
  return place && rows[place[0]]?.[place[1]];
}

/** @param {Strip} strip @param {number} labels How many times are written. */
function headRow(strip, labels) {
  const every = Math.ceil(strip.times.length / labels);
  const heads = strip.times.map((seconds, place) => {
    const text = make("span", { text: time(seconds), class: place % every ? "hidden" : null });
    return make("th", { scope: "col", class: "time" }, text);
  });
  const head = make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden", text: "query token" })), ...heads);
  for (let place = 0; place < strip.expansion; place++) {
    const text = make("span", { "aria-hidden": "true", text: `${strip.times.length ? "E" : ""}${place + 1}` });
    const name = make("span", { class: "hidden", text: `${kind(strip)} ${place + 1}` });
    head.append(make("th", { scope: "col", class: place ? "expansion" : "expansion first-expansion" }, text, name));
  }
  head.append(make("th", { scope: "col", class: "most", text: "max" }));
  return { head, heads };
}

/** @param {Strip} strip What its tokens are that belong to no frame. */
function kind(strip) {
  return strip.times.length ? "expansion token" : "token";
}

/** @param {Strip} strip */
function columnWidths(strip) {
  const frames = strip.times.map(() => make("col", { class: "col-frame" }));
  const expansion = Array.from({ length: strip.expansion }, (_, place) => make("col", { class: place ? "col-expansion" : "col-expansion first" }));
  return make("colgroup", {}, make("col", { class: "col-token" }), ...frames, ...expansion, make("col", { class: "col-most" }));
}

/** @param {HeatModel} model */
function legend(model) {
  return make("div", { class: "legend" },
    make("span", { class: "number", text: `≤ ${score(model.low)}` }),
    make("span", { class: "scale", "aria-hidden": "true" }),
    make("span", { class: "number", text: score(model.high) }),
    make("span", { class: "legend-best" }, make("span", { class: "dot", "aria-hidden": "true" }), "a token's best match, its maximum"),
    make("span", { class: "legend-moment", text: "best moment" }));
}

/** @param {Event} event @returns {HTMLElement | null} */
function cellOf(event) {
  return event.target instanceof Element ? event.target.closest(".cell") : null;
}

/** @param {number[]} times @param {number} seconds */
function nearest(times, seconds) {
  let best = 0;
  times.forEach((at, place) => {
    if (Math.abs(at - seconds) < Math.abs(times[best] - seconds)) best = place;
  });
  return best;
}

/** @param {number[]} times @param {number} seconds Whether it lies in what these frames stand for. */
function isInside(times, seconds) {
  const step = times.length > 1 ? times[1] - times[0] : Infinity;
  return times.length > 0 && seconds >= times[0] - step && seconds <= times[times.length - 1] + step;
}

/** @param {HTMLElement[]} heads @param {number[]} times @param {number} seconds @returns {number} Pixels from the left. */
function position(heads, times, seconds) {
  const middles = heads.map((head) => head.offsetLeft + head.offsetWidth / 2);
  const right = times.findIndex((at) => at > seconds);
  if (right === 0 || times.length < 2) return middles[0];
  if (right < 0) return middles[middles.length - 1];
  const share = (seconds - times[right - 1]) / (times[right] - times[right - 1]);
  return middles[right - 1] + share * (middles[right] - middles[right - 1]);
}
