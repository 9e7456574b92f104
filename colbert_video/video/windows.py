"""Windows of long videos: where they lie and what they are called.

A window is named as a media fragment of its video (W3C Media Fragments URI 1.0, section 4.2.1): "film.mp4#t=30,60".
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from colbert_video.errors import SettingsError, VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers.pool import FramePool, FrameRequest

Span = tuple[float, float]
"""A part of a video, [start, end) in seconds."""
WINDOW_ID = re.compile(r"#t=([0-9]+(?:\.[0-9]+)?),([0-9]+(?:\.[0-9]+)?)\Z")
DECIMALS = 3
"""Windows begin and end at whole milliseconds, so that an id says exactly where."""
SHOTS = "shots"
"""Instead of a length: one window for each shot."""
FRAMES_PER_SECOND = 4
"""Frames that are compared."""
SIDE = 32
"""Height and width of the compared pictures, in pixels."""
GRID = 4
"""Rows and columns of cells with a histogram each, so that where a colour is counts too."""
LEVELS = 8
"""Levels of each of red, green and blue in a histogram."""
MIN_JUMP = 0.1
"""Share of the pixels that must change their bin at a cut."""
RATIO = 3.0
"""How many times larger than the mean change around it a cut's must be."""
NEIGHBOURS = 4
"""Changes before and after that are looked at: a second each."""
SHORTEST = 2.0
"""Least length of a shot in seconds; of cuts closer together the larger jump stays."""
LONGEST = 30.0
"""Greatest length of a window in seconds; longer shots are cut into equal parts."""
SECONDS_AT_ONCE = 64
"""How much of a video is looked through for cuts in one request, at most."""


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


def check_window_ids(ids: Iterable[str]) -> None:
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


def cell_histograms(pixels: UInt8[np.ndarray, "frames height width 3"]) -> Float[np.ndarray, "frames bins"]:
    """Colour histograms of the cells of each picture, together 1."""
    levels = pixels.astype(np.int64) * LEVELS // 256
    colours = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]  # (frames, height, width)
    frames, height, width = colours.shape
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    cells = rows[:, None] * GRID + columns  # (height, width)
    bins = GRID**2 * LEVELS**3
    places = (np.arange(frames)[:, None, None] * GRID**2 + cells) * LEVELS**3 + colours
    counts = np.bincount(places.ravel(), minlength=frames * bins).reshape(frames, bins)
    return counts / (height * width)


def jumps(histograms: Float[np.ndarray, "frames bins"]) -> Float[np.ndarray, "changes"]:
    """How much each picture differs from the one before: 0 for nothing, 1 for everything."""
    return np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2


def find_cuts(
    times: Float[np.ndarray, "frames"], changes: Float[np.ndarray, "changes"], duration: float
) -> list[float]:
    """Where shots begin, the first one left out.

    Args:
        times: When each picture is shown, in seconds, ascending.
        changes: How much each picture differs from the one before; one fewer than there are times.
        duration: Length of the video in seconds.

    Returns:
        Seconds, ascending, at least `SHORTEST` apart and away from both ends.
    """
    cuts: list[float] = []
    for place in np.argsort(-changes, kind="stable").tolist():  # the largest jump first
        if changes[place] < MIN_JUMP:
            break
        time = float(times[place] + times[place + 1]) / 2
        if _stands_out(changes, place) and all(
            abs(time - other) >= SHORTEST for other in [0.0, duration, *cuts]
        ):
            cuts.append(time)
    return sorted(cuts)


def shot_spans(cuts: list[float], duration: float) -> list[Span]:
    """Windows of a video cut into shots; those longer than `LONGEST` become equal parts."""
    borders = [0.0]
    for end in [*cuts, duration]:
        parts = max(1, int(np.ceil((end - borders[-1]) / LONGEST - 1e-9)))
        borders += np.linspace(borders[-1], end, parts + 1)[1:].tolist()
    rounded = [round(border, DECIMALS) for border in borders]
    return list(pairwise(rounded))


def _stands_out(changes: Float[np.ndarray, "changes"], place: int) -> bool:
    around = np.concatenate(
        [changes[max(0, place - NEIGHBOURS) : place], changes[place + 1 : place + 1 + NEIGHBOURS]]
    )
    return len(around) == 0 or bool(changes[place] >= RATIO * around.mean())


@dataclass(frozen=True)
class CutVideo:
    """A video and its windows, or why it cannot be read."""

    record: VideoRecord
    """The video."""
    spans: tuple[Span, ...] = ()
    """Its windows in order; none if it stays whole."""
    error: VideoError | None = None
    """Why the file was refused; None if it was not."""


def cut_videos(
    records: Sequence[VideoRecord], cutting: Cutting, *, sampling: SamplingSettings, workers: int | None
) -> Iterator[CutVideo]:
    """Find out where the windows of videos lie.

    Each file is opened for its length; with shots, a few small frames of each second are read besides. A record that
    names a part of its file is left as it is.

    Args:
        records: The videos.
        cutting: How they are cut.
        sampling: By which decoder and within which time files are read.
        workers: Decoding processes; None for one a core.

    Yields:
        One result for each record, in the order in which they get ready; a video that makes a single window stays whole.
    """
    yield from (CutVideo(record) for record in records if record.window is not None)
    requests = [FrameRequest(record.path, tag=record) for record in records if record.window is None]
    lengths: list[tuple[VideoRecord, float]] = []
    with FramePool(_small(sampling, num_frames=1), workers=workers) as pool:
        for result in pool.read_many(requests):
            record: VideoRecord = result.request.tag
            if result.frames is None:
                yield CutVideo(record, error=result.error)
            elif cutting.window == SHOTS:
                lengths.append((record, result.frames.duration))
            else:
                yield CutVideo(record, _several(cutting.even_spans(result.frames.duration)))
    if lengths:
        yield from _cut_into_shots(lengths, sampling, workers)


@dataclass
class _Search:
    """What was seen so far of a video that is looked through for cuts, part by part."""

    record: VideoRecord
    duration: float
    seen: dict[int, "_Part"] = field(default_factory=dict)
    errors: list[VideoError] = field(default_factory=list)

    @property
    def parts(self) -> int:
        """How many parts the video is read in."""
        return max(1, math.ceil(self.duration / SECONDS_AT_ONCE))

    def requests(self) -> Iterator[FrameRequest]:
        borders = np.linspace(0.0, self.duration, self.parts + 1).tolist()
        for number, window in enumerate(pairwise(borders)):
            yield FrameRequest(self.record.path, window=window, tag=(self, number))

    def result(self) -> CutVideo:
        """The shots; parts that could not be read are passed over, as long as one could."""
        if not self.seen:
            return CutVideo(self.record, error=self.errors[0])
        parts = [self.seen[number] for number in sorted(self.seen)]
        times = np.concatenate([part.times for part in parts])
        changes = parts[0].changes
        for before, part in pairwise(parts):
            between = jumps(np.stack([before.last, part.first]))
            changes = np.concatenate([changes, between, part.changes])
        cuts = find_cuts(times, changes, self.duration)
        return CutVideo(self.record, _several(shot_spans(cuts, self.duration)))


@dataclass(frozen=True)
class _Part:
    """A part of a video as the search for cuts needs it."""

    times: Float[np.ndarray, "frames"]
    changes: Float[np.ndarray, "changes"]
    first: Float[np.ndarray, "bins"]
    """Histograms of its first picture."""
    last: Float[np.ndarray, "bins"]
    """Histograms of its last picture."""

    @classmethod
    def of(cls, frames: SampledFrames) -> "_Part":
        """One frame of each quarter of a second."""
        _, kept = np.unique(np.floor(frames.times * FRAMES_PER_SECOND), return_index=True)
        histograms = cell_histograms(frames.pixels[kept])
        return cls(frames.times[kept], jumps(histograms), histograms[0], histograms[-1])


def _cut_into_shots(
    lengths: Sequence[tuple[VideoRecord, float]], sampling: SamplingSettings, workers: int | None
) -> Iterator[CutVideo]:
    searches = [_Search(record, duration) for record, duration in lengths if duration > 0]
    yield from (CutVideo(record) for record, duration in lengths if duration <= 0)  # a still picture
    requests = (request for search in searches for request in search.requests())
    dense = _small(sampling, num_frames=SECONDS_AT_ONCE * FRAMES_PER_SECOND)
    with FramePool(dense, workers=workers) as pool:
        for result in pool.read_many(requests):
            search, number = result.request.tag
            if result.frames is not None:
                search.seen[number] = _Part.of(result.frames)
            elif result.error is not None:
                search.errors.append(result.error)
            if len(search.seen) + len(search.errors) == search.parts:
                yield search.result()
                search.seen.clear()


def _small(sampling: SamplingSettings, *, num_frames: int) -> SamplingSettings:
    return replace(sampling, num_frames=num_frames, height=SIDE, width=SIDE)


def _several(spans: list[Span]) -> tuple[Span, ...]:
    return tuple(spans) if len(spans) > 1 else ()
