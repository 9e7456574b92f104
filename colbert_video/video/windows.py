"""Windows of long videos: where they lie and what they are called.

A window is named as a media fragment of its video (W3C Media Fragments URI 1.0, section 4.2.1): "film.mp4#t=30,60".
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from colbert_video.errors import SettingsError

Span = tuple[float, float]
"""A part of a video, [start, end) in seconds."""
WINDOW_ID = re.compile(r"#t=([0-9]+(?:\.[0-9]+)?),([0-9]+(?:\.[0-9]+)?)\Z")
DECIMALS = 3
"""Windows begin and end at whole milliseconds, so that an id says exactly where."""
SHOTS = "shots"
"""Instead of a length: one window for each shot."""


@dataclass(frozen=True)
class Cutting:
    """How long videos are cut into windows.

    Raises:
        SettingsError: If a length is not positive and finite, windows would leave gaps, or shots are given a stride.
    """

    window: float | Literal["shots"]
    """Length of a window in seconds, or "shots" for one window a shot."""
    stride: float | None = None
    """Seconds from the start of one window to the next; None for half a window."""

    def __post_init__(self) -> None:
        if self.window == SHOTS:
            if self.stride is not None:
                raise SettingsError(
                    f"stride={self.stride} contradicts window='shots': shots follow one another."
                )
            return
        if isinstance(self.window, str) or not 0 < self.window < math.inf:
            raise SettingsError(f"window={self.window!r} must be a number of seconds above 0, or 'shots'.")
        if min(self.window, self.window if self.stride is None else self.stride) < 10**-DECIMALS:
            raise SettingsError(
                f"window={self.window!r}, stride={self.stride!r}: windows are named by milliseconds; give one at least."
            )
        if self.stride is not None and not 0 < self.stride <= self.window:
            raise SettingsError(
                f"stride={self.stride!r} must be above 0 and at most window={self.window}, or moments between windows are lost."
            )

    def even_spans(self, duration: float) -> list[Span]:
        """Windows of equal length over a video.

        What is left over at the end makes a window of its own if it is longer than half a stride; otherwise the last window
        reaches on to the end. So a video hardly longer than a window is one.

        Args:
            duration: Length of the video in seconds.

        Returns:
            The windows in order; the last one ends with the video.

        Raises:
            SettingsError: If windows are shots.
        """
        if isinstance(self.window, str):
            raise SettingsError("shots are found in the video; they are not evenly spaced.")
        stride = self.window / 2 if self.stride is None else self.stride
        more = max(0, math.ceil((duration - self.window) / stride - 0.5 - 1e-9))
        starts = [round(number * stride, DECIMALS) for number in range(more + 1)]
        ends = [round(start + self.window, DECIMALS) for start in starts[:-1]]
        return list(zip(starts, [*ends, round(duration, DECIMALS)], strict=True))


def window_id(video: str, span: Span) -> str:
    """The id of a window of a video, such as "film.mp4#t=30,60"."""
    return f"{video}#t={_seconds(span[0])},{_seconds(span[1])}"


def parse_window_id(name: str) -> tuple[str, Span] | None:
    """The video and the span that `window_id` made an id of; None if it is no window's."""
    found = WINDOW_ID.search(name)
    return None if found is None else (name[: found.start()], (float(found[1]), float(found[2])))


def refuse_window_ids(ids: Iterable[str]) -> None:
    """Refuse ids that a window of another video could have.

    Raises:
        SettingsError: If there is one.
    """
    for name in ids:
        if WINDOW_ID.search(name):
            raise SettingsError(
                f"the id {name!r} looks like that of a window; in an index with windows such ids are kept for them. Give "
                "the video another id, as (id, path)."
            )


def _seconds(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
