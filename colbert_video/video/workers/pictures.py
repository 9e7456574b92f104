"""Small pictures of moments: the frame of a video shown nearest to a time, as JPEG."""

import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest

NEARBY = (0.5, 5.0, 50.0)
"""Half the span, in seconds, in which a frame is looked for where none is shown at the moment itself."""
MOMENT = 1e-3
"""Seconds; a window so short holds the one frame that a player shows then."""
QUALITY = 80


def picture_settings(side: int, *, seconds: float) -> SamplingSettings:
    """Return settings for a pool that reads one frame per picture.

    Args:
        side: Height and width to decode at, in pixels; no picture is larger.
        seconds: Time limit for one file.
    """
    return SamplingSettings(num_frames=1, height=side, width=side, timeout=seconds)


def picture_of(pool: FramePool, path: str, time: float, side: int, stream: int | None = None) -> bytes:
    """Return a JPEG of the frame shown nearest to a moment.

    Args:
        pool: Decodes it, with `picture_settings`.
        path: The video file.
        time: The moment in seconds.
        side: Side in pixels of the square that the picture must fit in.
        stream: Which video stream, counted from 0; None for the one that is read by default.

    Raises:
        VideoError: If the file cannot be decoded.
    """
    error = None
    for window in _windows(time):
        result = next(iter(pool.read_many([FrameRequest(path, window=window, stream=stream)])))
        if result.frames is not None:
            return _to_jpeg(result.frames.pixels[0], *_fitted(result.frames, side))
        error = result.error
        if error is not None and "no frame is shown" not in error.detail:
            break
    raise error or VideoError(path, FailureKind.UNDECODABLE, "no frames came back")


def _windows(time: float) -> Iterator[tuple[float, float] | None]:
    """Yield the moment itself, wider and wider spans around it for one past the end, and last the whole video."""
    yield max(time, 0.0), max(time, 0.0) + MOMENT
    for half in NEARBY:
        yield max(time - half, 0.0), time + half
    yield None


def _fitted(frames: SampledFrames, side: int) -> tuple[int, int]:
    """Return the width and height of the picture in the shape that players show, fitted into a square."""
    width = frames.width * frames.pixel_aspect
    longest = max(width, frames.height)
    return max(round(side * width / longest), 1), max(round(side * frames.height / longest), 1)


def _to_jpeg(pixels: UInt8[np.ndarray, "height width 3"], width: int, height: int) -> bytes:
    """Resize a picture to the given size in pixels and return it as JPEG."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
