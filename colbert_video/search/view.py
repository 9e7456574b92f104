"""One commit of an index, as searches see it: its segments, and the engine that scores them."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.base.threads import spread
from colbert_video.durable import RESTORE
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader, Masks
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import (
    estimated_scores,
    score_videos,
    search_segment,
    video_similarities,
    video_tokens,
)
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.model.bags import FRAME_BAGS
from colbert_video.model.interaction import best_first
from colbert_video.search.asking.bagwise import search_bagwise
from colbert_video.search.asking.composed import best_met, composed_hit, excluding, num_candidates
from colbert_video.search.asking.encoded_question import AnyQuery, EncodedQuestion, Query, of_bag, padding_by_bag
from colbert_video.search.asking.exclusions import PartScores, against_corpus, joined_samples, with_usual_scores
from colbert_video.search.asking.likeness import Time, bounded, middle_of, tokens_at
from colbert_video.search.asking.match import Match
from colbert_video.search.asking.occurrences import SearchedWindow, find_occurrences
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.asking.spoken import spoken_hits
from colbert_video.search.confidence import perfect_score, sample_positions, with_confidence
from colbert_video.search.hit import Hit, Moment
from colbert_video.search.hits import Hits
from colbert_video.search.moments import frame_relevance, further_moments, item_moment
from colbert_video.search.ranking import Ranking
from colbert_video.video.windows import SHOTS

ITEMS_PER_VIDEO = 4
"""Windows fetched for each wanted video; more if they belong to fewer videos."""

Similarities = Mapping[str, Float[np.ndarray, "query_tokens _"]]
"""Cosines by bag: every query token with each sampled frame, then with expansion tokens."""


@runtime_checkable
class Searchable(Protocol):
    """One state of an index or of a sharded corpus."""

    @property
    def settings(self) -> IndexSettings:
        """Settings of the index, for which queries are encoded."""

    @property
    def version(self) -> int:
        """Number of the commit, or the sum of those of all shards."""

    def hits(self, query: AnyQuery, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments."""

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"] | AnyQuery], wanted: SearchSettings) -> Ranking:
        """Rank videos for query tokens by query id, without looking for moments."""

    @property
    def has_lines(self) -> bool:
        """True if some video has lines of text."""

    def spoken(self, expression: str, wanted: SearchSettings) -> Hits:
        """Find the best videos by their lines of text; `expression` is that of a `SpokenQuery`."""

    def similarities(
        self, video_id: str, query: Query, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of a video, or of its best window, in the bags with weights.

        See `Searcher.explain`.

        Raises:
            SettingsError: If the video is not there.
        """

    def likeness(
        self, video_id: str, weights: Mapping[str, float], time: Time | None = None
    ) -> tuple[str, dict[str, Float[np.ndarray, "_ dim"]]]:
        """Return the id of a whole video, and the stored tokens of it, or of a moment of it, by bag that counts."""

    def occurrences(self, video_id: str, query: Query, weights: Mapping[str, float]) -> list[Moment]:
        """Return every part of a video where a query is met."""


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

    def hits(self, query: AnyQuery, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments."""
        weights, positions = self.weights(wanted), sample_positions(self.reader.items)
        sample = None
        if isinstance(query, EncodedQuestion) and query.without:
            query, sample = against_corpus(query, self.part_scores(query, weights, positions))
        hits = self.found(query, wanted)
        if sample is None:
            sample = self.sampled_scores(query, weights, positions) if hits else []
        return with_confidence(hits, sample, perfect_score(query, weights), wanted.min_confidence)

    def found(self, query: AnyQuery, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments, without their confidence."""
        allowed, query = self.allowed(wanted), self._knowing_usual_scores(query, wanted)
        if isinstance(query, EncodedQuestion) and len(query.parts) > 1:
            met = enumerate(best_met(self, query, wanted, allowed), start=1)
            hits = (composed_hit(self, query, own, wanted, rank=rank) for rank, own in met)
        else:
            ranked = enumerate(self.best_videos(query, wanted, allowed), start=1)
            hits = (self._hit(matches, query, wanted, rank=rank) for rank, matches in ranked)
        return Hits(hits, video_stream=self.settings.video_stream, bag_weights=self.weights(wanted))

    def part_scores(
        self, question: EncodedQuestion, weights: Mapping[str, float], positions: tuple[int, ...]
    ) -> PartScores:
        """Return what the live videos or windows at some positions score by a question and by what it excludes.

        Raises:
            SettingsError: If stock ColBERT scores, which answers plain queries alone.
        """
        self._check_native()
        shares = [weight / question.total_weight for _, weight in question.parts]
        parts = []
        for segment, rows in self.reader.rows_at(positions):
            met, without = (
                np.array([[total for total, _ in self._scored(segment, own, rows, weights)] for own, _ in queries])
                for queries in (question.parts, question.without)
            )  # (parts, videos), (excluded, videos)
            parts.append(np.concatenate([[np.array(shares) @ met], without]))
        return joined_samples(parts, len(question.without))

    def _knowing_usual_scores(self, query: AnyQuery, wanted: SearchSettings) -> AnyQuery:
        """Return a question that knows what usual videos score by its excluded texts; any other query as it is."""
        if not isinstance(query, EncodedQuestion) or not query.without or query.usual:
            return query
        sample = self.part_scores(query, self.weights(wanted), sample_positions(self.reader.items))
        return with_usual_scores(query, sample)

    def sampled_scores(self, query: AnyQuery, weights: Mapping[str, float], positions: tuple[int, ...]) -> list[float]:
        """Return about what the live videos or windows at some positions score, in no order.

        Args:
            query: The query.
            weights: How much each bag counts.
            positions: Which, counted over all that are live, ascending; those that are not there are left out.
        """
        return [
            score
            for segment, rows in self.reader.rows_at(positions)
            for score in self._estimates(segment, query, weights, rows).tolist()
        ]

    def _estimates(
        self, segment: Segment, query: AnyQuery, weights: Mapping[str, float], rows: Int64[Tensor, "videos"]
    ) -> Float[Tensor, "videos"]:
        """Return about what items score; by a question, if each is a video of its own and steps may be in any order."""
        codecs = self._looked_at(segment, weights)
        if isinstance(query, EncodedQuestion):
            parts = [weight * self._estimates(segment, own, weights, rows) for own, weight in query.parts]
            return torch.stack(parts).sum(dim=0) / query.total_weight
        if isinstance(query, PreparedQuery):
            return self.estimate(segment, codecs, query, rows, weights=weights)
        bags = [self.estimate(segment, {bag: codecs[bag]}, own, rows, weights=weights) for bag, own in query.items()]
        return torch.stack(bags).sum(dim=0)

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"] | AnyQuery], wanted: SearchSettings) -> Ranking:
        """Rank videos for query tokens by query id, without looking for moments; queries are spread over the cores."""
        allowed = self.allowed(wanted)
        each = replace(wanted, threads=max(1, wanted.threads // len(queries)))

        def scores(query: Float[Tensor, "_ dim"] | AnyQuery) -> list[tuple[str, float]]:
            return self.scores(prepared_query(query), each, allowed)

        found = spread(scores, queries.values(), threads=wanted.threads if self.spreads else 1)
        return Ranking.from_scored(dict(zip(queries, found, strict=True)))

    @property
    def has_lines(self) -> bool:
        """True if some video has lines of text."""
        return self.reader.has_lines

    def spoken(self, expression: str, wanted: SearchSettings) -> Hits:
        """Find the best videos by their lines of text."""
        return spoken_hits(self.reader, expression, wanted)

    def scores(self, query: AnyQuery, wanted: SearchSettings, allowed: Masks | None) -> list[tuple[str, float]]:
        """Return ids and scores of the best videos, best first."""
        query = self._knowing_usual_scores(query, wanted)
        if isinstance(query, EncodedQuestion) and len(query.parts) > 1:
            return [(met.video, met.score) for met in best_met(self, query, wanted, allowed)]
        return [(matches[0].item.video, matches[0].score) for matches in self.best_videos(query, wanted, allowed)]

    def allowed(self, wanted: SearchSettings) -> Masks | None:
        """Return masks of the items that may be found; None for all.

        Raises:
            SettingsError: If the filter is not valid, or an id is not in the index.
        """
        allowed = self.reader.allowed(wanted.where, wanted.ids, any_field=wanted.any_field)
        return allowed if wanted.excluded is None else self.reader.allowed_but(wanted.excluded, allowed)

    def similarities(
        self, video_id: str, query: Query, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Compare a query with all tokens of a video, or of its best window, in the bags with weights.

        See `Searcher.explain`.

        Raises:
            SettingsError: If it is not in the index.
        """
        items = self._located(video_id, time)
        scores = torch.tensor(
            [self._score(segment, row, query, weights) for segment, row, _ in items], dtype=torch.float32, device="cpu"
        )  # (items,)
        segment, row, item = items[int(best_first(scores, 1))]
        return item, self.frame_similarities(Match(item, segment, row, 0.0, {}), query, weights)

    def likeness(
        self, video_id: str, weights: Mapping[str, float], time: Time | None = None
    ) -> tuple[str, dict[str, Float[np.ndarray, "_ dim"]]]:
        """Return the id of a whole video, and the stored tokens of it, or of a moment of it, by bag that counts.

        See `Searcher.more_like`.

        Raises:
            SettingsError: If it is not in the index.
        """
        items = self._located(video_id, None if time is None else middle_of(time))
        if time is not None:
            items = [min(items, key=lambda found: abs(_middle(found[2]) - middle_of(time)))]
        bags: dict[str, list[Float[Tensor, "_ dim"]]] = {}
        for segment, row, item in items:
            for bag, codec in self._looked_at(segment, weights).items():
                bags.setdefault(bag, []).append(tokens_at(bag, video_tokens(segment, codec, bag, row), item, time))
        return items[0][2].video, {bag: tokens.numpy() for bag, tokens in bounded(bags).items()}

    def occurrences(self, video_id: str, query: Query, weights: Mapping[str, float]) -> list[Moment]:
        """Return every part of a video where a query is met; see `Searcher.occurrences`.

        Raises:
            SettingsError: If it is not in the index, or the index knows no times of it.
        """
        items = [Match(item, segment, row, 0.0, {}) for segment, row, item in self.reader.locate(video_id)]
        if all(match.item.end is None and not match.item.frame_times for match in items):
            raise SettingsError(f"the index knows no times of {shown(video_id)}, in which a query could be met.")
        scored = self.matches(query, items, SearchSettings(1, weights=weights))
        windows = [
            SearchedWindow(match.item, self.frame_similarities(match, query, weights), match.score) for match in scored
        ]
        return find_occurrences(windows, weights, padding_by_bag(query))

    def _located(self, video_id: str, time: float | None) -> list[tuple[Segment, int, VideoEntry]]:
        """Return a video, or its windows; only those that hold a time, if it is given, or are next to it."""
        items = self.reader.locate(video_id)
        if time is None:
            return items
        least = min(_seconds_away(item, time) for _, _, item in items)
        return [found for found in items if _seconds_away(found[2], time) == least]

    def best_videos(self, query: AnyQuery, wanted: SearchSettings, allowed: Masks | None) -> list[list[Match]]:
        """Return the k best videos over all segments, best first: of each its windows that were fetched, best first.

        The best window of a video is its score, so the first k videos among the windows, best first, are the k best.
        Windows are fetched until they belong to k videos, or there are no more.
        """
        k = wanted.k
        if not wanted.group or not self.reader.windows:
            return [[match] for match in self.best_items(query, k, allowed, wanted)]
        fetched = ITEMS_PER_VIDEO * k
        while True:
            matches = self.best_items(query, fetched, allowed, wanted)
            videos: dict[str, list[Match]] = {}
            for match in matches:
                videos.setdefault(match.item.video, []).append(match)
            if len(videos) >= k or len(matches) < fetched:
                return list(videos.values())[:k]
            fetched *= ITEMS_PER_VIDEO

    def best_items(self, query: AnyQuery, k: int, allowed: Masks | None, wanted: SearchSettings) -> list[Match]:
        """Return the k best items, best first; segments without allowed items cost nothing."""
        if isinstance(query, EncodedQuestion):
            ((main, _),) = query.parts
            count = sum(map(len, self.reader.segments)) if wanted.exact else num_candidates(k)
            matches = self.best_items(main, count, allowed, wanted)
            return excluding(self, query, matches, wanted)[:k]
        weights, exact, threads = self.weights(wanted), wanted.exact, wanted.threads
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

    def weights(self, wanted: SearchSettings) -> Mapping[str, float]:
        """Return how much each bag counts: what is wanted, else what the index says."""
        return self.settings.weights() if wanted.weights is None else wanted.weights

    def _looked_at(self, segment: Segment, weights: Mapping[str, float]) -> dict[str, ResidualCodec]:
        """Return the codecs of the bags that count."""
        return {bag: codec for bag, codec in self.reader.codecs(segment).items() if bag in weights}

    def _hit(self, matches: Sequence[Match], query: AnyQuery, wanted: SearchSettings, *, rank: int) -> Hit:
        """Return a video, or those of its windows that were found, best first, as one hit."""
        if isinstance(query, EncodedQuestion):
            ((query, _),) = query.parts
        best, item, weights = matches[0], matches[0].item, self.weights(wanted)
        start, end = self.moment(best, query, weights)
        others = ((self.moment(match, query, weights), match.score, match.item.id) for match in matches[1:])
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

    def moment(self, match: Match, query: Query, weights: Mapping[str, float]) -> tuple[float | None, float | None]:
        """Return the frames that the query's tokens agree on, over its bags, as [start, end) in seconds."""

        def relevance() -> Float[np.ndarray, "frames"] | None:
            similarities = self.frame_similarities(match, query, weights)
            return frame_relevance(similarities, len(match.item.frame_times), weights, padding_by_bag(query))

        return item_moment(match.item, relevance, shots=self.settings.window == SHOTS)

    def frame_similarities(self, match: Match, query: Query, weights: Mapping[str, float]) -> Similarities:
        """Compare a query with all tokens of an item, frame by frame, in the bags that count."""
        return {
            bag: _frame_by_frame(bag, video_similarities(match.segment, codec, bag, own, match.row), match.item).numpy()
            for bag, codec in self._looked_at(match.segment, weights).items()
            if (own := of_bag(query, bag)) is not None
        }

    def matches(self, query: Query, items: Sequence[Match], wanted: SearchSettings) -> list[Match]:
        """Return items with their scores by a query, on decoded tokens.

        Raises:
            SettingsError: If stock ColBERT scores, which answers plain queries alone.
        """
        self._check_native()
        found: dict[int, Match] = {}
        for numbers in _by_segment(items).values():
            segment = items[numbers[0]].segment
            rows = segment.live.new_tensor([items[number].row for number in numbers], dtype=torch.int64)
            for number, (score, bags) in zip(
                numbers, self._scored(segment, query, rows, self.weights(wanted)), strict=True
            ):
                found[number] = replace(items[number], score=score, bags=bags)
        return [found[number] for number in range(len(items))]

    def _check_native(self) -> None:
        if self.search_segment is not search_segment:
            raise SettingsError(
                "engine='colbert' does not answer questions with without, all_of or then: open the index with engine='native'."
            )

    def _scored(
        self, segment: Segment, query: Query, rows: Int64[Tensor, "videos"], weights: Mapping[str, float]
    ) -> list[tuple[float, dict[str, float]]]:
        """Return the score of some rows of a segment, and that in each bag."""
        codecs = self._looked_at(segment, weights)
        if isinstance(query, PreparedQuery):
            scored = score_videos(segment, codecs, query, rows, weights=weights)
        else:
            alone = {bag: score_videos(segment, {bag: codecs[bag]}, own, rows).total for bag, own in query.items()}
            scored = Scored.from_bags(rows, alone, weights)
        columns = zip(*(scores.tolist() for scores in scored.bags.values()), strict=True)
        return [
            (total, dict(zip(scored.bags, bags, strict=True)))
            for total, bags in zip(scored.total.tolist(), columns, strict=True)
        ]

    def eligible(self, allowed: Masks | None) -> list[Match]:
        """Return every item that may be found, not scored, in the order of the index."""
        places = [
            (segment, row)
            for segment in self.reader.segments
            if allowed is None or segment.name in allowed
            for row in segment.eligible(None if allowed is None else allowed[segment.name]).tolist()
        ]
        entries = self.reader.entries_of((segment.name, row) for segment, row in places)
        return [Match(entries[segment.name, row], segment, row, 0.0, {}) for segment, row in places]

    def items_of(self, ids: Collection[str], allowed: Masks | None) -> list[Match]:
        """Return the items of some videos that may be found, not scored, in the order of the index."""
        order = {segment.name: number for number, segment in enumerate(self.reader.segments)}
        found = [
            Match(item, segment, row, 0.0, {})
            for segment, row, item in self.reader.located(ids)
            if allowed is None or (segment.name in allowed and bool(allowed[segment.name][row]))
        ]
        return sorted(found, key=lambda match: (order[match.segment.name], match.row))

    def _score(self, segment: Segment, row: int, query: Query, weights: Mapping[str, float]) -> float:
        rows = segment.live.new_tensor([row], dtype=torch.int64)
        return self._scored(segment, query, rows, weights)[0][0]


def _middle(item: VideoEntry) -> float:
    start = item.start or 0.0
    return start if item.end is None else (start + item.end) / 2


def prepared_query(query: Float[Tensor, "_ dim"] | AnyQuery) -> AnyQuery:
    """Return query tokens prepared; anything else as it is."""
    return PreparedQuery(query) if isinstance(query, Tensor) else query


def _by_segment(items: Sequence[Match]) -> dict[str, list[int]]:
    """Return the positions of the items of each segment."""
    found: dict[str, list[int]] = {}
    for number, match in enumerate(items):
        found.setdefault(match.segment.name, []).append(number)
    return found


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
