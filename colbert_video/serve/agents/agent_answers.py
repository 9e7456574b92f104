"""What the tools answer: small, as an agent reads every word of it."""

from typing import Any

from pydantic import BaseModel, Field

SCORE_DIGITS = 3
TIME_DIGITS = 2


class FoundVideo(BaseModel):
    """A found video with its best moment."""

    id: str
    start: float | None = Field(description="Best moment [start, end) in seconds; null if no times are known.")
    end: float | None
    score: float
    confidence: float | None = Field(
        None, description="0 for a usual video of this index, 1 for a perfect match; null if that is not known."
    )
    match: str | None = Field(None, description="The same in a word: strong, fair or weak.")
    text: str | None = Field(None, description="Caption or title, if the index has one.")
    metadata: dict[str, Any] | None = Field(None, description="Only where it was asked for.")


class FoundVideos(BaseModel):
    """Videos, best first."""

    index: str
    videos: list[FoundVideo]
    note: str | None = Field(None, description="What is missing from this answer.")


class FoundMoment(BaseModel):
    """A moment [start, end) of one video, in seconds."""

    start: float
    end: float
    score: float


class FoundMoments(BaseModel):
    """Moments of one video, in the order of time."""

    id: str
    moments: list[FoundMoment]


class WordMatch(BaseModel):
    """A word of a query and where in the video it is answered best."""

    word: str
    time: float | None = Field(description="Seconds; null if no single frame answers it.")
    score: float = Field(description="Cosine, at most 1.")


class Explained(BaseModel):
    """Why a video has its score."""

    id: str
    start: float | None
    end: float | None
    score: float
    words: list[WordMatch]


class ListedVideo(BaseModel):
    """A video of an index."""

    id: str
    seconds: float | None
    text: str | None = None
    metadata: dict[str, Any] | None = None


class ListedVideos(BaseModel):
    """One page of videos."""

    index: str
    videos: list[ListedVideo]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class DescribedVideo(BaseModel):
    """Everything known of one video."""

    id: str
    seconds: float | None
    metadata: dict[str, Any]
    windows: int = Field(description="Into how many windows it was cut; 0 if it was indexed whole.")


class SearchableIndex(BaseModel):
    """An index that can be searched."""

    name: str
    videos: int
    text_queries: bool = Field(description="False if it has no model: words cannot be searched.")
    note: str | None = None


class SearchableIndexes(BaseModel):
    """All indexes; the first is used where none is named."""

    indexes: list[SearchableIndex]


def rounded_time(seconds: float | None) -> float | None:
    """Return a time short enough to read."""
    return None if seconds is None else round(seconds, TIME_DIGITS)


def rounded_score(score: float) -> float:
    """Return a score short enough to read."""
    return round(score, SCORE_DIGITS)


def caption_of(metadata: dict[str, Any]) -> str | None:
    """Return what a person wrote of a video: the first of its usual fields that is a text."""
    texts = (metadata.get(name) for name in ("text", "caption", "title", "description"))
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)
