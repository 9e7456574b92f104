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

from colbert_video.base.checks import check_fields
from colbert_video.errors import FailureKind, SettingsError, VideoError, shown
from colbert_video.video.files import file_stamp
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers.pool import FramePool, FrameRequest, TimeBudget

Span = tuple[float, float]
"""A part of a video, [start, end) in seconds."""
Cut = tuple[Span, ...] | VideoError
"""The windows of a video in order, none if it stays whole; or why its file was refused."""
WINDOW_ID = re.compile(r"#t=([0-9]+(?:\.[0-9]+)?),([0-9]+(?:\.[0-9]+)?)\Z")
DECIMALS = 3
"""Windows begin and end at whole milliseconds, so that an id says exactly where."""
SHOTS = "shots"
"""Instead of a length: one window for each shot."""
FRAMES_PER_SECOND = 4
"""Frames that are compared to find shots."""
SIDE = 32
"""Height and width of the compared pictures in pixels."""
GRID = 4
"""Rows and columns of cells with a histogram each, so that where a colour is counts too."""
LEVELS = 8
"""Levels of each of red, green and blue in a histogram."""
MIN_JUMP = 0.1
"""Share of the pixels that must change their bin at a cut."""
MIN_RATIO = 3.0
"""How many times larger than the mean change around it a cut's must be."""
NEIGHBOURS = 4
"""Changes before and after that are looked at, none more than a second away."""
MIN_SHOT_SECONDS = 2.0
"""Of cuts closer together the larger jump stays."""
MAX_SHOT_SECONDS = 30.0
"""Longer shots are cut into equal windows."""
MAX_SECONDS = 31 * 86400.0
"""Length beyond which timestamps are taken to be damaged."""
WINDOWS_OF_ANY_FILE = 1000
BYTES_PER_WINDOW = 16
"""A file may have so many windows, and another for each so many bytes: a frame takes more."""
SECTION_SECONDS = 64
"""Largest part of a video that is looked through for cuts in one request."""


@dataclass(frozen=True)
class Cutting:
    """Settings of how long videos are cut into windows.

    Raises:
        SettingsError: If a length is not positive and finite, windows would leave gaps, or shots are given a stride.
    """

    window: float | Literal["shots"]
    """Length of a window in seconds, or "shots" for one window per shot."""
    stride: float | None = None
    """Seconds from the start of one window to the next; None for half a window."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window == SHOTS:
            if self.stride is not None:
                raise SettingsError(f"stride={self.stride} contradicts window='shots': shots follow one another.")
            return
        if isinstance(self.window, str) or not 0 < self.window < math.inf:
            raise SettingsError(f"window={shown(self.window)} must be a number of seconds above 0, or 'shots'.")
        if min(self.window, self.window if self.stride is None else self.stride) < 10**-DECIMALS:
            raise SettingsError(
                f"window={shown(self.window)} and stride={shown(self.stride)} must be at least 0.001 seconds: times of windows "
                "are stored in milliseconds."
            )
        if self.stride is not None and not 0 < self.stride <= self.window:
            raise SettingsError(
                f"stride={shown(self.stride)} must be above 0 and at most window={self.window}, or moments between windows "
                "are lost."
            )

    @property
    def seconds_between(self) -> float | None:
        """Seconds from the start of one window to the next; None for shots."""
        if isinstance(self.window, str):
            return None
        return self.window / 2 if self.stride is None else self.stride

    def even_spans(self, duration: float) -> list[Span]:
        """Return windows of equal length over a video.

        What is left over at the end makes a window of its own if it is longer than half a stride; otherwise the last
        window reaches on to the end. A video hardly longer than a window is one.

        Args:
            duration: Length of the video in seconds.

        Returns:
            The windows in order; the last one ends with the video.

        Raises:
            SettingsError: If windows are shots.
        """
        stride = self.seconds_between
        if isinstance(self.window, str) or stride is None:
            raise SettingsError("shots are found in the video; they are not evenly spaced.")
        more = max(0, math.ceil((duration - self.window) / stride - 0.5 - 1e-9))
        starts = [round(number * stride, DECIMALS) for number in range(more + 1)]
        ends = [round(start + self.window, DECIMALS) for start in starts[:-1]]
        return list(zip(starts, [*ends, round(duration, DECIMALS)], strict=True))


def cut_videos(
    records: Sequence[VideoRecord], cutting: Cutting, *, sampling: SamplingSettings, workers: int | None
) -> Iterator[tuple[VideoRecord, Cut]]:
    """Find the windows of videos.

    Each file is opened for its length; with shots, a few small frames of each second are read besides. A record that
    names a part of its file is left as it is.

    Args:
        records: The videos.
        cutting: How they are cut.
        sampling: Says by which decoder and within which time files are read.
        workers: Decoding processes; None for one per core.

    Yields:
        Each record with its windows, in the order in which they get ready; a video that makes a single window stays whole.
    """
    yield from ((record, ()) for record in records if record.window is not None)
    requests = [FrameRequest(record.path, tag=record) for record in records if record.window is None]
    searches: list[_CutSearch] = []
    with FramePool(_small(sampling, num_frames=1), workers=workers) as pool:
        for result in pool.read_many(requests):
            record: VideoRecord = result.request.tag
            if result.error is not None:
                yield record, result.error
                continue
            duration = 0.0 if result.frames is None else result.frames.duration
            implausible = _check_length(record, duration, cutting)
            if implausible is not None:
                yield record, implausible
            elif cutting.window != SHOTS:
                yield record, _several(cutting.even_spans(duration))
            elif duration > 0:
                searches.append(_CutSearch(record, duration))
            else:
                yield record, ()  # a still picture
    if searches:
        yield from _cut_into_shots(searches, sampling, workers)


def _check_length(record: VideoRecord, duration: float, cutting: Cutting) -> VideoError | None:
    """Return why a file cannot be as long as its timestamps say, which would make windows without end; None if it can.

    Windows of less than a second apart count as if they were a second apart: their number is the caller's wish.
    """
    between = SECTION_SECONDS if cutting.seconds_between is None else max(cutting.seconds_between, 1.0)
    size = file_stamp(record.path)[0] or 0
    if duration <= MAX_SECONDS and duration / between <= WINDOWS_OF_ANY_FILE + size / BYTES_PER_WINDOW:
        return None
    what = f"its timestamps reach to {duration:.0f} seconds, too far for a file of {size} bytes: they are damaged"
    return VideoError(record.path, FailureKind.UNDECODABLE, f"{what}. Repair it, or index it without window")


def _cut_into_shots(
    searches: Sequence["_CutSearch"], sampling: SamplingSettings, workers: int | None
) -> Iterator[tuple[VideoRecord, Cut]]:
    requests = (request for search in searches for request in search.requests(sampling.timeout))
    dense = _small(sampling, num_frames=SECTION_SECONDS * FRAMES_PER_SECOND)
    with FramePool(dense, workers=workers) as pool:
        for result in pool.read_many(requests):
            search, number = result.request.tag
            if result.frames is not None:
                search.seen[number] = _Section.from_frames(result.frames)
            elif result.error is not None:
                search.errors.append(result.error)
            if len(search.seen) + len(search.errors) == search.sections:
                yield search.record, search.result()
                search.seen.clear()


@dataclass
class _CutSearch:
    """What was seen so far of a video that is looked through for cuts, section by section."""

    record: VideoRecord
    duration: float
    seen: dict[int, "_Section"] = field(default_factory=dict)
    errors: list[VideoError] = field(default_factory=list)

    @property
    def sections(self) -> int:
        return max(1, math.ceil(self.duration / SECTION_SECONDS))

    def requests(self, timeout: float) -> Iterator[FrameRequest]:
        borders = np.linspace(0.0, self.duration, self.sections + 1).tolist()
        budget = TimeBudget(timeout, self.duration)
        for number, window in enumerate(pairwise(borders)):
            yield FrameRequest(self.record.path, window=window, tag=(self, number), budget=budget)

    def result(self) -> Cut:
        """Return the shots; sections that could not be read are left out, as long as one could."""
        if not self.seen:
            return self.errors[0]
        sections = [self.seen[number] for number in sorted(self.seen)]
        times = np.concatenate([section.times for section in sections])
        changes = sections[0].changes
        for before, section in pairwise(sections):
            between = jumps(np.stack([before.last, section.first]))
            changes = np.concatenate([changes, between, section.changes])
        cuts = find_cuts(times, changes, self.duration)
        return _several(shot_spans(cuts, self.duration))


@dataclass(frozen=True)
class _Section:
    """A part of a video as the search for cuts needs it."""

    times: Float[np.ndarray, "frames"]
    changes: Float[np.ndarray, "changes"]
    first: Float[np.ndarray, "bins"]
    """Histograms of its first picture."""
    last: Float[np.ndarray, "bins"]
    """Histograms of its last picture."""

    @classmethod
    def from_frames(cls, frames: SampledFrames) -> "_Section":
        _, kept = np.unique(np.floor(frames.times * FRAMES_PER_SECOND), return_index=True)
        histograms = cell_histograms(frames.pixels[kept])
        return cls(frames.times[kept], jumps(histograms), histograms[0], histograms[-1])


def _small(sampling: SamplingSettings, *, num_frames: int) -> SamplingSettings:
    return replace(sampling, num_frames=num_frames, height=SIDE, width=SIDE)


def _several(spans: list[Span]) -> tuple[Span, ...]:
    return tuple(spans) if len(spans) > 1 else ()


def cell_histograms(pixels: UInt8[np.ndarray, "frames height width 3"]) -> Float[np.ndarray, "frames bins"]:
    """Return the colour histograms of the cells of each picture; all bins of a picture sum to 1."""
    levels = pixels.astype(np.int64) * LEVELS // 256
    colours = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]  # (frames, height, width)
    frames, height, width = colours.shape
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    cells = rows[:, None] * GRID + columns  # (height, width)
    bins = GRID**2 * LEVELS**3
    bin_of_pixel = (np.arange(frames)[:, None, None] * GRID**2 + cells) * LEVELS**3 + colours
    counts = np.bincount(bin_of_pixel.ravel(), minlength=frames * bins).reshape(frames, bins)
    return counts / (height * width)


def jumps(histograms: Float[np.ndarray, "frames bins"]) -> Float[np.ndarray, "changes"]:
    """Return how much each picture differs from the one before: 0 for nothing, 1 for everything."""
    return np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2


def find_cuts(
    times: Float[np.ndarray, "frames"], changes: Float[np.ndarray, "changes"], duration: float
) -> list[float]:
    """Return where shots begin, without the first one.

    Args:
        times: Times of the pictures in seconds, ascending.
        changes: How much each picture differs from the one before; one fewer than there are times.
        duration: Length of the video in seconds.

    Returns:
        Seconds, ascending, at least `MIN_SHOT_SECONDS` apart and away from both ends.
    """
    cuts: list[float] = []
    for row in np.argsort(-changes, kind="stable").tolist():  # the largest jump first
        if changes[row] < MIN_JUMP:
            break
        time = _cut_time(times, row)
        if _stands_out(times, changes, row) and all(
            abs(time - other) >= MIN_SHOT_SECONDS for other in [0.0, duration, *cuts]
        ):
            cuts.append(time)
    return sorted(cuts)


def shot_spans(cuts: list[float], duration: float) -> list[Span]:
    """Return the windows of a video cut into shots; those longer than `MAX_SHOT_SECONDS` become equal parts."""
    borders = [0.0]
    for end in [*cuts, duration]:
        parts = max(1, int(np.ceil((end - borders[-1]) / MAX_SHOT_SECONDS - 1e-9)))
        borders += np.linspace(borders[-1], end, parts + 1)[1:].tolist()
    rounded = [round(border, DECIMALS) for border in borders]
    return list(pairwise(rounded))


def _cut_time(times: Float[np.ndarray, "frames"], row: int) -> float:
    """Return when the picture changed: between two samples, or where the first lasted for seconds, with the second."""
    before, after = float(times[row]), float(times[row + 1])
    return (before + after) / 2 if after - before <= 2 / FRAMES_PER_SECOND else after


def _stands_out(times: Float[np.ndarray, "frames"], changes: Float[np.ndarray, "changes"], row: int) -> bool:
    near = np.abs(times[1:] - times[row + 1]) <= (NEIGHBOURS + 0.5) / FRAMES_PER_SECOND  # (changes,)
    near[: max(0, row - NEIGHBOURS)], near[row], near[row + 1 + NEIGHBOURS :] = False, False, False
    around = changes[near]
    return len(around) == 0 or bool(changes[row] >= MIN_RATIO * around.mean())


def window_id(video: str, span: Span) -> str:
    """Return the id of a window of a video, such as "film.mp4#t=30,60"."""
    return f"{video}#t={_seconds(span[0])},{_seconds(span[1])}"


def parse_window_id(name: str) -> tuple[str, Span] | None:
    """Return the video and the span of a window's id; None for any other id."""
    found = WINDOW_ID.search(name)
    return None if found is None else (name[: found.start()], (float(found[1]), float(found[2])))


def check_window_ids(ids: Iterable[str]) -> None:
    """Check that no video has an id that a window of another video could have.

    Raises:
        SettingsError: If an id looks like that of a window.
    """
    for name in ids:
        if WINDOW_ID.search(name):
            raise SettingsError(
                f"the id {shown(name)} looks like that of a window; in an index with windows such ids are kept for them. "
                "Give the video another id, as (id, path)."
            )


def _seconds(value: float) -> str:
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
