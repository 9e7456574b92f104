"""One recipe from several seeds, each in a folder of its own, and the mean and standard deviation of their figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from colbert_video.base.user_files import user_path
from colbert_video.device import Device
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError, shown
from colbert_video.training.run.recipe import Recipe
from colbert_video.training.run.recipe_run import rendered_recipe, run_recipe
from colbert_video.training.run.run_log import read_log
from colbert_video.training.run.trainer import TrainingResult

SUMMARY = "seeds.json"
MOST_SEEDS = 100
MOST_DIGITS = 18
"""Digits of a seed; more are no number that torch takes."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that a text names: "3" stands for 0, 1 and 2; "0,7,11", or "7," for one, for themselves.

    Raises:
        SettingsError: If it names none, one twice, or more than a hundred.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS for word in words):
        raise SettingsError(f"seeds={shown(text)} must be a number of seeds, such as 3, or a list, such as 0,7,11.")
    numbers = [int(word) for word in words]
    seeds = tuple(numbers) if "," in text else tuple(range(min(numbers[0], MOST_SEEDS + 1)))
    if not 0 < len(seeds) <= MOST_SEEDS or len(set(seeds)) < len(seeds):
        raise SettingsError(f"seeds={shown(text)} must be 1 to {MOST_SEEDS} different seeds.")
    return seeds


def train_recipe_seeds(
    recipe: Recipe,
    output: str | Path,
    seeds: Sequence[int],
    *,
    resume: bool = False,
    device: Device | None = None,
    trackers: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a recipe from each seed in `output/seed-N`, and write `output/seeds.json`.

    Args:
        recipe: The model and its stages.
        output: Folder of the runs.
        seeds: Of weights that are new, the order of captions, and the sampled frames.
        resume: True to go on where the runs stopped; finished ones are not repeated.
        device: As for `train_recipe`.
        trackers: As for `train_recipe`; each seed is a run there.

    Returns:
        The model of each seed, and the validation metrics of the last stage: mean, standard deviation and values.

    Raises:
        SettingsError: If recipe, data or folder cannot be used.
        TrainingError: If training cannot continue, or a folder holds another run.
    """
    output = user_path(output, "output")
    if not resume and output.is_dir() and any(output.iterdir()):
        raise SettingsError(f"{output} is not empty; resume the runs in it (--resume) or choose another folder.")
    recipe = rendered_recipe(recipe, output, device)
    results = {}
    for seed in seeds:
        stages = run_recipe(
            seeded(recipe, seed), output / f"seed-{seed}", resume=resume, device=device, trackers=trackers
        )
        results[seed] = list(stages.values())[-1]
    summary = {
        "models": {str(seed): str(result.best_model or result.model) for seed, result in results.items()},
        "metrics": spread_of({seed: best_metrics(result) for seed, result in results.items()}),
    }
    write_text(output / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe with another seed in all of its stages."""
    stages = [replace(stage, training=replace(stage.training, seed=seed)) for stage in recipe.stages]
    return replace(recipe, stages=tuple(stages))


def best_metrics(result: TrainingResult) -> dict[str, float]:
    """Return all validation metrics of the best epoch of a run; none without validation."""
    for entry in read_log(result.model.parent / "log.jsonl"):
        if "metrics" in entry and entry["epoch"] == result.best_epoch:
            return dict(entry["metrics"])
    return {}


def spread_of(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation and values by seed of each metric that all seeds have.

    The deviation is that of a sample, with n - 1 in the denominator; None for a single seed.
    """
    names = [name for name in next(iter(metrics.values()), {}) if all(name in values for values in metrics.values())]
    return {name: _spread({seed: values[name] for seed, values in metrics.items()}) for name in names}


def _spread(values: Mapping[int, float]) -> dict[str, Any]:
    several = list(values.values())
    return {
        "mean": mean(several),
        "std": stdev(several) if len(several) > 1 else None,
        "values": {str(seed): value for seed, value in values.items()},
    }
