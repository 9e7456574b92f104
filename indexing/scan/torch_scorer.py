"""Scoring with torch alone, on any device: what the compiled kernels must equal, and what replaces them."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.device import full_precision
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.indexing.segments.segment import StoredBag

VALUES_PER_CHUNK = 2**26
"""Numbers of decoded tokens, or of their similarities, computed at once; bounds memory."""


class TorchScorer:
    """Scores a segment on the device where it lies.

    Args:
        segment: The segment.
        codecs: The codec of each bag to score, on the segment's device.
        query: The query.
    """

    def __init__(self, segment: Segment, codecs: Mapping[str, ResidualCodec], query: PreparedQuery) -> None:
        self._segment = segment
        self._codecs = codecs
        self._query = query

    def best_by_centroids(self, ordinals: Int64[Tensor, "videos"], wanted: int) -> Int64[Tensor, "survivors"]:
        """The videos of the largest fused centroid interaction, ascending."""
        if len(ordinals) <= wanted:
            return ordinals
        return ordinals[largest(self.centroid_scores(ordinals), wanted)]

    def best_by_rounded_scores(
        self, ordinals: Int64[Tensor, "videos"], in_every_bag: int, wanted: int
    ) -> Int64[Tensor, "survivors"]:
        """All videos: rounding saves nothing here, everything is scored in single precision at once."""
        return ordinals

    def centroid_scores(self, ordinals: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Approximate fused score of each video: every token stands at its centroid (PLAID's centroid interaction)."""
        total = torch.zeros(len(ordinals), dtype=torch.float32, device=ordinals.device)
        for bag, codec in self._codecs.items():
            stored = self._segment.bags[bag]
            with full_precision(codec.centroids):
                table = codec.centroids @ self._query.rotated(codec).T  # (centroids, query_tokens)
            similarities = partial(_centroid_similarities, stored, table)
            total += _mean_max(stored, ordinals, similarities, width=table.shape[1])
        return total

    def score(self, ordinals: Int64[Tensor, "videos"]) -> Scored:
        """MeanMaxSim of each video in each bag, on decoded tokens; the result is on the CPU."""
        ordinals = ordinals.to(self._segment.live.device)
        bags = {}
        for bag, codec in self._codecs.items():
            stored = self._segment.bags[bag]
            similarities = partial(decoded_similarities, stored, codec, self._query.rotated(codec))
            bags[bag] = _mean_max(stored, ordinals, similarities, width=codec.dim).cpu()
        return Scored(ordinals.cpu(), bags, torch.stack(list(bags.values())).sum(dim=0))


def largest(scores: Float[Tensor, "videos"], wanted: int) -> Int64[Tensor, "wanted"]:
    """Return the positions of the largest scores, ascending; of equal scores, the first."""
    if len(scores) <= wanted:
        return torch.arange(len(scores), device=scores.device)
    least = scores.topk(wanted).values[-1]
    better, level = (scores > least).nonzero().flatten(), (scores == least).nonzero().flatten()
    return torch.cat([better, level[: wanted - len(better)]]).sort().values


def decoded_similarities(
    stored: StoredBag,
    codec: ResidualCodec,
    rotated: Float[Tensor, "query_tokens dim"],
    rows: Int64[Tensor, "tokens"],
) -> Float[Tensor, "tokens query_tokens"]:
    """Similarities of some tokens of a bag, decoded, with a rotated query."""
    with full_precision(rotated):
        return codec.decode(stored.codes[rows], stored.residuals[rows]) @ rotated.T


def _centroid_similarities(
    stored: StoredBag, table: Float[Tensor, "centroids query_tokens"], rows: Int64[Tensor, "tokens"]
) -> Float[Tensor, "tokens query_tokens"]:
    return table[stored.codes[rows].long()]


def _mean_max(
    stored: StoredBag,
    ordinals: Int64[Tensor, "videos"],
    similarities_of: Callable[[Tensor], Tensor],
    *,
    width: int,
) -> Float[Tensor, "videos"]:
    """Mean over query tokens of the max over each video's tokens, in chunks of bounded size.

    Args:
        stored: The bag.
        ordinals: Which videos.
        similarities_of: Gives (tokens, query_tokens) for the row numbers of some tokens.
        width: Numbers that it computes for each token.
    """
    scores = torch.empty(len(ordinals), dtype=torch.float32, device=ordinals.device)
    for start, stop in _chunks(stored.doclens[ordinals], max(1, VALUES_PER_CHUNK // width)):
        chunk = ordinals[start:stop]
        lengths = stored.doclens[chunk]
        rows = _token_rows(stored.offsets[chunk], lengths)
        scores[start:stop] = _segment_max(similarities_of(rows), lengths).mean(dim=1)
    return scores


def _segment_max(
    values: Float[Tensor, "tokens query_tokens"], lengths: Int64[Tensor, "videos"]
) -> Float[Tensor, "videos query_tokens"]:
    """Max over each run of `lengths` consecutive rows; runs of one length, the usual case, need no reduction kernel."""
    if bool((lengths == lengths[0]).all()):
        return values.view(len(lengths), int(lengths[0]), -1).amax(dim=1)
    return torch.segment_reduce(values, "max", lengths=lengths, axis=0)


def _token_rows(
    offsets: Int64[Tensor, "videos"], lengths: Int64[Tensor, "videos"]
) -> Int64[Tensor, "tokens"]:
    """Row numbers of all tokens of some videos, video by video."""
    starts = lengths.cumsum(0) - lengths  # where each video's run begins in the result
    return torch.arange(int(lengths.sum()), device=lengths.device) + (offsets - starts).repeat_interleave(
        lengths
    )


def _chunks(lengths: Int64[Tensor, "videos"], tokens: int) -> list[tuple[int, int]]:
    """Ranges [start, stop) of videos holding about so many tokens each."""
    if not len(lengths):
        return []
    number = lengths.cumsum(0).sub(1).div(tokens, rounding_mode="floor")  # (videos,)
    cuts = [0, *(number.diff().nonzero().flatten() + 1).tolist(), len(lengths)]
    return list(pairwise(cuts))
