"""The frames that a file shows and when, from its packets or frames and never from its header's counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from colbert_video.errors import FailureKind, SettingsError, VideoError
from colbert_video.video.decode.sampling import random_in_segments, segment_centres, snap_to
from colbert_video.video.frames import SamplingSettings

SLIDE_SECONDS = 1.0
"""Of frames further apart than this, the last one does not last as long as the others."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Timestamps of all shown frames in order of showing.

    Raises:
        SettingsError: If there is no frame, or the stamps do not ascend strictly.
    """

    stamps: Int[np.ndarray, "frames"]
    """Presentation timestamps in units of `time_base`, strictly ascending."""
    time_base: Fraction
    """Seconds per unit."""
    origin: float
    """Seconds that players subtract from every timestamp."""
    last_duration: float
    """Seconds that the last frame is shown."""

    def __post_init__(self) -> None:
        if len(self.stamps) == 0 or (np.diff(self.stamps) <= 0).any():
            raise SettingsError("a timeline needs at least one frame and strictly ascending stamps.")

    @classmethod
    def from_stamps(
        cls, stamps: Sequence[int], time_base: Fraction, origin: float, *, last_units: int | None, rate: float
    ) -> "Timeline":
        """Build a timeline: sort the stamps and work out how long the last frame is shown.

        Args:
            stamps: Timestamps in any order, without repeats.
            time_base: Seconds per unit.
            origin: Seconds that players subtract.
            last_units: Duration of the last frame as its packet states it; None or 0 if it does not.
            rate: Frames per second, used for a single frame of unstated duration; 0 if unknown.

        Returns:
            The timeline; a last duration that is unstated, or less than half the median spacing, becomes the median
            spacing. Where frames last for seconds, as slides do, the last one lasts as long as it states, or as the
            rate says.
        """
        ordered = np.sort(np.asarray(stamps, dtype=np.int64))
        stated = float((last_units or 0) * time_base)
        if len(ordered) > 1:
            usual = float(np.median(np.diff(ordered))) * float(time_base)
        else:
            usual = 1.0 / rate if rate > 0 else 0.0
        if usual > SLIDE_SECONDS:
            return cls(ordered, time_base, origin, stated or (1.0 / rate if rate > 0 else usual))
        return cls(ordered, time_base, origin, stated if stated > usual / 2 else usual)

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def times(self) -> Float[np.ndarray, "frames"]:
        """When each frame is shown, in seconds as players count them."""
        return self.seconds(self.stamps)

    @property
    def duration(self) -> float:
        """End of the last frame, in seconds."""
        return round(float(self.times[-1]) + self.last_duration, 6)

    @property
    def fps(self) -> float:
        """Mean number of frames shown per second; 0 if a single frame has no duration."""
        shown = self.duration - float(self.times[0])
        return len(self) / shown if shown > 0 else 0.0

    def seconds(self, stamps: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
        """Return the times of timestamps in seconds, as players count them."""
        return round_seconds(stamps * float(self.time_base) - self.origin)

    def choose(self, path: str, settings: SamplingSettings) -> Int[np.ndarray, "wanted"]:
        """Choose frames by the number, placement and window of the settings; `path` is for the error.

        Returns:
            Ascending rows of the timeline; some repeat if there are fewer frames than wanted.

        Raises:
            VideoError: If no frame lies in the window.
        """
        first, available = self.span(path, settings.window)
        rng = settings.rng
        if rng is None:
            return first + segment_centres(available, settings.num_frames)
        return first + random_in_segments(available, settings.num_frames, rng)

    def choose_near(
        self, keys: Int[np.ndarray, "keys"], path: str, settings: SamplingSettings, snap: float
    ) -> Int[np.ndarray, "wanted"]:
        """Choose frames as `choose`, and move them to keyframes that are near enough.

        Args:
            keys: Rows of the keyframes.
            path: For the error.
            settings: As in `choose`.
            snap: How far a frame may be moved, as a share of the spacing between frames.

        Raises:
            VideoError: If no frame lies in the window.
        """
        first, available = self.span(path, settings.window)
        within = keys[(keys >= first) & (keys < first + available)]
        return snap_to(self.choose(path, settings), within, int(snap * available / settings.num_frames))

    def span(self, path: str, window: tuple[float, float] | None) -> tuple[int, int]:
        """Return the row of the first frame of a window, and the number of frames in it; `path` is for the error.

        The frame that a player shows as the window begins is its first one if it stays for longer than frames usually
        do, such as a slide, or if no other comes.

        Raises:
            VideoError: If no frame is shown in the window.
        """
        if window is None:
            return 0, len(self)
        first, end = (int(i) for i in np.searchsorted(self.times, window, side="left"))
        if first > 0 and self._stays(first, end, window[0]):
            first -= 1
        if first == end:
            raise empty_window(path, window, self.duration)
        return first, end - first

    def _stays(self, following: int, end: int, start: float) -> bool:
        """Return True if the frame before row `following` is part of a window that begins at `start` seconds."""
        until = float(self.times[following]) if following < len(self) else self.duration
        return until > start and (following == end or until - start > noticed(float(np.median(np.diff(self.times)))))


def noticed(spacing: float) -> float:
    """Return how many seconds a frame must stay in a window that begins after it to be part of it.

    Args:
        spacing: Seconds from one frame to the next, the median. Frames of ordinary video never stay so long.
    """
    return min(1.5 * spacing, SLIDE_SECONDS)


def within_window(times: Float[np.ndarray, "times"], window: tuple[float, float] | None) -> Float[np.ndarray, "times"]:
    """Return when frames are seen in a window: one that is shown already as it begins, from its start on."""
    return times if window is None else np.maximum(times, window[0])


def round_seconds(times: Float[np.ndarray, "times"]) -> Float[np.ndarray, "times"]:
    """Round to microseconds, the unit in which FFmpeg keeps a file's start, and count what precedes the start to it."""
    return np.maximum(np.round(times, 6), 0.0) + 0.0  # never -0.0


def empty_window(path: str, window: tuple[float, float], duration: float) -> VideoError:
    """Return the error for a window without frames."""
    return VideoError(
        path,
        FailureKind.UNDECODABLE,
        f"no frame is shown in [{window[0]:g}, {window[1]:g}) seconds; the video lasts {duration:.3f} seconds",
    )
