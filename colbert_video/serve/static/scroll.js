/** Scrolling back to where a page was left, while what stands there is still being loaded. */

const LONGEST = 4000;

/** @param {number} wanted Pixels from the top; again as the page grows, until people scroll themselves. */
export function scrollBackTo(wanted) {
  window.scrollTo(0, wanted);
  if (wanted <= 0) return;
  const stop = new AbortController();
  const watch = new ResizeObserver(() => window.scrollTo(0, wanted));
  stop.signal.addEventListener("abort", () => watch.disconnect());
  for (const name of ["wheel", "touchstart", "pointerdown", "keydown"]) {
    window.addEventListener(name, () => stop.abort(), { once: true, passive: true, signal: stop.signal });
  }
  window.setTimeout(() => stop.abort(), LONGEST);
  watch.observe(document.body);
}
