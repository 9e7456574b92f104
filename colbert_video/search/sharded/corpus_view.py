"""What the shards of a corpus answer: each one that may hold results is asked, and the best of all are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import ShardsUnavailableError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.filters import compile_filter
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.searchable import Query, Searchable, SearchSettings
from colbert_video.search.sharded.catalogs import CorpusCatalogs
from colbert_video.search.sharded.shard import plain
from colbert_video.search.sharded.sharded_hits import (
    ClusterHits,
    ClusterRanking,
    merge_hits,
    merge_scores,
)

Answers = tuple[dict[int, Any], tuple[str, ...]]
"""What the asked shards answered, by their numbers, and the names of those that did not answer."""


@dataclass(frozen=True)
class CorpusView(Searchable[ClusterHits, ClusterRanking]):
    """A sharded corpus as searches see it."""

    catalogs: CorpusCatalogs
    """Which shard holds a video."""
    shards: int
    """How many there are."""
    ask: Callable[[str, Mapping[int, tuple[Any, ...]]], Answers]
    """Calls a method of some shards, given with its arguments by the shards' numbers."""
    deadline: float | None
    """Seconds after which shards are given up, for errors."""

    @property
    def settings(self) -> IndexSettings:
        """How the shards were made."""
        return self.catalogs.settings

    def hits(self, query: Query, wanted: SearchSettings) -> ClusterHits:
        """The best hits of all shards.

        Raises:
            SettingsError: If the filter is not valid, or no shard holds one of the ids.
            ShardsUnavailableError: If not one shard answered in time.
        """
        answers, failed = self._answers("hits", query, self._wanted_of_each(wanted))
        return ClusterHits(merge_hits(answers, wanted.k), failed)

    def ranking(
        self, queries: Mapping[str, Float[Tensor, "_ dim"]], wanted: SearchSettings
    ) -> ClusterRanking:
        """As `hits`, for query tokens by query id, without moments; one query after the other."""
        each = self._wanted_of_each(wanted)
        rows, missing = {}, {}
        for name, tokens in queries.items():
            answers, failed = self._answers("scores", PreparedQuery(tokens), each)
            rows[name] = merge_scores(answers, wanted.k)
            if failed:
                missing[name] = failed
        return ClusterRanking(rows, missing)

    def similarities_of(
        self, video_id: str, query: PreparedQuery
    ) -> tuple[VideoEntry, Mapping[str, Float[Tensor, "query_tokens _"]]]:
        """What the shard that holds a video says of it.

        Raises:
            SettingsError: If no shard holds the video.
            ShardsUnavailableError: If its shard did not answer in time.
        """
        holders = self.catalogs.holders([video_id])
        answers, failed = self.ask("similarities", dict.fromkeys(holders, (plain(query), video_id)))
        if not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        entry, similarities = next(iter(answers.values()))
        return entry, {bag: torch.tensor(own) for bag, own in similarities.items()}

    def _wanted_of_each(self, wanted: SearchSettings) -> dict[int, SearchSettings]:
        """What each shard that may hold results is asked for, by its number."""
        if wanted.where is not None:
            compile_filter(wanted.where)  # refused here, once
        if wanted.ids is None:
            return dict.fromkeys(range(self.shards), wanted)
        holders = self.catalogs.holders(wanted.ids)
        return {number: replace(wanted, ids=own) for number, own in holders.items()}

    def _answers(
        self, method: str, query: Query, each: Mapping[int, SearchSettings]
    ) -> tuple[list[Any], tuple[str, ...]]:
        """Ask the shards; return their answers in their order, and who did not answer."""
        tokens = plain(query)
        answers, failed = self.ask(method, {number: (tokens, own) for number, own in each.items()})
        if each and not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        return [answers[number] for number in sorted(answers)], failed
