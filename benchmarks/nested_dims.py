"""Tokens whose first dimensions can be used alone: trained for it or not, searched with all dimensions and with fewer.

    python benchmarks/nested_dims.py                 # two seeds: about ten minutes of one core, clips included
    python benchmarks/nested_dims.py --seeds 0 1 2   # one more
    python benchmarks/nested_dims.py --budget quick  # two steps a run, to see that all of it works
    python benchmarks/pages.py                       # docs/ablations.md from the figures so far

Both rows are runs of the ablations (`ablation_training`) with a calibrated bias, alike in everything but `nested_dims`: same towers,
clips, seeds and steps. Each is scored on the test clips with the first dimensions of its tokens, without compression. Every run is
written as soon as it is measured, and a run that the figures hold is not repeated.
"""

import argparse
import shutil
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from ablation_measures import METRICS
from ablation_training import BUDGETS, Budget, Workshop, towers, toy_model, train, training_arguments, training_config
from ablation_variants import Settings
from reports import RESULTS, load, machine, save

from colbert_video.model.encoders.first_dims import FirstDims
from colbert_video.model.tokens import VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import read_manifest
from colbert_video.training.evaluation.gallery import encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics

NESTED = (16, 32)
"""First dimensions that the second row learns to be searched with."""
SEARCHED = (64, 32, 16, 8)
"""Dimensions that both rows are searched with: all of the toy's 64, the learnt ones, and fewer than were learnt."""
ROWS: dict[str, tuple[int, ...] | None] = {"all dimensions alone": None, "nested: 16 and 32 too": NESTED}
"""Rows by name, with their `nested_dims`."""
SETTINGS = Settings(calibrated=True)
"""What both are trained with beside that."""


def measure(shop: Workshop, name: str, seed: int) -> dict[str, Any]:
    """Train a row from a seed and score it."""
    started = time.process_time()
    chosen = {"num_frames": SETTINGS.num_frames, "temporal_layers": SETTINGS.temporal_layers}
    model = toy_model(chosen, seed=seed, weights=towers(shop))
    config = replace(training_config(shop.budget, SETTINGS, seed), nested_dims=ROWS[name])
    folder = shop.folder / "nested-runs" / f"{seed}-{[*ROWS].index(name)}"
    train(model, config, shop.data(), folder, shop.device)
    shutil.rmtree(folder)
    metrics = {str(dim): values for dim, values in scored(model, shop).items()}
    return {"row": name, "seed": seed, "metrics": metrics, "cpu_seconds": round(time.process_time() - started, 1)}


def scored(model: VideoColBERT, shop: Workshop) -> dict[int, dict[str, float]]:
    """Metrics on the test clips by the number of dimensions."""
    rows = read_manifest(shop.test_manifest)
    gallery, _ = encode_gallery(model, {row.video: row.path for row in rows}, cache=FrameCache(shop.frames), workers=0)
    places = {video: place for place, video in enumerate(gallery)}
    relevant = torch.tensor([places[row.video] for row in rows])  # (queries,)
    found = {}
    for dim in SEARCHED:
        cut = [cut_tokens(tokens, dim) for tokens in gallery.values()]
        scores = score_gallery(FirstDims(model, dim), [row.caption for row in rows], cut, ["mms_fv"])["mms_fv"]
        metrics = retrieval_metrics(scores, relevant)
        found[dim] = {metric: metrics[metric] for metric in METRICS}
    return found


def cut_tokens(tokens: VideoTokens, dim: int) -> VideoTokens:
    """The first dimensions of a video's tokens in both bags."""
    frame, video = tokens
    return VideoTokens(frame.first_dims(dim), None if video is None else video.first_dims(dim))


def facts_of(budget: Budget) -> dict[str, Any]:
    """What the figures depend on."""
    return {"budget": asdict(budget), "nested": list(NESTED), "settings": asdict(SETTINGS)}


def options_given(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = training_arguments(__doc__)
    parser.set_defaults(seeds=[0, 1])
    options = parser.parse_args(given)
    if options.output is None:  # figures that mean nothing stay out of the repository
        kept = options.budget == "full"
        options.output = RESULTS / "nested_dims.json" if kept else options.cache / f"nested_dims-{options.budget}.json"
    return options


def main(given: list[str] | None = None) -> None:
    """Train and measure what is missing, all rows of one seed before any of the next."""
    options = options_given(given)
    torch.set_num_threads(options.threads)
    budget = BUDGETS[options.budget]
    shop, facts = Workshop(options.cache / options.budget, budget, options.device), facts_of(budget)
    report = load(options.output, {"facts": facts, "runs": []})
    if report["facts"] != facts:
        raise SystemExit(f"{options.output} holds runs of {report['facts']}, not {facts}; choose another --output.")
    shop.render()
    for seed in options.seeds:
        for name in ROWS:
            if any((run["row"], run["seed"]) == (name, seed) for run in report["runs"]):
                continue
            report["runs"].append(measure(shop, name, seed))
            save(options.output, {"machine": machine(), "torch": torch.__version__, **report})
            print(line(report["runs"][-1]), flush=True)


def line(run: dict[str, Any]) -> str:
    """A run's R@1."""
    shares = ", ".join(f"{dim}: {100 * values['R@1']:.1f}" for dim, values in run["metrics"].items())
    return f"seed {run['seed']}, {run['row']}: R@1 by dimensions {shares} ({run['cpu_seconds']:.0f} CPU s)"


if __name__ == "__main__":
    main()
