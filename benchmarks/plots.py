"""The plots and diagrams of `docs/figures`, from the figures in `results/`.

    python benchmarks/plots.py               # those of docs/index.md and docs/how-it-works.md, which search rendered clips
    python benchmarks/pages.py --plots       # all that are drawn from results alone

The heat strips are a real `Searcher.explain` of the shipped toy model on a rendered clip; the two bags are a diagram.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from loss_curves import draw_loss_curves
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import LogLocator
from reports import DOCS, load
from rivals import ENGINES
from views import loss_study

from colbert_video.durable import write_bytes_durably

Row = Mapping[str, Any]
FIXED = {"svg.hashsalt": "colbert_video", "font.size": 9, "svg.fonttype": "none"}
"""The same figures give the same file."""
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
WAITS = {"wait for all": "C3", "ask a copy after p95": "C0", "deadline": "C2"}
"""Ways to wait that are drawn; a deadline hides what copies add to it."""
CLIPS, SEED, FRAMES = 8, 13, 12
"""Of the heat strips: rendered clips, their seed, and frames of each."""
SHOWN = "is seen, then"
"""In the caption of the clip that is shown: something of it changes."""
BAGS = {"frame": "frame tokens", "video": "video tokens"}
DPI = 110


def draw_all(results: Path, folder: Path) -> None:
    """Draw every plot whose figures there are."""
    folder.mkdir(parents=True, exist_ok=True)
    search = load(results / "search.json")
    rows = [row for row in search["rows"] if "failed" not in row] if search else []
    reports = {name: load(results / f"{name}.json") for name in ("pooling", "fanout", "bits")}
    if rows:
        draw_recall(rows, folder / "search_recall.svg")
        draw_cost(rows, folder / "search_cost.svg")
    if reports["pooling"]:
        draw_pooling(reports["pooling"]["rows"], folder / "pooling.svg")
    if reports["fanout"]:
        draw_fanout(reports["fanout"], folder / "fanout.svg")
    if reports["bits"]:
        draw_bits(reports["bits"]["rows"], folder / "bits.svg")
    if study := load(results / "loss_study.json"):
        draw_loss_curves(loss_study(study)["rows_at"], folder / "loss_curves.png")


@contextmanager
def drawing(path: Path, size: tuple[float, float], **options: Any) -> Iterator[Figure]:
    """A figure that is written when it is complete, without the time of day in it."""
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=size, **options)
        yield figure
        picture, form = io.BytesIO(), path.suffix[1:]
        figure.savefig(picture, format=form, metadata={"Date": None} if form == "svg" else None)
        write_bytes_durably(path, picture.getvalue())


def draw_recall(rows: Sequence[Row], path: Path) -> None:
    """Recall@10 against CPU ms a query: a column a kind, a row a size, a line an engine, a point a setting."""
    keys = sorted({(row["size"], row["corpus"]) for row in rows}, key=lambda key: (key[0], key[1] != "plain"))
    crowded = [key for key in keys if len(_rows_of(rows, *key)) >= MIN_ENGINES] or keys
    sizes, kinds = sorted({size for size, _ in crowded}), sorted({kind for _, kind in crowded}, reverse=True)
    with drawing(path, (4.6 * len(kinds), 3.8 * len(sizes)), layout="constrained") as figure:
        grid = figure.subplots(len(sizes), len(kinds), squeeze=False, sharex=True, sharey=True)
        for axes, (size, kind) in zip(grid.flat, product(sizes, kinds), strict=True):
            for row in _rows_of(rows, size, kind):
                _draw_settings(axes, row)
            _finish(axes, xlabel="CPU ms a query", ylabel="recall@10", title=f"{size:,} videos, {kind}")
        _add_legend(figure, grid.flat[0])


def draw_cost(rows: Sequence[Row], path: Path) -> None:
    """CPU ms of each engine's best setting against the number of videos."""
    kinds = sorted({row["corpus"] for row in rows}, reverse=True)
    with drawing(path, (4.6 * len(kinds), 4.2), layout="constrained") as figure:
        grid = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)
        for axes, kind in zip(grid.flat, kinds, strict=True):
            for name in ENGINES:
                chosen = [row for row in rows if (row["engine"], row["corpus"]) == (name, kind)]
                points = [(row["size"], row["results"][row["best"]]["cpu_ms"]["p50"]) for row in chosen]
                _draw_line(axes, name, points, label=ENGINES[name].title)
            _finish(axes, xlabel="videos", ylabel="CPU ms a query", title=kind)
            _plain_numbers(axes.yaxis)
        _add_legend(figure, grid.flat[0])


def draw_pooling(rows: Sequence[Row], path: Path) -> None:
    """R@1 against bytes a video: a line for each rule of pooling."""
    with drawing(path, (4.6, 3.4), layout="constrained") as figure:
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


def draw_fanout(figures: Row, path: Path) -> None:
    """99th percentile and median against the number of shards, a colour a way to wait."""
    with drawing(path, (5.6, 3.8), layout="constrained") as figure:
        axes = figure.subplots()
        for policy, color in WAITS.items():
            tails = figures["tails"][policy]
            shards = [tail["shards"] for tail in tails]
            for name, style in (("p99", "-"), ("p50", ":")):
                heights = [tail[name] for tail in tails]
                axes.plot(shards, heights, color=color, linestyle=style, label=f"{policy}, {name}")
        axes.set(xlabel="shards that a query asks", ylabel="ms until the slowest has answered")
        _plain_numbers(axes.xaxis)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)


def draw_bits(rows: Sequence[Row], path: Path) -> None:
    """Recall@10 against bytes a video: a line for each rule of pooling, a point for each number of bits."""
    with drawing(path, (5.2, 3.4), layout="constrained") as figure:
        axes = figure.subplots()
        for factor, color in ((None, "C0"), (3.0, "C3")):
            line = [row for row in rows if row["pool_factor"] == factor]
            points = [(row["bytes_per_video"], row["recall@10"]) for row in line]
            name = "all tokens" if factor is None else f"pool_factor={factor:g}"
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=name)
            for row, point in zip(line, points, strict=True):
                axes.annotate(f"{row['nbits']}", point, xytext=(4, -10), textcoords="offset points", fontsize=8)
        axes.set(xlabel="bytes a video", ylabel="recall@10", xscale="log")
        axes.set_title("1, 2, 4 and 8 bits a dimension", fontsize=9)
        axes.margins(0.08, 0.1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")


def _rows_of(rows: Sequence[Row], size: int, kind: str) -> list[Row]:
    return [row for row in rows if (row["size"], row["corpus"]) == (size, kind)]


def _draw_settings(axes: Any, row: Row) -> None:
    """One engine's settings; hollow where uncompressed tokens are read."""
    label = ENGINES[row["engine"]].title
    for reads in (False, True):
        points = [
            (result["cpu_ms"]["p50"], result["recall"])
            for setting, result in row["results"].items()
            if (setting in row["reads_tokens"]) == reads
        ]
        if points:
            _draw_line(axes, row["engine"], points, label=label, hollow=reads)
            label = "_" + label  # in the legend once


def _draw_line(
    axes: Any, name: str, points: Sequence[tuple[float, float]], *, label: str, hollow: bool = False
) -> None:
    """One engine's points, from left to right."""
    if points:
        color, marker = STYLES[name]
        fill = "none" if hollow else "full"
        axes.plot(*zip(*sorted(points), strict=True), color=color, marker=marker, fillstyle=fill, label=label)


def _finish(axes: Any, *, xlabel: str, ylabel: str, title: str) -> None:
    """Labels, a logarithmic axis of plain numbers, and a grid."""
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _plain_numbers(axes.xaxis)
    axes.grid(alpha=0.3)


def _plain_numbers(axis: Any) -> None:
    """A logarithmic axis with 1, 2, 5, 10 and so on written out."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def _add_legend(figure: Figure, described: Any) -> None:
    """One legend for all parts of a figure."""
    handles, labels = described.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)


def draw_heat_strip(path: Path) -> None:
    """Frames of a rendered clip above, then words × frames for each bag; each word's best frame is marked."""
    with TemporaryDirectory() as folder:
        clip, why, frames = _explained_clip(Path(folder))
    words = [row for row, token in enumerate(why.tokens) if not token.token.startswith("<")]
    with drawing(path, (8, 1 + 0.4 * len(words)), layout="constrained", dpi=DPI) as figure:
        ratios = [1.1, *(len(words) / 3.6 for _ in BAGS)]
        top, *strips = figure.subplots(3, 1, height_ratios=ratios)
        figure.suptitle(f"“{clip.caption}”", fontsize=10)
        top.imshow(np.concatenate(list(frames.pixels), axis=1), aspect="equal")
        top.set_axis_off()
        for axes, (bag, title) in zip(strips, BAGS.items(), strict=True):
            cosines = why.similarities[bag][words, : len(frames)]
            _draw_strip(axes, cosines, [why.tokens[row].token for row in words])
            axes.set_title(f"{title}: MeanMaxSim {why.scores[bag]:.3f}", fontsize=9, loc="left")
        strips[-1].set_xticks(range(len(frames)), [f"{time:.1f}" for time in frames.times], fontsize=8)
        strips[-1].set_xlabel("seconds")


def _explained_clip(folder: Path) -> tuple[Any, Any, Any]:
    """A rendered clip, why its caption finds it, and the frames that were looked at."""
    from colbert_video import Indexer, Searcher
    from colbert_video.training.world import write_world
    from colbert_video.video import SamplingSettings, read_frames

    clips = write_world(folder / "clips", count=CLIPS, seed=SEED, split="test")
    clip = next(clip for clip in clips if SHOWN in clip.caption)
    index = Indexer(folder / "index", model="toy", num_frames=FRAMES, device="cpu", workers=1)
    index.index((clip.path.stem, clip.path) for clip in clips)
    with Searcher(folder / "index", device="cpu") as searcher:
        why = searcher.explain(clip.caption, clip.path.stem)
    return clip, why, read_frames(clip.path, SamplingSettings(num_frames=FRAMES, height=96, width=96))


def _draw_strip(axes: Any, cosines: Float[np.ndarray, "words frames"], words: list[str]) -> None:
    axes.imshow(cosines, aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(words)), words, fontsize=8)
    axes.set_xticks([])
    for row, frame in enumerate(cosines.argmax(axis=1)):
        axes.add_patch(Rectangle((frame - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor="C3", lw=1.6))


def draw_two_bags(path: Path) -> None:
    """From a query and a video to two bags and one score."""
    with drawing(path, (8.6, 4.4)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 86), ylim=(0, 44))
        axes.set_axis_off()
        for x, y, width, height, text, color in (
            (2, 30, 13, 8, "query\n“a dog\njumps”", "0.93"),
            (20, 30, 14, 8, "text tower", "#dbe9f6"),
            (39, 30, 17, 8, "query tokens\none per word,\npadding too", "#fdebd0"),
            (2, 10, 13, 8, "video\n12 frames", "0.93"),
            (20, 10, 14, 8, "image tower\neach frame alone", "#dbe9f6"),
            (39, 16, 17, 8, "frame tokens\none per frame", "#d5f0d8"),
            (20, 0.8, 14, 7, "temporal transformer\n+ expansion tokens", "#dbe9f6"),
            (39, 2, 17, 8, "video tokens\nframes in context,\nexpansion tokens", "#d5f0d8"),
            (62, 18, 11, 8, "MMS_F", "#f6dbe6"),
            (62, 6, 11, 8, "MMS_V", "#f6dbe6"),
            (77, 12, 8, 8, "score\n= sum", "#fdebd0"),
        ):
            _draw_box(axes, x, y, width, height, text, color)
        for start, end in (
            ((15, 34), (20, 34)), ((34, 34), (39, 34)), ((15, 14), (20, 14)), ((34, 15), (39, 19)),
            ((27, 10), (27, 7.8)), ((34, 4.5), (39, 5.5)), ((56, 20), (62, 20)), ((56, 8), (62, 8)),
            ((59.2, 24), (62, 24)), ((59.2, 12), (62, 12)), ((73, 21), (77, 18)), ((73, 10), (77, 14)),
        ):  # fmt: skip
            axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color="0.35"))
        axes.plot((56, 59.2, 59.2), (34, 34, 12), color="0.35", lw=1)
        note = "each query token takes its best match in a bag;\nthe mean over query tokens is MMS"
        axes.text(58, 39.5, note, fontsize=8, color="0.3")


def _draw_box(axes: Any, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    style = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=color, edgecolor="0.45", lw=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


if __name__ == "__main__":
    draw_heat_strip(DOCS / "figures" / "heat_strip.svg")
    draw_two_bags(DOCS / "figures" / "two_bags.svg")
