/** The line under the player: the whole video with its moments, and how well the words fit at each time. */

import { button, make } from "./dom.js";
import { span, time } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 100;
/** Points of the curve; of more frames, the best of each part are drawn. */
const MOST_POINTS = 500;
const FLAT = 0.005;

/** @typedef {import("./api.js").Moment} Moment */

export class Timeline {
  #duration = 0;
  #slider = make("input", { type: "range", min: 0, step: "any", class: "timeline-slider", "aria-label": "Position in the video" });
  #area = document.createElementNS(SVG, "path");
  #marks = make("div", { class: "timeline-marks", "aria-hidden": "true" });
  #end = make("span", {});
  /** Marks to click; the list beside them is for the keyboard. */
  #lane = make("div", { class: "timeline-lane", "aria-hidden": "true", hidden: true });

  /** @param {HTMLElement} place @param {(seconds: number) => void} onSeek */
  constructor(place, onSeek) {
    this.place = place;
    const curve = document.createElementNS(SVG, "svg");
    curve.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    curve.setAttribute("preserveAspectRatio", "none");
    curve.setAttribute("aria-hidden", "true");
    curve.append(this.#area);
    this.#slider.addEventListener("input", () => {
      this.#tell();
      onSeek(Number(this.#slider.value));
    });
    const ends = make("div", { class: "timeline-ends number", "aria-hidden": "true" }, make("span", { text: time(0) }), this.#end);
    place.replaceChildren(make("div", { class: "timeline-track" }, curve, this.#marks, this.#slider), this.#lane, ends);
    this.clear();
  }

  clear() {
    this.place.hidden = true;
    this.#marks.replaceChildren();
    this.#area.removeAttribute("d");
    this.#lane.hidden = true;
    this.#lane.replaceChildren();
  }

  /** @param {Moment[]} parts In the order of time. @param {(moment: Moment) => void} onPlay */
  lane(parts, onPlay) {
    this.#lane.replaceChildren(...parts.map((part) => {
      const mark = button("", () => onPlay(part), { class: "timeline-part", tabindex: -1, title: span(part.start, part.end), "data-start": part.start, "data-end": part.end });
      this.#put(mark, part);
      return mark;
    }));
    this.#lane.hidden = !parts.length;
  }

  /** @param {number | null} duration Seconds. @param {Moment[]} moments The best first. */
  show(duration, moments) {
    this.clear();
    if (!duration) return;
    this.#duration = duration;
    this.#slider.max = String(duration);
    this.#end.textContent = time(duration);
    this.#marks.append(...moments.map(({ start, end }, place) => {
      const mark = make("span", { class: place ? "timeline-mark" : "timeline-mark best", "data-start": start, "data-end": end });
      this.#put(mark, { start, end });
      return mark;
    }));
    this.place.hidden = false;
  }

  /** @param {number[]} times Seconds, ascending. @param {number[]} values How well each frame fits. */
  draw(times, values) {
    const points = thinned(times, values);
    const low = Math.min(...values);
    const range = Math.max(Math.max(...values) - low, FLAT);
    const corners = points.map(([seconds, value]) => {
      const x = (WIDTH * this.#percent(seconds)) / 100;
      return `${x.toFixed(1)},${(HEIGHT * (0.96 - (0.9 * (value - low)) / range)).toFixed(1)}`;
    });
    if (!corners.length) return;
    const [first, last] = [corners[0].split(",")[1], corners[corners.length - 1].split(",")[1]];
    this.#area.setAttribute("d", `M0,${HEIGHT} L0,${first} L${corners.join(" L")} L${WIDTH},${last} L${WIDTH},${HEIGHT} Z`);
  }

  /** @param {number} seconds Show where the video is. */
  mark(seconds) {
    this.#slider.value = String(seconds);
    this.#tell();
    for (const mark of [...this.#marks.children, ...this.#lane.children]) {
      const { start, end } = /** @type {HTMLElement} */ (mark).dataset;
      mark.classList.toggle("now", seconds >= Number(start) && seconds < Number(end));
    }
  }

  #tell() {
    this.#slider.setAttribute("aria-valuetext", time(Number(this.#slider.value)));
  }

  /** @param {HTMLElement} mark @param {{start: number, end: number}} part */
  #put(mark, { start, end }) {
    mark.style.left = `${this.#percent(start)}%`;
    mark.style.width = `${Math.max(this.#percent(end) - this.#percent(start), 0.3)}%`;
  }

  /** @param {number} seconds */
  #percent(seconds) {
    return Math.min(Math.max((100 * seconds) / this.#duration, 0), 100);
  }
}

/** @param {number[]} times @param {number[]} values @returns {[number, number][]} The best of each few neighbours. */
function thinned(times, values) {
  const every = Math.max(Math.ceil(times.length / MOST_POINTS), 1);
  /** @type {[number, number][]} */
  const points = [];
  for (let begin = 0; begin < times.length; begin += every) {
    const part = values.slice(begin, begin + every);
    const best = part.indexOf(Math.max(...part));
    points.push([times[begin + best], part[best]]);
  }
  return points;
}
