"""One shard, as the searchers of a corpus ask it: an open index that takes encoded queries and needs no model."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.asking.encoded_question import AnyQuery, EncodedQuestion, Query
from colbert_video.search.asking.exclusions import PartScores
from colbert_video.search.asking.likeness import Time
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.hit import Moment
from colbert_video.search.hits import Hits
from colbert_video.search.opened import OpenIndex
from colbert_video.search.view import SearchView, Similarities


class Shard(OpenIndex):
    """An open shard; arguments as for `OpenIndex`."""

    def hits(
        self, query: AnyQuery, wanted: SearchSettings | None, weights: Mapping[str, float], positions: tuple[int, ...]
    ) -> tuple[Hits, list[float]]:
        """Return the shard's best hits, and what the sample of the corpus scores that it holds.

        Args:
            query: The query.
            wanted: Which hits; None for none. Of the wanted ids, those that the shard does not hold are ignored.
            weights: How much each bag counts in the sample's scores.
            positions: Which of the shard's videos or windows belong to the sample, see `SearchView.sampled_scores`; none
                where their scores are known.
        """
        with self.view() as view:
            hits = Hits() if wanted is None else view.found(query, _present(view, wanted))
            return hits, view.sampled_scores(query, weights, positions)

    def spoken(self, expression: str, wanted: SearchSettings) -> Hits:
        """Return the shard's best hits by its lines of text; of the wanted ids, as `hits`."""
        with self.view() as view:
            return view.spoken(expression, _present(view, wanted))

    def part_scores(
        self, question: EncodedQuestion, weights: Mapping[str, float], positions: tuple[int, ...]
    ) -> PartScores:
        """Return what the shard's part of the corpus's sample scores by a question and by what it excludes."""
        with self.view() as view:
            return view.part_scores(question, weights, positions)

    def scores(self, query: AnyQuery, wanted: SearchSettings) -> list[tuple[str, float]]:
        """Return ids and scores of the shard's best videos, best first; of the wanted ids, as `hits`."""
        with self.view() as view:
            return view.scores(query, wanted, view.allowed(_present(view, wanted)))

    def similarities(
        self, video_id: str, query: Query, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of one video of this shard, or of its best window, in the bags of weights."""
        with self.view() as view:
            return view.similarities(video_id, query, weights, time)

    def likeness(
        self, video_id: str, weights: Mapping[str, float], time: Time | None = None
    ) -> tuple[str, dict[str, Float[np.ndarray, "_ dim"]]]:
        """Return the stored tokens of one video of this shard; see `SearchView.likeness`."""
        with self.view() as view:
            return view.likeness(video_id, weights, time)

    def occurrences(self, video_id: str, query: Query, weights: Mapping[str, float]) -> list[Moment]:
        """Return every part of one video of this shard where a query is met."""
        with self.view() as view:
            return view.occurrences(video_id, query, weights)


def _present(view: SearchView, wanted: SearchSettings) -> SearchSettings:
    return wanted if wanted.ids is None else replace(wanted, ids=view.reader.present(wanted.ids))
