"""The learning curves of the loss study, as PNG: R@1 on validation clips along the training, a line a row."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from colbert_video.durable import write_bytes_durably

COLOURS = ("C3", "C0", "C1", "C9", "C2", "0.55", "C5")


def draw_loss_curves(rows_at: Mapping[int, Mapping[str, Mapping[int, Any]]], path: Path) -> None:
    """Draw the rows of every length side by side, with the mean over seeds as a line and their range as a band.

    Args:
        rows_at: Rows by name by steps, as `views.loss_study` gives them.
        path: A .png file.
    """
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(4.8 * len(rows_at), 4.2), layout="constrained", dpi=110)
        for axes, (steps, rows) in zip(
            figure.subplots(1, len(rows_at), squeeze=False, sharey=True).flat, rows_at.items(), strict=True
        ):
            for colour, (name, row) in zip(COLOURS, rows.items(), strict=False):
                at, curves = _curves(row)
                axes.plot(at, curves.mean(axis=0), color=colour, marker="o", markersize=3, label=name)
                axes.fill_between(at, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            axes.set(title=f"{steps} steps", xlabel="step", ylabel="R@1 on validation clips, percent")
            axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right", fontsize=8)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    write_bytes_durably(path, picture.getvalue())


def _curves(row: Mapping[int, Any]) -> tuple[list[int], np.ndarray]:
    """Return the steps at which all seeds were measured, and percent (seeds, steps)."""
    at = sorted(set.intersection(*({int(step) for step in one.validation} for one in row.values())))
    return at, np.array([[100 * one.validation[str(step)] for step in at] for one in row.values()])
