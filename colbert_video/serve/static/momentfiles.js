/** Moments as files for other programs: CSV for tables, EDL (CMX 3600) for video editors. */

/** @typedef {import("./api.js").Result} Result */
/**
 * @typedef {{id: string, start: number, end: number, score: number, text: string, rate: number | null}} MomentRow
 */

const USUAL_RATE = 25;
/** CMX 3600 numbers events with three digits. */
const MOST_EVENTS = 999;
const RECORD_HOUR = 3600;
const LONGEST_TITLE = 70;

/** @param {Result[]} results @returns {MomentRow[]} All moments of results, those of one video after another. */
export function momentRows(results) {
  return results.flatMap((result) => {
    const { id, text, frame_rate: rate, score } = result;
    if (result.start === null || result.end === null) return [];
    const best = { start: result.start, end: result.end, score };
    return [best, ...result.moments].map(({ start, end, score: own }) => ({ id, text, rate, start, end, score: own }));
  });
}

/** @param {MomentRow[]} rows @returns {string} RFC 4180, with a line of names. */
export function toCsv(rows) {
  const lines = rows.map(({ id, start, end, score, text }, place) =>
    [String(place + 1), shown(id), start.toFixed(3), end.toFixed(3), score.toFixed(4), text === id ? "" : shown(text)].map(quoted).join(","),
  );
  return ["number,video,start,end,score,text", ...lines, ""].join("\r\n");
}

/** @param {MomentRow[]} rows @param {string} title @returns {string} A cut list; times are frames of the commonest rate. */
export function toEdl(rows, title) {
  const rate = commonest(rows.map((row) => row.rate ?? USUAL_RATE));
  const lines = [`TITLE: ${plain(title).slice(0, LONGEST_TITLE)}`, "FCM: NON-DROP FRAME", ""];
  let record = Math.round(RECORD_HOUR * Math.round(rate));
  rows.slice(0, MOST_EVENTS).forEach(({ id, start, end, score, text }, place) => {
    const first = Math.round(start * rate);
    const frames = Math.max(Math.round(end * rate) - first, 1);
    const times = [first, first + frames, record, record + frames].map((frame) => timecode(frame, rate));
    lines.push(`${String(place + 1).padStart(3, "0")}  AX       V     C        ${times.join(" ")}`);
    lines.push(`* FROM CLIP NAME: ${plain(id)}`, `* COMMENT: score ${score.toFixed(4)}${text === id ? "" : `, ${plain(text)}`}`);
    record += frames;
  });
  return [...lines, ""].join("\r\n");
}

/** @param {string} name @param {string} text @param {string} type Have the browser save a text as a file. */
export function saveText(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  saveFrom(address, name);
  window.setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** @param {string} address @param {string} [name] Have the browser save what is there. */
export function saveFrom(address, name = "") {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

/** @param {number} frame @param {number} rate @returns {string} HH:MM:SS:FF without dropped numbers. */
function timecode(frame, rate) {
  const base = Math.round(rate);
  const seconds = Math.floor(frame / base);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60, frame % base];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** @param {number[]} rates */
function commonest(rates) {
  const counts = new Map();
  for (const rate of rates) counts.set(rate, (counts.get(rate) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1])[0]?.[0] ?? USUAL_RATE;
}

/** @param {string} text Tables must not take a name for a formula. */
function shown(text) {
  return /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
}

/** @param {string} text */
function quoted(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {string} text On one line. */
function plain(text) {
  return text.replace(/\s+/g, " ").trim();
}
