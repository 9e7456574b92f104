"""Sampling with PyAV: choose frames by the true timestamps of packets, decode only what the chosen ones need.

Counts and durations in a container's header are ignored, as they are often wrong. Packets marked for discarding (what
an edit list cuts away) are decoded where others refer to them and never shown. Files without usable timestamps are
decoded in order from the start, as a player would.
"""

from collections.abc import Callable
from functools import partial

import av
import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import Reading
from colbert_video.video.decode.in_order import read_in_order
from colbert_video.video.decode.packets import read_from_packets
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.seeking import read_by_seeking
from colbert_video.video.files import locate
from colbert_video.video.frames import SampledFrames, SamplingSettings, repeats

KEPT_BYTES = 64 * 2**20
"""Files up to this size have their packets kept in memory; larger ones are sought through."""
LONG_SECONDS = 600.0
"""Smaller files that last longer are sought through too: listing all their packets would take most of the time."""
IN_ORDER_FORMATS = ("avi", "gif")
"""AVI has no presentation timestamps, and the frames of a GIF build on one another whatever is marked as keyframe."""


def read_with_pyav(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with PyAV.

    Args:
        path: A local file.
        settings: What to read.

    Returns:
        The frames, those that FFmpeg shows at the same times.

    Raises:
        VideoError: If the file cannot be used.
    """
    deadline = Deadline(settings.timeout, path)
    resizer = FrameResizer(path, settings)
    with open_video(path, deadline, settings.max_pixels) as video:
        codec, ways = video.codec, _ways(video)
        reading = ways[0](video, settings, resizer) if ways else None
    if reading is None and len(ways) > 1:
        with open_video(path, deadline, settings.max_pixels) as video:
            reading = ways[1](video, settings, resizer)
    if reading is None:
        reading = read_in_order(path, settings, deadline, resizer)
    return _sampled(reading, resizer, codec)


Way = Callable[[OpenVideo, SamplingSettings, FrameResizer], Reading | None]


def _ways(video: OpenVideo) -> tuple[Way, ...]:
    """How to read a file, and how else if that fails. What the header says of its length is a hint, to be verified."""
    if locate(video.path).size > KEPT_BYTES:
        return (read_by_seeking,)
    if video.format in IN_ORDER_FORMATS:
        return ()
    if (video.container.duration or 0) / av.time_base > LONG_SECONDS:
        return partial(read_by_seeking, shortest=LONG_SECONDS), read_from_packets
    return (read_from_packets,)


def _sampled(reading: Reading, resizer: FrameResizer, codec: str) -> SampledFrames:
    source = resizer.source
    if source is None:
        raise VideoError(resizer.path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
    return SampledFrames(
        pixels=np.stack(reading.pixels),
        times=np.array(reading.times, dtype=np.float64),
        duration=reading.duration,
        fps=reading.fps,
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        codec=codec,
        decoder="pyav",
        warnings=reading.warnings + repeats(reading.times),
    )
