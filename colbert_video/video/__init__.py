"""From a video file to sampled frames with their times, safely.

Segment-centre sampling as in Temporal Segment Networks (Wang et al., ECCV 2016). Nothing here imports torch, so that
decoding processes start fast and stay small.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.video.decode.read import read_frames as read_frames
    from colbert_video.video.frames import SampledFrames as SampledFrames
    from colbert_video.video.frames import SamplingSettings as SamplingSettings
    from colbert_video.video.sources import Sources as Sources
    from colbert_video.video.sources import VideoRecord as VideoRecord
    from colbert_video.video.sources import find_videos as find_videos
    from colbert_video.video.workers.pool import FramePool as FramePool
    from colbert_video.video.workers.pool import FrameRequest as FrameRequest
    from colbert_video.video.workers.pool import FrameResult as FrameResult

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.video.decode.read": ["read_frames"],
        "colbert_video.video.frames": ["SampledFrames", "SamplingSettings"],
        "colbert_video.video.sources": ["Sources", "VideoRecord", "find_videos"],
        "colbert_video.video.workers.pool": ["FramePool", "FrameRequest", "FrameResult"],
    },
)
