"""What is measured of an index run: processor time by stage, how long the model waited, and memory.

Each case runs in a process of its own, so that memory and the time of the decoding processes are its own. Time is that
of processors, which other work on the machine hardly changes; waiting is by the clock, and is longer on a busy one.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from decode_files import source_clip

from colbert_video import Indexer, VideoColBERT
from colbert_video.base.threads import available_cores
from colbert_video.device import resolve_device
from colbert_video.indexing.build import ingest
from colbert_video.indexing.index.staging import StagingWriter
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest

SHAPES = (("320x240", 10), ("640x360", 20))
"""Size and seconds of the clips, which take turns."""
STAGES = ("encode", "write", "compress")
MEGABYTE = 2**20


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    model: str
    """"toy", or an open_clip model, which gets random weights."""
    videos: int
    """Size of the corpus."""
    workers: int
    """Decoding processes."""
    threads: int
    """Threads of torch."""
    device: str
    """Where the model runs."""
    frames: int = 12
    """Frames of each video."""
    precision: str = "auto"
    """In which the model encodes."""


def clips(folder: Path) -> list[Path]:
    """The clips that a corpus consists of, made by the ffmpeg program; the same in every run."""
    folder.mkdir(parents=True, exist_ok=True)
    return [source_clip(folder / f"{size}-{seconds}.mp4", size=size, seconds=seconds) for size, seconds in SHAPES]


def corpus(folder: Path, sources: Sequence[Path], count: int) -> Path:
    """A folder of so many files, each of them one of the sources."""
    folder.mkdir(parents=True)
    for number in range(count):
        source = sources[number % len(sources)]
        os.link(source, folder / f"{number:05}{source.suffix}")
    return folder


def build_model(case: Case) -> VideoColBERT:
    """The model of a case; its weights do not matter for time, and tokens of both bags are stored."""
    if case.model == "toy":
        return VideoColBERT.from_pretrained("toy", device=case.device)
    torch.manual_seed(0)
    model = VideoColBERT.from_backbone(case.model, device=case.device, num_frames=case.frames)
    model.mark_trained()
    return model


def measure(case: Case, videos: Path, work: Path) -> dict[str, Any]:
    """Index a corpus in this process."""
    torch.set_num_threads(case.threads)
    model = build_model(case)
    start = starting(case, work)
    loaded = peak()
    children, worked = children_seconds(), time.process_time()
    with timed_stages() as stages:
        indexer = Indexer(
            work / "index", model=model, num_frames=case.frames, workers=case.workers, precision=case.precision
        )
        report = indexer.index(videos)
    decoding = max(0.0, children_seconds() - children - start)
    everything = decoding + time.process_time() - worked
    return {
        **asdict(case),
        "indexed": report.indexed,
        "seconds": report.seconds,
        "waited": report.waited,
        "start_seconds": start,
        "cpu_seconds": {"decode": decoding, **stages, "other": everything - decoding - sum(stages.values())},
        "loaded_megabytes": loaded / MEGABYTE,
        "peak_megabytes": peak() / MEGABYTE,
    }


def starting(case: Case, work: Path) -> float:
    """Processor seconds that the decoding processes take to start."""
    before = children_seconds()
    requests = [FrameRequest(str(work / f"missing-{number}.mp4")) for number in range(4 * case.workers)]
    with FramePool(SamplingSettings(), workers=case.workers) as pool:
        for _ in pool.read_many(requests):
            pass
    return children_seconds() - before


@contextmanager
def timed_stages() -> Iterator[dict[str, float]]:
    """Processor seconds of this process in each stage, while the block runs."""
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **settings: Any) -> Any:
            before = time.process_time()
            try:
                return function(*given, **settings)
            finally:
                seconds[stage] += time.process_time() - before

        return call

    with ExitStack() as stack:
        for stage, owner, name in (
            ("encode", VideoColBERT, "encode_videos"),
            ("write", StagingWriter, "flush"),
            ("compress", ingest, "commit_segment"),
        ):
            stack.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        yield seconds


def children_seconds() -> float:
    """Processor seconds of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak() -> int:
    """Most bytes of memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_apart(case: Case, sources: Sequence[Path]) -> dict[str, Any]:
    """Measure in a fresh process.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    with tempfile.TemporaryDirectory(dir=sources[0].parent) as folder:
        videos = corpus(Path(folder) / "videos", sources, case.videos)
        order = json.dumps({"case": asdict(case), "videos": str(videos), "work": folder})
        done = subprocess.run(
            [sys.executable, __file__, order],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(case.threads),
                "MKL_NUM_THREADS": str(case.threads),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
    return json.loads(done.stdout.splitlines()[-1])


def cases(models: Sequence[str], sizes: Sequence[int], device: str | None) -> list[Case]:
    """The toy model at two corpus sizes, for memory; each other model with one thread and with one per core."""
    where = resolve_device(device).type
    cores = available_cores()
    found = []
    for model in models:
        if model == "toy":
            found += [Case(model, size, cores, 1, where) for size in sizes]
            continue
        found += [Case(model, sizes[0] // 4, cores, threads, where) for threads in dict.fromkeys([1, cores])]
    return found


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(measure(Case(**given["case"]), Path(given["videos"]), Path(given["work"]))))
