"""One commit of an index, as searches see it: its segments, and the engine that scores them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from colbert_video.base.checks import id_list, real_number, truth_value, whole_number
from colbert_video.base.threads import spread
from colbert_video.durable import RESTORE
from colbert_video.errors import IndexFolderError, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader, Masks
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import estimated_scores, score_videos, video_similarities
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.model.bags import FRAME_BAGS
from colbert_video.model.interaction import best_first
from colbert_video.search.confidence import perfect_score, sample_positions, with_confidence
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.moments import frame_relevance, further_moments, item_moment
from colbert_video.search.ranking import Ranking
from colbert_video.video.windows import SHOTS

ITEMS_PER_VIDEO = 4
"""Windows fetched for each wanted video; more if they belong to fewer videos."""
MIN_CANDIDATES = 100
"""Videos that each bag proposes at least, if there are as many."""
CANDIDATES_PER_RESULT = 10
"""Videos that each bag proposes for each wanted result."""

Query = PreparedQuery | Mapping[str, PreparedQuery]
"""The same query tokens for all bags, or those of each bag that is to be scored."""
Similarities = Mapping[str, Float[np.ndarray, "query_tokens _"]]
"""Cosines by bag: every query token with each sampled frame, then with expansion tokens."""


@dataclass(frozen=True)
class SearchSettings:
    """How many videos are wanted, and among which; see `Searcher.search`."""

    k: int
    where: Mapping[str, Any] | None = None
    ids: Iterable[str] | None = None
    exact: bool = False
    group: bool = True
    weights: Mapping[str, float] | None = None
    """How much each bag counts that is looked at, as `IndexSettings.weights` gives it; None for the index's own."""
    threads: int = 1
    """Cores that may work on it."""
    min_confidence: float | None = None
    """Leave out hits whose `Hit.confidence` is lower."""

    def __post_init__(self) -> None:
        values: dict[str, Any] = {"k": whole_number("k", self.k, least=1)}
        values |= {name: truth_value(name, getattr(self, name)) for name in ("exact", "group")}
        if self.ids is not None:
            values["ids"] = id_list("ids", self.ids)
        if self.min_confidence is not None:
            values["min_confidence"] = real_number("min_confidence", self.min_confidence, least=0, most=1)
        for name, value in values.items():
            object.__setattr__(self, name, value)


@runtime_checkable
class Searchable(Protocol):
    """One state of an index or of a sharded corpus."""

    @property
    def settings(self) -> IndexSettings:
        """Settings of the index, for which queries are encoded."""

    @property
    def version(self) -> int:
        """Number of the commit, or the sum of those of all shards."""

    def hits(self, query: Query, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments."""

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"]], wanted: SearchSettings) -> Ranking:
        """Rank videos for query tokens by query id, without looking for moments."""

    def similarities(
        self, video_id: str, query: PreparedQuery, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of a video, or of its best window, in the bags with weights.

        See `Searcher.explain`.

        Raises:
            SettingsError: If the video is not there.
        """


@dataclass(frozen=True)
class Match:
    """A scored item: a video that was indexed whole, or a window of one."""

    item: VideoEntry
    segment: Segment
    row: int
    """Row in the segment."""
    score: float
    """Weighted sum of its bags' scores."""
    bags: Mapping[str, float]
    """MeanMaxSim in each bag."""


@dataclass(frozen=True)
class SearchView:
    """One commit of an index, with what searches its segments."""

    reader: IndexReader
    search_segment: Callable[..., Scored]
    """`scan.search_segment`, or an engine's method of the same form."""
    estimate: Callable[..., Float[Tensor, "_"]] = estimated_scores
    """`scan.estimated_scores`, or an engine's method of the same form."""
    spreads: bool = True
    """True if queries are answered by one core each; False where a query takes all of them, or a GPU."""

    @property
    def settings(self) -> IndexSettings:
        """Settings of the index."""
        return self.reader.settings

    @property
    def version(self) -> int:
        """Number of the commit."""
        return self.reader.version

    def hits(self, query: Query, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments."""
        weights, hits = self._weights(wanted), self.found(query, wanted)
        sample = self.sampled_scores(query, weights, sample_positions(self.reader.items)) if hits else []
        return with_confidence(hits, sample, perfect_score(query, weights), wanted.min_confidence)

    def found(self, query: Query, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments, without their confidence."""
        found = self._best_videos(query, wanted, self.allowed(wanted))
        ranked = enumerate(found, start=1)
        hits = (self._hit(matches, query, wanted, rank=rank) for rank, matches in ranked)
        return Hits(hits, video_stream=self.settings.video_stream, bag_weights=self._weights(wanted))

    def sampled_scores(self, query: Query, weights: Mapping[str, float], positions: tuple[int, ...]) -> list[float]:
        """Return about what the live videos or windows at some positions score, in no order.

        Args:
            query: The query.
            weights: How much each bag counts.
            positions: Which, counted over all that are live, ascending; those that are not there are left out.
        """
        sampled = self.reader.masks_at(positions)
        segments = (segment for segment in self.reader.segments if segment.name in sampled)
        return [
            score
            for segment in segments
            for score in self._estimates(segment, query, weights, sampled[segment.name]).tolist()
        ]

    def _estimates(
        self, segment: Segment, query: Query, weights: Mapping[str, float], allowed: Bool[Tensor, "videos"]
    ) -> Float[Tensor, "_"]:
        codecs = self._looked_at(segment, weights)
        if isinstance(query, PreparedQuery):
            return self.estimate(segment, codecs, query, allowed, weights=weights)
        bags = [self.estimate(segment, {bag: codecs[bag]}, own, allowed, weights=weights) for bag, own in query.items()]
        return torch.stack(bags).sum(dim=0)

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"]], wanted: SearchSettings) -> Ranking:
        """Rank videos for query tokens by query id, without looking for moments; queries are spread over the cores."""
        allowed = self.allowed(wanted)
        each = replace(wanted, threads=max(1, wanted.threads // len(queries)))

        def scores(tokens: Float[Tensor, "_ dim"]) -> list[tuple[str, float]]:
            return self.scores(PreparedQuery(tokens), each, allowed)

        found = spread(scores, queries.values(), threads=wanted.threads if self.spreads else 1)
        return Ranking.from_scored(dict(zip(queries, found, strict=True)))

    def scores(self, query: Query, wanted: SearchSettings, allowed: Masks | None) -> list[tuple[str, float]]:
        """Return ids and scores of the best videos, best first."""
        return [(matches[0].item.video, matches[0].score) for matches in self._best_videos(query, wanted, allowed)]

    def allowed(self, wanted: SearchSettings) -> Masks | None:
        """Return masks of the items that may be found; None for all.

        Raises:
            SettingsError: If the filter is not valid, or an id is not in the index.
        """
        return self.reader.allowed(wanted.where, wanted.ids)

    def similarities(
        self, video_id: str, query: PreparedQuery, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of a video, or of its best window, in the bags with weights.

        See `Searcher.explain`.

        Raises:
            SettingsError: If it is not in the index.
        """
        items = self.reader.locate(video_id)
        if time is not None:
            least = min(_seconds_away(item, time) for _, _, item in items)
            items = [found for found in items if _seconds_away(found[2], time) == least]
        scores = torch.tensor(
            [self._score(segment, row, query, weights) for segment, row, _ in items], dtype=torch.float32, device="cpu"
        )  # (items,)
        segment, row, item = items[int(best_first(scores, 1))]
        return item, self._similarities(segment, row, item, query, weights)

    def _best_videos(self, query: Query, wanted: SearchSettings, allowed: Masks | None) -> list[list[Match]]:
        """Return the k best videos over all segments, best first: of each its windows that were fetched, best first.

        The best window of a video is its score, so the first k videos among the windows, best first, are the k best.
        Windows are fetched until they belong to k videos, or there are no more.
        """
        k = wanted.k
        if not wanted.group or not self.reader.windows:
            return [[match] for match in self._best_items(query, k, allowed, wanted)]
        fetched = ITEMS_PER_VIDEO * k
        while True:
            matches = self._best_items(query, fetched, allowed, wanted)
            videos: dict[str, list[Match]] = {}
            for match in matches:
                videos.setdefault(match.item.video, []).append(match)
            if len(videos) >= k or len(matches) < fetched:
                return list(videos.values())[:k]
            fetched *= ITEMS_PER_VIDEO

    def _best_items(self, query: Query, k: int, allowed: Masks | None, wanted: SearchSettings) -> list[Match]:
        """Return the k best items, best first; segments without allowed items cost nothing."""
        weights, exact, threads = self._weights(wanted), wanted.exact, wanted.threads
        scored = [
            found
            for segment in self.reader.segments
            if allowed is None or segment.name in allowed
            for found in self._best_rows(
                segment, query, weights, k=k, allowed=allowed and allowed[segment.name], exact=exact, threads=threads
            )
        ]
        order = best_first(torch.tensor([score for score, *_ in scored], dtype=torch.float64, device="cpu"), k)
        best = [scored[position] for position in order.tolist()]
        items = self.reader.entries_of((segment.name, row) for _, _, segment, row in best)
        return [Match(items[segment.name, row], segment, row, score, bags) for score, bags, segment, row in best]

    def _best_rows(
        self, segment: Segment, query: Query, weights: Mapping[str, float], **settings: Any
    ) -> Iterator[tuple[float, dict[str, float], Segment, int]]:
        codecs = self._looked_at(segment, weights)
        if isinstance(query, PreparedQuery):
            scored = self.search_segment(segment, codecs, query, weights=weights, **settings)
        else:
            scored = search_bagwise(self.search_segment, segment, codecs, query, weights=weights, **settings)
        columns = (scores.tolist() for scores in (scored.total, scored.rows, *scored.bags.values()))
        for total, row, *bags in zip(*columns, strict=True):
            yield total, dict(zip(scored.bags, bags, strict=True)), segment, row

    def _weights(self, wanted: SearchSettings) -> Mapping[str, float]:
        return self.settings.weights() if wanted.weights is None else wanted.weights

    def _looked_at(self, segment: Segment, weights: Mapping[str, float]) -> dict[str, ResidualCodec]:
        """Return the codecs of the bags that count."""
        return {bag: codec for bag, codec in self.reader.codecs(segment).items() if bag in weights}

    def _hit(self, matches: Sequence[Match], query: Query, wanted: SearchSettings, *, rank: int) -> Hit:
        """Return a video, or those of its windows that were found, best first, as one hit."""
        best, item, weights = matches[0], matches[0].item, self._weights(wanted)
        start, end = self._moment(best, query, weights)
        others = ((self._moment(match, query, weights), match.score, match.item.id) for match in matches[1:])
        return Hit(
            rank=rank,
            id=item.video if wanted.group else item.id,
            score=best.score,
            frame_score=best.bags.get("frame"),
            video_score=best.bags.get("video"),
            start=start,
            end=end,
            path=item.path,
            metadata=item.metadata,
            parent=item.parent,
            window=None if item.parent is None else item.id,
            moments=further_moments((start, end), others),
            bag_scores=best.bags,
        )

    def _moment(self, match: Match, query: Query, weights: Mapping[str, float]) -> tuple[float | None, float | None]:
        """Return the frames that the query's tokens agree on, over its bags, as [start, end) in seconds."""

        def relevance() -> Float[np.ndarray, "frames"] | None:
            similarities = self._similarities(match.segment, match.row, match.item, query, weights)
            padding = query.padding if isinstance(query, PreparedQuery) else ()
            return frame_relevance(similarities, len(match.item.frame_times), weights, padding)

        return item_moment(match.item, relevance, shots=self.settings.window == SHOTS)

    def _similarities(
        self, segment: Segment, row: int, item: VideoEntry, query: Query, weights: Mapping[str, float]
    ) -> Similarities:
        return {
            bag: _frame_by_frame(bag, video_similarities(segment, codec, bag, own, row), item).numpy()
            for bag, codec in self._looked_at(segment, weights).items()
            if (own := query if isinstance(query, PreparedQuery) else query.get(bag)) is not None
        }

    def _score(self, segment: Segment, row: int, query: PreparedQuery, weights: Mapping[str, float]) -> float:
        rows = segment.live.new_tensor([row], dtype=torch.int64)
        return float(score_videos(segment, self._looked_at(segment, weights), query, rows, weights=weights).total[0])


def _seconds_away(item: VideoEntry, time: float) -> float:
    """Return how far a time is from a video or window [start, end), in seconds; 0 within it.

    Its end is no part of it, and counts as farther than the begin of a window that starts there.
    """
    start, end = item.start or 0.0, math.inf if item.end is None else item.end
    return start - time if time < start else 0.0 if time < end else math.nextafter(time - end, math.inf)


def _frame_by_frame(
    bag: str, similarity: Float[Tensor, "query_tokens tokens"], item: VideoEntry
) -> Float[Tensor, "query_tokens _"]:
    """Return the similarities with every frame, also where several share a token; those of a bag without frames as they are.

    Raises:
        IndexFolderError: If the catalog names tokens that the segment lacks.
    """
    if bag not in FRAME_BAGS or not item.frame_tokens:
        return similarity
    count = max(item.frame_tokens) + 1
    if count > similarity.shape[1]:
        raise IndexFolderError(
            f"the catalog says that video {shown(item.id)} has {count} frame tokens, its segment has "
            f"{similarity.shape[1]} tokens; {RESTORE}."
        )
    return torch.cat([similarity[:, list(item.frame_tokens)], similarity[:, count:]], dim=1)


def search_bagwise(
    search_segment: Callable[..., Scored],
    segment: Segment,
    codecs: Mapping[str, ResidualCodec],
    queries: Mapping[str, PreparedQuery],
    *,
    k: int,
    allowed: Bool[Tensor, "videos"] | None,
    exact: bool,
    threads: int = 1,
    weights: Mapping[str, float] | None = None,
) -> Scored:
    """Return the k best videos of a segment, best first, for a query that differs from bag to bag.

    Each bag proposes videos, and all of them are scored in every bag.

    Args:
        search_segment: `scan.search_segment`, or an engine's method of the same form.
        segment: Where to look.
        codecs: The codec of each bag.
        queries: The query tokens of each bag to score; weighted MeanMaxSims of these bags are summed.
        k: Results wanted.
        allowed: True for videos that may be found; None for all live ones.
        exact: True to score every allowed video on its decoded tokens.
        threads: Cores that may work on it.
        weights: How much each bag counts; None if all count once.
    """
    settings: dict[str, Any] = {"exact": exact, "threads": threads}
    proposed = torch.zeros(len(segment), dtype=torch.bool, device="cpu")
    wanted = len(segment) if exact else max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * k)
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=wanted, allowed=allowed, **settings)
        if len(queries) == 1:
            return Scored.from_bags(found.rows, found.bags, weights).best(k)
        proposed[found.rows] = True
    rows, scores = proposed.nonzero().flatten(), {}  # (candidates,), by bag
    for bag, query in queries.items():
        found = search_segment(segment, {bag: codecs[bag]}, query, k=len(rows), allowed=proposed, **settings)
        scores[bag] = found.total[found.rows.argsort()]  # (candidates,), in the order of `rows`
    return Scored.from_bags(rows, scores, weights).best(k)
