"""Read sampled frames of one video file in this process: choose the decoder, and with PyAV the way that costs least.

Counts and durations in a container's header are ignored, as they are often wrong: frames are chosen by the timestamps
of packets. Packets marked for discarding (what an edit list cuts away) are decoded where others refer to them and never
shown. Files without usable timestamps are decoded in order from the start, as a player would.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import av

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decode_order import indexed_packets, kept_packets, read_in_decode_order
from colbert_video.video.decode.decoding import ChosenFrames
from colbert_video.video.decode.in_order import read_in_order
from colbert_video.video.decode.other_decoders import read_with_other
from colbert_video.video.decode.packets import read_from_packets
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.seeking import UNSEEN_STATE_FORMATS, read_by_seeking
from colbert_video.video.decode.truncation import has_protected_entry
from colbert_video.video.files import locate
from colbert_video.video.frames import SampledFrames, SamplingSettings

KEPT_BYTES = 64 * 2**20
"""Files up to this size have their packets kept in memory; larger ones are sought through."""
LONG_SECONDS = 600.0
"""Smaller files that last longer are sought through too: listing all their packets would take most of the time."""
IN_ORDER_FORMATS = ("gif",)
"""The frames of a GIF build on one another whatever is marked as keyframe."""

Method = Callable[[OpenVideo, SamplingSettings, FrameResizer], ChosenFrames | None]


def read_frames(path: str | os.PathLike[str], settings: SamplingSettings | None = None) -> SampledFrames:
    """Read sampled frames of one video file in this process.

    A damaged file can hang or kill a native decoder; `FramePool` decodes in processes of their own.

    Args:
        path: A local file or a member of a tar archive (ARCHIVE/MEMBER); never a URL.
        settings: What to read; None for the defaults.

    Returns:
        The frames with their times, those that FFmpeg shows at these times.

    Raises:
        VideoError: If the file cannot be used; its `kind` says why.
        DependencyError: If decord or torchcodec is asked for and not installed.
    """
    settings = settings or SamplingSettings()
    read = _read_with_pyav if settings.decoder == "pyav" else read_with_other
    return read(os.path.expanduser(os.fspath(path)), settings)  # noqa: PTH111 - pathlib drops "./" before a "~"


def _read_with_pyav(path: str, settings: SamplingSettings) -> SampledFrames:
    deadline = Deadline(settings.timeout, path)
    with open_video(path, deadline, settings.max_pixels, settings.stream) as video:
        resizer = FrameResizer(path, settings, video.shape)
        codec, methods, container, has_texts = video.codec, _methods(video), video.format, video.has_texts
        chosen = methods[0](video, settings, resizer) if methods else None
    if chosen is None and len(methods) > 1:
        with open_video(path, deadline, settings.max_pixels, settings.stream) as video:
            chosen = methods[1](video, settings, resizer)
    if chosen is None:
        chosen = read_in_order(path, settings, deadline, resizer)
    if chosen.warnings and has_protected_entry(path, container):
        raise VideoError(path, FailureKind.ENCRYPTED, "a part of the video stream is encrypted")
    if resizer.source is None:
        raise VideoError(path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
    return replace(chosen.sampled(resizer.source, codec=codec, decoder="pyav"), has_texts=has_texts)


def _methods(video: OpenVideo) -> tuple[Method, ...]:
    """Return how to read a file, and how else if that fails; the length in the header is a hint, to be verified."""
    large = locate(video.path).size > KEPT_BYTES
    long = (video.container.duration or 0) / av.time_base > LONG_SECONDS
    if video.format == "avi":
        return _avi_methods(large=large, long=long)
    if large:
        return (read_by_seeking,)
    if video.format in IN_ORDER_FORMATS:
        return ()
    if long and video.format not in UNSEEN_STATE_FORMATS:
        return partial(read_by_seeking, shortest=LONG_SECONDS), read_from_packets
    return (read_from_packets,)


def _avi_methods(*, large: bool, long: bool) -> tuple[Method, ...]:
    """Return how to read AVI, which has no presentation timestamps."""
    by_index = partial(read_in_decode_order, listed=indexed_packets, long_seconds=LONG_SECONDS)
    from_memory = partial(read_in_decode_order, listed=kept_packets, long_seconds=LONG_SECONDS)
    if large:
        return (by_index,)
    return (by_index, from_memory) if long else (from_memory,)
