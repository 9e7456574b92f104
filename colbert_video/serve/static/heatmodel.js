/** From an explanation to the rows and columns of the heat strips (Reddy et al., CVPR 2025, Fig. 4). */

/** @typedef {import("./api.js").Explanation} Explanation */
/**
 * @typedef {{label: string, kind: "word" | "control" | "padding", tokens: number,
 *   values: Record<string, number[]>, best: Record<string, number>, most: Record<string, number>}} Row
 *   `best`: the column that counts for the score, −1 for a row of several tokens; `most`: the maximum, or their mean.
 * @typedef {{bag: string, score: number, times: number[], expansion: number}} Strip
 * @typedef {{rows: Row[], strips: Strip[], low: number, high: number}} HeatModel
 */

const LOW_SHARE = 0.1;
/** Bags whose first tokens are those of the frames; tokens of others have no times, and are shown by number. */
const FRAME_BAGS = ["frame", "video"];

/** @param {Explanation} explanation @returns {HeatModel} */
export function heatModel(explanation) {
  const bags = Object.keys(explanation.similarities);
  const places = explanation.tokens.map((_, place) => place);
  const words = places.filter((place) => !explanation.tokens[place].padding);
  const padding = places.filter((place) => explanation.tokens[place].padding);
  const rows = words.map((place) => row(explanation, bags, [place]));
  if (padding.length) rows.push(row(explanation, bags, padding));
  const strips = bags.map((bag) => {
    const tokens = explanation.similarities[bag][0].length;
    const times = FRAME_BAGS.includes(bag) && tokens >= explanation.times.length ? explanation.times : [];
    return { bag, score: explanation.scores[bag], times, expansion: tokens - times.length };
  });
  return { rows, strips, ...range(rows, bags) };
}

/**
 * @param {Explanation} explanation
 * @param {string[]} bags
 * @param {number[]} places One token, or all padding tokens.
 * @returns {Row}
 */
function row(explanation, bags, places) {
  const alone = places.length === 1 && !explanation.tokens[places[0]].padding;
  const token = explanation.tokens[places[0]].token;
  const control = /^<.*>$/.test(token);
  /** @type {Row} */
  const made = {
    label: alone ? plainToken(token, control) : `padding × ${places.length}`,
    kind: alone ? (control ? "control" : "word") : "padding",
    tokens: places.length,
    values: {},
    best: {},
    most: {},
  };
  for (const bag of bags) {
    const matrix = places.map((place) => explanation.similarities[bag][place]);
    made.values[bag] = matrix[0].map((_, column) => mean(matrix.map((values) => values[column])));
    made.most[bag] = mean(matrix.map((values) => Math.max(...values)));
    made.best[bag] = alone ? matrix[0].indexOf(Math.max(...matrix[0])) : -1;
  }
  return made;
}

/** @param {string} token @param {boolean} control */
function plainToken(token, control) {
  const text = control ? token.slice(1, -1).replaceAll("_", " ") : token.replace(/<\/w>$/, "").replace(/^▁/, "");
  return text.trim() || token;
}

/** One range for all strips, so that colours can be compared; the lowest tenth is not told apart. */
function range(/** @type {Row[]} */ rows, /** @type {string[]} */ bags) {
  const values = rows.flatMap((one) => bags.flatMap((bag) => one.values[bag])).sort((one, other) => one - other);
  const low = values[Math.floor((values.length - 1) * LOW_SHARE)];
  const high = values[values.length - 1];
  return { low, high: Math.max(high, low + 1e-6) };
}

/** @param {HeatModel} model @param {number} value @returns {number} Share of the colour scale, 0 to 1. */
export function level({ low, high }, value) {
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
