"""Sampling with torchcodec, for those who have it: PyTorch's own decoder, over the system's FFmpeg libraries.

It is always opened in its exact mode, which scans the file; the approximate one breaks trimmed files. It tells when each
frame is shown, which is compared with the packets: another time is another frame.
"""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import DependencyError
from colbert_video.video.foreign import Listing, Weakness, check_count, list_frames, unsupported
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.names import native_name
from colbert_video.video.resize import resized

WEAKNESS = Weakness("torchcodec", formats=("mpegts", "mpeg", "avi", "h264", "hevc", "gif"))
TIME_ERROR = 2e-3
"""Seconds by which times may differ: containers round to milliseconds."""


def read_with_torchcodec(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with torchcodec.

    Args:
        path: A local file.
        settings: What to read.

    Returns:
        The frames.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` where PyAV might read it.
        DependencyError: If torchcodec is not installed, or finds no FFmpeg libraries.
    """
    decoders = import_torchcodec()
    listing = list_frames(path, settings, WEAKNESS)
    try:
        pixels = _decoded(decoders, path, settings, listing)
    except (RuntimeError, ValueError, IndexError) as error:
        raise unsupported(path, f"torchcodec fails: {str(error).strip().splitlines()[0]}") from error
    return listing.sampled(pixels, "torchcodec")


def import_torchcodec() -> Any:
    """Import torchcodec's decoders.

    Raises:
        DependencyError: If it is not installed, or its libraries do not load.
    """
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "decoder='torchcodec' needs the package torchcodec and the FFmpeg libraries, and they do not load: "
            f"{str(error).strip().splitlines()[0]} Install a torchcodec that fits your torch and an FFmpeg with shared "
            "libraries, or use decoder='pyav'."
        ) from error
    return decoders


def _decoded(
    decoders: Any, path: str, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "wanted height width 3"]:
    """Whole frames, resized with Pillow."""
    decoder = decoders.VideoDecoder(native_name(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    check_count(path, "torchcodec", len(decoder), listing)
    positions, places = listing.distinct()
    frames = []
    for position in positions.tolist():
        frame = decoder.get_frame_at(position)
        _check_time(path, frame.pts_seconds - listing.origin, float(listing.timeline.times[position]))
        pixels = frame.data.numpy()
        frames.append(resized(pixels, settings.width, settings.height, settings.interpolation))
    return np.stack(frames)[places]


def _check_time(path: str, shown: float, wanted: float) -> None:
    if abs(shown - wanted) > TIME_ERROR:
        raise unsupported(
            path, f"torchcodec gives the frame at {shown:.3f} seconds where {wanted:.3f} was asked"
        )
