"""The service's answers: what is documented is what is built."""

import math
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.explain import PADDING, Explanation
from colbert_video.search.hit import Hit
from colbert_video.search.match_levels import MatchLabel, MatchLevels
from colbert_video.search.moments import frame_relevance, item_moment
from colbert_video.serve.media.media_files import MediaFile
from colbert_video.serve.service_settings import THUMBNAIL_WIDTHS, ServeSettings

DIGITS = 4
"""Of similarities in explanations."""


class MomentAnswer(BaseModel):
    """A further moment of a found video."""

    start: float = Field(description="Seconds; the moment is [start, end).")
    end: float
    score: float
    window: str = Field(description="Id of the window in which it was found, for `explain`.")


class LineAnswer(BaseModel):
    """A line of text of a video, of its subtitles for example."""

    start: float = Field(description="Seconds; it is said or shown in [start, end).")
    end: float
    text: str


class ResultAnswer(BaseModel):
    """A found video; `pid`, `rank`, `score`, `prob` and `text` are those of ColBERT's server."""

    pid: str = Field(description="The id.")
    id: str
    rank: int
    score: float
    prob: float = Field(description="Softmax of the scores of this answer.")
    text: str = Field(description="The metadata's text; the id without one.")
    frame_score: float | None
    video_score: float | None
    bag_scores: dict[str, float] = Field(description="MeanMaxSim by bag, of those that were looked at.")
    confidence: float | None = Field(
        description="How far of the way from a usual video of the index to a perfect match the score stands, from 0 to 1; "
        "null in an index of fewer than 10 videos or windows."
    )
    match: MatchLabel | None = Field(
        description="The confidence in a word, measured by queries that have no answer; null unless `labels` is asked for."
    )
    start: float | None
    end: float | None
    window: str | None = Field(description="Id of the window that was found, for `explain`; null for a whole video.")
    moments: list[MomentAnswer]
    line: LineAnswer | None = Field(
        description="The line that was found, at `start`; null unless lines are searched and one holds a word."
    )
    parent: str | None
    metadata: dict[str, Any]
    playable: bool
    reason: str | None = Field(description="Why browsers cannot play it.")
    media: str | None = Field(description="Address of the file, relative to the service's root.")
    thumbnail: str | None = Field(description="Address of a picture of the moment.")
    frame_rate: float | None = Field(description="Frames per second, as the file's header states them.")

    @classmethod
    def from_hit(
        cls,
        hit: Hit,
        prob: float,
        index: str,
        media: MediaFile | None,
        reason: str | None,
        levels: MatchLevels | None = None,
    ) -> "ResultAnswer":
        """Return a hit as it is sent: with ColBERT's fields, and without its path.

        Args:
            hit: The hit.
            prob: Its share of the softmax.
            index: Name of the index.
            media: Its file; None if that cannot be served.
            reason: Why browsers cannot play it; None if they can.
            levels: From which confidence on a match is fair or strong; None if that is not asked for.
        """
        text = hit.metadata.get("text")
        return cls(
            **hit.to_dict(),  # its path is no field, and left out
            pid=hit.id,
            prob=prob,
            match=None if levels is None else levels.label(hit.confidence),
            text=text if isinstance(text, str) else hit.id,
            playable=reason is None,
            reason=reason,
            media=None if media is None else media_url(index, hit.id),
            thumbnail=None if media is None else thumbnail_url(index, hit.id, hit.middle),
            frame_rate=None if media is None else media.kind.frame_rate,
        )


class SearchAnswer(BaseModel):
    """What a search found."""

    query: str | None
    index: str
    version: int = Field(description="Number of the index's commit; the search saw this or a later one.")
    milliseconds: float
    topk: list[ResultAnswer]
    bag_weights: dict[str, float] = Field(
        description="How much each bag counts in a score, of those that were looked at."
    )
    shards_failed: list[str] = Field(
        description="Shards of the index that did not answer in time; what they hold is missing."
    )
    query_cut: bool = Field(
        False, description="Whether the text is longer than the model reads, so its end was not used."
    )


class PictureAnswer(BaseModel):
    """A picture that is kept for a while."""

    picture: str = Field(description="Its name, for `GET /api/pictures`.")


class MatchAnswer(BaseModel):
    """The best token of a bag for a query token."""

    frame: int | None = Field(description="Position of the frame; null for a token that stands for none.")
    time: float | None
    score: float
    token: int = Field(description="Column of the bag's similarities, from 0.")


class TokenAnswer(BaseModel):
    """A query token and what it found."""

    token: str
    padding: bool
    matches: dict[str, MatchAnswer]


class ExplainAnswer(BaseModel):
    """How the score of a video comes about."""

    id: str = Field(description="The video, or that of its windows which fits best.")
    query: str
    scores: dict[str, float]
    weights: dict[str, float] = Field(description="How much each bag counts in the score.")
    times: list[float]
    tokens: list[TokenAnswer]
    similarities: dict[str, list[list[float]]] = Field(
        description="Cosines by bag, query tokens × (frames, then expansion tokens), or × the tokens of other bags."
    )
    relevance: list[float] = Field(
        description="How well each frame fits: means over tokens, added over bags; empty if no bag has tokens of frames."
    )
    start: float | None
    end: float | None

    @classmethod
    def from_explanation(cls, query: str, found: Explanation, entry: VideoEntry, *, shots: bool) -> "ExplainAnswer":
        """Return an explanation with the relevance of each frame and the best moment.

        Args:
            query: The text.
            found: The explanation.
            entry: The explained video or window.
            shots: True if windows are shots, each of which is one moment as it is.
        """
        padding = [token.token == PADDING for token in found.tokens]
        relevance = frame_relevance(found.weighted, len(found.times), found.weights, padding)  # (frames,)
        start, end = item_moment(entry, lambda: relevance, shots=shots)
        plain = found.to_dict()
        rounded = {bag: matrix.round(DIGITS).tolist() for bag, matrix in found.similarities.items()}
        return cls(
            id=plain["id"],
            query=query,
            scores=plain["scores"],
            weights=plain["weights"],
            times=plain["times"],
            tokens=[TokenAnswer(**token, padding=own) for token, own in zip(plain["tokens"], padding, strict=True)],
            similarities=rounded,
            relevance=[] if relevance is None else relevance.round(DIGITS).tolist(),
            start=start,
            end=end,
        )


class RelevanceAnswer(BaseModel):
    """How well a text fits each sampled frame of a whole video."""

    id: str
    query: str
    times: list[float] = Field(description="Seconds, ascending; those of all windows of a video that was cut.")
    relevance: list[float] = Field(description="Of each frame, as `explain` gives it.")


class OccurrencesAnswer(BaseModel):
    """Every part of one video where a text is met."""

    id: str
    query: str
    occurrences: list[MomentAnswer] = Field(description="In the order of time; none overlaps another.")


class WindowAnswer(BaseModel):
    """A part of a long video that is searched by itself."""

    id: str
    start: float | None
    end: float | None


class VideoAnswer(BaseModel):
    """A video of an index."""

    id: str
    index: str
    duration: float | None
    frame_times: list[float]
    metadata: dict[str, Any]
    windows: list[WindowAnswer]
    frame_rate: float | None = Field(description="Frames per second, as the file's header states them.")
    playable: bool
    reason: str | None
    content_type: str | None
    bytes: int | None
    codec: str | None
    container: str | None
    media: str | None
    thumbnail: str | None
    copy_: str | None = Field(alias="copy", description="Address of a copy that browsers play.")

    @classmethod
    def from_rows(
        cls, video_id: str, index: str, rows: Sequence[VideoEntry], media: MediaFile | None, reason: str | None
    ) -> "VideoAnswer":
        """Return everything that is known of a video, except where its file is.

        Args:
            video_id: The video, or one of its windows.
            index: Name of the index.
            rows: Its catalog row, or those of its windows.
            media: Its file; None if that cannot be served.
            reason: Why browsers cannot play it; None if they can.
        """
        first, whole = rows[0], rows[0].id == video_id
        copied = media is not None and reason is not None
        return cls(
            id=video_id,
            index=index,
            duration=first.duration,
            frame_times=list(first.frame_times) if whole else [],
            metadata=dict(first.metadata),
            windows=[] if whole else [WindowAnswer(id=row.id, start=row.start, end=row.end) for row in rows],
            frame_rate=None if media is None else media.kind.frame_rate,
            playable=reason is None,
            reason=reason,
            content_type=None if media is None else media.kind.content_type,
            bytes=None if media is None else media.size,
            codec=None if media is None else media.kind.codec,
            container=None if media is None else media.kind.container,
            media=None if media is None else media_url(index, video_id),
            thumbnail=None if media is None else thumbnail_url(index, video_id, None),
            copy=media_url(index, video_id, copy="h264") if copied else None,
        )


class ListedVideoAnswer(BaseModel):
    """A video of a list, or a window of one."""

    id: str
    parent: str | None = Field(description="The video of which this is a window.")
    start: float | None = Field(description="Seconds; what is searched of the file is [start, end).")
    end: float | None
    duration: float | None = Field(description="Seconds; length of the file.")
    metadata: dict[str, Any]
    windows: int = Field(description="How many windows of it pass the filter; 0 for a whole video or a window.")
    thumbnail: str | None = Field(None, description="With `media`, the address of a picture from its middle.")
    media: str | None = Field(None, description="With `media`, the address of the file, if it is there.")
    playable: bool = Field(False, description="With `media`, whether browsers play the file.")


class VideosAnswer(BaseModel):
    """A page of the videos of an index."""

    index: str
    version: int = Field(description="Number of the index's commit; the list is of this or a later one.")
    videos: list[ListedVideoAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class FacetValueAnswer(BaseModel):
    """A value of the metadata that several videos share."""

    value: str | int | float | bool
    videos: int


class FacetAnswer(BaseModel):
    """A key of the metadata with the values that several videos share, the most frequent first."""

    field: str
    in_lists: bool = Field(description="True if the values are elements of lists: filter with `contains`.")
    values: list[FacetValueAnswer]


class StartAnswer(BaseModel):
    """What a page shows before anything is asked."""

    index: str
    examples: list[str] = Field(description="Queries that this index can answer.")
    facets: list[FacetAnswer]


class IndexAnswer(BaseModel):
    """An index in short."""

    name: str
    videos: int
    windows: int
    version: int
    model: str | None
    text_queries: bool
    lines: int = Field(description="Lines of text that `text=speech` and `text=both` search; 0 for none.")
    state: Literal["loading", "empty", "ready", "failed"] = Field(
        description="`empty` before anything was indexed: videos can be added, and nothing can be searched."
    )
    note: str | None


class IndexesAnswer(BaseModel):
    """All indexes; the first is the default."""

    indexes: list[IndexAnswer]


class LimitsAnswer(BaseModel):
    """What a request may ask for."""

    most_results: int
    most_listed: int
    most_query_characters: int
    most_ids: int
    most_filter_characters: int
    most_upload_bytes: int
    most_clip_seconds: float
    thumbnail_widths: list[int]

    @classmethod
    def from_settings(cls, settings: ServeSettings) -> "LimitsAnswer":
        """Return the limits among the settings, which have their names."""
        return cls(**vars(settings), thumbnail_widths=list(THUMBNAIL_WIDTHS))


class IndexDetailAnswer(IndexAnswer):
    """An index at length."""

    dim: int
    nbits: int
    bags: list[str]
    bag_weights: dict[str, float] = Field(description="How much each bag counts where a search says nothing else.")
    bytes: int
    segments: int
    removed: int
    num_frames: int | None
    failures: int
    limits: LimitsAnswer


class CopyAnswer(BaseModel):
    """A copy or a clip that is not made yet."""

    state: Literal["queued", "running"]
    seconds: float


class AdditionAnswer(BaseModel):
    """A video on its way into an index."""

    number: int
    id: str
    state: Literal["waiting", "indexing", "done", "failed"]
    reason: str | None = Field(description="Why it failed, in words.")


class AdditionsAnswer(BaseModel):
    """What was added to an index since the service was started."""

    index: str
    allowed: bool = Field(description="Whether the service takes videos.")
    folders: list[str] = Field(description="Names of the folders from which videos are added.")
    waiting: int = Field(description="How many wait, of all.")
    indexing: int
    done: int
    failed: int
    additions: list[AdditionAnswer]


class SessionAnswer(BaseModel):
    """Whether a client may search."""

    token_required: bool
    authenticated: bool
    version: str


class StatusAnswer(BaseModel):
    """How the service is."""

    status: Literal["alive", "ready"]


def media_url(index: str, video_id: str, **more: str) -> str:
    """Return the address of a video file, relative to the service's root."""
    return "api/video/media?" + urlencode({"index": index, "id": video_id, **more})


def thumbnail_url(index: str, video_id: str, time: float | None) -> str:
    """Return the address of a picture of a moment in seconds; of the beginning without one."""
    at = {} if time is None else {"t": f"{time:.2f}"}
    return "api/video/thumbnail?" + urlencode({"index": index, "id": video_id, **at})


def softmax(scores: Sequence[float]) -> list[float]:
    """Return shares of the exponentials, as ColBERT's server gives them."""
    highest = max(scores, default=0.0)
    weights = [math.exp(score - highest) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]
