"""An index as searches see it: the segments of one commit, and the engine that scores them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader, Masks
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import score_videos, video_similarities
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.model.interaction import best_first
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.moments import Span, frame_relevance, further_moments, item_moment
from colbert_video.search.ranking import Ranking
from colbert_video.search.searchable import Query, Searchable, SearchSettings
from colbert_video.video.windows import SHOTS

ROWS_PER_VIDEO = 4
"""Windows fetched for each wanted video; more if they belong to fewer videos."""
MIN_CANDIDATES = 100
"""Videos that each bag proposes at least, if there are as many."""
CANDIDATES_PER_RESULT = 10
"""Videos that each bag proposes for each wanted result."""


@dataclass(frozen=True)
class Found:
    """A scored video or window."""

    score: float
    """Sum of its bags' scores."""
    bags: Mapping[str, float]
    """MeanMaxSim in each bag."""
    segment: Segment
    """Where its tokens are."""
    ordinal: int
    """Its place there."""


Row = tuple[Found, VideoEntry]
"""What was found, with its catalog row."""


@dataclass(frozen=True)
class SearchView(Searchable[Hits, Ranking]):
    """One commit of an index and what searches it."""

    reader: IndexReader
    """The index."""
    search_segment: Callable[..., Scored]
    """`scan.search_segment`, or an engine's method of the same form."""

    @property
    def version(self) -> int:
        """Number of the commit."""
        return self.reader.version

    @property
    def settings(self) -> IndexSettings:
        """How the index was made."""
        return self.reader.settings

    def close(self) -> None:
        """Close the index's files."""
        self.reader.close()

    def hits(self, query: Query, wanted: SearchSettings) -> Hits:
        """Search, and say of each result what it is and where its best moment lies."""
        best = self._best(query, wanted, self.allowed(wanted))
        return Hits(
            self._hit(rows, query, rank=rank, group=wanted.group) for rank, rows in enumerate(best, start=1)
        )

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"]], wanted: SearchSettings) -> Ranking:
        """Search for query tokens by query id, without looking for moments."""
        allowed = self.allowed(wanted)
        return Ranking.from_scored(
            {name: self.scores(PreparedQuery(tokens), wanted, allowed) for name, tokens in queries.items()}
        )

    def scores(self, query: Query, wanted: SearchSettings, allowed: Masks | None) -> list[tuple[str, float]]:
        """The best videos and their scores, best first, without looking for moments."""
        return [(rows[0][1].video, rows[0][0].score) for rows in self._best(query, wanted, allowed)]

    def allowed(self, wanted: SearchSettings) -> Masks | None:
        """Which videos and windows may be found; None for all.

        Raises:
            SettingsError: If the filter is not valid, or an id is not in the index.
        """
        return self.reader.allowed(wanted.where, wanted.ids)

    def _best(self, query: Query, wanted: SearchSettings, allowed: Masks | None) -> list[list[Row]]:
        """The k best videos over all segments, best first.

        The best window of a video is its score, so the first k videos among the windows, best first, are the k best.
        Windows are fetched until they belong to k videos, or there are no more.

        Args:
            query: What is looked for.
            wanted: How many videos, and whether the windows of one are one result; otherwise each is one.
            allowed: Which videos and windows may be found; segments that it leaves out cost nothing. None for all.

        Returns:
            For each video the windows that were fetched, best first; one row for a video that was indexed whole.
        """
        k = wanted.k
        if not wanted.group or not self.reader.windows:
            return [[row] for row in self._best_rows(query, k, allowed, wanted.exact)]
        fetched = ROWS_PER_VIDEO * k
        while True:
            rows = self._best_rows(query, fetched, allowed, wanted.exact)
            videos: dict[str, list[Row]] = {}
            for row in rows:
                videos.setdefault(row[1].video, []).append(row)
            if len(videos) >= k or len(rows) < fetched:
                return list(videos.values())[:k]
            fetched *= ROWS_PER_VIDEO

    def _best_rows(self, query: Query, k: int, allowed: Masks | None, exact: bool) -> list[Row]:
        found: list[Found] = []
        for segment in self.reader.segments:
            if allowed is not None and segment.name not in allowed:
                continue
            mask = None if allowed is None else allowed[segment.name]
            codecs = self.reader.codecs(segment)
            if isinstance(query, PreparedQuery):
                scored = self.search_segment(segment, codecs, query, k=k, allowed=mask, exact=exact)
            else:
                scored = search_bagwise(
                    self.search_segment, segment, codecs, query, k=k, allowed=mask, exact=exact
                )
            by_bag = zip(*(scores.tolist() for scores in scored.bags.values()), strict=True)
            totals, ordinals = scored.total.tolist(), scored.ordinals.tolist()
            for total, ordinal, scores in zip(totals, ordinals, by_bag, strict=True):
                found.append(Found(total, dict(zip(scored.bags, scores, strict=True)), segment, ordinal))
        ranked = best_first(torch.tensor([video.score for video in found], dtype=torch.float64), k)
        best = [found[row] for row in ranked.tolist()]
        places = [(video.segment.name, video.ordinal) for video in best]
        entries = self.reader.entries_of(places)
        return [(video, entries[place]) for video, place in zip(best, places, strict=True)]

    def _hit(self, rows: Sequence[Row], query: Query, *, rank: int, group: bool) -> Hit:
        """One result: a video, or those of its windows that were found, best first."""
        video, entry = rows[0]
        start, end = self._moment(video, entry, query)
        return Hit(
            rank=rank,
            id=entry.video if group else entry.id,
            score=video.score,
            frame_score=video.bags.get("frame"),
            video_score=video.bags.get("video"),
            start=start,
            end=end,
            path=entry.path,
            metadata=entry.metadata,
            parent=entry.parent,
            moments=further_moments(
                (start, end), ((self._moment(*row, query), row[0].score) for row in rows[1:])
            ),
        )

    def _moment(self, video: Found, entry: VideoEntry, query: Query) -> Span:
        """The frames that the query's tokens agree on, over its bags, as [start, end) in seconds."""

        def relevance() -> Float[np.ndarray, "frames"]:
            similarities = self._similarities(video.segment, video.ordinal, entry, query).values()
            return frame_relevance((bag.numpy() for bag in similarities), len(entry.frame_times))

        return item_moment(entry, relevance, shots=self.settings.window == SHOTS)

    def _similarities(
        self, segment: Segment, ordinal: int, entry: VideoEntry, query: Query
    ) -> dict[str, Float[Tensor, "query_tokens _"]]:
        """Every query token against every frame of one video or window, then against expansion tokens, by bag."""
        return {
            bag: _frame_by_frame(video_similarities(segment, codec, bag, own, ordinal), entry)
            for bag, codec in self.reader.codecs(segment).items()
            if (own := query if isinstance(query, PreparedQuery) else query.get(bag)) is not None
        }

    def similarities_of(
        self, video_id: str, query: PreparedQuery
    ) -> tuple[VideoEntry, Mapping[str, Float[Tensor, "query_tokens _"]]]:
        """The catalog row of a video, or of its window of the highest score, and every query token against its tokens.

        Raises:
            SettingsError: If it is not in the index.
        """
        places = self.reader.locate(video_id)
        scores = torch.tensor([self._score(segment, ordinal, query) for segment, ordinal, _ in places])
        segment, ordinal, entry = places[int(best_first(scores, 1))]
        return entry, self._similarities(segment, ordinal, entry, query)

    def _score(self, segment: Segment, ordinal: int, query: PreparedQuery) -> float:
        place = segment.live.new_tensor([ordinal], dtype=torch.int64)
        return float(score_videos(segment, self.reader.codecs(segment), query, place).total[0])


def _frame_by_frame(
    similarity: Float[Tensor, "query_tokens tokens"], entry: VideoEntry
) -> Float[Tensor, "query_tokens _"]:
    """Similarities with every frame, also where several share a token.

    Raises:
        IndexFolderError: If the catalog names tokens that the segment lacks.
    """
    count = max(entry.frame_tokens) + 1 if entry.frame_tokens else len(entry.frame_times)
    if count > similarity.shape[1]:
        raise IndexFolderError(
            f"the catalog says that video {entry.id!r} has {count} frame tokens, its segment has {similarity.shape[1]} "
            "tokens; rebuild the index."
        )
    if not entry.frame_tokens:
        return similarity
    return torch.cat([similarity[:, list(entry.frame_tokens)], similarity[:, count:]], dim=1)


def search_bagwise(
    search_segment: Callable[..., Scored],
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    queries: Mapping[str, PreparedQuery],
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None,
    exact: bool,
) -> Scored:
    """Find the k best videos of a segment for a query that differs from bag to bag.

    Args:
        search_segment: `scan.search_segment`, or an engine's method of the same form.
        segment: Where to look.
        codecs: The codec of each bag.
        queries: The query tokens of each bag to score; MeanMaxSims of these bags are summed.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: Score every allowed video on its decoded tokens.

    Returns:
        At most k videos, best first.
    """
    proposed = torch.zeros(len(segment), dtype=torch.bool)
    wanted = len(segment) if exact else max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * k)
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=wanted, allowed=allowed, exact=exact)
        if len(queries) == 1:
            return found.best(k)
        proposed[found.ordinals] = True
    ordinals, scores = proposed.nonzero().flatten(), {}
    for bag, query in queries.items():
        found = search_segment(
            segment, {bag: codecs[bag]}, query, k=len(ordinals), allowed=proposed, exact=exact
        )
        scores[bag] = found.total[found.ordinals.argsort()]  # (videos,), in the order of `ordinals`
    return Scored.from_bags(ordinals, scores).best(k)
