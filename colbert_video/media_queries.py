"""Queries that are no words: a picture or a clip, encoded as the index's videos were.

A picture becomes the frame token that a video would have of it, and is compared with the frame bag alone: that bag holds
single pictures, where a frame that looks the same scores 1. The video bag holds frames in context, and a picture has none.
A clip becomes what a video becomes: frame tokens for the frame bag, and its frames in context, without the expansion
tokens, for the video bag.
"""

import logging
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from colbert_video.errors import FailureKind, SettingsError, VideoError
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.indexing.settings import IndexSettings
from colbert_video.model import VideoColBERT
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.names import native_name
from colbert_video.video.pool import FramePool, FrameRequest
from colbert_video.video.windows import Span

if TYPE_CHECKING:
    import PIL.Image

logger = logging.getLogger(__name__)

Picture = str | os.PathLike[str] | UInt8[np.ndarray, "height width 3"] | Any
"""An image file, RGB pixels, or a PIL image."""
BAD_PICTURE = (OSError, ValueError, SyntaxError, TypeError, EOFError, OverflowError, IndexError, MemoryError)
"""What PIL raises for damaged files."""


def image_query(model: VideoColBERT, image: Picture, settings: IndexSettings) -> dict[str, PreparedQuery]:
    """Encode a picture.

    Args:
        model: Encodes it.
        image: An image file, RGB pixels uint8 (height, width, 3), or a PIL image.
        settings: Of the index that is searched; one that stores no frame bag is searched in its video bag.

    Returns:
        The query tokens by bag.

    Raises:
        SettingsError: If it is no image.
    """
    from PIL import Image

    bag = "frame" if "frame" in settings.bags else "video"
    wanted = model.config.preprocess
    # By Pillow, as bytes: the model could do it too, in twelve times the memory.
    size, filter_ = (wanted.width, wanted.height), Image.Resampling[wanted.interpolation.upper()]
    picture = np.array(read_picture(image).resize(size, filter_))
    return _queries(model, picture[None], (bag,))


def clip_query(
    model: VideoColBERT, path: str | os.PathLike[str], settings: IndexSettings, *, window: Span | None
) -> dict[str, PreparedQuery]:
    """Encode a clip.

    Args:
        model: Encodes it.
        path: The file.
        settings: Of the index that is searched: as many frames are read, for the bags that it stores.
        window: Only this part of the file, [start, end) in seconds.

    Returns:
        The query tokens by bag.

    Raises:
        VideoError: If the file cannot be read.
    """
    return _queries(model, _read_clip(model, path, settings, window).pixels, settings.bags)


def read_picture(image: Picture) -> "PIL.Image.Image":
    """An image in RGB, upright and read whole.

    Raises:
        SettingsError: If it is no image.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise SettingsError(
                f"the image is {image.dtype} of shape {image.shape}; give RGB bytes, uint8 (height, width, 3)."
            )
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return upright(image)
    try:
        with Image.open(native_name(os.fspath(image))) as opened:
            return upright(opened)
    except FileNotFoundError as error:
        raise SettingsError(f"there is no image file {image}; check the name.") from error
    except (Image.DecompressionBombError, *BAD_PICTURE) as error:
        raise SettingsError(f"{image} cannot be read as an image: {error}.") from error


def upright(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """An image in RGB, turned as its EXIF data say if these can be read; the given one if nothing is to be done."""
    from PIL import ExifTags, ImageOps

    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else a copy would be made
            image = ImageOps.exif_transpose(image)
    except struct.error:
        logger.info("a picture's EXIF data are damaged; it is taken as it lies")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _read_clip(
    model: VideoColBERT, path: str | os.PathLike[str], settings: IndexSettings, window: Span | None
) -> SampledFrames:
    preprocess = model.config.preprocess
    sampling = SamplingSettings(
        num_frames=settings.num_frames or model.config.num_frames,
        height=preprocess.height,
        width=preprocess.width,
        interpolation=preprocess.interpolation,
    )
    with FramePool(sampling, workers=1) as pool:
        result = next(iter(pool.read_many([FrameRequest(str(Path(path).absolute()), window=window)])))
    if result.frames is None:
        raise result.error or VideoError(str(path), FailureKind.UNREADABLE, "no frames came back")
    return result.frames


def _queries(
    model: VideoColBERT, pixels: UInt8[np.ndarray, "frames height width 3"], bags: Collection[str]
) -> dict[str, PreparedQuery]:
    encoded = model.encode_videos([pixels])
    tokens: dict[str, Tensor] = {"frame": encoded.frame[0]}
    if encoded.video is not None:
        tokens["video"] = encoded.video[0][: len(pixels)]  # expansion tokens come after the frames
    return {bag: PreparedQuery(tokens[bag].cpu()) for bag in bags}
