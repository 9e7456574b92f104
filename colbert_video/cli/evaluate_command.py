"""`colbert-video evaluate`: choose the evaluation that its options ask for."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from colbert_video.base.user_files import user_path
from colbert_video.device import Device
from colbert_video.errors import SettingsError
from colbert_video.model.loading import load_encoder
from colbert_video.model.precision import Precision
from colbert_video.search.searcher import Searcher
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.leaks import find_leaks
from colbert_video.training.data.manifest import ManifestRow, read_manifest, select_split
from colbert_video.training.evaluation.evaluate import (
    Captions,
    Missing,
    caption_queries,
    evaluate_index,
    evaluate_model,
    evaluate_run,
    evaluate_toy,
)
from colbert_video.training.evaluation.evaluation import Evaluation
from colbert_video.training.evaluation.trec_folder import TrecFolder

logger = logging.getLogger(__name__)
TOY = "toy"
"""The name of the synthetic world as data."""


def evaluate_command(
    *,
    model: str | None = None,
    index: str | Path | None = None,
    run: str | Path | None = None,
    qrels: str | Path | None = None,
    data: str | Path | None = None,
    split: str = "test",
    seed: int = 0,
    clips: int = 1000,
    interactions: Sequence[str] | None = None,
    captions: Captions = "all",
    missing: Missing = "refuse",
    num_frames: int | None = None,
    snap: float | None = None,
    k: int = 100,
    exact: bool = False,
    bag_weights: Mapping[str, float] | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
    device: Device | None = None,
    precision: Precision | None = None,
    trec: str | Path | None = None,
    escape: bool = False,
    transductive: bool = False,
) -> Evaluation:
    """Evaluate a run against qrels, an index on a manifest, or a model on a manifest or the synthetic world.

    The arguments are the options of `colbert-video evaluate`, whose help describes them.

    Raises:
        SettingsError: If options are missing or contradict each other, or an evaluation rejects its input.
    """
    if run is not None or qrels is not None:
        others = {
            "--model": model,
            "--index": index,
            "--data": data,
            "--trec": trec,
            "--transductive": transductive or None,
        }
        return _evaluate_files(run, qrels, others, escaped=escape)
    if data is None:
        raise SettingsError("nothing to evaluate on: give --data MANIFEST or --data toy, or --run with --qrels.")
    for option, value in (("--frames", num_frames), ("--snap", snap)):
        if value is not None and (index is not None or data == TOY):
            raise SettingsError(f"{option} {value} works only with --model and a manifest; leave it out.")
    _check_transductive(transductive, model, index)
    files = None if trec is None else TrecFolder(user_path(trec, "trec (--trec)"), k, escape)
    if files is not None:
        files.check()
    if bag_weights is not None and index is None:
        raise SettingsError(
            "--bag-weight is for --index, whose search adds up bags; --interactions chooses a model's score."
        )
    if index is not None:
        queries, relevant = caption_queries(_rows(data, split), captions)
        with Searcher(index, model=model, device=device, precision=precision, bag_weights=bag_weights) as searcher:
            return evaluate_index(searcher, queries, relevant, k=k, exact=exact, missing=missing, trec=files)
    if model is None:
        raise SettingsError("nothing to evaluate: give --model NAME, --index FOLDER, or --run with --qrels.")
    if data == TOY:
        return evaluate_toy(
            load_encoder(model, device=device, precision=precision),
            split=split,
            seed=seed,
            clips=clips,
            interactions=interactions or None,
            workers=workers,
            trec=files,
            transductive=transductive,
        )
    # Before the model is loaded: a wrong name should cost no time.
    rows, frames = _rows(data, split), None if cache is None else FrameCache(cache)
    return evaluate_model(
        load_encoder(model, device=device, precision=precision),
        rows,
        interactions=interactions or None,
        captions=captions,
        missing=missing,
        num_frames=num_frames,
        snap=snap,
        cache=frames,
        workers=workers,
        trec=files,
        transductive=transductive,
    )


def _check_transductive(wanted: bool, model: str | None, index: str | Path | None) -> None:
    if wanted and (model is None or index is not None):
        raise SettingsError("--transductive needs the scores of all queries: give --model and --data, without --index.")


def _evaluate_files(
    run: str | Path | None, qrels: str | Path | None, others: Mapping[str, object], *, escaped: bool
) -> Evaluation:
    if run is None or qrels is None:
        raise SettingsError("--run and --qrels belong together; give both.")
    unused = [name for name, value in others.items() if value is not None]
    if unused:
        raise SettingsError(f"{unused[0]} has no effect with --run and --qrels; leave it out.")
    return evaluate_run(run, qrels, escaped=escaped)


def _rows(data: str | Path, split: str) -> list[ManifestRow]:
    if data == TOY:
        raise SettingsError(
            "--data toy renders new clips, which no index holds; give --index the manifest of its videos."
        )
    rows = read_manifest(data)
    for leak in find_leaks(rows):
        logger.warning("%s: %s", data, leak)
    return select_split(rows, split)
