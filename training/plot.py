"""The curves of a run as a picture: loss by step, and the validation metric where there is one."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_video.errors import DependencyError
from colbert_video.indexing.files import write_bytes_durably

SMOOTHING = 0.05
"""Part of the steps that the smoothed loss averages over."""


def plot_run(entries: Sequence[Mapping[str, Any]], path: Path, *, metric: str) -> None:
    """Draw a run's log as PNG.

    Args:
        entries: From `read_log`.
        path: The picture; an older one is replaced.
        metric: Validation metric that is drawn beside the loss.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("the curves need matplotlib: pip install 'colbert_video[train]'.") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    axes.plot(*_columns(losses), color="tab:blue", alpha=0.3, linewidth=0.8)
    axes.plot(*_columns(smooth(losses)), color="tab:blue", label="loss")
    axes.set(xlabel="step", ylabel="loss")
    axes.set_ylim(bottom=0)
    values = [
        (entry["step"], entry["metrics"][metric]) for entry in entries if metric in entry.get("metrics", {})
    ]
    if values:
        beside = axes.twinx()
        beside.plot(*_columns(values), color="tab:orange", marker="o", label=metric)
        beside.set(ylabel=metric, ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=2)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes_durably(path, picture.getvalue())


def smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Each loss averaged with those right before it."""
    width = max(1, round(SMOOTHING * len(points)))
    averages = []
    for end in range(1, len(points) + 1):
        window = [value for _, value in points[max(0, end - width) : end]]
        averages.append((points[end - 1][0], sum(window) / len(window)))
    return averages


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
