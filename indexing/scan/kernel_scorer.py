"""Scoring with the compiled kernels: bytes for the many, single precision for the last few."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import Kernels, rounded_codec
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.segments.opened_segment import Scored, Segment, largest

DEVIATIONS = 4
"""Standard deviations of the rounding error by which a video may seem worse than it is and still be scored again."""


class KernelScorer:
    """Scores a segment in the CPU's memory.

    Args:
        kernels: The compiled kernels.
        segment: The segment.
        codecs: The codec of each bag to score.
        query: The query.
        weights: What each bag's score counts; a bag that is not named counts once.
    """

    def __init__(
        self,
        kernels: Kernels,
        segment: Segment,
        codecs: Mapping[str, ResidualCodec],
        query: PreparedQuery,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._kernels = kernels
        self._segment = segment
        self._codecs = codecs
        self._query = query
        self._weights = {bag: (weights or {}).get(bag, 1.0) for bag in codecs}

    def best_by_centroids(self, rows: Int64[Tensor, "videos"], wanted: int) -> Int64[Tensor, "candidates"]:
        """Return the videos of the largest fused centroid interaction, ascending.

        Every token stands at its centroid (PLAID's centroid interaction), and similarities are bytes: a video's score
        is the sum over bags and query tokens of the largest byte among its tokens.
        """
        if len(rows) <= wanted:
            return rows
        sums, _ = self._centroid_interaction(self._codecs, rows)
        return rows[self._kernels.largest(sums, wanted)]

    def best_by_rounded_scores(
        self, rows: Int64[Tensor, "videos"], in_every_bag: int, wanted: int
    ) -> Int64[Tensor, "candidates"]:
        """Return the videos of the best scores on decoded tokens in rounded arithmetic, ascending.

        Bag after bag is decoded. After each one only the `in_every_bag` best videos go on, tokens of the bags that are
        not decoded yet standing at their centroids. Videos whose scores are closer to the last wanted one than rounding
        can separate are returned too.
        """
        if len(rows) <= wanted:
            return rows
        scores = torch.zeros(len(rows), dtype=torch.float32, device="cpu")
        remaining = dict(self._codecs)
        for bag, codec in self._codecs.items():
            self._add_rounded_scores(bag, codec, rows, scores)
            del remaining[bag]
            if remaining and len(rows) > in_every_bag:
                sums, score_of_one = self._centroid_interaction(remaining, rows)
                best = largest(scores + score_of_one * sums.to(scores.dtype), in_every_bag)
                rows, scores = rows[best], scores[best]
        return rows[_best_within(scores, wanted, self._rounding_error())]

    def _rounding_error(self) -> float:
        """Return how far the difference of two rounded scores may be off.

        Rounding with scale s errs by s / sqrt(12) in each dimension, so an inner product with a vector errs by that
        times its length. A mean over query tokens is the inner product with their mean where all of them meet the same
        token, as padding does; where each meets another, errors average out.
        """
        query = self._query.tokens
        share = max(float(query.mean(dim=0).norm()) ** 2, 1 / len(query))
        variance = 0.0
        for bag, codec in self._codecs.items():
            rounded, scale = rounded_codec(codec), self._query.rounded(self._kernels, codec).scale
            squares = scale**2, rounded.centroid_scale**2, rounded.weight_scale**2
            variance += self._weights[bag] ** 2 * share * sum(squares) / 12
        return DEVIATIONS * math.sqrt(2 * variance)

    def _centroid_interaction(
        self, codecs: Mapping[str, ResidualCodec], rows: Int64[Tensor, "videos"]
    ) -> tuple[Int32[Tensor, "videos"], float]:
        """Return sums of largest bytes over some bags, and the MeanMaxSim that 1 of them stands for."""
        tables, step = self._query.tables(self._kernels, self._codecs, self._weights)
        sums = torch.zeros(len(rows), dtype=torch.int32, device="cpu")
        for bag in codecs:
            self._kernels.add_centroid_interaction(self._segment.bags[bag], rows, tables[bag], sums)
        return sums, step / len(self._query.tokens)

    def _add_rounded_scores(
        self, bag: str, codec: ResidualCodec, rows: Int64[Tensor, "videos"], scores: Float[Tensor, "videos"]
    ) -> None:
        own = torch.zeros_like(scores)
        self._kernels.add_rounded_scores(
            self._segment.bags[bag],
            rounded_codec(codec),
            self._query.rounded(self._kernels, codec),
            self._query.products(self._kernels, codec).products,
            rows,
            own,
        )
        scores += self._weights[bag] * own

    def score(self, rows: Int64[Tensor, "videos"]) -> Scored:
        """Return each video's MeanMaxSim in each bag, on decoded tokens in single precision."""
        return Scored.from_bags(
            rows,
            {
                bag: self._kernels.exact_scores(
                    self._segment.bags[bag], rounded_codec(codec), self._query.rounded(self._kernels, codec), rows
                )
                for bag, codec in self._codecs.items()
            },
            self._weights,
        )


def _best_within(scores: Float[Tensor, "videos"], wanted: int, margin: float) -> Int64[Tensor, "best"]:
    """Return where the largest scores are, and those at most `margin` below them; ascending."""
    if len(scores) <= wanted:
        return torch.arange(len(scores), device="cpu")
    least = float(scores.topk(wanted).values[-1]) - margin
    return (scores >= least).nonzero().flatten()
