"""One shard, as the searchers of a corpus ask it: an open index that takes encoded queries and needs no model."""

from collections.abc import Mapping
from dataclasses import replace

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.hits import Hits
from colbert_video.search.opened import OpenIndex
from colbert_video.search.view import Query, SearchSettings, SearchView, Similarities


class Shard(OpenIndex):
    """An open shard; arguments as for `OpenIndex`."""

    def hits(
        self, query: Query, wanted: SearchSettings | None, weights: Mapping[str, float], positions: tuple[int, ...]
    ) -> tuple[Hits, list[float]]:
        """Return the shard's best hits, and what the sample of the corpus scores that it holds.

        Args:
            query: The query.
            wanted: Which hits; None for none. Of the wanted ids, those that the shard does not hold are ignored.
            weights: How much each bag counts in the sample's scores.
            positions: Which of the shard's videos or windows belong to the sample; see `SearchView.sampled_scores`.
        """
        with self.view() as view:
            hits = Hits() if wanted is None else view.found(query, _present(view, wanted))
            return hits, view.sampled_scores(query, weights, positions)

    def scores(self, query: Query, wanted: SearchSettings) -> list[tuple[str, float]]:
        """Return ids and scores of the shard's best videos, best first; of the wanted ids, as `hits`."""
        with self.view() as view:
            return view.scores(query, wanted, view.allowed(_present(view, wanted)))

    def similarities(
        self, video_id: str, query: PreparedQuery, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of one video of this shard, or of its best window, in the bags of weights."""
        with self.view() as view:
            return view.similarities(video_id, query, weights, time)


def _present(view: SearchView, wanted: SearchSettings) -> SearchSettings:
    return wanted if wanted.ids is None else replace(wanted, ids=view.reader.present(wanted.ids))
