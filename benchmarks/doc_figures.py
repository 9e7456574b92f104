"""The figures of docs/index.md and docs/how-it-works.md.

    python benchmarks/doc_figures.py

The heat strips are a real `Searcher.explain` of the shipped toy model on a rendered clip; the curve is drawn from
`results/bits.json`; the two bags are a diagram.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from search_figures import FIXED

from colbert_video import Indexer, Searcher
from colbert_video.search.explain import Explanation
from colbert_video.training.world import WorldClip, write_world
from colbert_video.video import SampledFrames, SamplingSettings, read_frames

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
BITS = Path(__file__).parent / "results" / "bits.json"
CLIPS, SEED, FRAMES = 8, 13, 12
SHOWN = "is seen, then"
"""In the caption of the clip that is shown: something of it changes."""
BAGS = {"frame": "frame tokens", "video": "video tokens"}
DPI = 110


def explained_clip(folder: Path) -> tuple[WorldClip, Explanation, SampledFrames]:
    """A rendered clip, why its caption finds it, and the frames that were looked at."""
    clips = write_world(folder / "clips", count=CLIPS, seed=SEED, split="test")
    clip = next(clip for clip in clips if SHOWN in clip.caption)
    index = Indexer(folder / "index", model="toy", num_frames=FRAMES, device="cpu", workers=1)
    index.index((clip.path.stem, clip.path) for clip in clips)
    with Searcher(folder / "index", device="cpu") as searcher:
        why = searcher.explain(clip.caption, clip.path.stem)
    return clip, why, read_frames(clip.path, SamplingSettings(num_frames=FRAMES, height=96, width=96))


def draw_heat_strip(clip: WorldClip, why: Explanation, frames: SampledFrames, path: Path) -> None:
    """Frames above, then words × frames for each bag; each word's best frame is marked."""
    words = [row for row, token in enumerate(why.tokens) if not token.token.startswith("<")]
    shown = {bag: why.similarities[bag][words, : len(frames)] for bag in BAGS}
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(8, 1 + 0.4 * len(words)), layout="constrained")
        ratios = [1.1, *(len(words) / 3.6 for _ in BAGS)]
        top, *strips = figure.subplots(3, 1, height_ratios=ratios)
        figure.suptitle(f"“{clip.caption}”", fontsize=10)
        top.imshow(np.concatenate(list(frames.pixels), axis=1), aspect="equal")
        top.set_axis_off()
        for axes, (bag, title) in zip(strips, BAGS.items(), strict=True):
            _draw_strip(axes, shown[bag], [why.tokens[row].token for row in words])
            axes.set_title(f"{title}: MeanMaxSim {why.scores[bag]:.3f}", fontsize=9, loc="left")
        strips[-1].set_xticks(range(len(frames)), [f"{time:.1f}" for time in frames.times], fontsize=8)
        strips[-1].set_xlabel("seconds")
        figure.savefig(path, metadata={"Date": None}, dpi=DPI)


def _draw_strip(axes: Any, cosines: Float[np.ndarray, "words frames"], words: list[str]) -> None:
    axes.imshow(cosines, aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(words)), words, fontsize=8)
    axes.set_xticks([])
    for row, frame in enumerate(cosines.argmax(axis=1)):
        axes.add_patch(Rectangle((frame - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor="C3", lw=1.6))


def draw_bits(report: dict[str, Any], path: Path) -> None:
    """Recall@10 against bytes a video: a line for each rule of pooling, a point for each number of bits."""
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for factor, color in ((None, "C0"), (3.0, "C3")):
            rows = [row for row in report["rows"] if row["pool_factor"] == factor]
            points = [(row["bytes_per_video"], row["recall@10"]) for row in rows]
            name = "all tokens" if factor is None else f"pool_factor={factor:g}"
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=name)
            for row, point in zip(rows, points, strict=True):
                axes.annotate(
                    f"{row['nbits']}", point, xytext=(4, -10), textcoords="offset points", fontsize=8
                )
        axes.set(xlabel="bytes a video", ylabel="recall@10", xscale="log")
        axes.set_title("1, 2, 4 and 8 bits a dimension", fontsize=9)
        axes.margins(0.08, 0.1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path, metadata={"Date": None})


def draw_two_bags(path: Path) -> None:
    """From a query and a video to two bags and one score."""
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(8.6, 4.4))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 86), ylim=(0, 44))
        axes.set_axis_off()
        _box(axes, 2, 30, 13, 8, "query\n“a dog\njumps”", "0.93")
        _box(axes, 20, 30, 14, 8, "text tower", "#dbe9f6")
        _box(axes, 39, 30, 17, 8, "query tokens\none a word,\npadding too", "#fdebd0")
        _box(axes, 2, 10, 13, 8, "video\n12 frames", "0.93")
        _box(axes, 20, 10, 14, 8, "image tower\neach frame alone", "#dbe9f6")
        _box(axes, 39, 16, 17, 8, "frame tokens\none a frame", "#d5f0d8")
        _box(axes, 20, 0.8, 14, 7, "temporal transformer\n+ expansion tokens", "#dbe9f6")
        _box(axes, 39, 2, 17, 8, "video tokens\nframes in context,\nexpansion tokens", "#d5f0d8")
        _box(axes, 62, 18, 11, 8, "MMS_F", "#f6dbe6")
        _box(axes, 62, 6, 11, 8, "MMS_V", "#f6dbe6")
        _box(axes, 77, 12, 8, 8, "score\n= sum", "#fdebd0")
        for start, end in (
            ((15, 34), (20, 34)), ((34, 34), (39, 34)), ((15, 14), (20, 14)), ((34, 15), (39, 19)),
            ((27, 10), (27, 7.8)), ((34, 4.5), (39, 5.5)), ((56, 20), (62, 20)), ((56, 8), (62, 8)),
            ((59.2, 24), (62, 24)), ((59.2, 12), (62, 12)), ((73, 21), (77, 18)), ((73, 10), (77, 14)),
        ):  # fmt: skip
            axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color="0.35"))
        axes.plot((56, 59.2, 59.2), (34, 34, 12), color="0.35", lw=1)
        axes.text(58, 39.5, "each query token takes its best match in a bag;\nthe mean over query tokens is MMS",
                  fontsize=8, color="0.3")  # fmt: skip
        figure.savefig(path, metadata={"Date": None})


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    style = "round,pad=0,rounding_size=1"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=color, edgecolor="0.45", lw=0.8)
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


def main() -> None:
    """Draw all of them."""
    with TemporaryDirectory() as folder:
        draw_heat_strip(*explained_clip(Path(folder)), FIGURES / "heat_strip.svg")
    draw_bits(json.loads(BITS.read_text(encoding="utf-8")), FIGURES / "bits.svg")
    draw_two_bags(FIGURES / "two_bags.svg")


if __name__ == "__main__":
    main()
