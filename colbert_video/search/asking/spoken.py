"""Searching the lines of text beside the picture, alone or together with the picture.

A video scores by its best line: BM25 of the query's words, over all lines of the index. For both, ranks are fused:

    score = 1 / (60 + rank by picture) + w / (60 + rank by lines)

Ranks beyond `fused_depth` count nothing, and so does a list that does not hold the video.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from colbert_video.base.checks import real_number
from colbert_video.errors import SettingsError, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.line_words import match_expression, query_phrases
from colbert_video.indexing.catalog.spoken_lines import FoundLine
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.search.asking.encoded_question import AnyQuery
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.fusion import fuse
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.moments import further_moments
from colbert_video.search.question import Question
from colbert_video.search.ranking import Ranking

SearchedText = Literal["picture", "speech", "both"]
LINES_PER_VIDEO = 8
"""Lines fetched for each wanted video; more if they belong to fewer videos."""
MIN_DEPTH, DEPTH_PER_HIT = 100, 4
"""Videos of each list that are fused at least, and for each wanted hit."""
QUERY = "query"
NO_LINES = (
    "this index has no lines of text: put subtitles beside the videos, as film.srt or film.en.vtt, and add them again "
    "(`colbert-video add`), or make lines with Indexer(..., lines=...)."
)


@runtime_checkable
class SpokenSearchable(Protocol):
    """What can be searched by picture and by lines: a `Searchable`."""

    @property
    def has_lines(self) -> bool:
        """True if some video has lines."""

    def hits(self, query: AnyQuery, wanted: SearchSettings) -> Hits:
        """Find the best videos and their moments, by picture."""

    def ranking(self, queries: Mapping[str, Any], wanted: SearchSettings) -> Ranking:
        """Rank videos for queries, by picture."""

    def spoken(self, expression: str, wanted: SearchSettings) -> Hits:
        """Find the best videos by their lines."""


@dataclass(frozen=True)
class SpokenQuery:
    """What lines are searched for."""

    expression: str
    """What FTS5 looks for."""
    weight: float
    """How much the rank by lines counts beside that by picture, which counts 1."""

    @classmethod
    def from_query(cls, query: str | Question, text: str, weight: float, min_confidence: float | None) -> "SpokenQuery":
        """Return the words of a query for lines.

        Raises:
            SettingsError: If it has no words, asks of lines what only pictures answer, or `weight` is not valid.
        """
        if min_confidence is not None:
            raise SettingsError(
                f"text={shown(text)} knows no confidence, which is of pictures: leave min_confidence out."
            )
        if text == "speech" and isinstance(query, Question) and not (query.is_single and query.image is None):
            raise SettingsError(
                "text='speech' takes words alone: leave out image, without, all_of and then, or search for text='both'."
            )
        words = query if isinstance(query, str) else " ".join(part.text for part, counts in query.texts if counts)
        phrases = query_phrases(words)
        if not phrases:
            raise SettingsError(f"the query {shown(words)} has no word that a line could hold: give it at least one.")
        checked = real_number("speech_weight", weight)
        if checked < 0:
            raise SettingsError(f"speech_weight={shown(weight)} is negative: give 0 or more.")
        return cls(match_expression(phrases), float(checked))


def check_text(text: Any) -> SearchedText:
    """Return what is searched.

    Raises:
        SettingsError: If there is no such thing.
    """
    if text not in ("picture", "speech", "both"):
        raise SettingsError(f"text={shown(text)} must be 'picture', 'speech' or 'both'.")
    found: SearchedText = text
    return found


def check_lines(view: SpokenSearchable) -> None:
    """Check that there are lines to search.

    Raises:
        SettingsError: If there are none.
    """
    if not view.has_lines:
        raise SettingsError(NO_LINES)


def fused_depth(k: int) -> int:
    """Return how many videos of each list are fused for k hits."""
    return max(MIN_DEPTH, DEPTH_PER_HIT * k)


def search_both(view: SpokenSearchable, query: AnyQuery, spoken: SpokenQuery, wanted: SearchSettings) -> Hits:
    """Find the best videos by picture and lines; each hit with a line points at it, its other moments come after."""
    deep = replace(wanted, k=fused_depth(wanted.k))
    by_lines = view.spoken(spoken.expression, deep)
    by_picture, failed = _ranked_by_picture(view, query, deep)
    lists = [by_picture, Ranking.from_scored({QUERY: [(hit.id, hit.score) for hit in by_lines]})]
    fused = fuse(lists, weights=[1.0, spoken.weight], k=wanted.k).torun().get(QUERY, {})
    pictures = view.hits(query, replace(wanted, ids=list(fused), k=max(1, len(fused)))) if fused else Hits()
    shown_by, said_by = {hit.id: hit for hit in pictures}, {hit.id: hit for hit in by_lines}
    hits = [
        _fused_hit(shown_by.get(name), said_by.get(name), rank=rank, score=score)
        for rank, (name, score) in enumerate(fused.items(), start=1)
    ]
    missing = dict.fromkeys((*failed, *by_lines.shards_failed, *pictures.shards_failed))
    return Hits(hits, tuple(missing), video_stream=by_lines.video_stream)


def _ranked_by_picture(
    view: SpokenSearchable, query: AnyQuery, deep: SearchSettings
) -> tuple[Ranking, tuple[str, ...]]:
    """Return videos, or windows where hits are not grouped, and the shards that did not answer."""
    if deep.group:
        ranking = view.ranking({QUERY: query}, deep)
        return ranking, ranking.shards_failed.get(QUERY, ())
    hits = view.hits(query, deep)
    return Ranking.from_scored({QUERY: [(hit.id, hit.score) for hit in hits]}), hits.shards_failed


def _fused_hit(shown_by: Hit | None, said_by: Hit | None, *, rank: int, score: float) -> Hit:
    """Return what both lists say of a video as one hit."""
    if shown_by is None or said_by is None:
        only: Any = shown_by or said_by
        return replace(only, rank=rank, score=score, confidence=None, bag_scores={})
    pictured = (shown_by.start, shown_by.end)
    others = [(pictured, shown_by.score, shown_by.window or "")]
    others += [((one.start, one.end), one.score, one.window) for one in (*said_by.moments, *shown_by.moments)]
    return replace(
        shown_by,
        rank=rank,
        score=score,
        start=said_by.start,
        end=said_by.end,
        line=said_by.line,
        moments=further_moments((said_by.start, said_by.end), others),
        confidence=None,
        bag_scores={},
    )


def spoken_hits(reader: IndexReader, expression: str, wanted: SearchSettings) -> Hits:
    """Find the best videos, or windows, of one index by their lines.

    Lines are fetched until they belong to k videos, or there are no more; further ones of a video are its other moments.
    """
    limit = LINES_PER_VIDEO * wanted.k
    while True:
        lines = reader.lines(expression, wanted.where, wanted.ids, limit=limit, any_field=wanted.any_field)
        videos: dict[str, list[FoundLine]] = {}
        for found in lines:
            videos.setdefault(found.video if wanted.group else found.item, []).append(found)
        if len(videos) >= wanted.k or len(lines) < limit:
            break
        limit *= LINES_PER_VIDEO
    best = list(videos.items())[: wanted.k]
    items = reader.items_by_id([own[0].item for _, own in best])
    hits = (_spoken_hit(name, own, items[own[0].item], rank) for rank, (name, own) in enumerate(best, start=1))
    return Hits(hits, video_stream=reader.settings.video_stream)


def _spoken_hit(name: str, found: list[FoundLine], item: VideoEntry, rank: int) -> Hit:
    best = found[0]
    others = (((one.line.start, one.line.end), one.score, _window(one)) for one in found[1:])
    return Hit(
        rank=rank,
        id=name,
        score=best.score,
        frame_score=None,
        video_score=None,
        start=best.line.start,
        end=best.line.end,
        path=item.path,
        metadata=item.metadata,
        parent=item.parent,
        moments=further_moments((best.line.start, best.line.end), others),
        window=None if item.parent is None else item.id,
        line=best.line,
    )


def _window(found: FoundLine) -> str:
    return "" if found.item == found.video else found.item
