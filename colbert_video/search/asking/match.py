"""An item that a query was compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.segments.opened_segment import Segment


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
