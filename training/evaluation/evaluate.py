"""Caption-to-video retrieval measured as the paper does (section 5.1), of a model, of an index, or of a run file.

Every caption of the split is a query and every video of the split is in the gallery; with several captions per video,
metrics are averaged over captions, not over videos. Frames are the centres of TSN segments and scores are float32.
Nothing inflates the figures: no normalisation over the queries, no dropped videos unless the result says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.loading import in_precision
from colbert_video.model.precision import Precision
from colbert_video.search.searcher import Searcher
from colbert_video.search.trec import Qrels, Run, read_qrels, read_run
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import ManifestRow, list_some, merge_spellings, missing_videos, read_manifest
from colbert_video.training.evaluation.evaluation import Evaluation, GroupEvaluation
from colbert_video.training.evaluation.gallery import applicable_interactions, encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import average_metrics, rank_run, retrieval_metrics
from colbert_video.training.evaluation.transductive import transductive_metrics
from colbert_video.training.evaluation.trec_folder import TrecFolder, rank_scores
from colbert_video.training.world import write_world

Captions = Literal["all", "first"]
"""Captions that are queries: all, or the first of each video."""
Missing = Literal["refuse", "report"]
"""Videos that cannot be found or read: stop, or evaluate without them and report it."""


def evaluate(
    subject: VideoEncoder | Searcher | str | Path, data: Sequence[ManifestRow] | str | Path, **settings: Any
) -> Evaluation:
    """Evaluate a model, an index or a run.

    Args:
        subject: A model (`evaluate_model`), a searcher of an index whose ids are the videos of the rows
            (`evaluate_index`), or the path of a TREC run (`evaluate_run`).
        data: Captions and their videos, from `read_manifest`; for a run the path of its qrels.
        **settings: What the function that is named above takes.

    Raises:
        SettingsError: If subject and data do not belong together, or that function refuses its input.
    """
    if isinstance(subject, str | Path) and isinstance(data, str | Path):
        return evaluate_run(subject, data, **settings)
    if isinstance(subject, str | Path) or isinstance(data, str | Path):
        raise SettingsError(
            f"evaluate was given {type(subject).__name__} and {type(data).__name__}: give a model or a searcher with rows "
            "of read_manifest, or the path of a run with the path of its qrels."
        )
    if isinstance(subject, Searcher):
        return evaluate_index(subject, *caption_queries(data), **settings)
    return evaluate_model(subject, data, **settings)


def evaluate_model(
    model: VideoEncoder,
    rows: Sequence[ManifestRow],
    *,
    interactions: Sequence[str] | None = None,
    captions: Captions = "all",
    missing: Missing = "refuse",
    num_frames: int | None = None,
    snap: float | None = None,
    cache: FrameCache | None = None,
    workers: int | None = None,
    trec: TrecFolder | None = None,
    precision: Precision | None = None,
    transductive: bool = False,
) -> Evaluation:
    """Evaluate a model on the rows of one split.

    Args:
        model: The model; its training mode is restored.
        rows: Captions and their videos.
        interactions: Scores to measure; None for all interactions of the model.
        captions: Captions that are queries.
        missing: "refuse" videos that cannot be read, or "report" them.
        num_frames: Frames of a video; None for the model's own number.
        snap: How far a frame of a long video may be moved to a keyframe, as for `Indexer`; 0 for the exact frames.
        cache: Keeps decoded frames.
        workers: Decoding processes; None for one per core, 0 to decode in this process.
        trec: Folder for queries, qrels and a run of each interaction.
        precision: Precision in which a copy of the model computes; None for the model's own.
        transductive: True to measure scores normalised by all queries together (DSL, QB-Norm, CSLS) as rows of their own.

    Returns:
        Metrics by interaction; also R@1 within groups if rows have groups.

    Raises:
        SettingsError: If there is no row, an interaction does not apply, or videos cannot be read.
    """
    model = in_precision(model, precision)
    names = applicable_interactions(model, interactions)
    rows = _queries(merge_spellings(rows), captions)
    if trec is not None:
        trec.check([row.video for row in rows], [row.caption for row in rows])
    videos = {row.video: row.path for row in rows}
    _check_missing(dict.fromkeys(missing_videos(rows), "missing: no such file"), len(videos), missing)
    gallery, refused = encode_gallery(model, videos, num_frames=num_frames, snap=snap, cache=cache, workers=workers)
    reasons = {name: f"{error.kind.value}: {error.detail}" for name, error in refused.items()}
    _check_missing(reasons, len(videos), missing)
    rows = [row for row in rows if row.video in gallery]
    scores = score_gallery(model, [row.caption for row in rows], list(gallery.values()), names)
    if trec is not None:
        asked, relevant = caption_queries(rows)
        runs = {name: rank_scores(matrix, [*asked], [*gallery], trec.k) for name, matrix in scores.items()}
        trec.write(asked, relevant, runs)
    measured = _measure(scores, rows, list(gallery), reasons)
    if not transductive:
        return measured
    found = {name: transductive_metrics(matrix, _places(rows, [*gallery])) for name, matrix in scores.items()}
    return replace(measured, transductive=found)


def evaluate_index(
    searcher: Searcher,
    queries: Mapping[str, str],
    qrels: Qrels,
    *,
    k: int = 100,
    exact: bool = False,
    missing: Missing = "refuse",
    trec: TrecFolder | None = None,
) -> Evaluation:
    """Evaluate a search through an index, with all that its compression and pruning cost.

    Args:
        searcher: The opened index.
        queries: Text by query id.
        qrels: Relevance by video id by query id; `caption_queries` makes both of a manifest's rows.
        k: Length of the rankings; a video beyond it counts as ranked last in MdR and MnR.
        exact: True to score every video on its decoded tokens.
        missing: "refuse" relevant videos that are not in the index, or "report" them.
        trec: Folder for queries, qrels and the run of length k.

    Raises:
        SettingsError: If queries or relevant videos are missing.
    """
    if trec is not None:
        trec.check([*queries, *(video for judged in qrels.values() for video in judged)], queries.values())
    qrels = {query: judged for query, judged in qrels.items() if query in queries}
    relevant = {video for judged in qrels.values() for video, gain in judged.items() if gain > 0}
    absent = _not_indexed(searcher, relevant)
    _check_missing(absent, len(relevant), missing)
    kept = {
        name: {video: gain for video, gain in judged.items() if video not in absent} for name, judged in qrels.items()
    }
    asked = {query: queries[query] for query, judged in kept.items() if any(gain > 0 for gain in judged.values())}
    if not asked:
        raise SettingsError("no query has a relevant video in the index; do the ids of the qrels and the index agree?")
    ranking = searcher.search_all(asked, k, exact=exact).settled()
    if trec is not None:
        trec.write(asked, {query: kept[query] for query in asked}, {"index": ranking})
    return replace(_measure_run(ranking.torun(), kept, len(searcher), "index"), missing=absent)


def evaluate_run(run_path: str | Path, qrels_path: str | Path, *, escaped: bool = False) -> Evaluation:
    """Evaluate a TREC run of any system.

    Args:
        run_path: A TREC run.
        qrels_path: TREC qrels. Queries without a relevant video are left out; queries that the run does not have found
            nothing.
        escaped: True if "%XX" in the ids of both stands for a byte; see `colbert_video.search.trec`.

    Raises:
        SettingsError: If a file is unusable, or the two have no query in common.
    """
    run, qrels = read_run(run_path, escaped=escaped), read_qrels(qrels_path, escaped=escaped)
    if not run.keys() & qrels.keys():
        raise SettingsError(f"{run_path} and {qrels_path} have no query in common; do their ids agree?")
    videos = {video for table in (run, qrels) for scored in table.values() for video in scored}
    return _measure_run(run, qrels, len(videos), "run")


def evaluate_toy(
    model: VideoEncoder,
    *,
    split: str = "test",
    seed: int = 0,
    clips: int = 1000,
    interactions: Sequence[str] | None = None,
    workers: int | None = None,
    trec: TrecFolder | None = None,
    transductive: bool = False,
) -> Evaluation:
    """Evaluate on freshly rendered clips of the synthetic world, half of them in pairs that differ in motion alone.

    Args:
        model: The model.
        split: "train", "validation" or "test".
        seed: Seed of the clips.
        clips: Number of clips.
        interactions: Scores to measure; None for all interactions of the model.
        workers: Decoding processes; None for one per core, 0 to decode in this process.
        trec: Folder for queries, qrels and a run of each interaction.
        transductive: As for `evaluate_model`.

    Returns:
        Metrics over all clips, and as `groups` how often a caption ranks its clip above that clip's time reversal.

    Raises:
        SettingsError: If an argument is out of range.
    """
    with TemporaryDirectory(prefix="colbert-video-world-") as folder:
        write_world(folder, count=clips, seed=seed, split=split)
        rows = read_manifest(Path(folder) / "captions.jsonl")
        evaluation = evaluate_model(
            model, rows, interactions=interactions, workers=workers, trec=trec, transductive=transductive
        )
    pairs = evaluation.groups
    return evaluation if pairs is None else replace(evaluation, groups=replace(pairs, name="motion_pairs"))


def caption_queries(rows: Sequence[ManifestRow], captions: Captions = "all") -> tuple[dict[str, str], Qrels]:
    """Return queries and qrels of rows, for `evaluate_index`: text by query id, and the one relevant video of each.

    Query ids are the numbers of the rows.
    """
    rows = _queries(rows, captions)
    queries = {str(number): row.caption for number, row in enumerate(rows)}
    return queries, {str(number): {row.video: 1} for number, row in enumerate(rows)}


def _queries(rows: Sequence[ManifestRow], captions: Captions) -> list[ManifestRow]:
    if not rows:
        raise SettingsError("there are no rows to evaluate on; choose a split that has some.")
    if captions == "all":
        return list(rows)
    return list({row.video: row for row in reversed(rows)}.values())[::-1]


def _check_missing(reasons: Mapping[str, str], videos: int, missing: Missing) -> None:
    """Raise unless missing videos are to be reported and others are left."""
    if not reasons or (missing == "report" and len(reasons) < videos):
        return
    listed = list_some([f"{video} ({reason})" for video, reason in reasons.items()])
    if len(reasons) == videos:
        raise SettingsError(f"not one of {videos} videos can be evaluated: {listed}. Are these the right videos?")
    raise SettingsError(
        f"{len(reasons)} of {videos} videos cannot be evaluated: {listed}. A gallery without them is easier than it should "
        "be: repair them, or pass missing='report' to leave them out and say so."
    )


def _measure(
    scores: Mapping[str, Float[Tensor, "queries videos"]],
    rows: Sequence[ManifestRow],
    videos: Sequence[str],
    missing: Mapping[str, str],
) -> Evaluation:
    relevant = _places(rows, videos)  # (queries,)
    several = len(rows) > len(videos)
    return Evaluation(
        interactions={name: retrieval_metrics(matrix, relevant, resolution=0.0) for name, matrix in scores.items()},
        protocol="multi-caption, averaged over captions" if several else "single-caption",
        queries=len(rows),
        videos=len(videos),
        missing=missing,
        groups=_measure_groups(scores, rows, relevant),
    )


def _places(rows: Sequence[ManifestRow], videos: Sequence[str]) -> Tensor:
    """Return the place of each row's video in the gallery (queries,)."""
    positions = {video: position for position, video in enumerate(videos)}
    return torch.tensor([positions[row.video] for row in rows], device="cpu")


def _measure_groups(
    scores: Mapping[str, Float[Tensor, "queries videos"]], rows: Sequence[ManifestRow], relevant: Tensor
) -> GroupEvaluation | None:
    """Measure R@1 of each caption among the videos of its group, where there are at least two."""
    numbers = {group: number for number, group in enumerate({row.group for row in rows} - {None})}
    asked = torch.tensor([numbers.get(row.group, -1) for row in rows], device="cpu")  # (queries,), -1 for no group
    shown = torch.full((next(iter(scores.values())).shape[1],), -2, device="cpu")  # (videos,), -2 for no group
    shown[relevant[asked >= 0]] = asked[asked >= 0]
    same = asked[:, None] == shown  # (queries, videos)
    grouped = same.sum(dim=1) > 1  # (queries,)
    if not grouped.any():
        return None
    metrics = {}
    for name, matrix in scores.items():
        within = matrix[grouped].masked_fill(~same[grouped], float("-inf"))
        metrics[name] = {"R@1": retrieval_metrics(within, relevant[grouped], resolution=0.0)["R@1"]}
    return GroupEvaluation(queries=int(grouped.sum()), interactions=metrics)


def _not_indexed(searcher: Searcher, videos: set[str]) -> dict[str, str]:
    with Catalog.open(searcher.path) as catalog:
        known = {entry.id for entry in catalog.entries(sorted(videos))}
    return dict.fromkeys(sorted(videos - known), "not in the index")


def _measure_run(run: Run, qrels: Qrels, videos: int, name: str) -> Evaluation:
    ranks = rank_run(run, qrels)
    queries = len(ranks.ideal)
    return Evaluation(
        interactions={name: average_metrics(ranks, videos)},
        protocol="queries with a relevant video",
        queries=queries,
        videos=videos,
        unranked=queries - len(set(ranks.query.tolist())),
    )
