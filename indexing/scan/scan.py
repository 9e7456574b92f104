"""Scoring a query against a segment: centroid interaction over the whole segment, exact scores for the candidates.

PLAID (Santhanam et al., CIKM 2022) probes inverted lists and prunes centroids below an absolute threshold. Video bags
are short, so every bag's centroid scores fit in one pass, and CLIP-like similarities (often below 0.4) would all fall
under PLAID's thresholds. So here nothing is probed and nothing is thresholded: each video gets an approximate
MMS_F + MMS_V from its centroids alone, the best few hundred are decoded from residuals in both bags, and their fused
scores are complete.
"""

import math
from collections.abc import Mapping

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.errors import SettingsError, shown
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernel_scorer import KernelScorer
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.scan.prepared_query import PreparedQuery, prepare
from colbert_video.indexing.scan.torch_scorer import TorchScorer
from colbert_video.indexing.segments.opened_segment import Scored, Segment

MIN_CANDIDATES = 600
"""Videos that the centroid stage always keeps; a corpus no larger is decoded at once."""
CANDIDATES_PER_RESULT = 10
"""Candidates for each wanted result, in every stage."""
CANDIDATE_SCALE, CANDIDATE_GROWTH = 0.6, 0.7
"""Of N videos, 0.6 * N ** 0.7 are kept at least; `benchmarks/candidates.py` shows how many of the best are there."""
MIN_IN_EVERY_BAG = 240
"""Videos that are decoded in every bag at least; the others may be given up earlier."""
VIDEOS_PER_THREAD = 100_000
"""A search is cut over cores if each gets so many videos at least; below, starting threads costs what they save."""


def num_candidates(videos: int, k: int) -> int:
    """Return how many of `videos` the centroid stage keeps when `k` results are wanted."""
    share = math.ceil(CANDIDATE_SCALE * videos**CANDIDATE_GROWTH)
    return max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * k, share)


def num_in_every_bag(k: int) -> int:
    """Return how many of the centroid stage's candidates are decoded in every bag at once for `k` wanted results."""
    return max(MIN_IN_EVERY_BAG, CANDIDATES_PER_RESULT * k)


def search_segment(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None = None,
    exact: bool = False,
    threads: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Scored:
    """Find the k best videos of a segment.

    Compiled kernels do it for segments in the CPU's memory, where they are installed; torch does it elsewhere, on the
    device of the segment. Both end with single precision on decoded tokens, so their scores agree to about 1e-6; on a
    GPU to about 1e-4 where matrix products may be computed in TF32.

    Args:
        segment: Where to look.
        codecs: The codec of each bag to score, on the segment's device; these bags' MeanMaxSims are summed.
        query: Scored query tokens, unit vectors, not rotated; prepared if several segments are searched.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: True to decode and score every allowed video in single precision instead of the candidates alone.
        threads: Cores that may work on it; they are used where a segment is large enough.
        weights: What each bag's MeanMaxSim counts, finite and at least 0; a bag that is not named counts once, one of
            weight 0 is not looked at and missing in the result.

    Returns:
        At most k videos, on the CPU; tied scores are ordered by row.

    Raises:
        SettingsError: If no bag is left to be scored.
    """
    rows = segment.eligible(allowed)  # (videos,), ascending
    threads = max(1, min(threads, len(rows) // VIDEOS_PER_THREAD))
    scorer = scorer_of(segment, codecs, prepare(query), weights, threads=threads)
    if not exact:
        rows = scorer.best_by_centroids(rows, num_candidates(len(rows), k))
        rows = scorer.best_by_rounded_scores(rows, num_in_every_bag(k), k)
    return scorer.score(rows).best(k)


def score_videos(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
    rows: Int64[Tensor, "videos"],
    *,
    weights: Mapping[str, float] | None = None,
) -> Scored:
    """Return each video's MeanMaxSim in each bag, on decoded tokens in single precision; in the order of `rows`."""
    return scorer_of(segment, codecs, prepare(query), weights).score(rows)


def estimated_scores(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: PreparedQuery,
    rows: Int64[Tensor, "videos"],
    *,
    weights: Mapping[str, float] | None = None,
) -> Float[Tensor, "videos"]:
    """Return what live videos score, about 1e-3 exact: where many of them are looked at together."""
    return scorer_of(segment, codecs, query, weights).estimate(rows)


def scorer_of(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: PreparedQuery,
    weights: Mapping[str, float] | None = None,
    *,
    threads: int = 1,
) -> KernelScorer | TorchScorer:
    """Return what scores a segment: compiled kernels if they are installed and it lies in CPU memory, else torch."""
    codecs = weighed(codecs, weights)
    kernels = compiled_kernels() if segment.live.device.type == "cpu" else None
    if kernels is None:
        return TorchScorer(segment, codecs, query, weights)
    return KernelScorer(kernels.on(threads), segment, codecs, query, weights)


def weighed(codecs: Mapping[str, ResidualCodec], weights: Mapping[str, float] | None) -> Mapping[str, ResidualCodec]:
    """Return the bags that count.

    Raises:
        SettingsError: If there are none.
    """
    counting = {bag: codec for bag, codec in codecs.items() if (weights or {}).get(bag, 1.0)}
    if not counting:
        raise SettingsError(
            f"no bag counts: weights={shown(str(dict(weights or {})))}; give one of {list(codecs)} more than 0"
        )
    return counting


def video_similarities(
    segment: Segment, codec: ResidualCodec, bag: str, query: Float[Tensor, "query_tokens dim"] | PreparedQuery, row: int
) -> Float[Tensor, "query_tokens tokens"]:
    """Return the similarity of every query token with every token of one video's bag, on decoded tokens; on the CPU."""
    stored = segment.bags[bag]
    tokens = slice(*stored.offsets[row : row + 2].tolist())
    rotated = prepare(query).rotated(codec)  # (query_tokens, dim)
    return codec.similarities(stored.codes[tokens], stored.residuals[tokens], rotated).T.cpu()


def video_tokens(segment: Segment, codec: ResidualCodec, bag: str, row: int) -> Float[Tensor, "tokens dim"]:
    """Return the tokens of one video's bag, decoded, in the space of query tokens; on the CPU."""
    stored = segment.bags[bag]
    tokens = slice(*stored.offsets[row : row + 2].tolist())
    return (codec.decode(stored.codes[tokens], stored.residuals[tokens]) @ codec.rotation.T).cpu()
