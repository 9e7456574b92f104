/** The service's addresses. All are relative to the page, so that it works under a reverse proxy's prefix. */

/**
 * @typedef {{start: number, end: number, score: number, window: string}} Moment
 * @typedef {{id: string, rank: number, score: number, text: string, frame_score: number | null,
 *   video_score: number | null, start: number | null, end: number | null, window: string | null, moments: Moment[],
 *   parent: string | null, line: {start: number, end: number, text: string} | null, metadata: Record<string, unknown>, playable: boolean, reason: string | null, media: string | null,
 *   thumbnail: string | null, frame_rate: number | null, bag_scores: Record<string, number>,
 *   confidence: number | null, match: "strong" | "fair" | "weak" | null}} Result
 * @typedef {{query: string | null, index: string, version: number, milliseconds: number, topk: Result[],
 *   shards_failed: string[], query_cut: boolean, bag_weights: Record<string, number>}} Answer
 * @typedef {{name: string, videos: number, windows: number, version: number, model: string | null,
 *   text_queries: boolean, lines: number, state: "loading" | "empty" | "ready" | "failed", note: string | null}} IndexInfo
 * @typedef {{id: string, index: string, duration: number | null, frame_times: number[],
 *   metadata: Record<string, unknown>, windows: {id: string, start: number | null, end: number | null}[],
 *   playable: boolean, reason: string | null, codec: string | null, container: string | null, bytes: number | null,
 *   frame_rate: number | null, media: string | null, thumbnail: string | null, copy: string | null}} Video
 * @typedef {{id: string, parent: string | null, start: number | null, end: number | null, duration: number | null,
 *   metadata: Record<string, unknown>, windows: number, thumbnail: string | null, media: string | null, playable: boolean}} ListedVideo
 * @typedef {{field: string, in_lists: boolean, values: {value: string | number | boolean, videos: number}[]}} Facet
 * @typedef {{id: string, query: string, scores: Record<string, number>, times: number[],
 *   tokens: {token: string, padding: boolean}[], similarities: Record<string, number[][]>, relevance: number[],
 *   start: number | null, end: number | null}} Explanation
 * @typedef {{index: string, k: number, where: string, exact: boolean, windows: boolean, without: string, all_of: string, then: string, text: string}} Options
 */

/**
 * @typedef {{number: number, id: string, state: "waiting" | "indexing" | "done" | "failed", reason: string | null}} Addition
 * @typedef {{allowed: boolean, folders: string[], waiting: number, indexing: number, done: number, failed: number,
 *   additions: Addition[]}} Additions
 */

/** An error as the service describes it. */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP's, 0 if nothing answered.
   * @param {string} code For the page.
   * @param {string} message What happened.
   * @param {string} remedy What to do about it.
   * @param {number | null} retryAfter Seconds.
   */
  constructor(status, code, message, remedy, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.remedy = remedy;
    this.retryAfter = retryAfter;
  }
}

/** Asks the service. */
export class Api {
  constructor() {
    /** Called when the service wants its token. */
    this.onTokenNeeded = () => {};
  }

  /** @returns {Promise<{token_required: boolean, authenticated: boolean, version: string}>} */
  session() {
    return this.#json("api/session");
  }

  /** @param {string} token */
  async login(token) {
    const headers = { "Content-Type": "application/json" };
    await this.#ask("api/login", { method: "POST", headers, body: JSON.stringify({ token }) });
  }

  async logout() {
    await this.#ask("api/logout", { method: "POST" });
  }

  /** @returns {Promise<{indexes: IndexInfo[]}>} */
  indexes() {
    return this.#json("api/indexes");
  }

  /** @param {string} name @returns {Promise<any>} */
  index(name) {
    return this.#json(`api/indexes/${encodeURIComponent(name)}`);
  }

  /** @param {string} index @returns {Promise<{examples: string[], facets: Facet[]}>} */
  start(index) {
    return this.#json(`api/start?${parameters({ index })}`);
  }

  /**
   * @param {string} index @param {string} where @param {number} limit @param {string} after `next` of the page before.
   * @param {AbortSignal} signal
   * @returns {Promise<{videos: ListedVideo[], next: string | null}>}
   */
  newest(index, where, limit, after, signal) {
    return this.#json(`api/videos?${parameters({ index, where, limit, after, order: "newest", media: true })}`, { signal });
  }

  /**
   * @param {string} query
   * @param {Options} options
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  search(query, options, signal) {
    return this.#json(`api/search?${parameters({ query, ...options, labels: true })}`, { signal });
  }

  /**
   * @param {Blob} image
   * @param {string} query Words beside it; empty for the picture alone.
   * @param {Options} options
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  searchImage(image, query, options, signal) {
    return this.#json(`api/search/image?${parameters({ query, ...options, labels: true })}`, { method: "POST", body: image, signal });
  }

  /**
   * @param {import("./state.js").Like} like
   * @param {Options} options Parts of a question do not count.
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  moreLike({ id, start, end }, { index, k, where, exact, windows }, signal) {
    const wanted = { id, t: start, end: start === null ? null : end, index, k, where, exact, windows, labels: true };
    return this.#json(`api/more_like?${parameters(wanted)}`, { signal });
  }

  /**
   * @param {string} query @param {string} id @param {string} index @param {number | null} time Of a video in windows, those
   *   that hold it. @param {AbortSignal} signal
   */
  explain(query, id, index, time, signal) {
    return this.#json(`api/explain?${parameters({ query, id, index, t: time })}`, { signal });
  }

  /** @param {string} query @param {string} id @param {string} index @param {AbortSignal} signal @returns {Promise<{times: number[], relevance: number[]}>} */
  relevance(query, id, index, signal) {
    return this.#json(`api/relevance?${parameters({ query, id, index })}`, { signal });
  }

  /** @param {string} query @param {string} id @param {string} index @param {AbortSignal} signal @returns {Promise<{occurrences: Moment[]}>} In the order of time. */
  occurrences(query, id, index, signal) {
    return this.#json(`api/occurrences?${parameters({ query, id, index })}`, { signal });
  }

  /** @param {string} id @param {string} index @param {number} start @param {number} end @returns {string} Address of a part of a video as a file. */
  clip(id, index, start, end) {
    return `api/video/clip?${parameters({ id, index, start: start.toFixed(3), end: end.toFixed(3) })}`;
  }

  /** @param {string} id @param {string} index @param {AbortSignal} signal @returns {Promise<Video>} */
  video(id, index, signal) {
    return this.#json(`api/video?${parameters({ id, index })}`, { signal });
  }

  /** @param {Blob} image @returns {Promise<string>} Its name, under which the service keeps it for a while. */
  async keepPicture(image) {
    return (await this.#json("api/pictures", { method: "POST", body: image })).picture;
  }

  /** @param {string} name @returns {Promise<Blob>} */
  async picture(name) {
    return (await this.#ask(`api/pictures?${parameters({ picture: name })}`)).blob();
  }

  /** @param {string} index @returns {Promise<Additions>} */
  additions(index) {
    return this.#json(`api/additions?${parameters({ index })}`);
  }

  /** @param {string} path @param {string} index */
  async addFolder(path, index) {
    const headers = { "Content-Type": "application/json" };
    await this.#ask(`api/additions/folder?${parameters({ index })}`, { method: "POST", headers, body: JSON.stringify({ path }) });
  }

  /**
   * Send a file. `fetch` does not say how far it is.
   * @param {File} file @param {string} index @param {(share: number) => void} onProgress
   * @returns {Promise<void>}
   */
  addFile(file, index, onProgress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 0));
      request.addEventListener("error", () => reject(unreachable()));
      request.addEventListener("load", async () => {
        if (request.status < 300) resolve();
        else reject(await problemOf(new Response(request.responseText, { status: request.status })));
      });
      request.open("POST", `api/additions/file?${parameters({ index, name: file.name })}`);
      request.send(file);
    });
  }

  /**
   * Ask for a copy that browsers play; asking starts the work.
   * @param {string} address
   * @param {AbortSignal} signal
   * @returns {Promise<{ready: boolean, seconds: number}>} Whether it is there, else when to ask again.
   */
  async copy(address, signal) {
    let answer = await this.#send(address, { method: "HEAD", signal });
    if (!answer.ok) answer = await this.#ask(address, { headers: { Range: "bytes=0-0" }, signal }); // HEAD tells no reason
    return { ready: answer.status !== 202, seconds: Number(answer.headers.get("Retry-After")) || 2 };
  }

  /** @param {string} address @param {RequestInit} [init] */
  async #json(address, init) {
    return (await this.#ask(address, init)).json();
  }

  /** @param {string} address @param {RequestInit} [init] */
  async #ask(address, init) {
    const answer = await this.#send(address, init);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (problem.code === "token_needed") this.onTokenNeeded();
    throw problem;
  }

  /** @param {string} address @param {RequestInit} [init] */
  async #send(address, init) {
    try {
      return await fetch(address, init);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw unreachable();
    }
  }
}

function unreachable() {
  return new ApiError(0, "unreachable", "The service does not answer.", "Check that it runs, then try again.");
}

/** @param {unknown} error @returns {boolean} Whether a newer request took this one's place. */
export function isAborted(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/** @param {unknown} error @returns {ApiError} */
export function asApiError(error) {
  if (error instanceof ApiError) return error;
  return new ApiError(0, "page", `The page failed: ${error}`, "Reload it.");
}

/** @param {Response} answer */
async function problemOf(answer) {
  const retryAfter = Number(answer.headers.get("Retry-After")) || null;
  try {
    const { code, message, remedy } = (await answer.json()).error;
    return new ApiError(answer.status, code, message, remedy, retryAfter);
  } catch {
    const message = `The service answered ${answer.status} ${answer.statusText}.`;
    return new ApiError(answer.status, "unknown", message, "Try again.", retryAfter);
  }
}

/** @param {Record<string, string | number | boolean | null | undefined>} values Empty and false ones are left out. */
function parameters(values) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== "" && value !== false && value !== null && value !== undefined) made.set(name, String(value));
  }
  return made;
}
