"""How a decoded picture has to be mirrored and turned to be shown as players show it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from jaxtyping import UInt8

from colbert_video.video.frames import Cropping

MATRIX_INTEGERS = 9
SKEW_DEGREES = 1.0
"""Angles further than this from a quarter turn are not what the file asks for."""
UNKNOWN_SIDE_DATA = range(28, 48)
"""Kinds of side data that FFmpeg knows and releases of PyAV may not."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to put a rectangle back into place: perhaps mirrored, then turned."""

    turns: int = 0
    """Quarter turns counterclockwise, 0 to 3, after mirroring."""
    mirrored: bool = False
    """True to swap left and right first."""
    asked: float | None = None
    """Degrees counterclockwise that the file asks for, if no quarter turns; NaN for a matrix of no angle."""

    @classmethod
    def from_frame(cls, frame: Any) -> "Orientation | None":
        """Build from the display matrix of a decoded `av.VideoFrame`; None if it has none.

        FFmpeg takes it from the container, from EXIF of JPEG pictures, or from display orientation in H.264 and HEVC.
        """
        matrix = _display_matrix(frame)
        return None if matrix is None else cls.from_matrix(*(matrix[i] for i in (0, 1, 3, 4)))

    @classmethod
    def from_matrix(cls, a: float, b: float, c: float, d: float) -> "Orientation":
        """Build from the linear part of a display matrix: (x, y) is shown at (a x + c y, b x + d y), y downwards.

        Any other map than the eight becomes the nearest of them.
        """
        determinant = a * d - b * c
        if determinant == 0:
            return cls(asked=math.nan)
        if determinant < 0:
            a, b = -a, -b
        degrees = -math.degrees(math.atan2(b - c, a + d))
        quarters = round(degrees / 90)
        askew = abs(degrees - 90 * quarters) > SKEW_DEGREES
        return cls(quarters % 4, determinant < 0, round(degrees, 1) if askew else None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence if the picture cannot be turned as the file asks."""
        if self.asked is None:
            return ()
        asked = "by no angle" if math.isnan(self.asked) else f"by {self.asked:g} degrees"
        return (f"the file asks to turn the picture {asked}; it is turned by {90 * self.turns}",)

    def apply(self, pixels: UInt8[np.ndarray, "rows columns 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Return the picture upright."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.turns)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the upright width and height of a picture, or those to decode for upright ones."""
        return (height, width) if self.turns % 2 else (width, height)

    def crop(self, crop: Cropping) -> Cropping:
        """Return the same borders of the upright picture."""
        left, top, right, bottom = crop
        if self.mirrored:
            left, right = right, left
        for _ in range(self.turns):
            left, top, right, bottom = top, right, bottom, left
        return Cropping(left, top, right, bottom)


def _display_matrix(frame: Any) -> list[int] | None:
    for entry in _side_data(frame):
        if entry.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(entry), np.int32)[:MATRIX_INTEGERS].tolist()
    return None


def _side_data(frame: Any) -> list[Any]:
    """Return a frame's side data; through `frame.side_data` the frame would refer to itself and keep its memory."""
    listed: Any = SideDataContainer  # its types do not say that it can be made
    try:
        return list(listed(frame))
    except ValueError:  # PyAV lists nothing where one kind, such as EXIF, is unknown to it
        return list(listed(_without_unknown(frame)))


def _without_unknown(frame: Any) -> Any:
    """Return a frame without the side data that PyAV does not know."""
    graph = filter_graph(frame, [("sidedata", f"mode=delete:type={kind}") for kind in UNKNOWN_SIDE_DATA])
    graph.push(frame)
    return graph.pull()


def filter_graph(frame: Any, filters: Iterable[tuple[str, str]]) -> Any:
    """Return a chain of FFmpeg's filters, each a name and its arguments, for pictures of a frame's size and format."""
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    for following in (*(graph.add(*given) for given in filters), graph.add("buffersink")):
        last.link_to(following)
        last = following
    graph.configure()
    return graph
