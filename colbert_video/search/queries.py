"""The model of an index: found by the name stored there, or given, and checked before it encodes a query."""

import logging
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from colbert_video.errors import FailureKind, ModelError, SettingsError, VideoError
from colbert_video.indexing.index.index_settings import IndexSettings, check_model
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.video.files import native_name
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.windows import Span
from colbert_video.video.workers.pool import FramePool, FrameRequest

if TYPE_CHECKING:
    import PIL.Image

logger = logging.getLogger(__name__)
Picture = str | os.PathLike[str] | UInt8[np.ndarray, "height width 3"] | Any
"""An image file, RGB pixels, or a PIL image."""
BAD_PICTURE = (OSError, ValueError, SyntaxError, TypeError, EOFError, OverflowError, IndexError, MemoryError)
"""What PIL raises for damaged files."""


class QueryModel:
    """Loads the model of an index when it is first wanted, and again if the index is replaced by another model's.

    Args:
        path: The index folder, for errors.
        given: A model, or a name for `VideoColBERT.from_pretrained`; None for the model that the index names.
        device: Where a model given by name runs.
    """

    def __init__(
        self, path: Path, given: VideoColBERT | str | Path | None, device: str | torch.device | None
    ) -> None:
        self._path = path
        self._given = given
        self._device = device
        self._loaded: tuple[IndexSettings, VideoColBERT] | None = None

    def use(self, model: VideoColBERT) -> None:
        """Take a model that is in memory already instead of what was given."""
        self._given, self._loaded = model, None

    def of(self, settings: IndexSettings) -> VideoColBERT:
        """The model that encodes queries for an index of these settings.

        Raises:
            IndexFolderError: If it did not make this index.
            ModelError: If it cannot be loaded.
            SettingsError: If the index names no model and none was given.
        """
        if self._loaded is None or self._loaded[0] != settings:
            model = self._load(settings)
            check_model(model, settings, self._path)
            self._loaded = settings, model
        return self._loaded[1]

    def _load(self, settings: IndexSettings) -> VideoColBERT:
        source = self._given or settings.model
        if source is None:
            raise SettingsError(
                f"{self._path} names no model: pass Searcher(path, model=...), or search with search_tokens."
            )
        if isinstance(source, VideoColBERT):
            return source
        try:
            return VideoColBERT.from_pretrained(source, device=self._device)
        except ModelError as error:
            if self._given is not None:
                raise
            raise ModelError(
                f"the model that made {self._path} cannot be loaded: {error} If it moved, say where it is with model= "
                "(--model)."
            ) from error


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
