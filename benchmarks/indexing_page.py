"""The tables of docs/video.md on indexing, from the figures of `indexing.py`.

They stand between `<!-- indexing: NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from decode_page import table

Figures = Mapping[str, Any]
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "indexing.json"
PAGE = HERE.parent / "docs" / "video.md"
STAGES = ("decode", "encode", "write", "compress", "other")
SECTION = re.compile(r"(<!-- indexing: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_page(results: Path, page: Path) -> None:
    """Write the tables into the page."""
    figures = json.loads(results.read_text(encoding="utf-8"))
    page.write_text(filled(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


def filled(text: str, figures: Figures) -> str:
    """The page's text with its sections of figures written again."""
    return SECTION.sub(
        lambda match: f"{match[1]}\n{SECTIONS[match[2]](figures)}\n\n{match[3]}",
        text,
    )


def throughput(figures: Figures) -> str:
    """CPU milliseconds a video by stage, videos a second, and how long the model waited."""
    headings = ["model", "videos", "processes", "threads", *STAGES]
    rows = [
        [
            f"{row['model']} ({row['device']})",
            str(row["indexed"]),
            str(row["workers"]),
            str(row["threads"]),
            *(f"{1000 * row['cpu_seconds'][stage] / row['indexed']:.1f}" for stage in STAGES),
            f"{row['indexed'] / sum(row['cpu_seconds'].values()):.1f}",
            f"{row['indexed'] / row['seconds']:.1f}",
            f"{100 * row['waited'] / row['seconds']:.0f} %",
        ]
        for row in figures["rows"]
    ]
    return table([*headings, "videos per CPU s", "videos per s", "model waited"], rows)


def memory(figures: Figures) -> str:
    """Peak memory by corpus size."""
    headings = ["peak memory, MB", "videos", "model loaded", "indexing"]
    names = ("loaded_megabytes", "peak_megabytes")
    rows = [
        [row["model"], str(row["indexed"]), *(f"{row[name]:.0f}" for name in names)]
        for row in figures["rows"]
        if row["model"] == "toy"
    ]
    return table(headings, rows)


def machine(figures: Figures) -> str:
    """What was measured on."""
    facts = figures["machine"]
    return (
        f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['system']}, busy with other work; "
        f"torch {figures['torch']}."
    )


SECTIONS: dict[str, Callable[[Figures], str]] = {
    "throughput": throughput,
    "memory": memory,
    "machine": machine,
}
