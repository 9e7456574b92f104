"""Every occurrence of a query in one video: where its frames answer it clearly better than the rest of the video does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.model.bags import holds_frames
from colbert_video.search.hit import Moment
from colbert_video.search.moments import MIN_DIFFERENCE, SMOOTHING, frame_relevance, frame_spans

LEVEL = 0.4
"""An occurrence lasts while relevance stays above this share of the way from the video's median to its greatest. From the
median, as most of a long video shows something else. `benchmarks/questions.py` measures it on joined clips."""


@dataclass(frozen=True)
class SearchedWindow:
    """A video or window, and how its tokens answer a query."""

    item: VideoEntry
    similarities: Mapping[str, Float[np.ndarray, "query_tokens _"]]
    """Query tokens × (frames, then other tokens) by bag."""
    score: float

    def score_of(self, frames: Sequence[int], weights: Mapping[str, float]) -> float:
        """Return the MeanMaxSim over some frames, summed over bags; tokens that are no frames count in bags without frames."""
        total, count = 0.0, len(self.item.frame_times)
        for bag, matrix in self.similarities.items():
            own = matrix[:, list(frames)] if holds_frames(bag, matrix.shape[1], count) else matrix
            total += weights.get(bag, 1.0) * float(own.max(axis=1).mean())
        return total


@dataclass(frozen=True)
class _Frame:
    """A sampled frame of one of the windows; the whole window if its frames have no tokens."""

    window: int
    number: int | None
    time: float
    relevance: float


def find_occurrences(
    windows: Sequence[SearchedWindow],
    weights: Mapping[str, float],
    padding: Sequence[bool] | Mapping[str, Sequence[bool]] = (),
) -> list[Moment]:
    """Return all occurrences, in the order of time; none overlaps another.

    The frames of all windows are put in the order of their times, and their relevance is smoothed over neighbours. Runs
    above the level are occurrences. Each is scored by MeanMaxSim over its frames, in the window where that is best.

    Args:
        windows: All windows of one video, or the video itself.
        weights: How much each bag counts.
        padding: True for query tokens that are padding, as for `frame_relevance`.
    """
    frames = sorted(
        (frame for number, window in enumerate(windows) for frame in _frames(number, window, weights, padding)),
        key=lambda frame: frame.time,
    )
    if not frames:
        return []
    relevance = np.array([frame.relevance for frame in frames])
    of_frames = any(frame.number is not None for frame in frames)  # scores of whole windows need no smoothing
    smooth = np.convolve(np.pad(relevance, 1, mode="edge"), SMOOTHING, mode="valid") if of_frames else relevance
    low, high = float(np.median(smooth)), float(smooth.max())
    above = smooth >= (low + LEVEL * (high - low) if high - low >= MIN_DIFFERENCE else -np.inf)
    starts = [window.item.start or 0.0 for window in windows]
    ends = [frames[-1].time if window.item.end is None else window.item.end for window in windows]
    begins, stops = frame_spans(np.array([frame.time for frame in frames]), min(starts), max(ends))
    return [
        _occurrence(frames[first : last + 1], float(begins[first]), float(stops[last]), windows, weights)
        for first, last in _runs(above)
    ]


def _frames(
    number: int,
    window: SearchedWindow,
    weights: Mapping[str, float],
    padding: Sequence[bool] | Mapping[str, Sequence[bool]],
) -> Iterator[_Frame]:
    item = window.item
    relevance = (
        frame_relevance(window.similarities, len(item.frame_times), weights, padding) if item.frame_times else None
    )
    if relevance is not None:
        for frame, (time, value) in enumerate(zip(item.frame_times, relevance.tolist(), strict=True)):
            yield _Frame(number, frame, time, value)
    elif item.end is not None:
        yield _Frame(number, None, ((item.start or 0.0) + item.end) / 2, window.score)


def _runs(above: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last position of each run of True."""
    edges = np.diff(np.concatenate([[False], above, [False]]).astype(np.int8))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def _occurrence(
    frames: Sequence[_Frame], start: float, end: float, windows: Sequence[SearchedWindow], weights: Mapping[str, float]
) -> Moment:
    own: dict[int, list[int]] = {}
    for frame in frames:
        own.setdefault(frame.window, []).extend([] if frame.number is None else [frame.number])
    scores = {
        number: windows[number].score_of(chosen, weights) if chosen else windows[number].score
        for number, chosen in own.items()
    }
    best = max(scores, key=lambda number: scores[number])
    return Moment(start, end, scores[best], windows[best].item.id)
