// The theme's search dialog has no name for screen readers.
for (const search of document.querySelectorAll('.md-search[role="dialog"]')) search.setAttribute("aria-label", "Search");
