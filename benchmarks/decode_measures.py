"""What is measured of readers: right frames, processor time, memory.

They take turns, file by file, so that a slow moment of the machine meets all of them; of several rounds the least time
counts, as other work only ever adds to it.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from decode_truth import FRAMES, Truth, alike, ffmpeg_frames, wrong_frames
from processes import EndedError, WorkerProcess
from reports import HERE

LIMIT = 40.0
"""Seconds after which a reader hangs."""
HOUR, RATE = 3600, 25
AROUND = 0.2
"""Seconds before and after a time in which other frames are looked at."""
Outcome = dict[str, Any]


class Contestant:
    """A reader in a process of its own, which is replaced when a file kills or stops it."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name = name
        self._python = python
        self._log = folder / f"{name}.log"
        self._pictures = folder / f"{name}.npy"
        self._process: WorkerProcess | None = None

    def ask(self, do: str, *, limit: float = LIMIT, **arguments: Any) -> Outcome:
        """Send an order and wait for the answer; a process that dies or hangs is an outcome too."""
        if self._process is None:
            command = [self._python, str(HERE / "decode_worker.py"), self.name]
            self._process = WorkerProcess(command, self._log, PYTHONPATH=str(HERE.parent))
        try:
            return self._process.ask(do, limit=limit, **arguments)
        except TimeoutError as error:
            self._process = None
            return {"outcome": "hang", "detail": str(error)}
        except EndedError as error:
            self._process = None
            return {"outcome": "crash", "detail": str(error)}

    def pictures(self, path: Path) -> tuple[Outcome, np.ndarray | None, np.ndarray | None]:
        """Read a file: outcome, small pictures, times."""
        outcome = self.ask("read", path=str(path), keep=str(self._pictures))
        if outcome["outcome"] != "frames":
            return outcome, None, None
        times = outcome.pop("times")
        return outcome, np.load(self._pictures), None if times is None else np.array(times)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process = None


def contestants(names: Iterable[str], pythons: Mapping[str, str], folder: Path) -> dict[str, Contestant]:
    """One process a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: Contestant(name, pythons.get(name, sys.executable), folder) for name in names}


def judged(reader: Contestant, path: Path, truth: Truth | None) -> Outcome:
    """Read a file and compare: right, wrong, refused, error, hang or crash. No truth means no frames to be had."""
    outcome, found, times = reader.pictures(path)
    if found is None:
        return outcome
    wrong = FRAMES if truth is None else wrong_frames(found, times, truth)
    return {**outcome, "outcome": "wrong" if wrong else "right", "wrong": wrong}


def outcomes(files: Mapping[str, tuple[Path, bool]], readers: Mapping[str, Contestant]) -> dict[str, dict[str, Any]]:
    """What becomes of each file with each reader; files come with whether they hold frames to be had."""
    found = {}
    for title, (path, shows) in files.items():
        truth = ffmpeg_frames(path) if shows else None
        if truth is not None and len(truth.pictures) == 0:
            truth = None
        results = {name: judged(reader, path, truth) for name, reader in readers.items()}
        found[title] = {"shows": truth is not None, "readers": results}
        print(title, {name: outcome["outcome"] for name, outcome in results.items()}, flush=True)
    return found


def speed(
    sets: Mapping[str, Sequence[Path]], readers: Mapping[str, Contestant], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """CPU milliseconds of each file by set and reader."""
    paths = [path for files in sets.values() for path in files]
    for reader in readers.values():
        reader.ask("read", path=str(paths[0]))
    least: dict[tuple[Path, str], float] = {}
    for _ in range(rounds):
        for path in paths:
            for name, reader in readers.items():
                cost = reader.ask("read", path=str(path)).get("cpu_ms", float("inf"))
                least[path, name] = min(cost, least.get((path, name), float("inf")))
    return {
        title: {name: [round(least[path, name], 2) for path in files] for name in readers}
        for title, files in sets.items()
    }


def hours(files: Mapping[str, Path], readers: Mapping[str, Contestant], rounds: int) -> dict[str, dict[str, Outcome]]:
    """CPU milliseconds of files of an hour, and wrong frames of readers that say at what time their frames are shown."""
    found: dict[str, dict[str, Outcome]] = {}
    for title, path in files.items():
        found[title] = {}
        for name, reader in readers.items():
            outcome, pictures, times = reader.pictures(path)
            if pictures is not None:
                if times is not None:
                    outcome["wrong"] = _wrong_in_hour(path, pictures, times)
                again = [reader.ask("read", path=str(path)) for _ in range(rounds)]
                costs = [other["cpu_ms"] for other in (outcome, *again) if "cpu_ms" in other]
                outcome["cpu_ms"] = round(min(costs), 2)
            found[title][name] = outcome
        print(title, found[title], flush=True)
    return found


def _wrong_in_hour(path: Path, pictures: np.ndarray, times: np.ndarray) -> int:
    """Frames unlike those that ffmpeg shows at their times, which must lie in their segments."""
    segments = (np.arange(FRAMES) + 0.5) * HOUR / FRAMES
    outside = int((np.abs(times - segments) > HOUR / FRAMES / 2).sum())
    return outside + sum(
        not _shown(path, picture, round(float(place), 3)) for picture, place in zip(pictures, times, strict=True)
    )


def _shown(path: Path, picture: np.ndarray, second: float) -> bool:
    """Whether ffmpeg shows a picture at a time, and not one of its neighbours that looks otherwise."""
    truth = ffmpeg_frames(path, "-ss", f"{second - AROUND:.3f}", limit=int(2 * AROUND * RATE))
    nearest = int(np.abs(truth.times - AROUND).argmin())
    differences = np.abs(picture[None].astype(np.int16) - truth.pictures).mean((1, 2, 3))
    return bool(alike(differences[nearest], differences.min()))


def memory(reader: Contestant, paths: Sequence[Path], opens: int) -> Outcome:
    """Memory that the process holds early and late in many opens of good and bad files."""
    return reader.ask("memory", paths=[str(path) for path in paths], opens=opens, limit=600.0)
