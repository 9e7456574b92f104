"""Scoring with the compiled kernels: bytes for the many, single precision for the last few."""

from collections.abc import Mapping

import torch
from jaxtyping import Int64
from torch import Tensor

from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.kernels import Kernels, rounded_codec
from colbert_video.indexing.opened import Scored, Segment
from colbert_video.indexing.prepared import PreparedQuery


class KernelScorer:
    """Scores a segment in the CPU's memory.

    Args:
        kernels: The compiled kernels.
        segment: The segment.
        codecs: The codec of each bag to score.
        query: The query.
    """

    def __init__(
        self,
        kernels: Kernels,
        segment: Segment,
        codecs: Mapping[str, ResidualCodec],
        query: PreparedQuery,
    ) -> None:
        self._kernels = kernels
        self._segment = segment
        self._codecs = codecs
        self._query = query

    def best_by_centroids(self, ordinals: Int64[Tensor, "videos"], wanted: int) -> Int64[Tensor, "survivors"]:
        """The videos of the largest fused centroid interaction, ascending.

        Every token stands at its centroid (PLAID's centroid interaction), and similarities are bytes: a video's score
        is the sum over bags and query tokens of the largest byte among its tokens.
        """
        if len(ordinals) <= wanted:
            return ordinals
        tables = self._query.tables(self._kernels, self._codecs)
        sums = torch.zeros(len(ordinals), dtype=torch.int32)
        for bag, codec in self._codecs.items():
            self._kernels.add_centroid_interaction(self._segment.bags[bag], ordinals, tables[codec], sums)
        return ordinals[self._kernels.largest(sums, wanted)]

    def best_by_rounded_scores(
        self, ordinals: Int64[Tensor, "videos"], wanted: int
    ) -> Int64[Tensor, "survivors"]:
        """The videos of the best scores on decoded tokens in rounded arithmetic, ascending."""
        if len(ordinals) <= wanted:
            return ordinals
        scores = torch.zeros(len(ordinals))
        for bag, codec in self._codecs.items():
            self._kernels.add_rounded_scores(
                self._segment.bags[bag],
                rounded_codec(codec),
                self._query.rounded(codec),
                self._query.products(self._kernels, codec).products,
                ordinals,
                scores,
            )
        return ordinals[scores.topk(wanted).indices.sort().values]

    def score(self, ordinals: Int64[Tensor, "videos"]) -> Scored:
        """MeanMaxSim of each video in each bag, on decoded tokens in single precision."""
        bags = {
            bag: self._kernels.exact_scores(
                self._segment.bags[bag], rounded_codec(codec), self._query.rounded(codec), ordinals
            )
            for bag, codec in self._codecs.items()
        }
        return Scored(ordinals, bags, torch.stack(list(bags.values())).sum(dim=0))
