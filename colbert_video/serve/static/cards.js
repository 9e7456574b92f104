/** Pictures of videos in rows, which the arrow keys go through. */

import { make } from "./dom.js";

/** @param {number} count @returns {HTMLElement[]} Places of cards that are still to come. */
export function skeletons(count) {
  return Array.from({ length: count }, () => {
    const words = make("span", { class: "words" }, make("span", { class: "bone" }), make("span", { class: "bone short" }));
    return make("li", { class: "skeleton", "aria-hidden": "true" }, make("span", { class: "picture" }), words);
  });
}

/**
 * Move the focus between cards.
 * @param {HTMLElement[]} cards
 * @param {KeyboardEvent} event
 */
export function moveAmong(cards, event) {
  const at = cards.indexOf(/** @type {HTMLElement} */ (event.target));
  if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const top = cards[0].getBoundingClientRect().top;
  const columns = cards.filter((card) => Math.abs(card.getBoundingClientRect().top - top) < 2).length;
  /** @type {Record<string, number>} */
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: cards.length - 1 - at };
  const step = steps[event.key];
  if (step === undefined) return;
  const next = cards[at + step];
  if (next) next.focus();
  else if (event.key === "ArrowUp") document.getElementById("query")?.focus();
  event.preventDefault();
}

/** @param {HTMLElement | undefined} card Focus it; what is seen of it stays where it is. */
export function focusCard(card) {
  const { top = 0, bottom = 0 } = card?.getBoundingClientRect() ?? {};
  card?.focus({ preventScroll: bottom > 0 && top < window.innerHeight });
}
