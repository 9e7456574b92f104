"""What `gpu.py` measures: each part returns its figures, and is called in a process of its own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from reports import HERE, TINY
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import kernel_name
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.indexing.segments.segment import StoredBag
from colbert_video.model.tokens import TokenBags
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.model_recipe import register_backbone

PAPER_MS = 9.64
"""Milliseconds for a video of 12 frames on an A5000, decoding left out (Reddy et al., CVPR 2025)."""
PRECISIONS = ("fp32", "bf16", "fp16")
FRAMES = 12
CUDA_TESTS = ("tests/gpu", "tests/search/test_searcher.py", "tests/indexing/scan/test_scan.py")
"""Where the tests marked `cuda` are."""
QUERY = "a person is doing something in a kitchen"
TOLERANCE = 1e-4
"""How far scores of GPU and CPU may differ."""
HITS = 10
BAG_LENGTHS = {"frame": FRAMES, "video": FRAMES + 2}
SAMPLE = 4096
"""Random tokens that the codecs of a random segment are fitted to."""
GIGABYTE = 2**30


@dataclass(frozen=True)
class Setup:
    """Where the parts run."""

    device: str
    """"cuda:0", or "cpu" to try the script."""
    tiny: bool
    """True for models and corpora of a moment."""

    @property
    def backbone(self) -> str:
        """The open_clip model."""
        return "tiny" if self.tiny else "ViT-B-32-quickgelu"

    def synchronize(self) -> None:
        """Wait until the GPU has done what it was asked for."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def peak_gigabytes(self) -> float | None:
        """Highest memory of tensors on the GPU since the last call."""
        if self.device == "cpu":
            return None
        peak = torch.cuda.max_memory_allocated(self.device) / GIGABYTE
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    def milliseconds(self, work: Callable[[], object], rounds: int = 5) -> float:
        """Median time of several calls, after one that warms up."""
        times = []
        for _ in range(2 if self.tiny else rounds + 1):
            self.synchronize()
            started = time.perf_counter()
            work()
            self.synchronize()
            times.append(1000 * (time.perf_counter() - started))
        return median(times[1:])


@dataclass(frozen=True)
class Part:
    """One part of the benchmark."""

    seconds: float
    """Longest time that it may take."""
    measure: Callable[[Setup], dict[str, Any]]
    summary: Callable[[dict[str, Any]], str]
    """A line for people."""


def tests(setup: Setup) -> dict[str, Any]:
    """Run the tests that need a GPU; without one they are skipped, or fail if the benchmark is not told to use the CPU."""
    environment = {**os.environ, "FAIL_WITHOUT_CUDA": "0" if setup.device == "cpu" else "1"}
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", *CUDA_TESTS]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    last = done.stdout.strip().splitlines()[-1]
    return {"counts": {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped|failed)", last)}}


def encoding(setup: Setup, *, compiled: bool) -> dict[str, Any]:
    """Encode videos of 12 random frames and queries in each precision; the cosine is that to fp32's tokens."""
    model = _model(setup)
    count = 4 if setup.tiny else 128
    size = model.config.preprocess
    generator = torch.Generator().manual_seed(0)
    shape = (count, FRAMES, size.height, size.width, 3)
    frames = list(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
    reference = model.encode_videos(frames[:8]), model.encode_queries([QUERY])
    rows = []
    for precision in PRECISIONS:
        ready = model if precision == "fp32" and not compiled else _model(setup, precision)
        if compiled:
            _compile(ready, setup)
        rows.append({"precision": precision, **_encoding_times(setup, ready, frames, reference)})
        del ready
    return {"backbone": setup.backbone, "frames": FRAMES, "compiled": compiled, "paper_ms": PAPER_MS, "rows": rows}


def _encoding_times(setup: Setup, model: VideoColBERT, frames: list[Tensor], reference: Any) -> dict[str, Any]:
    batch = partial(model.encode_videos, frames, frames_per_batch=64 * FRAMES)
    there = [stack.to(setup.device) for stack in frames]
    started = time.perf_counter()
    batch()
    first = time.perf_counter() - started
    return {
        "first_seconds": first,
        "ms_per_video": setup.milliseconds(batch) / len(frames),
        "ms_per_video_on_device": setup.milliseconds(
            partial(model.encode_videos, there, frames_per_batch=64 * FRAMES)
        ) / len(frames),
        "ms_one_video": setup.milliseconds(partial(model.encode_videos, frames[:1])),
        "ms_one_query": setup.milliseconds(partial(model.encode_queries, [QUERY])),
        "ms_per_query_of_64": setup.milliseconds(partial(model.encode_queries, [QUERY] * 64)) / 64,
        "cosine_videos": _cosine(model.encode_videos(frames[:8]).frame, reference[0].frame),
        "cosine_queries": _cosine(model.encode_queries([QUERY]), reference[1]),
        "peak_gigabytes": setup.peak_gigabytes(),
    }  # fmt: skip


def _model(setup: Setup, precision: Any = "fp32") -> VideoColBERT:
    """The backbone with the same random weights at each call, marked as trained: both bags are made."""
    register_backbone("tiny", TINY)
    torch.manual_seed(0)
    model = VideoColBERT.from_backbone(setup.backbone, device=setup.device)
    model.mark_trained()
    return model.at_precision(precision)


def _compile(model: Any, setup: Setup) -> None:
    """Compile both towers and the temporal transformer in place."""
    backend = "eager" if setup.tiny else "inductor"
    for module in (model.backbone.clip.visual, model.backbone.text.transformer, model.temporal):
        module.compile(backend=backend)


def _cosine(one: TokenBags, other: TokenBags) -> float:
    """Smallest cosine of two encodings' tokens."""
    return float((one.tokens.cpu() * other.tokens.cpu()).sum(dim=-1).min())


def training(setup: Setup, *, way: str) -> dict[str, Any]:
    """Time steps of 256 pairs in bf16; the memory of the plain step is much larger."""
    batch, frames, chunk = (8, 2, 2) if setup.tiny else (256, FRAMES, 32)
    device = setup.device.partition(":")[0]
    precision = "fp32" if device == "cpu" else "bf16"
    threads = 1 if setup.tiny else torch.get_num_threads()
    case = {"backbone": setup.backbone, "batch": batch, "frames": frames, "chunk": chunk, "steps": 2, "way": way}
    case |= {"precision": precision, "device": device, "threads": threads}
    command = [sys.executable, HERE / "training.py", "--case", json.dumps(case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def search(setup: Setup, *, videos: int) -> dict[str, Any]:
    """Search random codes in the GPU's memory and on the CPU; exhaustive searches must have the same hits.

    Without `exact`, both choose candidates by centroids, on the CPU in whole numbers: `overlap` is how many of ten hits
    they share.
    """
    videos, dim, count = (videos // 100, 64, 2) if setup.tiny else (videos, 512, 4)
    here, codecs = random_segment(videos, dim, setup.device)
    there, moved = here.to(setup.device), {bag: codec.to(setup.device) for bag, codec in codecs.items()}
    queries = planted_queries(here, codecs["frame"], count)

    def hits(*, on_gpu: bool, exact: bool) -> list[Scored]:
        place = (there, moved) if on_gpu else (here, codecs)
        return [search_segment(*place, query, k=HITS, exact=exact) for query in queries]

    pairs = list(zip(hits(on_gpu=True, exact=True), hits(on_gpu=False, exact=True), strict=True))
    if not all(same_hits(*pair) for pair in pairs):
        raise SystemExit(f"the hits of GPU and CPU differ: {[(one.rows, other.rows) for one, other in pairs]}")
    fast = zip(hits(on_gpu=True, exact=False), hits(on_gpu=False, exact=False), strict=True)
    return {
        "videos": videos,
        "dim": dim,
        "queries": count,
        "kernels": kernel_name(),
        "equal_hits": True,
        "planted_first": sum(int(one.rows[0]) == row for row, (one, _) in enumerate(pairs)) / count,
        "overlap": sum(len(set(one.rows.tolist()) & set(other.rows.tolist())) for one, other in fast) / HITS / count,
        "ms": setup.milliseconds(partial(hits, on_gpu=True, exact=False)) / count,
        "ms_exact": setup.milliseconds(partial(hits, on_gpu=True, exact=True), 2) / count,
        "cpu_ms": setup.milliseconds(partial(hits, on_gpu=False, exact=False), 2) / count,
        "peak_gigabytes": setup.peak_gigabytes(),
    }


def random_segment(videos: int, dim: int, device: str) -> tuple[Segment, dict[str, ResidualCodec]]:
    """A segment of random codes and residuals in the CPU's memory, drawn on a device, and its codecs of 4 bits."""
    bags, codecs = {}, {}
    draw = partial(torch.randint, generator=torch.Generator(device).manual_seed(0), device=device)
    for seed, (bag, length) in enumerate(BAG_LENGTHS.items()):
        sample = torch.randn(SAMPLE, dim, generator=torch.Generator().manual_seed(seed))
        codec = ResidualCodec.train(normalize(sample, dim=1), nbits=4, seed=seed, centroids=SAMPLE // 4)
        tokens = videos * length
        bags[bag] = StoredBag(
            folder=Path(bag),
            dim=dim,
            nbits=codec.nbits,
            num_centroids=codec.num_centroids,
            codec_fingerprint=codec.fingerprint,
            codes=draw(codec.num_centroids, (tokens,), dtype=torch.int32).cpu(),
            residuals=draw(256, (tokens, dim // 2), dtype=torch.uint8).cpu(),
            doclens=torch.full((videos,), length),
            offsets=torch.arange(videos + 1) * length,
        )
        codecs[bag] = codec
    return Segment("random", bags, torch.ones(videos, dtype=torch.bool)), codecs


def planted_queries(segment: Segment, codec: ResidualCodec, count: int) -> list[Tensor]:
    """Queries of 32 tokens, near the frame tokens of the first videos: query i is made from video i."""
    stored = segment.bags["frame"]
    generator = torch.Generator().manual_seed(0)
    queries = []
    for row in range(count):
        tokens = slice(*stored.offsets[row : row + 2].tolist())
        frames = codec.decode(stored.codes[tokens], stored.residuals[tokens]) @ codec.rotation.T  # (frames, dim)
        chosen = frames[torch.arange(32) % len(frames)]  # (32, dim)
        noise = torch.randn(chosen.shape, generator=generator) / chosen.shape[1] ** 0.5
        queries.append(normalize(chosen + noise, dim=1))
    return queries


def same_hits(one: Scored, other: Scored) -> bool:
    """Return True if two searches found the same, but for videos whose scores are as good as equal."""
    if not torch.allclose(one.total, other.total, rtol=0, atol=TOLERANCE):
        return False
    shared = set(one.rows.tolist()) & set(other.rows.tolist())
    least = min(float(one.total[-1]), float(other.total[-1]))
    pairs = [pair for found in (one, other) for pair in zip(found.rows.tolist(), found.total.tolist(), strict=True)]
    return all(score - least <= TOLERANCE for row, score in pairs if row not in shared)


def _count_line(figures: dict[str, Any]) -> str:
    return ", ".join(f"{number} {word}" for word, number in figures["counts"].items())


def _encoding_line(figures: dict[str, Any]) -> str:
    times = ", ".join(f"{row['precision']} {row['ms_per_video']:.2f}" for row in figures["rows"])
    return f"ms a video: {times} (the paper's A5000: {PAPER_MS})"


def _training_line(figures: dict[str, Any]) -> str:
    return f"{figures['samples_per_second']:.0f} pairs/s, {figures['peak_gigabytes']:.1f} GiB"


def _search_line(figures: dict[str, Any]) -> str:
    return f"{figures['ms']:.2f} ms a query (CPU {figures['cpu_ms']:.2f}), equal hits"


PARTS = {
    "tests": Part(100, tests, _count_line),
    "encoding": Part(60, partial(encoding, compiled=False), _encoding_line),
    "training": Part(60, partial(training, way="plain"), _training_line),
    "training_gradcache": Part(60, partial(training, way="gradcache"), _training_line),
    "search": Part(40, partial(search, videos=20_000), _search_line),
    "search_large": Part(80, partial(search, videos=1_000_000), _search_line),
    "encoding_compiled": Part(150, partial(encoding, compiled=True), _encoding_line),
}
