/** What the page says of a search: how many results, what went wrong, what to do. */

import { button, byId, make } from "./dom.js";
import { count, sentence } from "./format.js";
import { remember, remembered } from "./storage.js";
import { term } from "./terms.js";

/** @typedef {import("./api.js").IndexInfo} IndexInfo */

const BUSY_AFTER = 150;

export class Messages {
  #status = byId("status");
  #problem = byId("problem");
  #welcome = byId("welcome");
  #legend = byId("bar-legend");
  #numbers = byId("numbers");
  #saveAll = byId("save-all");
  #timer = 0;

  /** @param {() => void} onRetry @param {() => void} onClearFilters @param {() => void} onWait Called when an answer is slow. */
  constructor(onRetry, onClearFilters, onWait) {
    this.onRetry = onRetry;
    this.#installNumbers();
    this.onWait = onWait;
    this.onClearFilters = onClearFilters;
  }

  /** Scores are shown on demand. */
  #installNumbers() {
    const swatch = (/** @type {string} */ kind) => make("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
    this.#legend.append(swatch("frame"), term("frame tokens"), " ", swatch("video"), term("video tokens"));
    const show = (/** @type {boolean} */ shown) => {
      document.body.classList.toggle("with-numbers", shown);
      this.#numbers.setAttribute("aria-pressed", String(shown));
      this.#numbers.textContent = shown ? "Hide the numbers" : "Numbers";
    };
    show(remembered("numbers") === "shown");
    this.#numbers.addEventListener("click", () => {
      const shown = this.#numbers.getAttribute("aria-pressed") !== "true";
      remember("numbers", shown ? "shown" : "hidden");
      show(shown);
    });
  }

  busy() {
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      this.#status.textContent = "Searching…";
      this.#welcome.hidden = true;
      this.onWait();
    }, BUSY_AFTER);
  }

  /** @param {import("./api.js").Answer} answer @param {boolean} filtered @param {IndexInfo | undefined} index */
  found(answer, filtered, index) {
    this.#reset();
    const results = answer.topk.length;
    this.#saveAll.hidden = !answer.topk.some((result) => result.start !== null);
    this.#numbers.hidden = !results;
    this.#legend.hidden = !answer.topk.some((result) => result.video_score !== null);
    if (results) {
      const milliseconds = answer.milliseconds < 10 ? answer.milliseconds.toFixed(1) : Math.round(answer.milliseconds);
      this.#say(`${count(results, "result")} in ${milliseconds} ms`, answer.shards_failed);
      if (answer.query_cut) this.#show(make("p", { class: "problem-text", text: "Your description is longer than this model reads; its end was not used. Say the most important thing first, or use fewer words." }));
      if (answer.topk.every((result) => result.match === "weak")) this.#status.append(" · ", make("strong", { text: "Nothing here matches well." }));
      return;
    }
    this.#say("No results", answer.shards_failed);
    const why = filtered ? "No video passes the filters." : `The index holds ${count(index?.videos ?? 0, "video")}, and none can be searched.`;
    this.#show(make("p", { text: why }));
    if (filtered) this.#welcome.append(button("Clear the filters", this.onClearFilters, { class: "main" }));
  }

  /** @param {import("./api.js").ApiError} error @param {number | null} waiting Seconds until it is tried again. */
  fail(error, waiting) {
    this.#reset();
    if (error.code === "token_needed") return;
    if (error.code === "nothing_indexed") {
      this.#sayEmpty();
      return;
    }
    if (waiting !== null) {
      this.#status.textContent = `${sentence(error.message)} Trying again…`;
      return;
    }
    const retry = button("Try again", this.onRetry, { class: "quiet wide" });
    this.#problem.replaceChildren(make("p", {}, make("strong", { text: sentence(error.message) }), ` ${error.remedy}`), retry);
    this.#problem.hidden = false;
  }

  /** @param {IndexInfo | undefined} index What there is to search, while nothing is asked. */
  welcome(index) {
    this.#reset();
    if (!index) return;
    if (index.state === "empty") {
      this.#sayEmpty();
      return;
    }
    const parts = index.windows ? `, ${count(index.windows, "part")} of long ones` : "";
    this.#show(make("p", { class: "lead", text: index.videos ? `${count(index.videos, "video")}${parts}.` : "This index is empty." }));
    if (!index.videos) {
      this.#welcome.append(make("p", {}, "Fill it on the server: ", make("code", { text: `colbert-video add FOLDER --index ${index.name}` }), ". The videos appear here as soon as they are indexed."));
      return;
    }
    const how = index.text_queries
      ? "Describe what can be seen and what happens; each result opens at the moment that fits best. A picture works too: drop or paste one."
      : "This index names no model that could read words or pictures, so it cannot be searched from here.";
    this.#welcome.append(make("p", { text: how }));
    if (index.note) this.#welcome.append(make("p", { class: "problem-text", text: index.note }));
  }

  /** Nothing was ever indexed here, and this page can change that. */
  #sayEmpty() {
    this.#show(make("p", { class: "lead", text: "Nothing is indexed yet." }));
    this.#welcome.append(make("p", { text: "Drop video files anywhere on this page, choose some, or name a folder below. Each video can be found as soon as it is indexed." }));
  }

  /** @param {string} text @param {string[]} missing Shards that did not answer. */
  #say(text, missing) {
    this.#status.textContent = text;
    if (!missing.length) return;
    const who = missing.length === 1 ? `${missing[0]} of the index` : `${count(missing.length, "part")} of the index`;
    this.#status.append(" ", make("strong", { class: "problem-text", text: `Incomplete: ${who} did not answer.` }));
  }

  /** @param {Node} node */
  #show(node) {
    this.#welcome.replaceChildren(node);
    this.#welcome.hidden = false;
  }

  #reset() {
    window.clearTimeout(this.#timer);
    this.#status.textContent = "";
    this.#legend.hidden = true;
    this.#numbers.hidden = true;
    this.#saveAll.hidden = true;
    this.#problem.hidden = true;
    this.#problem.replaceChildren();
    this.#welcome.hidden = true;
    this.#welcome.replaceChildren();
  }
}
