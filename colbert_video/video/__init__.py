"""From a video file to sampled frames with their times, safely.

Segment-centre sampling as in Temporal Segment Networks (Wang et al., ECCV 2016). Nothing here imports torch, so that
decoding processes start fast and stay small.
"""

from colbert_video.video.frames import SampledFrames, SamplingSettings, read_frames
from colbert_video.video.sources import Sources, VideoRecord, find_videos
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult

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
