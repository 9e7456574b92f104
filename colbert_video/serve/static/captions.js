/** What a video is called for people: its caption, where the metadata have one. */

const KEYS = ["text", "caption", "captions", "title", "description"];

/** @param {Record<string, unknown>} metadata @param {string} id @returns {string} The caption; the id without one. */
export function captionOf(metadata, id) {
  const found = KEYS.map((key) => metadata[key]).map((value) => (Array.isArray(value) ? value[0] : value));
  return String(found.find((value) => typeof value === "string" && value.trim()) ?? id);
}

/** @param {Record<string, unknown>} metadata @returns {[string, unknown][]} The other metadata. */
export function factsOf(metadata) {
  const caption = captionOf(metadata, "");
  return Object.entries(metadata).filter(([name, value]) => !(KEYS.includes(name) && (value === caption || name === "text")));
}
