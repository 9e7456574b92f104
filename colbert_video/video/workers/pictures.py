"""Small pictures of moments: the frame of a video shown nearest to a time, as JPEG."""

import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest

NEARBY = (0.5, 5.0, 50.0)
"""Half the span, in seconds, in which a frame is looked for; wider ones for slide shows."""
QUALITY = 80


def picture_settings(side: int, *, seconds: float) -> SamplingSettings:
    """How a pool reads the one frame of a picture.

    Args:
        side: Of the largest picture, in pixels.
        seconds: Time limit for one file.
    """
    return SamplingSettings(num_frames=1, height=side, width=side, timeout=seconds)


def picture_of(pool: FramePool, path: str, time: float, side: int) -> bytes:
    """A JPEG of the frame at a moment.

    Args:
        pool: Decodes it, with `picture_settings`.
        path: The video file.
        time: The moment in seconds.
        side: Of the square that the picture fits in, in pixels.

    Raises:
        VideoError: If the file cannot be decoded.
    """
    error = None
    for window in _windows(time):
        result = next(iter(pool.read_many([FrameRequest(path, window=window)])))
        if result.frames is not None:
            return to_jpeg(result.frames.pixels[0], *_fitted(result.frames, side))
        error = result.error
        if error is not None and "no frame is shown" not in error.detail:
            break
    raise error or VideoError(path, FailureKind.UNDECODABLE, "no frames came back")


def _windows(time: float) -> Iterator[tuple[float, float] | None]:
    """Spans around a moment, ever wider; at last the whole video."""
    for half in NEARBY:
        yield max(time - half, 0.0), time + half
    yield None


def _fitted(frames: SampledFrames, side: int) -> tuple[int, int]:
    """Width and height of the picture in its true shape, in a square."""
    longest = max(frames.width, frames.height)
    return max(round(side * frames.width / longest), 1), max(round(side * frames.height / longest), 1)


def to_jpeg(pixels: UInt8[np.ndarray, "height width 3"], width: int, height: int) -> bytes:
    """A JPEG of the given size."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
