"""Speed and memory of a training step: plain batch, GradCache, and the loop that one would write first.

    python benchmarks/training.py                                   # CPU, tiny backbone and ViT-B-32: some minutes
    python benchmarks/training.py --backbone ViT-B-32-quickgelu --batch 256 --frames 12 --chunk 32 --precision bf16

Every way trains the same model on the same random batches with the dual sigmoid loss, in a process of its own, so that
each has its own peak of memory. The first step warms up and is not counted. "CPU s" is the time that processors worked
on a step, all threads together: on a busy machine it says more than samples a second.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from reports import TINY, arguments, save

from colbert_video.device import resolve_device
from colbert_video.model.tokens import QueryTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.run.distributed import build_accelerator
from colbert_video.training.run.learner import Learner
from colbert_video.training.run.model_recipe import register_backbone
from colbert_video.training.run.training_config import TrainingConfig

WAYS = ("plain", "gradcache", "gradcache + checkpointing", "straightforward loop")
GIGABYTE = 2**30


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    backbone: str
    batch: int
    frames: int
    chunk: int
    steps: int
    precision: str
    device: str
    threads: int
    way: str


def build_model(case: Case) -> VideoColBERT:
    """The backbone with random weights."""
    register_backbone("tiny", TINY)
    torch.manual_seed(0)
    return VideoColBERT.from_backbone(case.backbone, device=case.device, num_frames=case.frames)


def random_batch(case: Case, model: VideoColBERT, seed: int) -> TrainingBatch:
    """Noise as frames, with captions of common length."""
    preprocess = model.config.preprocess
    shape = (case.batch, case.frames, preprocess.height, preprocess.width, 3)
    generator = torch.Generator().manual_seed(seed)
    return TrainingBatch(
        pixels=torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        frame_mask=torch.ones(shape[:2], dtype=torch.bool),
        captions=[f"a person number {number} is doing something in a kitchen" for number in range(case.batch)],
        video_ids=[str(number) for number in range(case.batch)],
    )


def straightforward_step(
    model: VideoColBERT, optimizer: torch.optim.Optimizer, batch: TrainingBatch, bf16: bool
) -> None:
    """One video and one pair at a time: the formulas of the paper, written down as they stand."""
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
        ids = model.tokenize(batch.captions)
        tokens = model.embed_queries(ids.ids.to(model.device))
        videos = [
            model.embed_videos(model.config.preprocess.to_pixels(frames, device=model.device)[None])
            for frames in batch.pixels
        ]
    queries = QueryTokens(tokens, ids.scored.to(model.device), ids.pooled.to(model.device))
    loss = torch.zeros((), device=model.device)
    for row in range(len(queries)):
        for column, (frame, video) in enumerate(videos):
            for bag in (frame, video):
                score = (queries[row] @ bag[0].T).amax(dim=1).mean()
                logit = 117.92 * score - 12.93
                loss = loss + torch.nn.functional.softplus(-logit if row == column else logit)
    (loss / len(queries)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def measure(case: Case) -> dict[str, Any]:
    """Run a few steps of one way in this process."""
    torch.set_num_threads(case.threads)
    model = build_model(case)
    batches = [random_batch(case, model, seed) for seed in range(case.steps + 1)]
    if case.way == "straightforward loop":
        model.mark_trained()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False, fused=False)
        model.train()
        return timed(
            case, lambda batch: straightforward_step(model, optimizer, batch, case.precision == "bf16"), batches
        )
    config = TrainingConfig(
        batch_size=case.batch,
        chunk_size=None if case.way == "plain" else case.chunk,
        grad_checkpointing="checkpointing" in case.way,
        precision=case.precision,  # type: ignore[arg-type]
        freeze=(),
    )
    learner = Learner(model, config, build_accelerator("cpu" if case.device == "cpu" else None))
    with learner.prepared():
        return timed(case, lambda batch: learner.step(batch, learning_rate_factor=1.0, where="the benchmark"), batches)


def timed(case: Case, step: Callable[[TrainingBatch], Any], batches: list[TrainingBatch]) -> dict[str, Any]:
    """Seconds of each step and the peak of memory above what model and data take."""
    before = memory(case.device)
    seconds, work = [], []
    for batch in batches:
        start, worked = time.perf_counter(), time.process_time()
        step(batch)
        if case.device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - worked)
    best = min(seconds[1:])
    return {
        **asdict(case),
        "seconds_per_step": best,
        "samples_per_second": case.batch / best,
        "cpu_seconds_per_step": min(work[1:]),
        "peak_gigabytes": memory(case.device) / GIGABYTE,
        "step_gigabytes": (memory(case.device) - before) / GIGABYTE,
    }


def memory(device: str) -> int:
    """Highest number of bytes in use so far."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return torch.cuda.max_memory_allocated()


def measure_apart(case: Case) -> dict[str, Any]:
    """Measure in a fresh process; one that runs out of memory is a result too."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(asdict(case))], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {**asdict(case), "failed": f"exit code {done.returncode}, out of memory perhaps"}
    return json.loads(done.stdout.splitlines()[-1])


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    head = f"{row['backbone']:20} {row['batch']:5} {row['frames']:6} {row['precision']:5} {row['way']:26}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    return f"{head} {row['samples_per_second']:9.2f} {row['cpu_seconds_per_step']:7.2f} {row['peak_gigabytes']:9.2f} {row['step_gigabytes']:9.2f}"


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__, "training")
    parser.add_argument("--backbone", help="one open_clip model instead of the two default ones")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=2, help="pairs at once in GradCache")
    parser.add_argument("--steps", type=int, default=1, help="counted steps, after one that warms up")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="1 is fairest on a busy machine")
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure every way on every backbone, print a table and write it as JSON."""
    options = options_given()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    device = resolve_device(options.device).type
    shapes = [("tiny", 32, 6, 8), ("ViT-B-32-quickgelu", options.batch, options.frames, options.chunk)]
    if options.backbone:
        shapes = [(options.backbone, options.batch, options.frames, options.chunk)]
    print(
        f"{'backbone':20} {'batch':>5} {'frames':>6} {'prec.':5} {'way':26} {'samples/s':>9} {'CPU s':>7} {'peak GiB':>9} {'step GiB':>9}"
    )
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {options.threads} threads"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for backbone, batch, frames, chunk in shapes:
        for way in options.ways:
            case = Case(backbone, batch, frames, chunk, options.steps, options.precision, device, options.threads, way)
            rows.append(measure_apart(case))
            print(line(rows[-1]), flush=True)
            report = {"machine": name, "torch": torch.__version__, "rows": rows}
            save(options.output, report)


if __name__ == "__main__":
    main()
