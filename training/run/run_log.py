"""The log of a run, one JSON object per line and the same for TensorBoard, and its plot."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_video.base.checks import text_list
from colbert_video.durable import write_bytes_durably
from colbert_video.errors import DependencyError, SettingsError, TrainingError, shown

logger = logging.getLogger(__name__)
PROJECT = "colbert_video"
"""Name of the project or experiment in trackers."""
NAMED = ("wandb", "trackio")
"""Trackers that take the name of a run when it begins."""
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
        trackers: Others that get the same; None for none.

    Raises:
        DependencyError: If TensorBoard is not installed.
    """

    def __init__(self, path: Path, tensorboard: Path, *, step: int, trackers: "Trackers | None" = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError("training needs TensorBoard: pip install 'colbert_video[train]'.") from error
        kept = [entry for entry in read_log(path) if entry["step"] + ("metrics" in entry) <= step]
        write_bytes_durably(path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(tensorboard), purge_step=step + 1)
        self._trackers = trackers

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log one optimizer step; both numbers count from 1."""
        self._append({"step": step, "epoch": epoch, **values})
        self._scalars("training", values, step)

    def validation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics after an epoch."""
        self._append({"step": step, "epoch": epoch, "metrics": dict(metrics)})
        self._scalars("validation", metrics, step)

    def close(self) -> None:
        """Close all logs."""
        self._file.close()
        self._tensorboard.close()
        if self._trackers is not None:
            self._trackers.close()

    def _scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        named = {f"{group}/{name}": value for name, value in values.items()}
        for name, value in named.items():
            self._tensorboard.add_scalar(name, value, step)
        if self._trackers is not None:
            self._trackers.log(named, step)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


class Trackers:
    """Experiment trackers that accelerate knows; one that fails is left out from then on, with a warning.

    Args:
        accelerator: accelerate's view of devices and processes.
        names: Their names, checked before.
        folder: The run's folder, whose name is that of the run in the tracker.
        settings: What the tracker stores of the run.

    Raises:
        TrainingError: If one cannot begin.
    """

    def __init__(self, accelerator: Any, names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        self._accelerator = accelerator
        self._running: list[Any] = []
        if not names:
            return
        accelerator.log_with = list(names)
        accelerator.project_configuration.set_directories(str(folder))  # where some of them write
        own = {name: {"name": folder.resolve().name} for name in names if name in NAMED}
        try:
            accelerator.init_trackers(PROJECT, config=dict(_flat(settings)), init_kwargs=own)
        except Exception as error:  # each tracker has errors of its own
            raise TrainingError(
                f"tracker {', '.join(names)} cannot begin: {type(error).__name__}: {error}. Log in there, or train without it."
            ) from error
        self._running = list(accelerator.trackers)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the values of one step."""
        self._each(lambda tracker: tracker.log(dict(values), step=step))

    def close(self) -> None:
        """Let each end the run."""
        self._each(lambda tracker: tracker.finish())
        self._running = []

    def _each(self, act: Callable[[Any], Any]) -> None:
        for tracker in list(self._running):
            try:
                act(tracker)
            except Exception as error:  # training is worth more than its picture elsewhere
                self._running.remove(tracker)
                logger.warning("tracker %s failed and gets nothing more: %s; log.jsonl has all", tracker.name, error)


def checked_trackers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the trackers to begin, each once; "tensorboard" is written in any case.

    Raises:
        SettingsError: If accelerate knows no tracker of a name.
        DependencyError: If accelerate or the package of one is not installed.
    """
    wanted = dict.fromkeys(text_list("trackers", names, ordered=True))
    if not wanted:
        return ()
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    except ImportError as error:
        raise DependencyError("training needs accelerate: pip install 'colbert_video[train]'.") from error
    installed = {str(name) for name in get_available_trackers()}
    for name in wanted:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise SettingsError(
                f"there is no tracker {shown(name)}; choose one of {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}."
            )
        if name not in installed:
            raise DependencyError(f"tracker {name} is not installed: pip install {name.replace('_', '-')}.")
    return tuple(name for name in wanted if name != "tensorboard")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings by names such as "training.batch_size"; what is no plain value as text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else str(value)


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
