"""Scoring with the compiled kernels: bytes for the many, single precision for the last few."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import Kernels, rounded_codec
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.segments.opened_segment import Scored, Segment, largest

DEVIATIONS = 4
"""Standard deviations of the rounding error by which a video may seem worse than it is and still be scored again."""
SHARE_IN_EVERY_BAG = 2 / 5
"""Share of the candidates that is decoded in every bag at most, beside those that are decoded first."""
LIKELY, LIKELY_GROWTH = 4, 2 / 3
"""Standard deviations of what decoding adds to a score within which a video may still gain what it needs: of n videos
2/3 * ln(n), as the luckiest of more videos gains more, and 4 at least. At 100,000 videos 4 lost 5 of 1,280 results."""


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
        tables, _ = self._tables
        sums = torch.zeros(len(rows), dtype=torch.int32, device="cpu")
        for bag, table in tables.items():
            self._kernels.add_centroid_interaction(self._segment.bags[bag], rows, table, sums)
        return rows[self._kernels.largest(sums, wanted)]

    def best_by_rounded_scores(
        self, rows: Int64[Tensor, "videos"], in_every_bag: int, wanted: int
    ) -> Int64[Tensor, "candidates"]:
        """Return the videos of the best scores on decoded tokens in rounded arithmetic, ascending.

        The `in_every_bag` videos that are best by their centroids are decoded in every bag. They show how much a score
        gains when a bag is decoded, and which score a video needs. The others are decoded bag after bag, and given up
        as soon as they would need an unlikely gain. Videos whose scores are closer to the last wanted one than rounding
        can separate are returned too.
        """
        if len(rows) <= wanted:
            return rows
        by_centroids = self._by_centroids(rows)  # (bags, videos)
        first = largest(by_centroids.sum(dim=0), max(in_every_bag, wanted))
        by_bag = torch.stack([self._rounded_scores(bag, rows[first]) for bag in self._codecs])  # (bags, first)
        scores = by_bag.sum(dim=0)
        others = torch.ones(len(rows), dtype=torch.bool, device="cpu")
        others[first] = False
        if bool(others.any()):
            needed = float(scores.topk(wanted).values[-1])
            gains = by_bag - by_centroids[:, first]
            left, found = self._best_of_others(others.nonzero().flatten(), rows, by_centroids, gains, needed)
            first, scores = torch.cat([first, left]), torch.cat([scores, found])
        return rows[first[_best_within(scores, wanted, self._rounding_error())]].sort().values

    def _best_of_others(
        self,
        left: Int64[Tensor, "others"],
        rows: Int64[Tensor, "videos"],
        by_centroids: Float[Tensor, "bags videos"],
        gains: Float[Tensor, "bags first"],
        needed: float,
    ) -> tuple[Int64[Tensor, "left"], Float[Tensor, "left"]]:
        """Decode bag after bag of those that may still reach a score; return who is left, and their scores."""
        known = torch.zeros(len(left), dtype=torch.float32, device="cpu")
        likely = max(LIKELY, LIKELY_GROWTH * math.log(len(left)))
        for number, bag in enumerate(self._codecs):
            gain = gains[number:].sum(dim=0)
            hoped = known + by_centroids[number:, left].sum(dim=0) + float(gain.mean())
            near = (hoped >= needed - likely * float(gain.std(correction=0))).nonzero().flatten()
            if number:
                near = near[largest(hoped[near], math.ceil(SHARE_IN_EVERY_BAG * len(rows)))]
            left, known = left[near], known[near]
            known = known + self._rounded_scores(bag, rows[left])
        return left, known

    def _rounding_error(self) -> float:
        """Return how far the difference of two rounded scores may be off.

        Rounding with scale s errs by s / sqrt(12) in each dimension, so an inner product with a vector errs by that
        times its length. A mean over query tokens is the inner product with their mean where all of them meet the same
        token, as padding does; where each meets another, errors average out. Rounding a codec errs in proportion to the
        lengths of the query tokens, rounding the query by as much for a short one as for a long one.
        """
        query = self._query.tokens
        lengths = query.norm(dim=1, keepdim=True)  # (query_tokens, 1)
        unit = query / lengths.clamp(min=torch.finfo(query.dtype).tiny)
        of_codec = max(float(query.mean(dim=0).norm()) ** 2, float(lengths.square().mean()) / len(query))
        of_query = max(float(unit.mean(dim=0).norm()) ** 2, 1 / len(query))
        variance = 0.0
        for bag, codec in self._codecs.items():
            rounded, scale = rounded_codec(codec), self._query.rounded(self._kernels, codec).scale
            squares = of_query * scale**2 + of_codec * (rounded.centroid_scale**2 + rounded.weight_scale**2)
            variance += self._weights[bag] ** 2 * squares / 12
        return DEVIATIONS * math.sqrt(2 * variance)

    @property
    def _tables(self) -> tuple[Mapping[str, UInt8[Tensor, "blocks _ lanes"]], float]:
        return self._query.tables(self._kernels, self._codecs, self._weights)

    def _by_centroids(self, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "bags videos"]:
        """Return each bag's weighted MeanMaxSim with every token at its centroid, less a number for each bag."""
        tables, step = self._tables
        sums = torch.zeros(len(tables), len(rows), dtype=torch.int32, device="cpu")
        for bag, own in zip(tables, sums, strict=True):
            self._kernels.add_centroid_interaction(self._segment.bags[bag], rows, tables[bag], own)
        return sums.float() * (step / len(self._query.tokens))

    def _rounded_scores(self, bag: str, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Return a bag's weighted MeanMaxSim on decoded tokens, in rounded arithmetic."""
        codec, scores = self._codecs[bag], torch.zeros(len(rows), dtype=torch.float32, device="cpu")
        self._kernels.add_rounded_scores(
            self._segment.bags[bag],
            rounded_codec(codec),
            self._query.rounded(self._kernels, codec),
            self._query.products(self._kernels, codec).products,
            rows,
            scores,
        )
        return self._weights[bag] * scores

    def estimate(self, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Return each video's weighted sum of scores on decoded tokens in rounded arithmetic, a third of the work of `score`."""
        return torch.stack([self._rounded_scores(bag, rows) for bag in self._codecs]).sum(dim=0)

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
