/** Rows of the filter builder ↔ the API's `where`. */

/**
 * @typedef {{field: string, operator: string, value: string}} Condition
 * @typedef {{all: boolean, conditions: Condition[]}} Conditions
 */

/** The API's operators in words; "missing" is {"exists": false}. */
export const OPERATORS = {
  "=": "is",
  "!=": "is not",
  "<": "is less than",
  "<=": "is at most",
  ">": "is more than",
  ">=": "is at least",
  in: "is one of",
  contains: "holds",
  exists: "is known",
  missing: "is unknown",
};

/** Fields that every video has; the others are keys of its metadata. */
export const BUILT_IN = ["id", "duration", "start", "end", "parent"];
const TEXT_FIELDS = ["id", "parent"];

/** @param {string} operator @returns {boolean} Whether it compares with a value. */
export function takesValue(operator) {
  return operator !== "exists" && operator !== "missing";
}

/**
 * @param {Conditions} conditions Rows without a field, or without the value they need, are left out.
 * @returns {string} JSON; empty if no condition is left.
 */
export function toWhere({ all, conditions }) {
  const parts = conditions.filter(isComplete).map(toFilter);
  if (!parts.length) return "";
  if (parts.length === 1) return JSON.stringify(parts[0]);
  return JSON.stringify({ [all ? "and" : "or"]: parts });
}

/** @param {string} where @returns {Conditions | null} The rows that mean it; null if rows cannot. */
export function fromWhere(where) {
  if (!where.trim()) return { all: true, conditions: [] };
  const filter = parsed(where);
  if (!isObject(filter)) return null;
  const joint = ["and", "or"].find((name) => Array.isArray(filter[name]) && Object.keys(filter).length === 1);
  /** @type {Record<string, unknown>[]} */
  const parts = joint ? filter[joint] : [filter];
  if (!parts.every(isObject)) return null;
  const rows = parts.map((part) => Object.entries(part).map(([field, operand]) => fromEntry(field, operand)));
  if (joint === "or" && rows.some((row) => row.length !== 1)) return null;
  const conditions = rows.flat();
  if (!conditions.every((one) => one !== null)) return null;
  return { all: joint !== "or", conditions };
}

/**
 * @param {string} key A key of the metadata.
 * @param {boolean} inLists Whether the value is an element of stored lists.
 * @param {unknown} value
 * @returns {Condition} The row that finds the videos with this value.
 */
export function conditionOf(key, inLists, value) {
  const name = key.replace(/[\\.]/g, "\\$&");
  const field = [...BUILT_IN, "path", "and", "or", "not"].includes(key) || key.startsWith("metadata.") ? `metadata.${name}` : name;
  return fromEntry(field, inLists ? { contains: value } : value) ?? { field, operator: "=", value: String(value) };
}

/** @param {Condition} one @param {Condition} other */
export function sameCondition(one, other) {
  return one.field.trim() === other.field && one.operator === other.operator && one.value.trim() === other.value;
}

/** @param {string} text @returns {string | null} What is wrong with a filter written by hand; null if nothing is. */
export function problemOf(text) {
  if (!text.trim()) return null;
  try {
    return isObject(JSON.parse(text)) ? null : 'A filter is a JSON object, such as {"channel": "news"}.';
  } catch (error) {
    return `This is not JSON: ${error instanceof Error ? error.message : error}. Write for instance {"channel": "news"}.`;
  }
}

/** @param {Condition} condition */
function isComplete({ field, operator, value }) {
  return field.trim() !== "" && (!takesValue(operator) || value.trim() !== "");
}

/** @param {Condition} condition */
function toFilter({ field, operator, value }) {
  const name = field.trim();
  if (!takesValue(operator)) return { [name]: { exists: operator === "exists" } };
  const operand = operator === "in" ? value.split(",").map((part) => typed(name, part)) : typed(name, value);
  return { [name]: operator === "=" ? operand : { [operator]: operand } };
}

/** Numbers, true, false and null are themselves; everything else is text, also what stands in double quotes. */
function typed(/** @type {string} */ field, /** @type {string} */ text) {
  const value = text.trim();
  if (TEXT_FIELDS.includes(field)) return value;
  const found = parsed(value);
  return found === undefined || (typeof found === "object" && found !== null) ? value : found;
}

/** @param {string} field @param {any} operand @returns {Condition | null} */
function fromEntry(field, operand) {
  if (["and", "or", "not"].includes(field)) return null;
  if (!isObject(operand)) return shown(field, "=", operand);
  const [operator, ...more] = Object.keys(operand);
  if (more.length || !(operator in OPERATORS)) return null;
  const value = operand[operator];
  if (operator === "exists") return { field, operator: value ? "exists" : "missing", value: "" };
  return shown(field, operator, value);
}

/** @param {string} field @param {string} operator @param {any} operand */
function shown(field, operator, operand) {
  const texts = (operator === "in" && Array.isArray(operand) ? operand : [operand]).map((one) => written(field, one));
  return texts.some((text) => text === null || (operator === "in" && text.includes(",")))
    ? null
    : { field, operator, value: texts.join(", ") };
}

/** @param {string} field @param {any} value @returns {string | null} What is read back as this value. */
function written(field, value) {
  if (typeof value === "object" && value !== null) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (typed(field, text) === value) return text;
  return typed(field, JSON.stringify(value)) === value ? JSON.stringify(value) : null;
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {any} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
