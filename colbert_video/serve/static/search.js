/** Asking while people type: the newest question only, after a pause. */

import { asApiError, isAborted } from "./api.js";

/** @typedef {import("./api.js").Options} Options */
/** @typedef {{query: string, image: Blob | null, like: import("./state.js").Like | null, options: Options}} Question */

const PAUSE = 220;
const MOST_RETRIES = 20;

export class Searching {
  /** @type {AbortController | null} */
  #running = null;
  #timer = 0;

  /**
   * @param {import("./api.js").Api} api
   * @param {{onStart: () => void, onAnswer: (answer: import("./api.js").Answer, question: Question) => void,
   *   onError: (error: import("./api.js").ApiError, waiting: number | null) => void}} listener `waiting`: seconds until
   *   the question is asked again by itself.
   */
  constructor(api, listener) {
    this.api = api;
    this.listener = listener;
  }

  /** @param {() => void} ask Called once typing pauses. */
  soon(ask) {
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(ask, PAUSE);
  }

  /** @param {Question} question Ask it at once; an older one is given up. */
  now(question) {
    this.stop();
    return this.#ask(question, 0);
  }

  stop() {
    window.clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
  }

  /** @param {Question} question @param {number} tried */
  async #ask(question, tried) {
    const running = new AbortController();
    this.#running = running;
    this.listener.onStart();
    try {
      const answer = await this.#found(question, running.signal);
      if (this.#running === running) this.listener.onAnswer(answer, question);
    } catch (error) {
      if (!isAborted(error) && this.#running === running) this.#failed(asApiError(error), question, tried);
    }
  }

  /** @param {Question} question @param {AbortSignal} signal */
  #found({ query, image, like, options }, signal) {
    if (like) return this.api.moreLike(like, options, signal);
    return image ? this.api.searchImage(image, query, options, signal) : this.api.search(query, options, signal);
  }

  /** @param {import("./api.js").ApiError} error @param {Question} question @param {number} tried */
  #failed(error, question, tried) {
    const waiting = error.status === 503 && tried < MOST_RETRIES ? (error.retryAfter ?? 2) : null;
    this.listener.onError(error, waiting);
    if (waiting === null) return;
    this.#timer = window.setTimeout(() => this.#ask(question, tried + 1), waiting * 1000);
  }
}
