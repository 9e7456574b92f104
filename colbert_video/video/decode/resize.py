"""Turn a decoded frame into upright RGB pixels of the size in the settings."""

from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from colbert_video.video.decode.colour import hdr_primaries, hdr_transfer, matrix_warning, nearest_matrix, tone_mapped
from colbert_video.video.decode.container import check_pixels
from colbert_video.video.decode.orientation import Orientation, filter_graph
from colbert_video.video.frames import Cropping, SamplingSettings, SourcePicture, StreamShape

ACCURATE = ("ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")
KNOWN_RANGES = (0, 1, 2)
"""Unspecified, limited and full, the ranges that swscale takes."""


class FrameResizer:
    """Resizes the frames of one file, straight to the size in the settings without cropping.

    PyAV 18 and newer let swscale round accurately and filter chroma at full resolution, which comes within 0.7 grey
    levels of converting at full size and resizing with Pillow. Older ones do not offer that, so there Pillow resizes.
    """

    def __init__(self, path: str, settings: SamplingSettings, shape: StreamShape | None = None) -> None:
        self.path = path
        self.settings = settings
        self.shape = shape or StreamShape()
        self.source: SourcePicture | None = None
        # One reformatter for all frames: each owns a scaling context, expensive to make.
        self._reformatter = VideoReformatter()
        self._accurate = all(hasattr(Interpolation, name) for name in ACCURATE)
        self._cropper = Cropper(self.shape.crop)
        self._orientation = Orientation()

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """Return the pixels of a decoded frame: cropped, resized, in SDR, upright.

        Raises:
            VideoError: If the frame has more than `max_pixels` pixels.
        """
        check_pixels(self.path, frame.width, frame.height, self.settings.max_pixels)
        frame = self._cropper(frame)
        orientation = Orientation.from_frame(frame) or self._orientation
        self.source = self.source or source_picture(frame, orientation, self.shape)
        return orientation.apply(self._pixels(frame, *orientation.size(self.settings.width, self.settings.height)))

    def note_keyframe(self, frame: av.VideoFrame) -> None:
        """Take over the orientation of a keyframe, which H.264 and HEVC state there for the frames that follow."""
        self._orientation = Orientation.from_frame(frame) or Orientation()

    def _pixels(self, frame: Any, width: int, height: int) -> np.ndarray:
        _replace_tags(frame)
        transfer = hdr_transfer(frame)
        if transfer is not None:
            wide = self._scaled(frame, width, height, "gbrp16le")
            return tone_mapped(wide, transfer, hdr_primaries(frame))
        if self._accurate:
            # Planar RGB takes swscale's vector code where packed RGB does not: half the time for the same values.
            return self._scaled(frame, width, height, "gbrp")
        return self._with_pillow(frame, width, height)

    def _scaled(self, frame: Any, width: int, height: int, pixel_format: str) -> np.ndarray:
        flags = Interpolation[self.settings.interpolation.upper()]
        for name in ACCURATE if self._accurate else ():
            flags |= Interpolation[name]
        return self._reformatter.reformat(
            frame, width, height, pixel_format, interpolation=flags, threads=1
        ).to_ndarray()

    def _with_pillow(self, frame: Any, width: int, height: int) -> np.ndarray:
        full = self._reformatter.reformat(frame, format="rgb24", interpolation="BICUBIC").to_ndarray()
        return resized(full, width, height, self.settings.interpolation)


def resized(
    pixels: UInt8[np.ndarray, "_ _ 3"], width: int, height: int, interpolation: str
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Return one RGB picture resized with Pillow; `interpolation` is "bicubic" or "bilinear"."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling[interpolation.upper()]))


class Cropper:
    """Cuts the borders that a container names off decoded frames, without copying their pixels.

    Args:
        crop: The borders.
    """

    def __init__(self, crop: Cropping) -> None:
        self.crop = crop
        self._graph: Any = None
        self._made_for: tuple[int, int, str] | None = None

    def __call__(self, frame: Any) -> Any:
        """Return the frame without the borders; as it is if there are none, or it is too small for them."""
        left, top, right, bottom = self.crop
        width, height = frame.width - left - right, frame.height - top - bottom
        if not any(self.crop) or width < 1 or height < 1:
            return frame
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._made_for:
            crop = ("crop", f"{width}:{height}:{left}:{top}:exact=1")
            self._graph, self._made_for = filter_graph(frame, [crop]), kind
        self._graph.push(frame)
        return self._graph.pull()


def source_picture(frame: Any, orientation: Orientation, shape: StreamShape) -> SourcePicture:
    """Return how players show a frame; `frame` is an `av.VideoFrame` that is already cropped."""
    width, height = orientation.size(frame.width, frame.height)
    return SourcePicture(
        width=width,
        height=height,
        rotation=90 * orientation.turns,
        mirrored=orientation.mirrored,
        pixel_aspect=1 / shape.pixel_aspect if orientation.turns % 2 else shape.pixel_aspect,
        crop=orientation.crop(shape.crop),
        transfer=hdr_transfer(frame),
        primaries=hdr_primaries(frame),
        matrix=nearest_matrix(frame),
        stream=shape.stream,
        warnings=orientation.warnings + matrix_warning(frame),
    )


def _replace_tags(frame: Any) -> None:
    """Replace tags that swscale refuses by those that it takes; others stay."""
    nearest = nearest_matrix(frame)
    if nearest is not None:
        frame.colorspace = nearest
    if frame.color_range not in KNOWN_RANGES:
        frame.color_range = 0
