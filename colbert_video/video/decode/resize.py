"""Turn a decoded frame into upright RGB pixels of the size in the settings."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from colbert_video.video.decode.container import check_pixels
from colbert_video.video.frames import SamplingSettings

ACCURATE = ("ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")


@dataclass(frozen=True)
class SourcePicture:
    """The picture as the file holds it."""

    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    rotation: int
    """Degrees counterclockwise by which it has to be turned: 0, 90, 180 or 270."""

    @classmethod
    def from_frame(cls, frame: av.VideoFrame) -> "SourcePicture":
        """Build from a decoded frame."""
        turns = quarter_turns(frame)
        return cls(*_turned(frame.width, frame.height, turns), 90 * turns)


class FrameResizer:
    """Resizes the frames of one file, straight to the size in the settings without cropping.

    PyAV 18 and newer let swscale round accurately and filter chroma at full resolution, which comes within 0.7 grey
    levels of converting at full size and resizing with Pillow. Older ones do not offer that, so there Pillow resizes.
    """

    def __init__(self, path: str, settings: SamplingSettings) -> None:
        self.path = path
        self.settings = settings
        self.source: SourcePicture | None = None
        # One reformatter for all frames: each owns a scaling context, expensive to make.
        self._reformatter = VideoReformatter()
        self._accurate = all(hasattr(Interpolation, name) for name in ACCURATE)

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """Return the pixels of a decoded frame, resized and upright.

        Raises:
            VideoError: If the frame has more than `max_pixels` pixels.
        """
        check_pixels(self.path, frame.width, frame.height, self.settings.max_pixels)
        turns = quarter_turns(frame)
        width, height = _turned(self.settings.width, self.settings.height, turns)
        self.source = self.source or SourcePicture.from_frame(frame)
        pixels = self._scaled(frame, width, height) if self._accurate else self._with_pillow(frame, width, height)
        return np.rot90(pixels, turns)

    def _scaled(self, frame: Any, width: int, height: int) -> np.ndarray:
        flags = Interpolation[self.settings.interpolation.upper()]
        for name in ACCURATE:
            flags |= Interpolation[name]
        # Planar RGB takes swscale's vector code where packed RGB does not: half the time for the same values.
        scaled = self._reformatter.reformat(frame, width, height, "gbrp", interpolation=flags, threads=1)
        return scaled.to_ndarray()

    def _with_pillow(self, frame: Any, width: int, height: int) -> np.ndarray:
        full = self._reformatter.reformat(frame, format="rgb24", interpolation="BICUBIC").to_ndarray()
        return resized(full, width, height, self.settings.interpolation)


def resized(
    pixels: UInt8[np.ndarray, "_ _ 3"], width: int, height: int, interpolation: str
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Return one RGB picture resized with Pillow; `interpolation` is "bicubic" or "bilinear"."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling[interpolation.upper()]))


def quarter_turns(frame: av.VideoFrame) -> int:
    """Return the counterclockwise quarter turns (0 to 3) that bring a frame upright; other angles are rounded to the nearest."""
    return round(frame.rotation / 90) % 4


def _turned(width: int, height: int, turns: int) -> tuple[int, int]:
    return (height, width) if turns % 2 else (width, height)
