"""The request of `first_gpu.py`, and the folder that it works in.

- request.json: the request, which a repeated command must have again
- times.json: seconds of each step over all starts, and which are finished
- zero-shot/, paper/, timings.json, mteb/: what the steps write
- logs/: what they say
- tables/: the tables, as Markdown and as JSON
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from colbert_video.base.access import os_problem
from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError, shown
from colbert_video.training.reproduce.paper_rows import find_row
from colbert_video.training.reproduce.plan import ReproducePlan
from colbert_video.training.run.run_folder import differences

DATASET, BACKBONE = "msrvtt", "clip-b32"
TINY_BACKBONE = "tiny-stand-in"
TINY_SETTINGS: Mapping[str, Any] = {
    "model.backbone": TINY_BACKBONE,
    "model.settings": {"num_frames": 4},
    "training.batch_size": 4,
    "training.epochs": 1,
    "training.max_steps": 2,
}
"""Overrides of the recipe on stand-ins."""


@dataclass(frozen=True)
class FirstGpuPlan:
    """What is run, on which files."""

    output: Path
    """Folder of everything that is written."""
    annotations: Path
    """Folder of MSR-VTT's annotation files."""
    videos: Path
    """Folder of its videos."""
    tasks: tuple[str, ...]
    """Tasks of MTEB; empty for none."""
    weights: str | None = None
    """Folder or file of the backbone's weights; None for a download."""
    cache: Path | None = None
    """Folder of decoded frames; None for `output/frames`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str | None = None
    """"cpu", or None for the first GPU."""
    workers: int | None = None
    """Decoding processes; None for one per core."""
    allow_missing: bool = False
    """True to go on without videos that are missing, and have the rows marked as incomplete."""
    tiny: bool = False
    """True for stand-ins of clips and models."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("output", "annotations", "videos", "cache"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, user_path(getattr(self, name), name).resolve())
        if self.weights is not None:
            object.__setattr__(self, "weights", str(user_path(self.weights, "weights").resolve()))
        if not self.seeds:
            raise SettingsError("seeds is empty; name at least one, 0 for example.")

    @property
    def frames(self) -> Path:
        """Folder of decoded frames, which all seeds share."""
        return self.cache or self.output / "frames"

    @property
    def timings(self) -> Path:
        """Report of `benchmarks/gpu.py`."""
        return self.output / "timings.json"

    @property
    def zero_shot(self) -> Path:
        """Folder of the zero-shot row."""
        return self.output / "zero-shot"

    @property
    def paper(self) -> Path:
        """Folder of the paper's row, with a folder for each seed."""
        return self.output / "paper"

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.output / "tables"

    def mteb(self, task: str) -> Path:
        """Figures of one task of MTEB."""
        return self.output / "mteb" / f"{task}.json"

    def row(self, *, zero_shot: bool = False, seed: int = 0) -> ReproducePlan:
        """Return the row of the paper, as `colbert-video reproduce` takes it."""
        settings: dict[str, Any] = dict(TINY_SETTINGS) if self.tiny else {"data.cache_gigabytes": 1000.0}
        chunk = None if zero_shot else self.chunk_size
        if chunk is not None:
            settings["training.chunk_size"] = chunk
        if self.device == "cpu" and not zero_shot:
            settings["training.precision"] = "fp32"
        return ReproducePlan(
            row=find_row(DATASET, BACKBONE),
            annotations=self.annotations,
            videos=self.videos,
            weights=self.weights,
            zero_shot=zero_shot,
            seed=seed,
            settings=settings,
        )

    @property
    def chunk_size(self) -> int | None:
        """Pairs that a training encodes at once, as `choose_chunk_size` chose it; small parts until then."""
        kept = self.output / "chunk_size.json"
        return read_json(kept)["chunk_size"] if kept.is_file() else self._small_chunk

    def choose_chunk_size(self) -> None:
        """Have trainings encode whole batches where the timings show that these fit into memory.

        The first choice is kept, since a training goes on with what it was begun with.
        """
        kept = self.output / "chunk_size.json"
        if not kept.is_file():
            parts = read_json(self.timings)["parts"] if self.timings.is_file() else {}
            fits = "figures" in parts.get("training", {})
            write_text(kept, json.dumps({"chunk_size": None if fits else self._small_chunk}) + "\n")

    @property
    def _small_chunk(self) -> int:
        return 2 if self.tiny else 32

    def check_folder(self) -> None:
        """Check that the folder is new or empty, or has the same request.

        Raises:
            SettingsError: If it holds something else.
        """
        file = self.output / "request.json"
        if file.is_file():
            now = json.loads(json.dumps(asdict(self), default=str))
            differing = differences(read_json(file), now)
            if differing:
                raise SettingsError(
                    f"{self.output} holds another run: {differing}. Repeat the command as it was, or choose another "
                    "--output."
                )
            return
        if self.output.is_dir() and any(each.name != "lock" for each in self.output.iterdir()):
            raise SettingsError(f"{self.output} is not empty and holds no such run; choose another --output.")

    def claim(self) -> None:
        """Reserve the folder for this request."""
        self.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), default=str, indent=2)
        write_text(self.output / "request.json", text + "\n")

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder's lock, which steps inherit: one that outlives a killed run keeps the next from starting.

        Raises:
            SettingsError: If another run holds it.
        """
        import fcntl

        self.output.mkdir(parents=True, exist_ok=True)
        with (self.output / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SettingsError(
                    f"another run is at work in {self.output}, or a step of a run that was killed; wait until it has ended."
                ) from error
            yield file.fileno()


def load_plan(output: Path) -> FirstGpuPlan:
    """Read the request of a folder."""
    values = read_json(output / "request.json")
    paths = {
        name: Path(values[name]) for name in ("output", "annotations", "videos", "cache") if values[name] is not None
    }
    tuples = {name: tuple(values[name]) for name in ("seeds", "tasks")}
    return FirstGpuPlan(**{each.name: values[each.name] for each in fields(FirstGpuPlan)} | paths | tuples)


def read_json(path: Path) -> Any:
    """Read a JSON file of the run.

    Raises:
        SettingsError: If it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {os_problem(error)}.") from error
    except ValueError as error:
        raise SettingsError(
            f"{path} is unreadable ({error}); remove it to run that step again: {shown(path.name)}."
        ) from error
