/** Adding videos, where the service takes them: dropped files, or a folder beneath one of the service's. */

import { asApiError, isAborted } from "./api.js";
import { button, byId, make } from "./dom.js";
import { count, sentence } from "./format.js";

/** @typedef {import("./api.js").Addition} Addition */
/** @typedef {{name: string, share: number, problem: string}} Upload */

const LOOK_EVERY = 1000;
const MOST_SHOWN = 100;
const AT_ONCE = 2;
/** @type {Record<string, string>} */
const STATES = { waiting: "waiting", indexing: "being indexed", done: "can be found", failed: "failed" };

export class Adding {
  #place = byId("adding");
  #list = byId("adding-list");
  #status = byId("adding-status");
  #problem = byId("adding-problem");
  #path = byId("adding-path");
  #file = byId("adding-file");
  #index = "";
  #timer = 0;
  #done = 0;
  #sending = 0;
  /** @type {Upload[]} */
  #uploads = [];
  /** @type {File[]} */
  #queue = [];
  /** Whether the service takes videos. */
  allowed = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} onDone Called when videos can be found that could not before.
   * @param {() => boolean} isEmpty Whether nothing can be found yet, so that it is looked whether others add something.
   */
  constructor(api, onDone, isEmpty) {
    this.api = api;
    this.isEmpty = isEmpty;
    this.onDone = onDone;
    byId("adding-choose").addEventListener("click", () => this.#file.click());
    this.#file.addEventListener("change", () => {
      this.take([...this.#file.files]);
      this.#file.value = "";
    });
    byId("adding-folder").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.#addFolder();
    });
  }

  /** @param {string} index Name of the index that is shown. */
  async show(index) {
    this.#index = index;
    window.clearTimeout(this.#timer);
    await this.#look();
  }

  /** @param {boolean} visible */
  set visible(visible) {
    this.#place.hidden = !this.allowed || (!visible && !this.#isBusy);
  }

  /** @param {File[]} files @returns {boolean} Whether they are sent. */
  take(files) {
    const videos = files.filter((file) => !file.type.startsWith("image/") || file.type === "image/gif");
    if (!videos.length || !this.allowed) return false;
    this.#queue.push(...videos);
    this.visible = true;
    this.#sendNext();
    return true;
  }

  get #isBusy() {
    return this.#sending > 0 || this.#queue.length > 0 || this.#list.children.length > 0;
  }

  #sendNext() {
    while (this.#sending < AT_ONCE && this.#queue.length) {
      const file = /** @type {File} */ (this.#queue.shift());
      void this.#send(file);
    }
    this.#show([]);
  }

  /** @param {File} file */
  async #send(file) {
    const upload = { name: file.name, share: 0, problem: "" };
    this.#uploads.push(upload);
    this.#sending += 1;
    try {
      await this.api.addFile(file, this.#index, (share) => {
        upload.share = share;
        this.#showUploads();
      });
      this.#uploads = this.#uploads.filter((one) => one !== upload);
    } catch (error) {
      const { message, remedy } = asApiError(error);
      upload.problem = `${sentence(message)} ${remedy}`;
    }
    this.#sending -= 1;
    this.#sendNext();
    await this.#look();
  }

  async #addFolder() {
    const path = this.#path.value.trim();
    this.#problem.textContent = "";
    if (!path) return;
    try {
      await this.api.addFolder(path, this.#index);
      this.#path.value = "";
      await this.#look();
    } catch (error) {
      const { message, remedy } = asApiError(error);
      this.#problem.textContent = `${sentence(message)} ${remedy}`;
      this.#path.focus();
    }
  }

  async #look() {
    window.clearTimeout(this.#timer);
    try {
      const found = await this.api.additions(this.#index);
      this.allowed = found.allowed;
      this.#place.hidden = !found.allowed;
      byId("adding-roots").textContent = found.folders.join(" or ");
      this.#show(found.additions);
      this.#tell(found);
      if (found.done > this.#done || this.isEmpty()) this.onDone();
      this.#done = found.done;
      const isBusy = found.waiting + found.indexing + this.#sending > 0;
      if (isBusy || this.isEmpty()) this.#timer = window.setTimeout(() => this.#look(), isBusy ? LOOK_EVERY : 5 * LOOK_EVERY);
    } catch (error) {
      if (!isAborted(error)) this.#timer = window.setTimeout(() => this.#look(), 5 * LOOK_EVERY);
    }
  }

  /** @param {import("./api.js").Additions} found */
  #tell({ waiting, indexing, done, failed }) {
    const left = waiting + indexing;
    const parts = [left ? `${count(left, "video")} to go` : "", done ? `${done} can be found` : "", failed ? `${failed} failed` : ""];
    this.#status.textContent = parts.filter(Boolean).join(" · ");
  }

  /** @param {Addition[]} additions */
  #show(additions) {
    if (additions.length) this.#known = additions;
    this.#showUploads();
  }

  /** @type {Addition[]} */
  #known = [];

  #showUploads() {
    const order = ["failed", "indexing", "waiting", "done"];
    const known = [...this.#known].sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state)).slice(0, MOST_SHOWN);
    this.#list.replaceChildren(
      ...this.#uploads.map((upload) => this.#upload(upload)),
      ...this.#queue.slice(0, MOST_SHOWN).map((file) => line(file.name, "to be sent", "waiting")),
      ...known.map(({ id, state, reason }) => line(id, reason ? `${STATES[state]}: ${reason}` : STATES[state], state)),
    );
  }

  /** @param {Upload} upload */
  #upload(upload) {
    if (!upload.problem) {
      const made = line(upload.name, `being sent, ${Math.round(100 * upload.share)} %`, "indexing");
      made.append(make("progress", { max: 1, value: upload.share, "aria-label": `Sent of ${upload.name}` }));
      return made;
    }
    const made = line(upload.name, upload.problem, "failed");
    const remove = button("", () => {
      this.#uploads = this.#uploads.filter((one) => one !== upload);
      this.#showUploads();
    }, { class: "quiet", "aria-label": `Remove ${upload.name} from the list` });
    remove.append(make("span", { "aria-hidden": "true", text: "✕" }));
    made.append(remove);
    return made;
  }
}

/** @param {string} name @param {string} text @param {string} state */
function line(name, text, state) {
  return make("li", { class: `addition ${state}` }, make("span", { class: "addition-name", text: name }), make("span", { class: "addition-state", text }));
}
