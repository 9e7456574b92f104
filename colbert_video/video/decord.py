"""Sampling with decord, for those who prefer it.

decord 0.6.0 trusts the container: on trimmed MP4s it returns wrong frames without a word, on MPEG-TS it spins for half a
minute, AV1 it cannot read. It can neither be interrupted nor be trusted with damaged files; use it through `FramePool`
only, whose processes can be killed.
"""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import DependencyError
from colbert_video.video.foreign import Listing, Weakness, check_count, list_frames, unsupported
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.names import native_name
from colbert_video.video.resize import resized

WEAKNESS = Weakness("decord", formats=("mpegts", "mpeg"), codecs=("av1",))


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
    listing = list_frames(path, settings, WEAKNESS)
    try:
        pixels = _decoded(decord, path, settings, listing)
    except (decord.DECORDError, RuntimeError) as error:
        raise unsupported(path, f"decord fails: {str(error).strip().splitlines()[0]}") from error
    return listing.sampled(pixels, "decord")


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


def _decoded(
    decord: Any, path: str, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "wanted height width 3"]:
    """Let decord resize where bilinear is asked, which is all it knows; else pass whole frames through Pillow."""
    native = settings.interpolation == "bilinear"
    size = {"width": settings.width, "height": settings.height} if native else {}
    reader = decord.VideoReader(native_name(path), ctx=decord.cpu(0), num_threads=1, **size)
    check_count(path, "decord", len(reader), listing)
    positions, places = listing.distinct()
    if native:
        return reader.get_batch(positions).asnumpy()[places]
    frames = [
        resized(reader[int(i)].asnumpy(), settings.width, settings.height, "bicubic") for i in positions
    ]
    return np.stack(frames)[places]
