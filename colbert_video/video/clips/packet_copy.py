"""Which packets of a video can be copied to show a part of it exactly, without decoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from colbert_video.video.decode.container import OpenVideo

CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4")
"""Codecs that are copied into MP4."""
CONTAINERS = ("mov", "matroska")
"""Containers whose keyframes and timestamps can be trusted without decoding."""
USUAL_RATE = 25.0
MAX_SECONDS_MORE = 0.1
"""How long a copy may show pictures after the end to which earlier ones refer."""


@dataclass(frozen=True)
class CopyPlan:
    """Consecutive packets to copy."""

    first: int
    """Presentation timestamp of the keyframe that they begin with."""
    count: int
    """How many packets follow from it on, in decoding order, leading pictures left out."""
    start: float
    """Time of the keyframe, in seconds."""
    end: float
    """End of the last picture that is shown, in seconds."""


def plan_copy(video: OpenVideo, start: float, end: float) -> CopyPlan | None:
    """Return what to copy for the part [start, end); None if only encoding again shows it exactly."""
    if video.format.partition(",")[0] not in CONTAINERS or video.codec not in CODECS or any(video.shape.crop):
        return None
    near = 0.5 / (video.rate or USUAL_RATE)
    plan, first, seen, last, shown = None, None, 0, 0.0, 0.0
    for packet in _from(video, start + near):
        if packet.pts is None or packet.dts is None or packet.is_discard:
            return None
        time = video.seconds(packet.pts)
        if first is None:
            if not packet.is_keyframe or time < start - near:
                continue
            if time > start + near:
                return None
            first = packet
        if packet.pts < first.pts:  # a leading picture, which refers to what comes before the keyframe
            continue
        if video.seconds(packet.dts) >= end and time >= end:
            break
        seen += 1
        shown = max(shown, time + float((packet.duration or 0) * video.time_base))
        if time < end:
            last = shown
            plan = CopyPlan(first.pts, seen, video.seconds(first.pts), min(last, end))
    return None if video.damage or last > end + MAX_SECONDS_MORE else plan


def copied_packets(video: OpenVideo, plan: CopyPlan, stream: Any) -> Iterator[tuple[float, Any]]:
    """Yield the packets of a plan for a stream of the clip, each with its time in the clip in seconds."""
    left, begun = plan.count, False
    for packet in _from(video, plan.start + 0.5 / (video.rate or USUAL_RATE)):
        begun = begun or (packet.is_keyframe and packet.pts == plan.first)
        if not begun or packet.pts < plan.first:
            continue
        packet.pts, packet.dts = packet.pts - plan.first, packet.dts - plan.first
        packet.stream = stream
        yield float(packet.dts * video.time_base), packet
        left -= 1
        if not left:
            return


def _from(video: OpenVideo, seconds: float) -> Iterator[Any]:
    """Yield packets from the keyframe before a time on; from the start if the file cannot be sought."""
    video.seek(int((seconds + video.origin) / video.time_base))
    return video.packets()
