"""Cutting long videos into windows: what has to be read of a file to know where they lie."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from colbert_video.errors import VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.pool import FramePool, FrameRequest
from colbert_video.video.shots import (
    FRAMES_PER_SECOND,
    SIDE,
    cell_histograms,
    find_cuts,
    jumps,
    shot_spans,
)
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import SHOTS, Cutting, Span

SECONDS_AT_ONCE = 64
"""How much of a video is looked through for cuts in one request, at most."""


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
