"""Rank fusion: one ranking from those of several retrievers.

`rrf` is reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): a video scores the sum of weight / (60 + rank).
`min_max` and `z_score` add weighted scores that are brought to one scale for each query of each run (CombSUM: Fox &
Shaw, TREC-2; normalisations: Lee, SIGIR 1997, and Montague & Aslam, CIKM 2001).

A video that a run does not hold gets from that run what the literature gives it: nothing in `rrf`, whose sum leaves it
out; 0 in `min_max`, like the last video that was found; in `z_score` -2, two standard deviations below the mean (as in
2MUV), or the score of the run's last video if that is lower still, so that a missing video never beats a found one. A
query that a run does not hold is fused from the others.

Why not ranx, which agrees wherever both are defined (there is a test): its `rrf` gives equal scores different ranks and
takes no weights, its z-scores give a missing video 0, the mean, it fuses only runs of the same queries, and NaN passes
silently. It also needs numba, which compiles for a minute. ir_measures does not fuse, and its reader of runs knows no
escaped ids, accepts a video twice, and names neither file nor line in errors; see `colbert_video.search.trec`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from colbert_video.base.checks import real_number, whole_number
from colbert_video.errors import SettingsError, shown
from colbert_video.model.interaction import SCORE_RESOLUTION, settle_ties
from colbert_video.search.ranking import Ranking

Method = Literal["rrf", "min_max", "z_score"]
"""Methods of fusion."""
RRF_CONSTANT = 60
"""The k of reciprocal rank fusion in the paper."""
UNFOUND = -2.0
"""Score of a video that was not found, in standard deviations from the mean."""
Scored = Mapping[str, float]
"""Score by video id, of one query."""


def fuse(
    rankings: Sequence[Ranking],
    method: Method = "rrf",
    *,
    weights: Sequence[float] | None = None,
    k: int | None = None,
    constant: float = RRF_CONSTANT,
) -> Ranking:
    """Fuse rankings of the same queries.

    Args:
        rankings: At least one; they share the ids of queries and videos.
        method: "rrf" reads ranks alone, and tied scores share the best of their ranks (a tie is
            as close as a millionth of the query's largest score); "min_max" and "z_score" read
            scores. Where all scores of a query are equal, each is 1 by min_max and 0 by z_score.
        weights: Weight of each ranking, not negative; None for 1 each.
        k: Limit of videos for each query; None for all that any ranking holds.
        constant: The k of RRF: the larger, the less the first ranks stand out.

    Returns:
        The fused ranking; of equal scores, the video of the earlier ranking ranks first.

    Raises:
        SettingsError: If there is no ranking, a setting is out of range, or a score is not finite where scores are read.
    """
    if weights is not None and (isinstance(weights, str) or not isinstance(weights, Iterable)):
        raise SettingsError(f"weights={shown(weights)} must be a list of numbers, one for each ranking.")
    weights = [1.0] * len(rankings) if weights is None else [real_number("weights", weight) for weight in weights]
    k = None if k is None else whole_number("k", k, least=1)
    _check(rankings, method, weights, real_number("constant", constant, least=0))
    runs = [ranking.torun() for ranking in rankings]
    votes = _votes(method, constant)
    fused = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        scored = [(weight, run[query]) for weight, run in zip(weights, runs, strict=True) if run.get(query)]
        fused[query] = _best(_sum_votes(scored, votes), k)
    return Ranking.from_run(fused)


Votes = Callable[[Scored], tuple[dict[str, float], float]]
"""Maps scores to the votes of these videos and the vote of any other video."""


def _votes(method: Method, constant: float) -> Votes:
    if method == "rrf":
        return lambda scored: (_reciprocal_ranks(scored, constant), 0.0)
    return _min_max if method == "min_max" else _z_scores


def _sum_votes(scored: Sequence[tuple[float, Scored]], votes: Votes) -> dict[str, float]:
    given = [(weight, *votes(scores)) for weight, scores in scored]
    videos = dict.fromkeys(video for _, found, _ in given for video in found)
    return {
        video: math.fsum(weight * found.get(video, unfound) for weight, found, unfound in given) for video in videos
    }


def _reciprocal_ranks(scored: Scored, constant: float) -> dict[str, float]:
    scores = torch.tensor([*scored.values()], dtype=torch.float64, device="cpu")
    largest = float(scores[scores.isfinite()].abs().max()) if bool(scores.isfinite().any()) else 0.0
    settled = settle_ties(scores, SCORE_RESOLUTION * largest)
    ascending = settled.sort().values
    at_most = torch.searchsorted(ascending, settled, right=True)  # videos that score no higher, itself included
    ranks = (len(settled) - at_most + 1).double()  # (videos,), of a tie the best
    return dict(zip(scored, (1 / (constant + ranks)).tolist(), strict=True))


def _min_max(scored: Scored) -> tuple[dict[str, float], float]:
    _check_finite(scored)
    low, high = min(scored.values()), max(scored.values())
    if high == low:
        return dict.fromkeys(scored, 1.0), 0.0
    return {video: (score - low) / (high - low) for video, score in scored.items()}, 0.0


def _z_scores(scored: Scored) -> tuple[dict[str, float], float]:
    _check_finite(scored)
    scores = np.array(list(scored.values()), dtype=np.float64)
    alike = scores.min() == scores.max()  # their deviation need not be 0: the mean is rounded
    standard = np.zeros_like(scores) if alike else (scores - scores.mean()) / scores.std()
    return dict(zip(scored, standard.tolist(), strict=True)), min(UNFOUND, float(standard.min()))


def _best(scored: dict[str, float], k: int | None) -> dict[str, float]:
    """Return the k best; of equal scores, those that came first."""
    if k is None:
        return scored
    return dict(sorted(scored.items(), key=lambda item: -item[1])[:k])


def _check(rankings: Sequence[Ranking], method: str, weights: Sequence[float], constant: float) -> None:
    if not rankings:
        raise SettingsError("there is nothing to fuse; give at least one ranking.")
    if method not in ("rrf", "min_max", "z_score"):
        raise SettingsError(f"method {shown(method)} is unknown; choose rrf, min_max or z_score.")
    if len(weights) != len(rankings):
        raise SettingsError(f"there are {len(weights)} weights for {len(rankings)} rankings; give one for each.")
    if min(weights) < 0 or not any(weights):
        raise SettingsError(f"weights are {shown([*weights])}; they must be finite and not negative, and one above 0.")


def _check_finite(scored: Scored) -> None:
    wrong = [video for video, score in scored.items() if not math.isfinite(score)]
    if wrong:
        raise SettingsError(
            f"the score of video {shown(wrong[0])} is {scored[wrong[0]]}, which cannot be normalised; fuse by rank with "
            "rrf."
        )
