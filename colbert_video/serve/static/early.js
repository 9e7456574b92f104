// Runs before the page is painted, so that a remembered theme does not flash.
{
  let theme = null;
  try {
    theme = window.localStorage.getItem("colbert_video.theme");
  } catch {
    // storage is switched off: the system decides
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
