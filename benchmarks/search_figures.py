"""The two plots of docs/performance.md: recall against processor time, processor time against corpus size."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rivals import ENGINES

Row = Mapping[str, Any]
MIN_ENGINES = 3
"""A corpus with fewer engines has no recall plot of its own."""
STYLES = {
    "ours-4bit": ("C3", "o"),
    "ours-8bit": ("C1", "D"),
    "colbert": ("C0", "s"),
    "fast-plaid": ("C2", "^"),
    "faiss-hnsw": ("C4", "v"),
    "faiss-ivf": ("C5", "P"),
    "torch-fp32": ("0.2", "x"),
    "torch-bf16": ("0.6", "+"),
}
FIXED = {"svg.hashsalt": "colbert_video", "font.size": 9, "svg.fonttype": "none"}
"""The same figures give the same file."""


def draw_recall(rows: Sequence[Row], path: Path) -> None:
    """Recall@10 against CPU ms a query: a column a kind, a row a size, a line an engine, a point a setting."""
    keys = sorted({(row["size"], row["corpus"]) for row in rows}, key=lambda key: (key[0], key[1] != "plain"))
    crowded = [key for key in keys if len(_rows_of(rows, *key)) >= MIN_ENGINES] or keys
    sizes, kinds = sorted({size for size, _ in crowded}), sorted({kind for _, kind in crowded}, reverse=True)
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(4.6 * len(kinds), 3.8 * len(sizes)), layout="constrained")
        grid = figure.subplots(len(sizes), len(kinds), squeeze=False, sharex=True, sharey=True)
        for axes, (size, kind) in zip(grid.flat, product(sizes, kinds), strict=True):
            for row in _rows_of(rows, size, kind):
                draw_settings(axes, row)
            finish(axes, xlabel="CPU ms a query", ylabel="recall@10", title=f"{size:,} videos, {kind}")
        save(figure, grid.flat[0], path)


def draw_pooling(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """R@1 against bytes a video: a line for each rule of pooling."""
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        whole = next(row for row in rows if row["rule"] == "none")
        for color, rule in (("C0", "factor"), ("C3", "similarity")):
            line = [whole, *(row for row in rows if row["rule"] == rule)]
            points = sorted((row["bytes_per_video"], row["R@1"]) for row in line)
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=f"by {rule}")
        axes.set_xlabel("bytes a video")
        axes.set_ylabel("R@1")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


def draw_cost(rows: Sequence[Row], path: Path) -> None:
    """CPU ms of each engine's best setting against the number of videos."""
    kinds = sorted({row["corpus"] for row in rows}, reverse=True)
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(4.6 * len(kinds), 4.2), layout="constrained")
        grid = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)
        for axes, kind in zip(grid.flat, kinds, strict=True):
            for name in ENGINES:
                chosen = [row for row in rows if (row["engine"], row["corpus"]) == (name, kind)]
                points = [(row["size"], row["results"][row["best"]]["cpu_ms"]["p50"]) for row in chosen]
                draw_line(axes, name, points, label=ENGINES[name].title)
            finish(axes, xlabel="videos", ylabel="CPU ms a query", title=kind)
            plain_numbers(axes.yaxis)
        save(figure, grid.flat[0], path)


def _rows_of(rows: Sequence[Row], size: int, kind: str) -> list[Row]:
    return [row for row in rows if (row["size"], row["corpus"]) == (size, kind)]


def draw_settings(axes: Any, row: Row) -> None:
    """One engine's settings; hollow where uncompressed tokens are read."""
    label = ENGINES[row["engine"]].title
    for reads in (False, True):
        points = [
            (result["cpu_ms"]["p50"], result["recall"])
            for setting, result in row["results"].items()
            if (setting in row["reads_tokens"]) == reads
        ]
        if points:
            draw_line(axes, row["engine"], points, label=label, hollow=reads)
            label = "_" + label  # in the legend once


def draw_line(
    axes: Any, name: str, points: Sequence[tuple[float, float]], *, label: str, hollow: bool = False
) -> None:
    """One engine's points, from left to right."""
    if points:
        colour, marker = STYLES[name]
        fill = "none" if hollow else "full"
        axes.plot(
            *zip(*sorted(points), strict=True), color=colour, marker=marker, fillstyle=fill, label=label
        )


def finish(axes: Any, *, xlabel: str, ylabel: str, title: str) -> None:
    """Labels, a logarithmic axis of plain numbers, and a grid."""
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    plain_numbers(axes.xaxis)
    axes.grid(alpha=0.3)


def plain_numbers(axis: Any) -> None:
    """A logarithmic axis with 1, 2, 5, 10 and so on written out."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def save(figure: Figure, described: Any, path: Path) -> None:
    """Write a plot with one legend for all, without the time of day in it."""
    handles, labels = described.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
