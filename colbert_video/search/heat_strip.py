"""An explanation as a picture: words × frames in each bag (paper, Fig. 4).

Padding, which is most of a short query, is one row: the mean of its tokens.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float

from colbert_video.errors import DependencyError
from colbert_video.model.bags import holds_frames

LABEL_PIXELS, ROW_PIXELS, TITLE_PIXELS, TIMES_PIXELS = 130, 20, 26, 18
MOST_COLUMN_PIXELS, WIDTH_PIXELS = 30, 620
"""Columns are narrower where there are many."""
LOW, HIGH = (0xF2, 0xEF, 0xE8), (0x0B, 0x2F, 0x4A)
"""Colours of the lowest and the highest cosine."""
MAX_TIMES = 12
"""Columns with their time written below; of more, every second or third has it."""


@dataclass(frozen=True)
class Strip:
    """Cosines of one bag: the rows and columns that are shown."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cosines: Float[np.ndarray, "rows columns"]


def strips_of(
    labels: Sequence[str],
    padding: Sequence[bool],
    times: Sequence[float],
    similarities: Mapping[str, Float[np.ndarray, "query_tokens _"]],
) -> list[Strip]:
    """Return a strip for each bag.

    Args:
        labels: Text of each token of the query.
        padding: True for those that are padding.
        times: Time of each frame in seconds.
        similarities: Cosines by bag, as in `Explanation`.
    """
    words = [row for row, own in enumerate(padding) if not own]
    rest = [row for row, own in enumerate(padding) if own]
    rows = [labels[row] for row in words] + ([f"padding ({len(rest)} tokens)"] if rest else [])
    strips = []
    for bag, matrix in similarities.items():
        shown = np.concatenate([matrix[words], matrix[rest].mean(axis=0, keepdims=True)] if rest else [matrix[words]])
        title = f"{bag} tokens: MeanMaxSim {matrix.max(axis=1).mean():.3f}"
        strips.append(Strip(title, tuple(rows), _columns(bag, matrix.shape[1], times), shown))
    return strips


def _columns(bag: str, tokens: int, times: Sequence[float]) -> tuple[str, ...]:
    """Return the times of frames, and numbers for tokens that stand for none."""
    timed = [f"{time:.1f} s" for time in times] if holds_frames(bag, tokens, len(times)) else []
    return (*timed, *(f"+{number}" for number in range(1, tokens - len(timed) + 1)))


def heat_strip_html(title: str, strips: Sequence[Strip]) -> str:
    """Return the strips as drawings that a page holds itself, with a line above that says what they are."""
    values = np.concatenate([strip.cosines.ravel() for strip in strips])
    drawn = "".join(_svg(strip, float(values.min()), float(values.max())) for strip in strips)
    about = f"{title}: how near each word is to each frame (cosine); the nearest is framed, +1, +2 … stand for no frame"
    return f'<div style="font-family:sans-serif;font-size:13px"><div>{escape(about)}</div>{drawn}</div>'


def _svg(strip: Strip, low: float, high: float) -> str:
    pixels = min(MOST_COLUMN_PIXELS, WIDTH_PIXELS / max(len(strip.columns), 1))
    height = TITLE_PIXELS + ROW_PIXELS * len(strip.rows) + TIMES_PIXELS
    parts = [
        _text(strip.title, 0, 18, "start"),
        *_cells(strip, pixels, low, high),
        *_column_names(strip, pixels, height),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL_PIXELS + pixels * len(strip.columns):.0f}" '
        f'height="{height}" font-size="12" fill="currentColor" style="display:block">{"".join(parts)}</svg>'
    )


def _cells(strip: Strip, pixels: float, low: float, high: float) -> Iterator[str]:
    for row, label in enumerate(strip.rows):
        top = TITLE_PIXELS + ROW_PIXELS * row
        yield _text(label, LABEL_PIXELS - 6, top + 14, "end")
        for column, value in enumerate(strip.cosines[row]):
            edge = ' stroke="#d03c28" stroke-width="2"' if column == strip.cosines[row].argmax() else ""
            about = escape(f"{label}, {strip.columns[column]}: {value:.3f}")
            yield (
                f'<rect x="{LABEL_PIXELS + pixels * column + 1:.1f}" y="{top + 1}" width="{max(pixels - 2, 1):.1f}" '
                f'height="{ROW_PIXELS - 2}" fill="{_colour(float(value), low, high)}"{edge}><title>{about}</title></rect>'
            )


def _column_names(strip: Strip, pixels: float, height: int) -> Iterator[str]:
    for column in _named(strip.columns):
        yield _text(strip.columns[column], LABEL_PIXELS + pixels * (column + 0.5), height - 4, "middle", size=9)


def _named(columns: Sequence[str]) -> range:
    """Return the columns that have their names below them."""
    return range(0, len(columns), -(-len(columns) // MAX_TIMES) if columns else 1)


def _text(text: str, x: float, y: float, anchor: str, size: int | None = None) -> str:
    smaller = "" if size is None else f' font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.0f}" text-anchor="{anchor}"{smaller}>{escape(text)}</text>'


def _colour(value: float, low: float, high: float) -> str:
    share = (value - low) / max(high - low, 1e-9)
    return "#" + "".join(f"{round(dark + share * (bright - dark)):02x}" for dark, bright in zip(LOW, HIGH, strict=True))


def plot_heat_strip(title: str, strips: Sequence[Strip]) -> Any:
    """Draw the strips as a `matplotlib.figure.Figure`.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    figure = _figure_class()(figsize=(8, sum(0.9 + 0.25 * len(strip.rows) for strip in strips)), layout="constrained")
    heights = [len(strip.rows) for strip in strips]
    for axes, strip in zip(
        figure.subplots(len(strips), squeeze=False, height_ratios=heights).flat, strips, strict=True
    ):
        _draw(axes, strip)
    figure.suptitle(title, fontsize=10)
    return figure


def _figure_class() -> Any:
    """Return matplotlib's figure, which notebooks show without pyplot too."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("plot needs matplotlib; install it with: pip install matplotlib.") from error

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            FigureCanvasAgg(self).print_png(picture)
            return picture.getvalue()

    return ShownFigure


def _draw(axes: Any, strip: Strip) -> None:
    axes.imshow(strip.cosines, aspect="auto", cmap="viridis")
    axes.scatter(
        strip.cosines.argmax(axis=1), range(len(strip.rows)), marker="s", s=60, facecolors="none", edgecolors="C3"
    )
    axes.set_yticks(range(len(strip.rows)), strip.rows, fontsize=8)
    named = _named(strip.columns)
    axes.set_xticks(list(named), [strip.columns[column] for column in named], fontsize=8)
    axes.set_title(strip.title, fontsize=9, loc="left")
