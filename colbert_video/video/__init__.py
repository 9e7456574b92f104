"""From a video file to sampled frames with their times, safely.

Segment-centre sampling as in Temporal Segment Networks (Wang et al., ECCV 2016). Nothing here imports torch, so that
decoding processes start fast and stay small.
"""

from typing import TYPE_CHECKING, Any

from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.sources import Sources, VideoRecord, find_videos
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult

if TYPE_CHECKING:
    from colbert_video.video.decode.read import read_frames

__all__ = [
    "FramePool",
    "FrameRequest",
    "FrameResult",
    "SampledFrames",
    "SamplingSettings",
    "Sources",
    "VideoRecord",
    "find_videos",
    "read_frames",
]


def __getattr__(name: str) -> Any:
    """Import `read_frames` when it is first used: a process that only starts workers, or searches, loads no FFmpeg."""
    if name != "read_frames":
        raise AttributeError(f"module 'colbert_video.video' has no attribute {name!r}")
    from colbert_video.video.decode.read import read_frames

    return read_frames
