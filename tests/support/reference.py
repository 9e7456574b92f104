"""Naive scores, one number at a time: slow and obviously right. Fast code is held against these.

A bag is a sequence of vectors without padding; all sums run in double precision.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Vector = Any
"""Anything that numpy reads as one row of numbers."""


def dot(one: Vector, other: Vector) -> float:
    """Inner product."""
    return float(np.dot(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)))


def mean_max_sim(query: Sequence[Vector], bag: Sequence[Vector]) -> float:
    """MMS: for each query token its best match in the bag, averaged over the query's tokens."""
    total = 0.0
    for query_token in query:
        best = -np.inf
        for token in bag:
            best = max(best, dot(query_token, token))
        total += best
    return total / len(query)


def mean_pool_sim(pooled: Vector, bag: Sequence[Vector]) -> float:
    """MP: cosine of one query vector (of length 1) and the mean of the bag."""
    mean = np.zeros(len(np.asarray(bag[0])))
    for token in bag:
        mean = mean + np.asarray(token, dtype=np.float64)
    mean = mean / len(bag)
    return dot(pooled, mean) / float(np.sqrt(np.sum(mean * mean)))


def ranks(scores: Sequence[float]) -> list[int]:
    """Rank of each score, 1 for the highest; equal scores share the best of their ranks."""
    return [1 + sum(1 for other in scores if other > score) for score in scores]


def reciprocal_rank_fusion(*rankings: Sequence[float]) -> list[float]:
    """RRF over several lists of scores of the same videos: sum of 1 / (60 + rank)."""
    fused = [0.0] * len(rankings[0])
    for scores in rankings:
        for position, rank in enumerate(ranks(scores)):
            fused[position] += 1.0 / (60 + rank)
    return fused


def scores(
    interaction: str,
    query: Sequence[Vector],
    pooled: Vector,
    frame_bags: Sequence[Sequence[Vector]],
    video_bags: Sequence[Sequence[Vector]],
) -> list[float]:
    """One query against every video, by any interaction."""
    frame = [mean_max_sim(query, bag) for bag in frame_bags]
    video = [mean_max_sim(query, bag) for bag in video_bags]
    if interaction == "mms_f":
        return frame
    if interaction == "mms_v":
        return video
    if interaction == "mms_fv":
        return [one + other for one, other in zip(frame, video, strict=True)]
    if interaction == "mp_f":
        return [mean_pool_sim(pooled, bag) for bag in frame_bags]
    if interaction == "mp_v":
        return [mean_pool_sim(pooled, bag) for bag in video_bags]
    if interaction == "rrf":
        return reciprocal_rank_fusion(frame, video)
    raise ValueError(interaction)


def best(values: Sequence[float], k: int) -> list[int]:
    """Positions of the k highest values, best first; ties in the order given."""
    return sorted(range(len(values)), key=lambda position: -values[position])[:k]
