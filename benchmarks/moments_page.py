"""The table of docs/video.md on moments, from the figures of `moments.py`; it stands between `<!-- moments -->` and `<!-- end -->`.

python benchmarks/moments_page.py
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decode_page import table

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "moments.json"
PAGE = HERE.parent / "docs" / "video.md"
SECTION = re.compile(r"(<!-- moments -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, figures: Mapping[str, Any]) -> str:
    """The page's text with its table of moments written again."""
    headings = ["how it is indexed", "queries", "own video first", "moments with IoU ≥ 0.5", "with IoU ≥ 0.7"]
    rows = [
        [
            name,
            str(row["queries"]),
            f"{100 * row['found_first'] / row['queries']:.0f} %",
            f"{100 * row['iou_at_least_0.5']:.0f} %",
            f"{100 * row['iou_at_least_0.7']:.0f} %",
        ]
        for name, row in figures.items()
        if isinstance(row, Mapping) and "iou_at_least_0.7" in row
    ]
    return SECTION.sub(lambda match: f"{match[1]}\n{table(headings, rows)}\n\n{match[2]}", text)


def main() -> None:
    """Write the table into the page."""
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
