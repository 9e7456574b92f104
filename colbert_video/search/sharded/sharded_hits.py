"""What a search over shards gives back, and how the best of all shards are chosen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import SupportsIndex, overload

import torch

from colbert_video.model.interaction import best_first
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.ranking import Ranking, Row


class ClusterHits(Hits):
    """The best hits of the shards that answered, best first.

    Args:
        hits: The hits.
        shards_failed: Names of the shards that did not answer; what they hold is missing. Empty for a complete answer.
    """

    def __init__(self, hits: Iterable[Hit] = (), shards_failed: Sequence[str] = ()) -> None:
        super().__init__(hits)
        self.shards_failed = tuple(shards_failed)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> "ClusterHits": ...

    def __getitem__(self, place: SupportsIndex | slice) -> "Hit | ClusterHits":
        """One hit, or those of a slice, which are as complete as all."""
        if isinstance(place, slice):
            return ClusterHits(list(self)[place], self.shards_failed)
        return super().__getitem__(place)


class ClusterRanking(Ranking):
    """A ranking of many queries by the shards that answered.

    Args:
        rows: (video id, rank, score) by query id.
        shards_failed: Names of the shards that did not answer, by query id; queries with complete answers are left out.
    """

    def __init__(
        self, rows: Mapping[str, list[Row]], shards_failed: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        super().__init__(rows)
        self.shards_failed = dict(shards_failed or {})


def merge_hits(answers: Iterable[Sequence[Hit]], k: int) -> list[Hit]:
    """The k best hits of all shards, ranked again.

    Tied scores stay in the order of the shards, and within one in its own: for shards that were split from one index,
    that is the order in which the index ranks them.

    Args:
        answers: Each shard's k best hits, best first; in the order of the shards.
        k: Hits wanted.
    """
    every = [hit for answer in answers for hit in answer]
    best = best_first(torch.tensor([hit.score for hit in every], dtype=torch.float64), k)
    return [replace(every[row], rank=rank) for rank, row in enumerate(best.tolist(), start=1)]


def merge_scores(answers: Iterable[Sequence[tuple[str, float]]], k: int) -> list[Row]:
    """As `merge_hits`, for ids with their scores."""
    every = [row for answer in answers for row in answer]
    best = best_first(torch.tensor([score for _, score in every], dtype=torch.float64), k)
    return [(every[row][0], rank, every[row][1]) for rank, row in enumerate(best.tolist(), start=1)]
