"""The steps of `first_gpu.py`; each runs in a process of its own, so that memory is free for the next.

    python runs/first_gpu_steps.py OUTPUT STEP

`OUTPUT/request.json` says what is run. A step that was killed and is started again goes on where its parts allow it.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from first_gpu_plan import DATASET, FirstGpuPlan, load_plan, read_json
from first_gpu_stand_ins import register_stand_in, stand_in_task

from colbert_video.durable import write_text
from colbert_video.errors import ColBERTVideoError, SettingsError

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"
TINY_PARTS = ("encoding", "training")
"""Parts of the benchmark that a trial runs."""
METRICS = ("ndcg_at_10", "recall_at_1", "recall_at_5", "recall_at_10")
"""MTEB's figures that go into the table, beside its main one."""


@dataclass(frozen=True)
class Step:
    """One step of the run."""

    name: str
    title: str
    run: Callable[[FirstGpuPlan], None]
    optional: bool = False
    """True if the steps after it can do without its result."""


def all_steps(plan: FirstGpuPlan) -> list[Step]:
    """Return the steps in their order: cheap ones first, so that what is wrong costs little."""
    steps = [Step("zero-shot", "zero-shot rows", run_zero_shot), Step("timings", "timings", run_timings, optional=True)]
    for count, seed in enumerate(plan.seeds, start=1):
        steps.append(Step(f"seed-{seed}", f"the paper's row, seed {seed}", partial(run_seeds, count=count)))
    for task in plan.tasks:
        steps.append(Step(f"mteb-{task}", f"MTEB, {task}", partial(run_task, task=task), optional=True))
    return steps


def run_zero_shot(plan: FirstGpuPlan) -> None:
    """Evaluate the backbone as it is on the 1,000 test videos."""
    from colbert_video.training.reproduce.reproduce import reproduce

    reproduce(plan.row(zero_shot=True), plan.zero_shot, **_reading(plan))


def run_timings(plan: FirstGpuPlan) -> None:
    """Run the benchmark of the GPU; parts that fail are in its report."""
    command: list[str | Path] = [
        sys.executable,
        BENCHMARK,
        "--device",
        plan.device or "cuda:0",
        "--output",
        plan.timings,
    ]
    if plan.tiny:
        command += ["--tiny", "--parts", *TINY_PARTS]
    done = subprocess.run(command, check=False)
    if not plan.timings.is_file():
        raise SettingsError(f"benchmarks/gpu.py wrote no report; it ended with {done.returncode}.")


def run_seeds(plan: FirstGpuPlan, *, count: int) -> None:
    """Train and evaluate the first seeds; those that are finished are only counted in."""
    from colbert_video.training.reproduce.reproduce_seeds import reproduce_seeds

    plan.choose_chunk_size()
    reproduce_seeds(plan.row(), plan.paper, plan.seeds[:count], **_reading(plan))


def run_task(plan: FirstGpuPlan, *, task: str) -> None:
    """Evaluate the model of the first seed on a task of MTEB."""
    import mteb

    from colbert_video.ecosystem.mteb import VideoColBERTEncoder
    from colbert_video.model.video_colbert import VideoColBERT
    from colbert_video.training.reproduce.reproduce_folder import ReproduceFolder

    folder = ReproduceFolder(plan.paper / f"seed-{plan.seeds[0]}")
    model = VideoColBERT.from_pretrained(folder.model, device=plan.device)
    encoder = VideoColBERTEncoder(model, name=f"colbert_video/{DATASET}-clip-b32", workers=plan.workers)
    chosen = stand_in_task(plan.annotations) if plan.tiny else mteb.get_task(task)
    kept = None if plan.tiny else mteb.ResultCache(plan.output / "mteb" / "cache")
    (result,) = mteb.evaluate(encoder, chosen, cache=kept, show_progress_bar=False).task_results
    scores = next(iter(result.scores.values()))[0]
    figures = {name: float(scores[name]) for name in METRICS if name in scores}
    plan.mteb(task).parent.mkdir(exist_ok=True)
    write_text(
        plan.mteb(task),
        json.dumps({"task": task, "main": float(scores["main_score"]), **figures, "refused": encoder.refused}, indent=2)
        + "\n",
    )


def _reading(plan: FirstGpuPlan) -> dict[str, Any]:
    return {"allow_missing": plan.allow_missing, "cache": plan.frames, "workers": plan.workers, "device": plan.device}


def baseline_gap(plan: FirstGpuPlan) -> float | None:
    """Return how many points of R@1 the zero-shot row is from the first known figure; None if nothing is known."""
    compared = read_json(plan.zero_shot / "report.json")["comparisons"]
    return float(compared[0]["difference"]["R@1"]) if compared else None


def main() -> None:
    """Run one step of a folder."""
    output, name = Path(sys.argv[1]), sys.argv[2]
    plan = load_plan(output)
    if plan.tiny:
        register_stand_in()
    step = {each.name: each for each in all_steps(plan)}[name]
    try:
        step.run(plan)
    except ColBERTVideoError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
