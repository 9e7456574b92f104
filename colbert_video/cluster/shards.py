"""One shard as those who ask it see it: an open index that takes encoded queries and needs no model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from colbert_video.hits import Hit
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.opened_index import OpenedIndex
from colbert_video.view import Query, SearchView

Tokens = Float[np.ndarray, "query_tokens dim"] | Mapping[str, Float[np.ndarray, "_ dim"]]
"""Query tokens for all bags, or those of each bag that is to be scored."""
Similarities = Mapping[str, Float[np.ndarray, "query_tokens _"]]
"""Every query token against every token of a video, by bag."""


@dataclass(frozen=True, eq=False)
class ShardQuery:
    """A query on its way to a shard: a few kilobytes of plain values. All but the tokens are as in `Searcher.search`."""

    tokens: Tokens
    """Scored query tokens, unit vectors, not rotated."""
    k: int
    """Hits wanted."""
    where: Mapping[str, Any] | None = None
    """A filter on metadata."""
    ids: tuple[str, ...] | None = None
    """The only videos of this shard that may be found; those that it does not hold any more are ignored."""
    exact: bool = False
    """Whether every eligible video is scored on its decoded tokens."""
    group: bool = True
    """Whether windows of a video are one hit."""


class Shard(OpenedIndex):
    """An open shard; safe to share between threads."""

    def hits(self, query: ShardQuery) -> list[Hit]:
        """The shard's best hits."""
        with self._view() as view:
            found = view.hits(
                prepared(query.tokens),
                query.k,
                where=query.where,
                ids=_present(view, query.ids),
                exact=query.exact,
                group=query.group,
            )
        return list(found)

    def scores(self, query: ShardQuery) -> list[tuple[str, float]]:
        """The shard's best videos and their scores, without looking for moments."""
        with self._view() as view:
            allowed = view.reader.allowed(query.where, _present(view, query.ids))
            best = view.best(
                prepared(query.tokens), query.k, allowed=allowed, exact=query.exact, group=query.group
            )
        return [(rows[0][1].video, rows[0][0].score) for rows in best]

    def similarities(
        self, tokens: Float[np.ndarray, "query_tokens dim"], video_id: str
    ) -> tuple[VideoEntry, Similarities]:
        """Every query token against every token of one video of this shard, or of its best window."""
        query = PreparedQuery(torch.tensor(tokens))
        with self._view() as view:
            segment, ordinal, entry = view.best_window(video_id, query)
            found = view.similarities(segment, ordinal, entry, query)
        return entry, {bag: similarity.numpy() for bag, similarity in found.items()}


def _present(view: SearchView, ids: tuple[str, ...] | None) -> list[str] | None:
    return None if ids is None else view.reader.present(ids)


def plain(query: Query) -> Tokens:
    """The tokens of a query, as they travel."""
    if isinstance(query, PreparedQuery):
        return query.tokens.numpy()
    return {bag: own.tokens.numpy() for bag, own in query.items()}


def prepared(tokens: Tokens) -> Query:
    """A query that travelled, ready to be searched with."""
    if isinstance(tokens, np.ndarray):
        return PreparedQuery(torch.tensor(tokens))  # a copy: what travelled is read-only
    return {bag: PreparedQuery(torch.tensor(own)) for bag, own in tokens.items()}
