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

    def hits(self, query: Query, wanted: SearchSettings) -> Hits:
        """Return the shard's best hits; of the wanted ids, those that it does not hold are ignored."""
        with self.view() as view:
            return view.hits(query, _present(view, wanted))

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
