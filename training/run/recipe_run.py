"""Training as a recipe says, stage by stage: what `colbert-video train` does, for Python."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from colbert_video.base.checks import check_flags
from colbert_video.base.user_files import user_path
from colbert_video.device import Device, resolve_device
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError
from colbert_video.training.evaluation.seed_spread import SUMMARY, parse_seeds, spread_of
from colbert_video.training.run.distributed import build_accelerator, leave_processes
from colbert_video.training.run.model_recipe import build_model
from colbert_video.training.run.recipe import Recipe, load_recipe, parse_override
from colbert_video.training.run.run_folder import RunFolder
from colbert_video.training.run.run_log import checked_trackers, read_log
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.trainer import Trainer, TrainingResult
from colbert_video.training.world.rendered import render_world


def train_recipe(
    recipe: str | Path,
    *,
    output: str | Path,
    resume: bool = False,
    manifest: str | Path | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
    settings: Sequence[str] = (),
    device: Device | None = None,
    trackers: Sequence[str] = (),
    compile: bool = False,
    snap: float | None = None,
    seeds: str | None = None,
) -> dict[str, Any]:
    """Load a recipe, train its stages, and leave the other processes.

    Args:
        recipe: A YAML file or the name of a shipped recipe.
        output: Folder of the run; with several stages, each has a folder in it.
        resume: True to continue the run in `output`, if there is one.
        manifest: Manifest instead of the recipe's.
        cache: Folder that keeps decoded frames.
        workers: Decoding processes.
        settings: More overrides, as "training.epochs=1".
        device: "cpu", or None for a GPU for each process, else the CPU. A single process may name its GPU, "cuda:1".
        trackers: Where the log goes too, such as "wandb"; see `Trainer`.
        compile: True to set `training.compile`.
        snap: How far frames of long videos may be moved to keyframes; sets `data.snap`.
        seeds: Train from several seeds, each in a folder of its own: "3" for 0, 1 and 2, or a list, "0,7,11".

    Returns:
        The model to use (`model`: the best by validation, else the final one) and the result of each stage; with `seeds` what
        `train_recipe_seeds` returns.

    Raises:
        SettingsError: If recipe, data or folder cannot be used.
        ModelError: If the model cannot be built.
        TrainingError: If training cannot continue, or `output` holds another run.
    """
    check_flags(resume=resume, compile=compile)
    paths = {"data.manifest": manifest, "data.cache": cache}
    overrides: dict[str, Any] = {name: str(path) for name, path in paths.items() if path is not None}
    if workers is not None:
        overrides["data.workers"] = workers
    if snap is not None:
        overrides["data.snap"] = snap
    if compile:
        overrides["training.compile"] = True
    overrides |= dict(parse_override(setting) for setting in settings)
    try:
        loaded = load_recipe(recipe, overrides=overrides)
        if seeds is not None:
            several = parse_seeds(seeds)
            return train_recipe_seeds(loaded, output, several, resume=resume, device=device, trackers=trackers)
        results = run_recipe(loaded, output, resume=resume, device=device, trackers=trackers)
    finally:
        leave_processes()
    last = list(results.values())[-1]
    return {
        "model": str(last.best_model or last.model),
        "stages": {name: result.to_dict() for name, result in results.items()},
    }


def run_recipe(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    device: Device | None = None,
    trackers: Sequence[str] = (),
) -> dict[str, TrainingResult]:
    """Run the stages of a recipe one after the other on one model.

    Args:
        recipe: The model and its stages.
        output: Folder of the run; with several stages, each has a folder in it.
        resume: True to continue where a run in `output` stopped; finished stages are not repeated.
        device: As for `train_recipe`.
        trackers: As for `train_recipe`; each stage is a run there.

    Returns:
        Result by name of the stage.
    """
    output = user_path(output, "output")
    trackers = checked_trackers(trackers)
    resolve_device(device)  # before data are read and a model is loaded
    folders = _stage_folders(recipe, output, resume=resume)
    for folder in folders:  # before data are rendered or a model is loaded
        RunFolder(folder).check_usable(resume=resume)
    recipe = rendered_recipe(recipe, output, device)
    sources = [ManifestData(stage.data) for stage in recipe.stages]  # all checked before anything is trained
    model = build_model(recipe.model, seed=recipe.stages[0].training.seed, device="cpu")
    for source in sources:
        source.sampling(model)  # frames of the last stage too, before the first is trained
    results = {}
    for stage, source, folder in zip(recipe.stages, sources, folders, strict=True):
        trainer = Trainer(model, stage.training, source, output=folder, resume=resume, device=device, trackers=trackers)
        results[stage.name] = trainer.train()
    return results


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


def _stage_folders(recipe: Recipe, output: Path, *, resume: bool) -> list[Path]:
    if len(recipe.stages) == 1:
        return [output]
    if not resume and output.is_dir() and any(output.iterdir()):
        raise SettingsError(f"{output} is not empty; resume the run in it (--resume) or choose another folder.")
    return [
        output / f"{number}-{re.sub(r'[^a-z0-9]+', '-', stage.name.lower()).strip('-')}"
        for number, stage in enumerate(recipe.stages, start=1)
    ]


def rendered_recipe(recipe: Recipe, output: Path, device: Device | None) -> Recipe:
    """Return a recipe whose world is rendered beside the output folder; one without a world as it is."""
    if recipe.world is None:
        return recipe
    with build_accelerator(device).main_process_first():  # the others find it there
        manifest = str(render_world(recipe.world, output.with_name(output.name + ".world")))
    stages = [replace(stage, data=replace(stage.data, manifest=manifest)) for stage in recipe.stages]
    return replace(recipe, stages=tuple(stages), world=None)
