"""What a search gives back: videos with their moments."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Moment:
    """A part of a found video."""

    start: float
    """Begin of the moment [start, end), in seconds."""
    end: float
    """End of the moment, in seconds."""
    score: float
    """Score of the window in which it was found."""


@dataclass(frozen=True)
class Hit:
    """One found video and its best moment."""

    rank: int
    """1 for the best."""
    id: str
    """The video's id; that of the window where hits are not grouped by video."""
    score: float
    """MMS_F + MMS_V, the sum of the two below; of a video that was cut into windows, that of the best one."""
    frame_score: float | None
    """MeanMaxSim over frame tokens; None if the index stores none, or the query has none for them."""
    video_score: float | None
    """MeanMaxSim over video tokens; None if the index stores none, or the query has none for them."""
    start: float | None
    """Begin of the best moment [start, end), in seconds; None if the index knows no times."""
    end: float | None
    """End of the best moment, in seconds."""
    path: str | None
    """The video file; None for precomputed tokens."""
    metadata: Mapping[str, Any]
    """What was stored with the video."""
    parent: str | None = None
    """Id of the video whose window was found; None for a video that was indexed whole."""
    moments: tuple[Moment, ...] = ()
    """Further moments of the same video, best first, none overlapping a better one: those of other windows that were
    among the best of the search."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
