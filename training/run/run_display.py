"""What a person sees of a training: how it runs, the newest step beside the bar, and a table that grows by a row an epoch."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.progress import Bar
from colbert_video.training.run.training_config import TrainingConfig

COLUMNS = ("epoch", "step", "loss", "learning rate", "samples/s")
WIDTHS = (5, 8, 9, 13, 9)
METRIC_WIDTH = 8


def describe_run(
    model: VideoColBERT, config: TrainingConfig, accelerator: Any, *, batches: int, steps: int, done: int
) -> list[str]:
    """Return in a few lines what is trained, on what, and how long it will be.

    Args:
        model: With the parameters frozen that stay as they are.
        config: Settings of the training.
        accelerator: accelerate's view of devices and processes.
        batches: Batches of an epoch.
        steps: Steps of the whole run.
        done: Steps before the run was interrupted.
    """
    weights = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, trained = sum(count for count, _ in weights), sum(count for count, needed in weights if needed)
    processes = accelerator.num_processes
    several = "" if processes == 1 else f", {processes} processes of {config.batch_size // processes} each"
    left = "" if not done else f", {steps - done:,} of them left"
    name = model.name or type(model).__name__
    batch = f"{batches:,} batches of {config.batch_size} captions with their videos"
    rates = f"learning rate {config.learning_rate:.1e}, of the backbone {config.pretrained_learning_rate:.1e}"
    schedule = f"{config.schedule} after {100 * config.warmup:.0f} % warm-up"
    return [
        f"model: {name}, {total:,} parameters, {trained:,} of them trained",
        f"device: {_device(accelerator.device)}, {config.precision}{several}",
        f"data: {batch} an epoch, {config.epochs} epochs, {steps:,} steps{left}",
        f"loss: {config.loss} of {config.interaction}; {rates}, {schedule}",
    ]


def _device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


class RunDisplay:
    """Lines above a progress bar and its status; shows nothing where bars are off.

    Args:
        bar: The bar of the run.
        metric: The validation metric that is shown.
    """

    def __init__(self, bar: Bar, metric: str) -> None:
        self._bar, self._metric = bar, metric
        self._last: float | None = None
        self._best: float | None = None
        self._losses: list[float] = []
        self._samples, self._rate, self._measured = 0, 0.0, False
        self._begun, self._seconds = time.monotonic(), 0.0

    def begin(self, lines: list[str]) -> None:
        """Say how the run is made, and write the head of the table."""
        head = " ".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))
        for line in [*lines, f"{head} {self._metric:>{METRIC_WIDTH}} {'best':>{METRIC_WIDTH}}"]:
            self._bar.note(line)

    def step(self, values: Mapping[str, float], samples: int) -> None:
        """Count a step.

        Args:
            values: Its loss and learning rate.
            samples: Pairs of the batch, over all processes.
        """
        self._losses.append(values["loss"])
        self._samples += samples
        self._rate = values["learning_rate"]
        measured = "" if self._last is None else f", {self._metric} {self._last:.3f}"
        self._bar.status(f"loss {values['loss']:.4f}, lr {self._rate:.1e}{measured}")
        self._bar.advance(samples)

    def validated(self, metrics: Mapping[str, float], best: float | None) -> None:
        """Remember what the validation after this epoch gave, and the best value so far."""
        self._last, self._best, self._measured = metrics.get(self._metric), best, True

    def end_epoch(self, epoch: int, step: int) -> None:
        """Write the row of an epoch, which counts from 1: the mean loss of its steps in this session, and the metric."""
        if self._losses:
            seconds = max(self._seconds or time.monotonic() - self._begun, 1e-9)
            loss = sum(self._losses) / len(self._losses)
            cells = [f"{epoch}", f"{step}", f"{loss:.4f}", f"{self._rate:.2e}", f"{self._samples / seconds:.1f}"]
            row = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
            last, best = (self._last, self._best) if self._measured else (None, None)
            self._bar.note(f"{row} {_number(last)} {_number(best)}")
        self._begin_epoch()

    def end_steps(self) -> None:
        """Stop the clock of the epoch: saving and validation do not count."""
        self._seconds = time.monotonic() - self._begun

    def _begin_epoch(self) -> None:
        self._losses, self._samples, self._measured = [], 0, False
        self._begun, self._seconds = time.monotonic(), 0.0


def _number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.4f'):>{METRIC_WIDTH}}"
