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
from colbert_video.indexing.segments.opened_segment import Scored, Segment, largest
from colbert_video.indexing.segments.segment import StoredBag

VALUES_PER_CHUNK = 2**26
"""Numbers of decoded tokens, or of their similarities, computed at once; bounds memory."""


class TorchScorer:
    """Scores a segment on the device where it lies.

    Args:
        segment: The segment.
        codecs: The codec of each bag to score, on the segment's device.
        query: The query.
        weights: What each bag's score counts; a bag that is not named counts once.
    """

    def __init__(
        self,
        segment: Segment,
        codecs: Mapping[str, ResidualCodec],
        query: PreparedQuery,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._segment = segment
        self._codecs = codecs
        self._query = query
        self._weights = {bag: (weights or {}).get(bag, 1.0) for bag in codecs}

    def best_by_centroids(self, rows: Int64[Tensor, "videos"], wanted: int) -> Int64[Tensor, "candidates"]:
        """Return the videos of the largest fused centroid interaction, ascending."""
        if len(rows) <= wanted:
            return rows
        return rows[largest(self.centroid_scores(rows), wanted)]

    def best_by_rounded_scores(
        self, rows: Int64[Tensor, "videos"], in_every_bag: int, wanted: int
    ) -> Int64[Tensor, "candidates"]:
        """Return all videos: rounding saves nothing here, everything is scored in single precision at once."""
        return rows

    def centroid_scores(self, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Return each video's fused score with every token at its centroid (PLAID's centroid interaction)."""
        total = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)
        for bag, codec in self._codecs.items():
            stored = self._segment.bags[bag]
            with full_precision(codec.centroids):
                table = codec.centroids @ self._query.rotated(codec).T  # (centroids, query_tokens)
            scores = _mean_max(stored, rows, partial(_looked_up, stored, table), width=table.shape[1])
            total += self._weights[bag] * scores
        return total

    def estimate(self, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Return each video's weighted sum of scores; here they are those of `score`."""
        return self.score(rows).total.cpu()

    def score(self, rows: Int64[Tensor, "videos"]) -> Scored:
        """Return each video's MeanMaxSim in each bag, on decoded tokens; the result is on the CPU."""
        rows = rows.to(self._segment.live.device)
        bags = {}
        for bag, codec in self._codecs.items():
            stored, query = self._segment.bags[bag], self._query.rotated(codec)
            similarities = partial(_decoded_similarities, stored, codec, query)
            bags[bag] = _mean_max(stored, rows, similarities, width=codec.dim).cpu()
        return Scored.from_bags(rows.cpu(), bags, self._weights)


def _looked_up(
    stored: StoredBag, table: Float[Tensor, "centroids query_tokens"], tokens: Int64[Tensor, "tokens"]
) -> Float[Tensor, "tokens query_tokens"]:
    return table[stored.codes[tokens].long()]


def _decoded_similarities(
    stored: StoredBag, codec: ResidualCodec, query: Float[Tensor, "query_tokens dim"], tokens: Int64[Tensor, "tokens"]
) -> Float[Tensor, "tokens query_tokens"]:
    return codec.similarities(stored.codes[tokens], stored.residuals[tokens], query)


def _mean_max(
    stored: StoredBag,
    rows: Int64[Tensor, "videos"],
    similarities: Callable[[Int64[Tensor, "tokens"]], Float[Tensor, "tokens query_tokens"]],
    *,
    width: int,
) -> Float[Tensor, "videos"]:
    """Return the mean over query tokens of the max over each video's tokens, in chunks of bounded size.

    Args:
        stored: The bag.
        rows: Which videos.
        similarities: From rows of tokens to their similarities with the query.
        width: Numbers that it computes for each token.
    """
    scores = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
    for start, stop in _chunks(stored.doclens[rows], max(1, VALUES_PER_CHUNK // width)):
        tokens, lengths = stored.token_rows(rows[start:stop])  # (tokens,), (videos,)
        scores[start:stop] = _segment_max(similarities(tokens), lengths).mean(dim=1)
    return scores


def _segment_max(
    values: Float[Tensor, "tokens query_tokens"], lengths: Int64[Tensor, "videos"]
) -> Float[Tensor, "videos query_tokens"]:
    """Return the max over each run of `lengths` rows; runs of one length, the usual case, need no reduction kernel."""
    if bool((lengths == lengths[0]).all()):
        return values.view(len(lengths), int(lengths[0]), -1).amax(dim=1)
    return torch.segment_reduce(values, "max", lengths=lengths, axis=0)


def _chunks(lengths: Int64[Tensor, "videos"], tokens: int) -> list[tuple[int, int]]:
    """Return ranges [start, stop) of videos that hold about so many tokens each."""
    if not len(lengths):
        return []
    number = lengths.cumsum(0).sub(1).div(tokens, rounding_mode="floor")  # (videos,)
    cuts = [0, *(number.diff().nonzero().flatten() + 1).tolist(), len(lengths)]
    return list(pairwise(cuts))
