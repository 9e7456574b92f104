/** How numbers are written. */

/** @param {number} seconds @returns {string} Such as "3.2 s" or "1:04:09". */
export function time(seconds) {
  return seconds < 60 ? `${trim(seconds)} s` : clock(seconds);
}

/** @param {number | null} start @param {number | null} end @returns {string} Such as "3–4.5 s"; empty if unknown. */
export function span(start, end) {
  if (start === null || start === undefined) return "";
  if (end === null || end === undefined) return time(start);
  return end < 60 ? `${trim(start)}–${trim(end)} s` : `${clock(start)}–${clock(end)}`;
}

/** @param {number | null | undefined} value @returns {string} */
export function score(value) {
  return value === null || value === undefined ? "–" : value.toFixed(2).replace("-", "−");
}

/** @param {number} value @param {string} one @returns {string} Such as "1 video" or "1,200 videos". */
export function count(value, one) {
  return `${value.toLocaleString("en")} ${one}${value === 1 ? "" : "s"}`;
}

/** @param {string} text @returns {string} With a capital letter; the service's messages begin with a small one. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {unknown} value @returns {string} A value of the metadata as people read it. */
export function plain(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** @param {number} seconds @returns {string} At most one decimal. */
function trim(seconds) {
  return String(Math.round(seconds * 10) / 10);
}

/** @param {number} seconds */
function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}
