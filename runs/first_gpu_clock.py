"""What a run has taken, and what is still to come, as far as it is known: of measured steps, never of assumptions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from first_gpu_checks import Findings
from first_gpu_plan import FirstGpuPlan, read_json

from colbert_video.durable import write_text
from colbert_video.training.run.run_folder import RunFolder
from colbert_video.training.run.run_log import read_log

BENCHMARK_SECONDS = 480.0
"""Limit of `benchmarks/gpu.py`."""
ENOUGH = 0.01
"""Share of a training after which its own pace says how long the rest takes."""


@dataclass(frozen=True)
class Left:
    """Time to come."""

    seconds: float = 0.0
    at_least: bool = False
    """True if some of it is not known."""

    def __add__(self, other: "Left") -> "Left":
        return Left(self.seconds + other.seconds, self.at_least or other.at_least)


UNKNOWN = Left(at_least=True)


class Times:
    """Seconds of each step over all starts, kept in the run's folder.

    Args:
        path: The JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {}

    @property
    def spent(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds(name) for name in self._steps)

    def seconds(self, name: str) -> float:
        """Return the seconds of a step so far."""
        return float(self._steps.get(name, {}).get("seconds", 0.0))

    def finished(self, name: str) -> bool:
        """Return True if a step need not be run again."""
        return bool(self._steps.get(name, {}).get("finished", False))

    def note(self, name: str, seconds: float, *, finished: bool = False) -> None:
        """Keep how long a step has taken."""
        self._steps[name] = {"seconds": seconds, "finished": finished}
        write_text(self._path, json.dumps(self._steps, indent=2) + "\n")


class Clock:
    """Estimates how long the steps that are left will take.

    Args:
        plan: The run.
        times: What the steps have taken.
        found: Sizes of the data.
    """

    def __init__(self, plan: FirstGpuPlan, times: Times, found: Findings) -> None:
        self._plan, self._times, self._found = plan, times, found
        self._begun: dict[str, tuple[float, float]] = {}
        """Progress and seconds of a training when this run took it up."""

    def left(self, names: list[str]) -> Left:
        """Return the time of several steps; finished ones take none."""
        total = Left()
        for name in names:
            if not self._times.finished(name):
                total += self._left_of(name)
        return total

    def progress(self, name: str) -> float | None:
        """Return the share of a training that is done; None for other steps."""
        kind, _, rest = name.partition("-")
        if kind != "seed":
            return None
        entries = read_log(RunFolder(self._plan.paper / f"seed-{rest}" / "training").log)
        steps = max((entry["step"] for entry in entries if "loss" in entry), default=0)
        done = min(1.0, steps / max(1, self._steps))
        self._begun.setdefault(name, (done, self._times.seconds(name)))
        return done

    @property
    def _steps(self) -> int:
        """Optimizer steps of a training."""
        (stage,) = self._plan.row().recipe(self._plan.output / "captions.jsonl").stages
        training = stage.training
        steps = training.epochs * (self._found.train_captions // training.batch_size)
        return steps if training.max_steps is None else min(steps, training.max_steps)

    def _left_of(self, name: str) -> Left:
        kind = name.partition("-")[0]
        if kind == "timings":
            return Left(max(0.0, BENCHMARK_SECONDS - self._times.seconds(name)))
        if kind == "seed":
            return self._training_left(name)
        if kind == "mteb":
            return self._task_left(name.removeprefix("mteb-"))
        return UNKNOWN

    def _training_left(self, name: str) -> Left:
        done = self.progress(name) or 0.0
        begun, seconds_then = self._begun[name]
        if done - begun > ENOUGH:
            return Left((self._times.seconds(name) - seconds_then) * (1 - done) / (done - begun))
        others = [f"seed-{seed}" for seed in self._plan.seeds]
        measured = [self._times.seconds(other) for other in others if self._times.finished(other)]
        if measured:
            return Left(max(measured) * (1 - done))
        return self._computing_left(1 - done)

    def _computing_left(self, share: float) -> Left:
        """Time of a training's steps as the benchmark measured them; reading videos comes on top."""
        if not self._plan.timings.is_file():
            return UNKNOWN
        parts = read_json(self._plan.timings)["parts"]
        way = "training" if self._plan.chunk_size is None else "training_gradcache"
        figures = parts.get(way, {}).get("figures")
        if figures is None:
            return UNKNOWN
        return Left(share * self._steps * figures["seconds_per_step"], at_least=True)

    def _task_left(self, task: str) -> Left:
        """Time of a task by its videos, at the pace of the zero-shot row; its download comes on top."""
        videos = self._found.task_videos.get(task)
        if videos is None or not self._times.finished("zero-shot") or not self._found.test_videos:
            return UNKNOWN
        return Left(self._times.seconds("zero-shot") * videos / self._found.test_videos, at_least=True)


def in_words(seconds: float) -> str:
    """Return a time in two units at most: "1 h 05 min", "3 min", "45 s"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def left_in_words(left: Left, price_per_hour: float | None) -> str:
    """Return the time to come and what it costs."""
    if left.at_least and not left.seconds:
        return "time left not known yet"
    least = "at least " if left.at_least else "about "
    cost = "" if price_per_hour is None else f", cost {least}{left.seconds / 3600 * price_per_hour:.2f}"
    return f"{least}{in_words(left.seconds)} left{cost}"
