"""One shard as those who ask it see it: an open index that takes encoded queries and needs no model."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.hit import Hit
from colbert_video.search.opened import OpenedIndex, open_view
from colbert_video.search.searchable import Query, SearchSettings
from colbert_video.search.view import SearchView

Tokens = Float[np.ndarray, "query_tokens dim"] | Mapping[str, Float[np.ndarray, "_ dim"]]
"""Query tokens for all bags, or those of each bag that is to be scored."""
Similarities = Mapping[str, Float[np.ndarray, "query_tokens _"]]
"""Every query token against every token of a video, by bag."""


class Shard(OpenedIndex):
    """An open shard; safe to share between threads.

    Args:
        path: The shard's folder.
        device: A GPU that keeps the shard and scores on it; None to leave it on disk.
        preload: Ask the system to read its files ahead; see `Searcher`.

    Raises:
        IndexFolderError: If it is not finished, or damaged.
    """

    def __init__(
        self, path: str | Path, *, device: str | torch.device | None = None, preload: bool = False
    ) -> None:
        super().__init__(path, partial(open_view, Path(path), device=device, engine="native", plaid=None))
        if preload:
            self.preload()

    def hits(self, tokens: Tokens, wanted: SearchSettings) -> list[Hit]:
        """The shard's best hits for scored query tokens; of the wanted ids, those that it does not hold are ignored."""
        with self._view() as view:
            return list(view.hits(prepared(tokens), _present(view, wanted)))

    def scores(self, tokens: Tokens, wanted: SearchSettings) -> list[tuple[str, float]]:
        """As `hits`, the best videos and their scores, without looking for moments."""
        with self._view() as view:
            return view.scores(prepared(tokens), wanted, view.allowed(_present(view, wanted)))

    def similarities(
        self, tokens: Float[np.ndarray, "query_tokens dim"], video_id: str
    ) -> tuple[VideoEntry, Similarities]:
        """Every query token against every token of one video of this shard, or of its best window."""
        with self._view() as view:
            entry, found = view.similarities_of(video_id, PreparedQuery(torch.tensor(tokens)))
        return entry, {bag: similarity.numpy() for bag, similarity in found.items()}


def _present(view: SearchView, wanted: SearchSettings) -> SearchSettings:
    return wanted if wanted.ids is None else replace(wanted, ids=view.reader.present(wanted.ids))


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
