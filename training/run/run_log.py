"""The log of a run, one JSON object per line and the same for TensorBoard, and its plot."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_video.durable import write_bytes_durably
from colbert_video.errors import DependencyError

SMOOTHING = 0.05
"""Share of the steps that the smoothed loss averages over."""


class RunLog:
    """Appends to a run's log; each line is flushed before the next step.

    Steps have the keys step, epoch, loss, learning_rate, gradient_norm and samples_per_second, and decision_point with
    sigmoid losses; validations have step, epoch and metrics.

    Args:
        path: The JSONL file.
        tensorboard: Folder of TensorBoard's event files.
        step: Steps of the run that are kept when it is resumed. Later entries are dropped, because they will come again;
            so will a validation right after the last of these steps, which checkpoints come before.

    Raises:
        DependencyError: If TensorBoard is not installed.
    """

    def __init__(self, path: Path, tensorboard: Path, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError("training needs TensorBoard: pip install 'colbert_video[train]'.") from error
        kept = [entry for entry in read_log(path) if entry["step"] + ("metrics" in entry) <= step]
        write_bytes_durably(path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(tensorboard), purge_step=step + 1)

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log one optimizer step; both numbers count from 1."""
        self._append({"step": step, "epoch": epoch, **values})
        for name, value in values.items():
            self._tensorboard.add_scalar(f"training/{name}", value, step)

    def validation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics after an epoch."""
        self._append({"step": step, "epoch": epoch, "metrics": dict(metrics)})
        for name, value in metrics.items():
            self._tensorboard.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Close both logs."""
        self._file.close()
        self._tensorboard.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return all entries but an incomplete last line, which a killed run leaves."""
    if not path.is_file():
        return []
    entries = []
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise
    return entries


def plot_run(entries: Sequence[Mapping[str, Any]], path: Path, *, metric: str) -> None:
    """Draw loss and validation metric of a log as PNG; DependencyError if matplotlib is not installed."""
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
    values = [(entry["step"], entry["metrics"][metric]) for entry in entries if metric in entry.get("metrics", {})]
    if values:
        beside = axes.twinx()
        beside.plot(*_columns(values), color="tab:orange", marker="o", label=metric)
        beside.set(ylabel=metric, ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=2)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes_durably(path, picture.getvalue())


def smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Average each loss with those right before it."""
    width = max(1, round(SMOOTHING * len(points)))
    averages = []
    for end in range(1, len(points) + 1):
        window = [value for _, value in points[max(0, end - width) : end]]
        averages.append((points[end - 1][0], sum(window) / len(window)))
    return averages


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
