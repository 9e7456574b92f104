/** Words that not everybody knows, with what they mean, shown when they are pointed at or reached by keyboard. */

import { make } from "./dom.js";

/** @type {Record<string, string>} */
export const MEANINGS = {
  "frame tokens": "How well single frames show what was asked.",
  "video tokens": "How well the frames in their order show what was asked, such as a movement.",
  "expansion tokens": "Tokens that stand for the video as a whole, not for one of its frames.",
  tokens: "A token is a part of a word, or a piece of a video, as the model sees them.",
  padding: "Short descriptions are filled up with tokens that are no words. They count for the score, and say little of a moment.",
  "start of text": "A token that the model puts before the words.",
  "end of text": "A token that the model puts behind the words; it stands for all of them.",
  exact: "Every video is scored with all that is stored of it, instead of the best few hundred. Slower, rarely different.",
  parts: "Long videos are cut into parts, and each part is searched by itself.",
  score: "How well it fits, summed over frame and video tokens. Scores of different searches cannot be compared.",
};

/** @param {string} text @param {string} [meaning] @returns {HTMLElement} The word, with its meaning on demand. */
export function term(text, meaning = MEANINGS[text]) {
  if (!meaning) return make("span", { text });
  const tip = make("span", { class: "tip", role: "tooltip", text: meaning });
  const word = make("span", { class: "term", tabindex: "0" }, text, tip);
  word.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || word.classList.contains("quiet-tip")) return;
    word.classList.add("quiet-tip");
    event.preventDefault(); // the first Escape closes the hint, not the dialog around it
    event.stopPropagation();
  });
  const again = () => {
    word.classList.remove("quiet-tip");
    const { left, width } = word.getBoundingClientRect();
    word.classList.toggle("right", left + width / 2 > window.innerWidth / 2);
  };
  for (const name of ["pointerenter", "focus"]) word.addEventListener(name, again);
  return word;
}
