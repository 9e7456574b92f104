"""Sampling with decord, for those who prefer it.

decord 0.6.0 trusts the container: on trimmed MP4s it returns wrong frames without a word, on MPEG-TS it spins for half a
minute, AV1 it cannot read. So the frames are first listed with PyAV, and what decord is known to get wrong is refused.
It can neither be interrupted nor be trusted with damaged files; use it through `FramePool` only, whose processes can be
killed.
"""

from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.container import Deadline, OpenVideo, open_video
from colbert_video.video.decoding import FrameDecoder
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.in_order import listed_timeline
from colbert_video.video.names import native_name
from colbert_video.video.resize import FrameResizer, SourcePicture, resized

MISREAD_FORMATS = ("mpegts", "mpeg")
MISREAD_CODECS = ("av1",)
REMEDY = "use decoder='pyav'"


def read_with_decord(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with decord.

    Args:
        path: A local file.
        settings: What to read.

    Returns:
        The frames.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` where PyAV might read it.
        DependencyError: If decord is not installed.
    """
    decord = import_decord()
    deadline = Deadline(settings.timeout, path)
    with open_video(path, deadline, settings.max_pixels) as video:
        source = _first_picture(video, FrameResizer(path, settings))
    with open_video(path, deadline, settings.max_pixels) as video:
        codec = video.codec
        _check_readable(video)
        timeline = listed_timeline(video)
    chosen = timeline.choose(path, settings)
    try:
        pixels = _decoded(decord, path, settings, len(timeline), chosen)
    except (decord.DECORDError, RuntimeError) as error:
        raise _unsupported(path, f"decord fails: {str(error).strip().splitlines()[0]}") from error
    distinct = len(set(chosen.tolist()))
    repeats = (f"{distinct} distinct frames of {settings.num_frames}; some repeat",)
    return SampledFrames(
        pixels=pixels,
        times=timeline.times[chosen],
        duration=timeline.duration,
        fps=timeline.fps,
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        codec=codec,
        decoder="decord",
        warnings=repeats if distinct < settings.num_frames else (),
    )


def import_decord() -> Any:
    """Import decord.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import decord
    except ImportError as error:
        raise DependencyError(
            "decoder='decord' needs the package decord, which is not installed; `pip install decord` (there are wheels "
            "for Linux x86_64 and Windows only), or use decoder='pyav'."
        ) from error
    return decord


def _check_readable(video: OpenVideo) -> None:
    if video.format in MISREAD_FORMATS:
        raise _unsupported(video.path, f"decord misreads {video.format} files")
    if video.codec in MISREAD_CODECS:
        raise _unsupported(video.path, f"decord cannot decode {video.codec}")


def _first_picture(video: OpenVideo, resizer: FrameResizer) -> SourcePicture:
    frame = next(FrameDecoder(video, resizer).frames(video.packets()), None)
    if frame is None:
        raise VideoError(video.path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
    return SourcePicture.of(frame)


def _decoded(
    decord: Any, path: str, settings: SamplingSettings, expected: int, chosen: Int[np.ndarray, "wanted"]
) -> UInt8[np.ndarray, "wanted height width 3"]:
    """Let decord resize where bilinear is asked, which is all it knows; else pass whole frames through Pillow."""
    native = settings.interpolation == "bilinear"
    size = {"width": settings.width, "height": settings.height} if native else {}
    reader = decord.VideoReader(native_name(path), ctx=decord.cpu(0), num_threads=1, **size)
    if len(reader) != expected:
        raise _unsupported(path, f"decord counts {len(reader)} frames where {expected} are shown")
    distinct, places = np.unique(chosen, return_inverse=True)
    if native:
        return reader.get_batch(distinct).asnumpy()[places]
    frames = [resized(reader[int(i)].asnumpy(), settings.width, settings.height, "bicubic") for i in distinct]
    return np.stack(frames)[places]


def _unsupported(path: str, what: str) -> VideoError:
    return VideoError(path, FailureKind.UNSUPPORTED, f"{what}; {REMEDY}")
