"""Scoring a query against a segment: centroid interaction over the whole segment, exact scores for the survivors.

PLAID (Santhanam et al., CIKM 2022) probes inverted lists and prunes centroids below an absolute threshold. Video bags
are short, so every bag's centroid scores fit in one pass, and CLIP-like similarities (often below 0.4) would all fall
under PLAID's thresholds. So here nothing is probed and nothing is thresholded: each video gets an approximate
MMS_F + MMS_V from its centroids alone, the best few hundred are decoded from residuals in both bags, and their fused
scores are complete.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernel_scorer import KernelScorer
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.torch_scorer import TorchScorer, decoded_similarities
from colbert_video.indexing.segments.opened_segment import Scored, Segment

MIN_SURVIVORS = 600
"""Videos that always survive the centroid stage; a corpus no larger is decoded at once."""
SURVIVORS_PER_RESULT = 10
"""Survivors kept for each wanted result."""
SURVIVOR_SCALE, SURVIVOR_GROWTH = 0.6, 0.7
"""Of N videos, 0.6 * N ** 0.7 survive at least; `benchmarks/survivors.py` shows how many of the best are among them."""
SHARE_IN_EVERY_BAG = 1 / 5
"""Of the survivors, so many are decoded in every bag; the others are given up when the first bag is."""
MIN_IN_EVERY_BAG = 240
"""Videos that are decoded in every bag at least."""


def survivors(videos: int, k: int) -> int:
    """How many videos leave the centroid stage when `k` results are wanted from a corpus of `videos`."""
    share = math.ceil(SURVIVOR_SCALE * videos**SURVIVOR_GROWTH)
    return max(MIN_SURVIVORS, SURVIVORS_PER_RESULT * k, share)


def decoded_in_every_bag(survivors: int, k: int) -> int:
    """How many of the centroid stage's survivors are decoded in every bag when `k` results are wanted."""
    return max(MIN_IN_EVERY_BAG, SURVIVORS_PER_RESULT * k, math.ceil(SHARE_IN_EVERY_BAG * survivors))


def search_segment(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None = None,
    exact: bool = False,
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
        exact: Decode and score every allowed video in single precision instead of the earlier stages' survivors.

    Returns:
        At most k videos, on the CPU; equal scores are ordered by ordinal.
    """
    prepared = query if isinstance(query, PreparedQuery) else PreparedQuery(query)
    scorer = scorer_of(segment, codecs, prepared)
    ordinals = segment.eligible(allowed)  # (videos,), ascending
    if not exact:
        ordinals = scorer.best_by_centroids(ordinals, survivors(len(ordinals), k))
        ordinals = scorer.best_by_rounded_scores(ordinals, decoded_in_every_bag(len(ordinals), k), k)
    return scorer.score(ordinals).best(k)


def score_videos(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
    ordinals: Int64[Tensor, "videos"],
) -> Scored:
    """MeanMaxSim of each video in each bag, on decoded tokens in single precision; in the order of `ordinals`."""
    prepared = query if isinstance(query, PreparedQuery) else PreparedQuery(query)
    return scorer_of(segment, codecs, prepared).score(ordinals)


def scorer_of(
    segment: Segment, codecs: Mapping[str, ResidualCodec], query: PreparedQuery
) -> KernelScorer | TorchScorer:
    """What scores a segment: compiled kernels if it lies in the CPU's memory and they are installed, else torch."""
    kernels = compiled_kernels() if segment.live.device.type == "cpu" else None
    if kernels is None:
        return TorchScorer(segment, codecs, query)
    return KernelScorer(kernels, segment, codecs, query)


def video_similarities(
    segment: Segment,
    codec: ResidualCodec,
    bag: str,
    query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
    ordinal: int,
) -> Float[Tensor, "query_tokens tokens"]:
    """Every query token against every token of one video's bag, on decoded tokens; on the CPU."""
    prepared = query if isinstance(query, PreparedQuery) else PreparedQuery(query)
    stored = segment.bags[bag]
    start, stop = stored.offsets[ordinal : ordinal + 2].tolist()
    rows = torch.arange(start, stop, device=stored.codes.device)
    return decoded_similarities(stored, codec, prepared.rotated(codec), rows).T.cpu()
