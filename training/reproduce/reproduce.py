"""`colbert-video reproduce`: a row of the paper from the downloaded files to the figures, in one command.

It prepares the manifest, trains with the shipped recipe, evaluates on the test split as the paper does (section 5.1), and
puts the published figures beside its own. A finished stage is not repeated, and training continues from its last
checkpoint, so the same command continues after any interruption.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from colbert_video.device import Device
from colbert_video.durable import checksum
from colbert_video.errors import ModelError, SettingsError, shown
from colbert_video.model.precision import Precision
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.digests import files_digest
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.leaks import find_leaks
from colbert_video.training.data.manifest import ManifestRow, list_some, read_manifest, select_split
from colbert_video.training.data.provenance import versions
from colbert_video.training.datasets.annotations import Annotations
from colbert_video.training.datasets.preparation import Preparation
from colbert_video.training.datasets.prepare import check_dataset, write_manifest
from colbert_video.training.evaluation.evaluate import evaluate_model
from colbert_video.training.evaluation.evaluation import Evaluation
from colbert_video.training.evaluation.gallery import BOTH, ZERO_SHOT, Scoring
from colbert_video.training.reproduce.paper_rows import zero_shot_rows
from colbert_video.training.reproduce.plan import SMOKE_VIDEOS, ReproducePlan
from colbert_video.training.reproduce.reproduce_folder import ReproduceFolder
from colbert_video.training.reproduce.reproduce_report import Reference, Reproduction
from colbert_video.training.run.distributed import build_accelerator, leave_processes
from colbert_video.training.run.model_recipe import build_model
from colbert_video.training.run.recipe_run import run_recipe

logger = logging.getLogger(__name__)


def reproduce(
    plan: ReproducePlan,
    output: str | Path,
    *,
    allow_missing: bool = False,
    cache: str | Path | None = None,
    workers: int | None = None,
    device: Device | None = None,
    precision: Precision = "fp32",
) -> Reproduction | None:
    """Prepare, train, evaluate and compare; finished stages are not repeated.

    Args:
        plan: The row, and how it is run.
        output: Folder of the reproduction; new, empty, or with the same reproduction.
        allow_missing: True to continue without videos that are missing or cannot be read; the result is then incomplete.
        cache: Folder that keeps decoded frames.
        workers: Decoding processes; None for one per core, 0 to decode in this process.
        device: "cpu", or None for a GPU for each process, else the CPU. A single process may name its GPU, "cuda:1".
        precision: In which the row is evaluated, as for `VideoColBERT.from_pretrained`.

    Returns:
        The figures beside the published ones; None in all but the first of several training processes.

    Raises:
        SettingsError: If data, settings or folder cannot be used, or videos are missing and that is not allowed.
        ModelError: If the backbone or its weights cannot be loaded.
        TrainingError: If training cannot continue.
    """
    folder = ReproduceFolder(output)
    reading: dict[str, Any] = {
        "cache": None if cache is None else str(cache),
        "workers": workers,
        "missing": "report" if allow_missing or plan.smoke else None,
    }
    if plan.zero_shot:
        _prepare(plan, folder, allow_missing)
    else:
        try:
            with build_accelerator(device).main_process_first():  # the others find the manifest there
                _prepare(plan, folder, allow_missing)
            _train(plan, folder, reading, device)
        finally:
            leave_processes()
        if os.environ.get("RANK", "0") != "0":  # set by torchrun and accelerate launch
            return None
    if not folder.evaluation.is_file():
        frames = None if cache is None else FrameCache(cache)
        evaluation, record = _evaluate(plan, folder, reading, frames, device, precision)
        _check_incomplete(evaluation, allow_missing or plan.smoke)
        folder.write(folder.evaluation, {**evaluation.to_dict(), **record})
    result = _compare(plan, folder)
    folder.write(folder.report, result.to_dict())
    return result


def _prepare(plan: ReproducePlan, folder: ReproduceFolder, allow_missing: bool) -> None:
    """Check the download and write its manifest, as `colbert-video prepare` does."""
    preparation = None
    if not folder.prepared.is_file():  # before the folder is made: wrong names should leave nothing behind
        preparation = _checked(plan)
        _check_problems(preparation, allow_missing)
    folder.claim(plan.description)
    if preparation is None:
        logger.info("%s is prepared already", folder.manifest)
        return
    rows = write_manifest(preparation, folder.manifest, allow_missing=True)
    notes = [] if plan.smoke else [*preparation.warnings, *preparation.problems]
    folder.write(folder.prepared, {"rows": rows, "departures": notes})


def _checked(plan: ReproducePlan) -> Preparation:
    preparation = check_dataset(
        plan.row.dataset, plan.annotations, videos=plan.videos, split_name=plan.protocol, hold_out=plan.hold_out
    )
    if plan.zero_shot:
        published = {"test": preparation.published["test"]}
        tested = preparation.annotations.splits.get("test", ())
        uncaptioned = {"test": preparation.annotations.uncaptioned.get("test", ())}
        annotations = Annotations({"test": tested}, uncaptioned, preparation.annotations.notes)
        preparation = replace(preparation, annotations=annotations, published=published)
    return _few_videos(preparation) if plan.smoke else preparation


def _few_videos(preparation: Preparation) -> Preparation:
    """Keep the first videos of each split that were found."""
    found = {
        split: [video for video in videos if video.id in preparation.files][:SMOKE_VIDEOS]
        for split, videos in preparation.annotations.splits.items()
    }
    return replace(preparation, annotations=Annotations(found))


def _check_problems(preparation: Preparation, allow_missing: bool) -> None:
    if not preparation.problems or allow_missing:
        return
    raise SettingsError(
        f"{preparation.dataset} is incomplete: {'; '.join(preparation.problems)}. Get what is missing: figures on fewer "
        "videos are not the paper's. To continue without it and have the result marked so, pass --allow-missing; to try the "
        "chain on what is there, --smoke."
    )


def _train(plan: ReproducePlan, folder: ReproduceFolder, reading: Mapping[str, Any], device: Device | None) -> None:
    if folder.training.finished:
        logger.info("%s is trained already", folder.training.path)
        return
    recipe = plan.recipe(folder.manifest, **reading)
    try:
        run_recipe(recipe, folder.training.path, resume=True, device=device)
    except ModelError as error:
        raise _with_remedy(error, plan) from error


def _evaluate(
    plan: ReproducePlan,
    folder: ReproduceFolder,
    reading: Mapping[str, Any],
    cache: FrameCache | None,
    device: Device | None,
    precision: Precision,
) -> tuple[Evaluation, dict[str, Any]]:
    """Return the figures on the test split, and the record of what they depend on."""
    everything = read_manifest(folder.manifest)
    rows = select_split(everything, "test")
    recipe = plan.recipe(folder.manifest, **reading)
    if plan.zero_shot:
        try:
            model = build_model(recipe.model, seed=plan.seed, device=device)
        except ModelError as error:
            raise _with_remedy(error, plan) from error
    else:
        model = VideoColBERT.from_pretrained(folder.model, device=device)
    evaluation = evaluate_model(
        model,
        rows,
        interactions=_scored(plan),
        missing="report",
        snap=recipe.stages[-1].data.snap,
        cache=cache,
        workers=reading["workers"],
        precision=precision,
    )
    return evaluation, {"provenance": _record(plan, folder, model, rows), "notes": find_leaks(everything)}


def _record(
    plan: ReproducePlan, folder: ReproduceFolder, model: VideoColBERT, rows: Sequence[ManifestRow]
) -> dict[str, Any]:
    """Versions, and digests of the evaluated weights, of those that training started from, and of the test videos."""
    weights = None if plan.weights is None else plan.weights_path
    return {
        "versions": versions(),
        "weights_sha256": model.fingerprint(),
        "given_weights_sha256": checksum(weights)[1] if weights is not None and weights.is_file() else None,
        "manifest_sha256": checksum(folder.manifest)[1],
        "test_videos": files_digest({row.video: row.path for row in rows}),
        "training": folder.training.provenance() if folder.training.started else None,
    }


def _scored(plan: ReproducePlan) -> Sequence[Scoring] | None:
    """Return the baselines, all interactions of a model with both bags trained, or the one that was trained."""
    if plan.zero_shot:
        return ZERO_SHOT
    return None if plan.row.interaction in BOTH else [plan.row.interaction]


def _check_incomplete(evaluation: Evaluation, allowed: bool) -> None:
    if evaluation.complete or allowed:
        return
    listed = list_some([f"{video} ({reason})" for video, reason in evaluation.missing.items()])
    raise SettingsError(
        f"{len(evaluation.missing)} of {evaluation.expected} test videos cannot be read: {listed}. Repair them and repeat "
        "the command; or repeat it with --allow-missing, and the row is marked as incomplete."
    )


def _compare(plan: ReproducePlan, folder: ReproduceFolder) -> Reproduction:
    values = folder.read(folder.evaluation)
    known = ("interactions", "protocol", "queries", "videos", "missing", "unranked")
    evaluation = Evaluation(**{name: values[name] for name in known})
    references: dict[str, list[Reference]]
    if plan.zero_shot:
        references = {name: [] for name in ZERO_SHOT}
        for row in zero_shot_rows(plan.row.dataset, plan.model_name):
            references[row.interaction].append(Reference(row.source, row.figures, row.note))
    else:
        references = {plan.row.interaction: [Reference(f"paper, {plan.row.source}", plan.row.figures)]}
    return Reproduction(
        row=plan.name,
        split=plan.protocol,
        model=plan.model_name if plan.zero_shot else str(folder.model),
        seed=None if plan.zero_shot else plan.seed,
        evaluation=evaluation,
        references=references,
        expected_videos=plan.expected.videos,
        expected_queries=plan.expected.captions,
        departures=[*plan.departures(), *folder.read(folder.prepared)["departures"]],
        notes=values.get("notes", ()),
        provenance=values.get("provenance"),
    )


def _with_remedy(error: ModelError, plan: ReproducePlan) -> ModelError:
    """Add how to bring weights without a network; nothing else is downloaded."""
    backbone, _, tag = plan.model_name.partition(":")
    return ModelError(
        f"{error} Without a network, run VideoColBERT.from_backbone({shown(backbone)}, "
        f"{shown(tag)}).save_pretrained('backbone') where "
        "there is one, copy the folder here, and pass --weights backbone: it has the tokenizer too."
    )
