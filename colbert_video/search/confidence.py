"""Confidence: how far of the way from a usual video of the corpus to a perfect match a hit stands.

Scores of two queries cannot be compared, as some words are near every video and others near none. But a search knows how
its query scores on the whole corpus: the median of a fixed sample is what a video scores that has nothing to do with
the query, and the lengths of the query's tokens say what a video scores that holds their very equals.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import median

from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.asking.encoded_question import AnyQuery, EncodedQuestion
from colbert_video.search.hits import Hits

SAMPLE = 128
"""Videos or windows of the corpus whose scores say what is usual."""
MIN_SAMPLE = 10
"""Fewer say nothing."""


def sample_positions(items: int) -> tuple[int, ...]:
    """Return which of so many live videos or windows are looked at: `SAMPLE` of them at most, evenly spaced."""
    return _evenly_spaced(min(SAMPLE, items), items)


@lru_cache(maxsize=8)
def _evenly_spaced(wanted: int, items: int) -> tuple[int, ...]:
    return tuple(number * items // wanted for number in range(wanted))


def perfect_score(query: AnyQuery, weights: Mapping[str, float]) -> float:
    """Return the score of a video in which every query token meets its equal: MeanMaxSim is the mean of their lengths.

    It meets all parts of a question so, and has nothing in common with what must not be shown.
    """
    if isinstance(query, EncodedQuestion):
        return sum(weight * perfect_score(own, weights) for own, weight in query.parts) / query.total_weight
    if isinstance(query, PreparedQuery):
        return sum(weights.values()) * _mean_length(query)
    return sum(weights[bag] * _mean_length(own) for bag, own in query.items() if weights.get(bag, 0.0))


def _mean_length(query: PreparedQuery) -> float:
    return float(query.tokens.norm(dim=1).mean())


def confidence(score: float, usual: float, perfect: float) -> float:
    """Return (score - usual) / (perfect - usual), cut to [0, 1]."""
    return min(max((score - usual) / (perfect - usual), 0.0), 1.0)


def with_confidence(hits: Hits, sample: Sequence[float], perfect: float, least: float | None) -> Hits:
    """Return the hits with their confidence, those below `least` left out.

    Where it is not known, because the sample is small or a usual video is a perfect match, all stay as they are.
    """
    usual = median(sample) if len(sample) >= MIN_SAMPLE else perfect
    if not usual < perfect:
        return hits
    judged = (hit.judged(confidence(hit.score, usual, perfect)) for hit in hits)
    return hits.keeping(hit for hit in judged if least is None or (hit.confidence or 0.0) >= least)
