"""Scoring a query against a segment: centroid interaction over the whole segment, exact scores for the survivors.

PLAID (Santhanam et al., CIKM 2022) probes inverted lists and prunes centroids below an absolute threshold. Video bags
are short, so every bag's centroid scores fit in one pass, and CLIP-like similarities (often below 0.4) would all fall
under PLAID's thresholds. So here nothing is probed and nothing is thresholded: each video gets an approximate
MMS_F + MMS_V from its centroids alone, the best few hundred are decoded from residuals in both bags, and their fused
scores are complete.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.segment import StoredBag

LEAST_SURVIVORS = 300
"""Videos that always survive the centroid stage; a corpus no larger is scored exactly at once."""
SURVIVOR_SHARE = 0.02
"""Share of a large corpus that survives: enough to hold the exact fused top 10 on the synthetic corpora."""
SURVIVORS_PER_RESULT = 10
"""Survivors kept for each wanted result."""
TOKENS_PER_CHUNK = 2**18
"""Tokens scored or decoded at once; bounds memory."""


@dataclass(frozen=True)
class Segment:
    """An opened segment: both bags of the same videos."""

    name: str
    """The segment's folder name."""
    bags: Mapping[str, StoredBag]
    """Stored tokens by bag name, "frame" and possibly "video"."""
    live: Bool[Tensor, "videos"]
    """False where a video was removed or replaced."""

    def __len__(self) -> int:
        return len(self.live)


@dataclass(frozen=True)
class Scored:
    """Videos of one segment with their complete scores, best first."""

    ordinals: Int[Tensor, "videos"]
    """Positions in the segment."""
    bags: Mapping[str, Float[Tensor, "videos"]]
    """MeanMaxSim in each bag."""
    total: Float[Tensor, "videos"]
    """Their sum, by which videos are ranked."""


def survivors(videos: int, k: int) -> int:
    """How many videos leave the centroid stage when `k` results are wanted from a corpus of `videos`."""
    return max(LEAST_SURVIVORS, SURVIVORS_PER_RESULT * k, math.ceil(SURVIVOR_SHARE * videos))


def search_segment(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"],
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None = None,
    exact: bool = False,
) -> Scored:
    """Find the k best videos of a segment.

    Args:
        segment: Where to look.
        codecs: The codec of each bag to score; these bags' MeanMaxSims are summed.
        query: Scored query tokens, unit vectors, not rotated.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: Decode and score every allowed video instead of the centroid stage's survivors.

    Returns:
        At most k videos; equal scores are ordered by ordinal.
    """
    eligible = segment.live if allowed is None else segment.live & allowed
    ordinals = eligible.nonzero().flatten()  # (videos,)
    wanted = survivors(len(ordinals), k)
    if not exact and len(ordinals) > wanted:
        approximate = centroid_scores(segment, codecs, query, ordinals)
        ordinals = ordinals[approximate.topk(wanted).indices].sort().values
    scored = score_videos(segment, codecs, query, ordinals)
    order = scored.total.sort(descending=True, stable=True).indices[:k]
    return Scored(
        scored.ordinals[order],
        {bag: scores[order] for bag, scores in scored.bags.items()},
        scored.total[order],
    )


def centroid_scores(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"],
    ordinals: Int[Tensor, "videos"],
) -> Float[Tensor, "videos"]:
    """Approximate fused score of each video: every token stands at its centroid (PLAID's centroid interaction)."""
    total = torch.zeros(len(ordinals))
    for bag, codec in codecs.items():
        stored = segment.bags[bag]
        table = codec.centroids @ codec.rotate(query).T  # (centroids, query_tokens)
        total += _mean_max(stored, ordinals, partial(_centroid_similarities, stored, table))
    return total


def _centroid_similarities(
    stored: StoredBag, table: Float[Tensor, "centroids query_tokens"], rows: Int[Tensor, "tokens"]
) -> Float[Tensor, "tokens query_tokens"]:
    return table[stored.codes[rows].long()]


def score_videos(
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    query: Float[Tensor, "query_tokens dim"],
    ordinals: Int[Tensor, "videos"],
) -> Scored:
    """MeanMaxSim of each video in each bag, on decoded tokens; in the order of `ordinals`."""
    bags = {}
    for bag, codec in codecs.items():
        stored = segment.bags[bag]
        bags[bag] = _mean_max(
            stored, ordinals, partial(_decoded_similarities, stored, codec, codec.rotate(query))
        )
    total = torch.stack(list(bags.values())).sum(dim=0) if len(ordinals) else torch.zeros(0)
    return Scored(ordinals, bags, total)


def _decoded_similarities(
    stored: StoredBag,
    codec: ResidualCodec,
    rotated: Float[Tensor, "query_tokens dim"],
    rows: Int[Tensor, "tokens"],
) -> Float[Tensor, "tokens query_tokens"]:
    return codec.decode(stored.codes[rows], stored.residuals[rows]) @ rotated.T


def video_similarities(
    segment: Segment, codec: ResidualCodec, bag: str, query: Float[Tensor, "query_tokens dim"], ordinal: int
) -> Float[Tensor, "query_tokens tokens"]:
    """Every query token against every token of one video's bag, on decoded tokens."""
    stored = segment.bags[bag]
    rows = torch.arange(int(stored.offsets[ordinal]), int(stored.offsets[ordinal + 1]))
    return _decoded_similarities(stored, codec, codec.rotate(query), rows).T


def _mean_max(
    stored: StoredBag,
    ordinals: Int[Tensor, "videos"],
    similarities_of: Callable[[Tensor], Tensor],
) -> Float[Tensor, "videos"]:
    """Mean over query tokens of the max over each video's tokens, in chunks of bounded size.

    Args:
        stored: The bag.
        ordinals: Which videos.
        similarities_of: Gives (tokens, query_tokens) for the row numbers of some tokens.
    """
    scores = torch.empty(len(ordinals))
    for start, stop in _chunks(stored.doclens[ordinals]):
        chunk = ordinals[start:stop]
        lengths = stored.doclens[chunk]
        rows = _token_rows(stored.offsets[chunk], lengths)
        scores[start:stop] = _segment_max(similarities_of(rows), lengths).mean(dim=1)
    return scores


def _segment_max(
    values: Float[Tensor, "tokens query_tokens"], lengths: Int[Tensor, "videos"]
) -> Float[Tensor, "videos query_tokens"]:
    """Max over each run of `lengths` consecutive rows; runs of one length, the usual case, need no reduction kernel."""
    if bool((lengths == lengths[0]).all()):
        return values.view(len(lengths), int(lengths[0]), -1).amax(dim=1)
    return torch.segment_reduce(values, "max", lengths=lengths, axis=0)


def _token_rows(offsets: Int[Tensor, "videos"], lengths: Int[Tensor, "videos"]) -> Int[Tensor, "tokens"]:
    """Row numbers of all tokens of some videos, video by video."""
    starts = lengths.cumsum(0) - lengths  # where each video's run begins in the result
    return torch.arange(int(lengths.sum())) + (offsets - starts).repeat_interleave(lengths)


def _chunks(lengths: Int[Tensor, "videos"]) -> list[tuple[int, int]]:
    """Ranges [start, stop) of videos holding about `TOKENS_PER_CHUNK` tokens each."""
    if not len(lengths):
        return []
    number = lengths.cumsum(0).sub(1).div(TOKENS_PER_CHUNK, rounding_mode="floor")  # (videos,)
    cuts = [0, *(number.diff().nonzero().flatten() + 1).tolist(), len(lengths)]
    return list(pairwise(cuts))
