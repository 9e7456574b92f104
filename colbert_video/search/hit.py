"""One result of a search, and how its times are written."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from colbert_video.video.subtitles.timed_line import TimedLine


@dataclass(frozen=True)
class Moment:
    """A part [start, end) of a found video, in seconds."""

    start: float
    end: float
    score: float
    """Score of the window in which it was found."""
    window: str = ""
    """Id of that window, which `Searcher.explain` takes."""


@dataclass(frozen=True)
class Hit:
    """One found video and its best moment."""

    rank: int
    """1 for the best."""
    id: str
    """The video's id; that of the window where hits are not grouped by video."""
    score: float
    """MMS_F + MMS_V, the sum of `bag_scores`, each times its bag's weight; of a video that was cut into windows, that of the
    best one. In a search for lines, BM25 of the best line; in one for both, the sum of reciprocal ranks."""
    frame_score: float | None
    """MeanMaxSim over frame tokens; None if the index stores none, the query has none for them, or they count 0."""
    video_score: float | None
    """MeanMaxSim over video tokens; None if the index stores none, the query has none for them, or they count 0."""
    start: float | None
    """Begin of the best moment [start, end), in seconds; None if the index knows no times."""
    end: float | None
    path: str | None
    """The video file; None for precomputed tokens."""
    metadata: Mapping[str, Any] = field(hash=False)
    """What was stored with the video."""
    parent: str | None = None
    """Id of the video whose window was found; None for a video that was indexed whole."""
    moments: tuple[Moment, ...] = ()
    """Further moments of the same video, best first, none overlapping a better one: those of other windows that were
    among the best of the search."""
    window: str | None = None
    """Id of the window whose score this is, which `Searcher.explain` takes; None for a video that was indexed whole."""
    bag_scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """MeanMaxSim by the name of each bag that was looked at; empty where the score is no sum of these, but made of lines."""
    confidence: float | None = None
    """How far of the way from a usual video of this corpus to a perfect match the score stands, from 0 to 1: (score - m) /
    (p - m), where m is the median of what a fixed sample of the whole index scores for this query, and p is the score if
    every query token met its equal. None in an index of fewer than 10 videos or windows. `Searcher.match_levels` has
    words for it, and one that looked for lines has none."""

    line: TimedLine | None = None
    """The line of text that was found, of subtitles for instance: `start` and `end` are then its own. None if the picture
    alone was searched, or no line of the video holds a word of the query."""

    @property
    def middle(self) -> float | None:
        """Middle of the best moment in seconds, whose picture shows most of it."""
        return None if self.start is None or self.end is None else (self.start + self.end) / 2

    def judged(self, confidence: float) -> "Hit":
        """Return this hit with its confidence; `dataclasses.replace` would take ten times as long."""
        changed = object.__new__(type(self))
        vars(changed).update(vars(self), confidence=confidence)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def format_time(seconds: float | None) -> str:
    """Return minutes and seconds, such as "1:02.5"; a dash for no time."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def format_moment(start: float | None, end: float | None) -> str:
    """Return a moment [start, end) as a player shows it, such as "0:01.0–0:03.0"; a dash for no moment."""
    return "-" if start is None or end is None else f"{format_time(start)}–{format_time(end)}"
