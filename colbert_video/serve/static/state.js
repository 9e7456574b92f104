/** What the page shows, as its address says it: links can be shared, and back and forward work. */

/** @typedef {{id: string, start: number | null, end: number | null}} Like A video, or a moment of it, to find others like. */
/**
 * @typedef {{query: string, image: string, without: string, also: string, then: string, like: Like | null, k: number, index: string, where: string, exact: boolean, windows: boolean, text: string,
 *   open: string, time: number | null}} PageState
 */

export const DEFAULT_K = 10;
const TEXTS = ["speech", "both"];

/** @param {string} search The address's query string. @returns {PageState} */
export function readState(search) {
  const given = new URLSearchParams(search);
  const k = Math.floor(Number(given.get("k")));
  const time = Number.parseFloat(given.get("t") ?? "");
  return {
    query: (given.get("q") ?? "").trim(),
    image: given.get("image") ?? "",
    without: given.get("without") ?? "",
    also: given.get("also") ?? "",
    then: given.get("then") ?? "",
    like: readLike(given),
    k: k >= 1 ? k : DEFAULT_K,
    index: given.get("index") ?? "",
    where: given.get("where") ?? "",
    exact: given.get("exact") === "true",
    windows: given.get("windows") === "true",
    text: TEXTS.find((text) => text === given.get("text")) ?? "picture",
    open: given.get("open") ?? "",
    time: time >= 0 ? time : null,
  };
}

/** @param {URLSearchParams} given @returns {Like | null} */
function readLike(given) {
  const seconds = (/** @type {string} */ name) => {
    const value = Number.parseFloat(given.get(name) ?? "");
    return value >= 0 ? value : null;
  };
  const id = given.get("like");
  return id ? { id, start: seconds("from"), end: seconds("to") } : null;
}

/** @param {PageState} state @returns {string} The query string that means it; empty for the page as it opens. */
export function writeState(state) {
  const made = new URLSearchParams();
  if (state.query) made.set("q", state.query);
  if (state.image) made.set("image", state.image);
  for (const name of /** @type {("without" | "also" | "then")[]} */ (["without", "also", "then"])) {
    if (state[name]) made.set(name, state[name]);
  }
  if (state.like) {
    made.set("like", state.like.id);
    if (state.like.start !== null) made.set("from", String(state.like.start));
    if (state.like.end !== null) made.set("to", String(state.like.end));
  }
  if (state.k !== DEFAULT_K) made.set("k", String(state.k));
  if (state.index) made.set("index", state.index);
  if (state.where) made.set("where", state.where);
  if (state.exact) made.set("exact", "true");
  if (state.windows) made.set("windows", "true");
  if (state.text !== "picture") made.set("text", state.text);
  if (state.open) made.set("open", state.open);
  if (state.open && state.time !== null) made.set("t", state.time.toFixed(1));
  const text = made.toString();
  return text && `?${text}`;
}

/** @param {PageState} one @param {PageState} other @returns {boolean} Whether both ask the same of the index. */
export function sameSearch(one, other) {
  const plain = (/** @type {PageState} */ state) => writeState({ ...state, open: "", time: null });
  return plain(one) === plain(other);
}

/** The browser's history of states. */
export class PageHistory {
  /** @param {(state: PageState) => void} onMove Called when people go back or forward. */
  constructor(onMove) {
    window.history.scrollRestoration = "manual"; // results come later than the browser scrolls
    window.addEventListener("popstate", () => onMove(readState(location.search)));
    window.addEventListener("pagehide", () => this.#keepScroll());
  }

  /** @returns {number} How far the page was scrolled when this entry was left; 0 for a new one. */
  get scroll() {
    return history.state?.scroll ?? 0;
  }

  #keepScroll() {
    history.replaceState({ ...history.state, scroll: window.scrollY }, "");
  }

  /** @param {PageState} state @param {{opened?: boolean}} [mark] `opened`: going back closes the viewer. */
  push(state, mark = {}) {
    this.#keepScroll();
    history.pushState(mark, "", address(state));
  }

  /** @param {PageState} state */
  replace(state) {
    history.replaceState(history.state, "", address(state));
  }

  /** @returns {boolean} Whether the entry before this one is the page with the viewer closed. */
  get cameFromResults() {
    return Boolean(history.state?.opened);
  }

  back() {
    history.back();
  }
}

/** @param {PageState} state */
function address(state) {
  return location.pathname + writeState(state);
}
