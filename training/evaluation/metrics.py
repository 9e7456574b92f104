"""Retrieval metrics under a declared tie rule: what is expected when videos of equal score are put in random order.

A relevant video that scores lower than b videos and equal to t (itself included) has every rank from b + 1 to b + t with
probability 1 / t. All metrics but the median are the exact means over these orders, in closed form (McSherry & Najork,
ECIR 2008), so that constant scores give R@1 = 1 / N and no tie counts for or against a model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from colbert_video.base.checks import real_number, score_of
from colbert_video.errors import SettingsError
from colbert_video.model.interaction import SCORE_RESOLUTION, settle_ties
from colbert_video.model.tokens import as_tensor

CUTOFFS = (1, 5, 10)
"""The k of R@k."""
NDCG_CUTOFF = 10
DISCOUNTS = 1 / np.log2(np.arange(2, NDCG_CUTOFF + 2))
"""What a relevant video at each of the first ten places is worth."""
QUERIES_AT_ONCE = 1024
"""Rows of scores that are compared in one step."""


@dataclass(frozen=True, eq=False)
class TiedRanks:
    """Where the relevant videos of some queries stand: one entry for each (query, relevant video) that was ranked."""

    query: Int[np.ndarray, "ranked"]
    """Which query."""
    better: Int[np.ndarray, "ranked"]
    """How many videos score higher."""
    tied: Int[np.ndarray, "ranked"]
    """How many videos score the same, itself included."""
    gain: Float[np.ndarray, "ranked"]
    """How relevant the video is, for nDCG; 1 if relevance is binary."""
    ideal: Float[np.ndarray, "queries"]
    """DCG@10 of the best ranking of each query."""


def retrieval_metrics(
    scores: Float[Tensor, "queries videos"],
    relevant: Int[Tensor, "queries"] | Bool[Tensor, "queries videos"],
    *,
    resolution: float = SCORE_RESOLUTION,
) -> dict[str, float]:
    """R@1, R@5, R@10, MdR, MnR and nDCG@10 of a score matrix, averaged over its queries.

    R@k is the share of queries with a relevant video among the first k; MdR and MnR are the median and the mean of the
    rank of the first relevant video. The median is taken over the expected ranks, the others are means over all orders
    of tied videos.

    Args:
        scores: In float32 or float64; higher is better.
        relevant: The one relevant video of each query, or True for every relevant one. Several queries may share a
            video (the multi-caption protocol).
        resolution: Scores closer than this are tied, so that the last bits of a score, which depend on batches, threads
            and the processor, decide nothing; 0 for ties of equal scores alone, such as scores made of ranks.

    Returns:
        Metrics by name; R@k and nDCG@10 in [0, 1], ranks from 1.

    Raises:
        SettingsError: If a score is NaN or in half precision, there is no query, or one has no relevant video.
    """
    scores = as_tensor(scores, "scores")
    return average_metrics(rank_relevant(scores, relevant, resolution=resolution), scores.shape[1])


def rank_relevant(
    scores: Float[Tensor, "queries videos"],
    relevant: Int[Tensor, "queries"] | Bool[Tensor, "queries videos"],
    *,
    resolution: float = SCORE_RESOLUTION,
) -> TiedRanks:
    """Where the relevant videos stand in every row of a score matrix; see `retrieval_metrics`."""
    scores = as_tensor(scores, "scores")
    relevant = as_tensor(relevant, "relevant").to(scores.device)
    _check_scores(scores)
    if relevant.dtype != torch.bool:
        relevant = _one_relevant(relevant, scores.shape)
    _check_relevant(relevant, scores.shape)
    query, video = relevant.nonzero(as_tuple=True)  # (ranked,) each
    better, tied = torch.empty_like(query), torch.empty_like(query)
    for part in torch.arange(len(query), device=scores.device).split(QUERIES_AT_ONCE):
        rows = settle_ties(scores[query[part]], resolution)  # (part, videos)
        own = rows.gather(1, video[part, None])  # (part, 1)
        better[part], tied[part] = (rows > own).sum(dim=1), (rows == own).sum(dim=1)
    counts = relevant.sum(dim=1).cpu().numpy()
    ideal = _discounted(np.minimum(counts, NDCG_CUTOFF))
    places = [part.cpu().numpy() for part in (query, better, tied)]
    return TiedRanks(places[0], places[1], places[2], np.ones(len(query)), ideal)


def average_metrics(ranks: TiedRanks, videos: int) -> dict[str, float]:
    """The metrics of some queries, averaged over them.

    Args:
        ranks: Where relevant videos stand. A query without an entry found none of its videos: it counts 0 in R@k and
            nDCG, and as ranked last in MdR and MnR.
        videos: Size of the gallery.

    Returns:
        As `retrieval_metrics`.
    """
    first = _first_relevant(ranks, videos)
    metrics = {f"R@{k}": float(first.found_within(k).mean()) for k in CUTOFFS}
    metrics["MdR"] = float(np.median(first.expected))
    metrics["MnR"] = float(first.expected.mean())
    metrics[f"nDCG@{NDCG_CUTOFF}"] = float((_expected_dcg(ranks) / ranks.ideal).mean())
    return metrics


def ideal_dcg(gains: Float[np.ndarray, "relevant"]) -> float:
    """DCG@10 of the best ranking of a query, whose relevant videos have these gains."""
    best = np.sort(gains)[::-1][:NDCG_CUTOFF]
    return float((best * DISCOUNTS[: len(best)]).sum())


@dataclass(frozen=True, eq=False)
class _FirstRelevant:
    """The tie that holds the first relevant video of each query."""

    better: Int[np.ndarray, "queries"]
    tied: Int[np.ndarray, "queries"]
    relevant: Int[np.ndarray, "queries"]
    """How many of the tied videos are relevant; 0 if none was ranked."""
    last: int
    """The rank of a video that was not ranked."""

    @property
    def expected(self) -> Float[np.ndarray, "queries"]:
        """Expected rank: the least of m places drawn from t has the mean (t + 1) / (m + 1)."""
        return np.where(self.relevant > 0, self.better + (self.tied + 1) / (self.relevant + 1), self.last)

    def found_within(self, k: int) -> Float[np.ndarray, "queries"]:
        """Probability that a relevant video is among the first k: 1 - C(t - j, m) / C(t, m), j places of the tie being."""
        places = np.clip(k - self.better, 0, self.tied)
        missed = np.ones(len(self.better))
        for drawn in range(int(self.relevant.max())):
            left = np.maximum(self.tied - places - drawn, 0) / np.maximum(self.tied - drawn, 1)
            missed = np.where(drawn < self.relevant, missed * left, missed)
        return 1 - missed


def _first_relevant(ranks: TiedRanks, videos: int) -> _FirstRelevant:
    queries = len(ranks.ideal)
    better = np.full(queries, videos)
    np.minimum.at(better, ranks.query, ranks.better)
    leading = ranks.better == better[ranks.query]  # (ranked,): entries of each query's first tie with a relevant video
    tied = np.ones(queries, dtype=np.int64)
    tied[ranks.query[leading]] = ranks.tied[leading]
    relevant = np.bincount(ranks.query[leading], minlength=queries)
    return _FirstRelevant(better, tied, relevant, videos)


def _discounted(places: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    """Sum of the discounts of the first so many places, at most ten."""
    return np.concatenate([[0.0], np.cumsum(DISCOUNTS)])[np.minimum(places, NDCG_CUTOFF)]


def _expected_dcg(ranks: TiedRanks) -> Float[np.ndarray, "queries"]:
    """Each relevant video gains the mean discount of the places of its tie."""
    discount = (_discounted(ranks.better + ranks.tied) - _discounted(ranks.better)) / ranks.tied
    sums = np.bincount(ranks.query, weights=ranks.gain * discount, minlength=len(ranks.ideal))
    return sums.astype(np.float64)  # without an entry they are integers


def _one_relevant(relevant: Int[Tensor, "queries"], shape: torch.Size) -> Bool[Tensor, "queries videos"]:
    if relevant.shape != shape[:1] or (
        len(relevant) and not 0 <= int(relevant.min()) <= int(relevant.max()) < shape[1]
    ):
        raise SettingsError(
            f"relevant has shape {tuple(relevant.shape)} for scores {tuple(shape)}; give each query the position of its "
            f"video, 0 to {shape[1] - 1}."
        )
    mask = torch.zeros(shape, dtype=torch.bool, device=relevant.device)
    return mask.scatter_(1, relevant[:, None].long(), True)


def _check_scores(scores: Float[Tensor, "queries videos"]) -> None:
    if scores.dtype not in (torch.float32, torch.float64):
        raise SettingsError(f"scores are {scores.dtype}, which is too coarse and makes false ties; score in float32.")
    if 0 in scores.shape:
        raise SettingsError(f"scores have shape {tuple(scores.shape)}; at least one query and one video are needed.")
    broken = scores.isnan().any(dim=1).nonzero().flatten().tolist()
    if broken:
        video = int(scores[broken[0]].isnan().nonzero()[0])
        raise SettingsError(
            f"scores of query {broken[0]} are NaN, that of video {video} first ({len(broken)} queries in all); the "
            "model has diverged."
        )


def _check_relevant(relevant: Bool[Tensor, "queries videos"], shape: torch.Size) -> None:
    if relevant.shape != shape:
        raise SettingsError(f"relevant has shape {tuple(relevant.shape)} and scores {tuple(shape)}; they must agree.")
    without = (~relevant.any(dim=1)).nonzero().flatten().tolist()
    if without:
        raise SettingsError(f"query {without[0]} has no relevant video; every query needs at least one.")


def rank_run(run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]) -> TiedRanks:
    """Where the relevant videos stand in a run.

    Args:
        run: Score by video by query; what it does not hold was not found.
        qrels: Relevance by video by query. Queries without a relevant video are left out, as trec_eval does.

    Returns:
        One entry for each relevant video that the run holds; queries in the order of the qrels.

    Raises:
        SettingsError: If no query has a relevant video, or a score is NaN or no number.
    """
    relevant = {
        query: {video: gain for video, gain in judged.items() if real_number("relevance", gain) > 0}
        for query, judged in qrels.items()
    }
    relevant = {query: gains for query, gains in relevant.items() if gains}
    if not relevant:
        raise SettingsError("no query of the qrels has a relevant video; there is nothing to evaluate.")
    entries = [
        (position, *place)
        for position, (query, gains) in enumerate(relevant.items())
        for place in _places(query, run.get(query, {}), gains)
    ]
    table = np.array(entries, dtype=np.float64).reshape(-1, 4)  # (ranked, 4)
    query, better, tied = table[:, :3].T.astype(np.int64)
    ideal = [ideal_dcg(np.array(list(gains.values()), dtype=np.float64)) for gains in relevant.values()]
    return TiedRanks(query, better, tied, table[:, 3], np.array(ideal))


def _places(query: str, scored: Mapping[str, float], gains: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """Videos before, videos level with, and gain of each relevant video that was found."""
    checked = (score_of(query, video, score) for video, score in scored.items())
    scores = np.fromiter(checked, dtype=np.float64, count=len(scored))
    for video, gain in gains.items():
        if video in scored:
            own = scored[video]
            yield int((scores > own).sum()), int((scores == own).sum()), gain
