"""The forms of the service's answers, for its documentation; the answers themselves are built as plain values."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.")
    message: str = Field(description="What came and which rule it breaks.")
    remedy: str = Field(description="What to do about it.")


class ErrorAnswer(BaseModel):
    """The form of every error."""

    error: ErrorBody


class MomentAnswer(BaseModel):
    """A further moment of a found video."""

    start: float = Field(description="Seconds; the moment is [start, end).")
    end: float
    score: float


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
    start: float | None
    end: float | None
    moments: list[MomentAnswer]
    parent: str | None
    metadata: dict[str, Any]
    playable: bool
    reason: str | None = Field(description="Why browsers cannot play it.")
    media: str | None = Field(description="Address of the file, relative to the service's root.")
    thumbnail: str | None = Field(description="Address of a picture of the moment.")


class SearchAnswer(BaseModel):
    """What a search found."""

    query: str | None
    index: str
    version: int = Field(description="Number of the index's commit; the search saw this or a later one.")
    milliseconds: float
    topk: list[ResultAnswer]
    shards_failed: list[str] = Field(
        description="Shards of the index that did not answer in time; what they hold is missing."
    )


class MatchAnswer(BaseModel):
    """The best token of a bag for a query token."""

    frame: int | None = Field(description="Position of the frame; null for an expansion token.")
    time: float | None
    score: float


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
    times: list[float]
    tokens: list[TokenAnswer]
    similarities: dict[str, list[list[float]]] = Field(
        description="Cosines by bag, query tokens × (frames, then expansion tokens)."
    )
    relevance: list[float] = Field(
        description="How well each frame fits: means over tokens, added over bags."
    )
    start: float | None
    end: float | None


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
    playable: bool
    reason: str | None
    content_type: str | None
    bytes: int | None
    codec: str | None
    container: str | None
    media: str | None
    thumbnail: str | None
    copy_: str | None = Field(alias="copy", description="Address of a copy that browsers play.")


class ListedVideoAnswer(BaseModel):
    """A video of a list, or a window of one."""

    id: str
    parent: str | None = Field(description="The video of which this is a window.")
    start: float | None = Field(description="Seconds; what is searched of the file is [start, end).")
    end: float | None
    duration: float | None = Field(description="Seconds; length of the file.")
    metadata: dict[str, Any]
    windows: int = Field(
        description="How many windows of it pass the filter; 0 for a whole video or a window."
    )


class VideosAnswer(BaseModel):
    """A page of the videos of an index, by their ids."""

    index: str
    version: int = Field(description="Number of the index's commit; the list is of this or a later one.")
    videos: list[ListedVideoAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class IndexAnswer(BaseModel):
    """An index in short."""

    name: str
    videos: int
    windows: int
    version: int
    model: str | None
    text_queries: bool
    state: Literal["loading", "ready", "failed"]
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
    thumbnail_widths: list[int]


class IndexDetailAnswer(IndexAnswer):
    """An index at length."""

    dim: int
    nbits: int
    bags: list[str]
    bytes: int
    segments: int
    removed: int
    num_frames: int | None
    failures: int
    limits: LimitsAnswer


class CopyAnswer(BaseModel):
    """A copy that is not made yet."""

    state: Literal["queued", "running"]
    seconds: float


class SessionAnswer(BaseModel):
    """Whether a client may search."""

    token_required: bool
    authenticated: bool
    version: str


class StatusAnswer(BaseModel):
    """How the service is."""

    status: Literal["alive", "ready"]
