/** The page: search box, results, viewer, and the address that says what they show. */

import { Adding } from "./adding.js";
import { Api, asApiError } from "./api.js";
import { byId, make } from "./dom.js";
import { Filters } from "./filters.js";
import { ImageInput } from "./images.js";
import { IndexChoice } from "./indexes.js";
import { Likeness, nameOf } from "./likeness.js";
import { Messages } from "./messages.js";
import { saveMoments } from "./momenttools.js";
import { Results } from "./results.js";
import { scrollBackTo } from "./scroll.js";
import { Searching } from "./search.js";
import { Session } from "./session.js";
import { Start } from "./start.js";
import { installShortcuts } from "./shortcuts.js";
import { PageHistory, readState, sameSearch } from "./state.js";
import { installTheme } from "./theme.js";
import { Viewer } from "./viewer.js";

/** @typedef {import("./state.js").PageState} PageState */

const SAME_TYPING = 5000;
const TIME_PAUSE = 300;
const COUNTS = [10, 20, 50, 100];

class App {
  #query = byId("query");
  #count = byId("k");
  #text = byId("text");
  #state = readState(location.search);
  #typed = 0;
  #timer = 0;
  /** Whether the address asks for a video that is opened once its results are there. */
  #opening = false;
  #playing = false;
  /** How far to scroll once the results are there, which stood so when this page was left; −1 not to. */
  #scroll = -1;

  constructor() {
    const changed = () => this.#changed();
    this.api = new Api();
    this.history = new PageHistory((state) => this.#show(state));
    this.messages = new Messages(() => this.#search(), () => this.filters.clear(), () => this.#waiting());
    this.indexes = new IndexChoice(this.api, changed);
    this.filters = new Filters(byId("filters"), byId("filters-toggle"), byId("filters-count"), changed);
    this.images = new ImageInput(byId("image-chip"), byId("image-file"), byId("image-open"), () => void this.#imageChanged(), (files) => this.adding.take(files));
    this.likeness = new Likeness(changed);
    this.results = new Results(byId("results"), (result) => this.#open(result.id));
    this.adding = new Adding(this.api, () => this.#added(), () => this.indexes.isEmpty);
    this.start = new Start(this.api, {
      onQuery: (text) => this.#ask(text),
      onWhere: (where) => (this.filters.where = where),
      onOpen: (id) => this.#open(id),
    });
    this.searching = new Searching(this.api, {
      onStart: () => this.#started(),
      onAnswer: (answer, question) => this.#answered(answer, question),
      onError: (error, waiting) => this.#failed(error, waiting),
    });
    this.viewer = new Viewer(this.api, {
      onClose: (id) => this.#closed(id),
      onTime: (seconds) => this.#timeChanged(seconds),
      onStep: (step) => this.#step(step),
      onLike: (like) => this.#askLike(like),
    });
    this.session = new Session(this.api, () => this.#load(), () => location.reload());
    this.api.onTokenNeeded = () => this.session.ask();
    this.#install(changed);
  }

  async begin() {
    try {
      const { allowed, version } = await this.session.begin();
      byId("about").textContent = `colbert_video ${version}.`;
      if (allowed) await this.#load();
      else this.session.ask();
    } catch (error) {
      this.messages.fail(asApiError(error), null);
    }
  }

  /** @param {() => void} changed */
  #install(changed) {
    installTheme(byId("theme"));
    installShortcuts({
      onStep: (step) => this.#step(step),
      onDown: () => this.results.focusFirst() || this.start.wall.focusFirst(),
      isOpen: () => this.viewer.openId !== "",
    });
    this.#query.addEventListener("input", () => this.#typing());
    byId("query-clear").addEventListener("click", () => this.#ask(""));
    for (const choice of [this.#count, this.#text]) choice.addEventListener("change", changed);
    byId("search").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#changed();
    });
    for (const kind of /** @type {("csv" | "edl")[]} */ (["csv", "edl"])) {
      byId(`all-${kind}`).addEventListener("click", () => saveMoments(kind, this.results.shown, this.#state.query || "picture"));
    }
    this.#fill();
    if (!this.#state.query && !this.#state.open) this.#query.focus();
  }

  async #load() {
    try {
      await this.indexes.load(this.#state.index);
    } catch (error) {
      this.messages.fail(asApiError(error), null);
      return;
    }
    this.#fillCounts(); // the index knows the largest
    this.#showLines();
    void this.adding.show(this.indexes.current?.name ?? "");
    this.#scroll = this.history.scroll;
    this.#opening = this.#state.open !== "";
    if (this.#query.value.trim() !== this.#state.query) return; // words are being typed already
    if (await this.#loadImage()) this.#search();
  }

  /** @param {PageState} state Show what the address says, after going back or forward. */
  #show(state) {
    const before = this.#state;
    this.#state = state;
    if (!sameSearch(before, state)) {
      this.#scroll = this.history.scroll;
      this.#fill();
      this.#opening = state.open !== "";
      if (!state.open) this.viewer.close();
      void this.#loadImage().then((shown) => shown && this.#search());
    } else if (!state.open) this.viewer.close();
    else if (state.open !== this.viewer.openId) this.#openViewer();
    else if (state.time !== null) this.viewer.seek(state.time);
  }

  /** Fill the form from the state. */
  #fill() {
    this.#query.value = this.#state.query;
    this.#showClear();
    this.indexes.chosen = this.#state.index;
    this.filters.state = this.#state;
    this.likeness.like = this.#state.like;
    this.#fillCounts();
    this.#text.value = this.#state.text;
    this.#showLines();
  }

  /** Offer to search lines of text where the index has some. */
  #showLines() {
    byId("text-field").hidden = !this.indexes.current?.lines;
  }

  #fillCounts() {
    const { k } = this.#state;
    const counts = [...new Set([...COUNTS.filter((count) => count <= this.indexes.mostResults), k])];
    counts.sort((one, other) => one - other);
    this.#count.replaceChildren(...counts.map((count) => make("option", { value: count, text: count })));
    this.#count.value = String(k);
  }

  /** Read the state from the form. */
  #read() {
    const query = this.#query.value.trim();
    this.#state = { ...this.#state, ...this.filters.state, query, image: this.images.name, like: this.likeness.like, k: Number(this.#count.value), text: this.#text.value, index: this.indexes.chosen };
  }

  #typing() {
    this.#showClear();
    this.likeness.like = null;
    this.searching.soon(() => {
      this.#commit(true);
      this.#search();
    });
  }

  #changed() {
    if (this.filters.problem) return;
    this.#commit(false);
    this.#showLines();
    this.#search();
  }

  /** A picture was chosen, or removed: it gets a name at the service, so that its search has an address. */
  async #imageChanged() {
    const { image } = this.images;
    this.likeness.like = null;
    this.viewer.close();
    try {
      const name = image ? await this.api.keepPicture(image) : "";
      if (this.images.image !== image) return;
      this.images.name = name;
    } catch (error) {
      if (this.images.image === image) this.#failed(asApiError(error), null);
      return;
    }
    this.#changed();
  }

  /** @returns {Promise<boolean>} Whether the picture that the address names, if any, is shown. */
  async #loadImage() {
    const { image } = this.#state;
    if (image === this.images.name) return true;
    this.images.clear();
    if (!image) return true;
    try {
      const found = await this.api.picture(image);
      if (this.#state.image !== image) return false;
      this.images.show(found, image);
      return true;
    } catch (error) {
      if (this.#state.image === image) this.#failed(asApiError(error), null);
      return false;
    }
  }

  #showClear() {
    byId("query-clear").hidden = this.#query.value === "";
  }

  /** @param {boolean} typed Write the form to the address; words typed without a long pause are one step back. */
  #commit(typed) {
    const before = this.#state;
    this.#read();
    const now = Date.now();
    if (!sameSearch(before, this.#state)) {
      if (typed && now - this.#typed < SAME_TYPING) this.history.replace(this.#state);
      else this.history.push(this.#state);
    }
    this.#typed = typed ? now : 0;
  }

  #question() {
    const { query, like, k, where, exact, windows, index, without, also, then } = this.#state;
    const text = query && this.indexes.current?.lines ? this.#state.text : "";
    return { query, image: this.images.image, like, options: { k, where, exact, windows, index, without, all_of: also, then, text } };
  }

  /** @returns {boolean} Whether anything is looked for. */
  get #isAsked() {
    const { query, like, also, then } = this.#state;
    return Boolean(query || like || also || then || this.images.image);
  }

  /** @param {import("./state.js").Like} like Look for videos that look like a moment of the open one. */
  #askLike(like) {
    this.#query.value = "";
    this.#showClear();
    this.images.clear();
    this.likeness.like = like;
    this.#state = { ...this.#state, open: "", time: null };
    this.viewer.close();
    this.#changed();
    window.scrollTo(0, 0);
  }

  #search() {
    document.title = this.#state.query ? `${this.#state.query} – Video search` : "Video search";
    if (this.#isAsked) {
      void this.searching.now(this.#question());
      return;
    }
    this.searching.stop();
    this.results.show([], {});
    this.messages.welcome(this.indexes.current);
    this.start.show(this.indexes.current, this.#state.where);
    this.adding.visible = true;
    if (this.#opening) this.#openViewer();
    this.#opening = false;
  }

  /** Show what can be found now; its number of videos has changed. */
  async #added() {
    const { isEmpty } = this.indexes;
    try {
      await this.indexes.load(this.#state.index);
    } catch {
      return; // the next look will do
    }
    this.#showLines();
    if (this.#query.value.trim() !== this.#state.query) return; // words are being typed, and will be asked for
    if (!this.#isAsked || (isEmpty && !this.indexes.isEmpty)) this.#search();
  }

  /** @param {string} text */
  #ask(text) {
    this.#query.value = text;
    this.#showClear();
    this.#query.focus();
    this.#changed();
  }

  #waiting() {
    this.start.hide();
    this.results.wait();
  }

  #started() {
    this.results.busy = true;
    this.messages.busy();
  }

  /** @param {import("./api.js").Answer} answer @param {import("./search.js").Question} question */
  #answered(answer, question) {
    document.title = `${question.like ? nameOf(question.like) : question.query || "Image"} – Video search`;
    this.start.hide();
    this.adding.visible = false;
    this.results.show(answer.topk, answer.bag_weights);
    this.filters.learn(answer.topk.map((result) => result.metadata));
    this.messages.found(answer, question.options.where !== "", this.indexes.current);
    this.#restoreScroll();
    if (this.#opening) this.#openViewer();
    this.#opening = false;
  }

  #restoreScroll() {
    if (this.#scroll >= 0) scrollBackTo(this.#scroll);
    this.#scroll = -1;
  }

  /** @param {import("./api.js").ApiError} error @param {number | null} waiting */
  #failed(error, waiting) {
    this.start.hide();
    this.results.show([], {});
    this.messages.fail(error, waiting);
    if (error.code === "nothing_indexed") this.adding.visible = true;
    if (this.#opening && waiting === null && error.code !== "token_needed") this.#openViewer();
    if (waiting === null) this.#opening = false;
  }

  /** @param {string} id */
  #open(id) {
    const already = this.#state.open !== "";
    this.#state = { ...this.#state, open: id, time: null };
    if (already) this.history.replace(this.#state);
    else this.history.push(this.#state, { opened: true });
    this.#playing = true;
    this.#openViewer();
  }

  #openViewer() {
    const { open, time, query, index } = this.#state;
    const place = this.results.shown.findIndex((result) => result.id === open);
    const result = this.results.shown[place] ?? null;
    this.viewer.steps = { previous: place > 0, next: place >= 0 && place < this.results.shown.length - 1 };
    void this.viewer.open({ id: open, index, query, time, result, play: this.#playing });
    this.#playing = false;
  }

  /** @param {number} step */
  #step(step) {
    const place = this.results.shown.findIndex((result) => result.id === this.viewer.openId);
    const next = place < 0 ? undefined : this.results.shown[place + step];
    if (next) this.#open(next.id);
  }

  /** @param {number} seconds */
  #timeChanged(seconds) {
    window.clearTimeout(this.#timer);
    const { open } = this.#state;
    this.#timer = window.setTimeout(() => {
      if (!open || this.#state.open !== open) return;
      this.#state = { ...this.#state, time: seconds };
      this.history.replace(this.#state);
    }, TIME_PAUSE);
  }

  /** @param {string} id */
  #closed(id) {
    const { open } = this.#state;
    window.clearTimeout(this.#timer);
    if (open) {
      this.#state = { ...this.#state, open: "", time: null };
      if (this.history.cameFromResults) this.history.back();
      else this.history.replace(this.#state);
    }
    if (!this.results.focus(id) && !this.start.wall.focus(id)) this.#query.focus({ preventScroll: true });
  }
}

void new App().begin();
