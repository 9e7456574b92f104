"""The moment that a query describes: the frames of a video that answer it best."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.model.bags import holds_frames
from colbert_video.model.interaction import SCORE_RESOLUTION
from colbert_video.search.hit import Moment

SMOOTHING = (0.25, 0.5, 0.25)
"""Weights over neighbouring frames, so that one lucky frame does not decide alone."""
HEIGHT = 0.7
"""A moment extends while relevance stays above this share of the way from the video's least to its greatest. From the
least, not the median: a window may be all one moment, and its median is then no background. Chosen on joined clips of the
synthetic world, whole and cut into windows; `benchmarks/moments.py` measures it on others."""
MIN_DIFFERENCE = 0.005
"""Where relevance differs by less over the whole video, the difference is noise and the video is the moment."""
MAX_FURTHER_MOMENTS = 20
"""Where few videos have many windows, all of these are fetched, and each moment must be found in decoded tokens."""


def frame_relevance(
    similarities: Mapping[str, Float[np.ndarray, "query_tokens _"]],
    frames: int,
    weights: Mapping[str, float],
    padding: Sequence[bool] | Mapping[str, Sequence[bool]] = (),
) -> Float[np.ndarray, "frames"] | None:
    """Return how well each sampled frame answers a query: a mean over its tokens, summed over bags as scores are.

    Short texts are filled up with padding, which is scored but says little of any frame: in this mean, all words together
    count for at least as much as all padding.

    Args:
        similarities: Cosines by bag; in bags of frames, these come first, then expansion tokens.
        frames: Sampled frames.
        weights: How much each bag counts.
        padding: True for query tokens that are padding, by bag if these differ; empty if that is not known.

    Returns:
        One value for each frame; None if no bag has tokens of the frames.
    """
    of_frames = {bag: found for bag, found in similarities.items() if holds_frames(bag, found.shape[1], frames)}
    if not of_frames:
        return None
    relevance = np.zeros(frames)
    for bag, similarity in of_frames.items():
        shares = _shares(len(similarity), padding.get(bag, ()) if isinstance(padding, Mapping) else padding)
        relevance += weights.get(bag, 1.0) * (shares @ similarity[:, :frames])  # (frames,)
    return relevance


def _shares(query_tokens: int, padding: Sequence[bool]) -> Float[np.ndarray, "query_tokens"]:
    """Return how much each query token counts; together they are 1, and words at least half of it."""
    filler = np.asarray(padding, dtype=bool)
    words = query_tokens - int(filler.sum())
    if len(filler) != query_tokens or words == 0 or 2 * words >= query_tokens:
        return np.full(query_tokens, 1 / query_tokens)
    return np.where(filler, 0.5 / (query_tokens - words), 0.5 / words)


def item_moment(
    item: VideoEntry, relevance: Callable[[], Float[np.ndarray, "frames"] | None], *, shots: bool
) -> tuple[float | None, float | None]:
    """Return the best moment of a video or window; a shot, and an item without times, is one moment as it is.

    Args:
        item: Its row of the catalog.
        relevance: Computes how well each frame answers the query, if that is wanted: it decodes the item's tokens. None if
            its frames have no tokens.
        shots: True if the windows of the index are shots.
    """
    if (shots and item.parent is not None) or not item.frame_times or item.end is None:
        return item.start, item.end
    found = relevance()
    if found is None:
        return item.start, item.end
    return best_moment(found, np.asarray(item.frame_times), item.start or 0.0, item.end)


def frame_spans(
    times: Float[np.ndarray, "frames"], start: float, end: float
) -> tuple[Float[np.ndarray, "frames"], Float[np.ndarray, "frames"]]:
    """Return the part of the video that each sampled frame stands for: halfway to its neighbours.

    Args:
        times: Time of each sampled frame, in seconds, ascending.
        start: Where the video (or window) begins, in seconds.
        end: Where it ends, in seconds.

    Returns:
        Begin and end of each frame's part [begin, end), in seconds.
    """
    middles = (times[1:] + times[:-1]) / 2
    begins = np.concatenate([[min(start, times[0])], middles])
    return begins, np.concatenate([middles, [max(end, times[-1])]])


def best_moment(
    relevance: Float[np.ndarray, "frames"], times: Float[np.ndarray, "frames"], start: float, end: float
) -> tuple[float, float]:
    """Return the run of frames around the most relevant one, smoothed over its neighbours.

    Args:
        relevance: How well each frame answers the query, higher is better.
        times: Time of each frame, in seconds, ascending.
        start: Where the video begins, in seconds.
        end: Where it ends, in seconds.

    Returns:
        The moment [start, end) in seconds.
    """
    smooth = np.convolve(np.pad(relevance, 1, mode="edge"), SMOOTHING, mode="valid")  # (frames,)
    peak = int((smooth >= smooth.max() - SCORE_RESOLUTION).argmax())  # the first of those that are tied
    difference = smooth[peak] - smooth.min()
    threshold = smooth.min() + (HEIGHT * difference if difference >= MIN_DIFFERENCE else 0.0) - SCORE_RESOLUTION
    first = last = peak
    while first > 0 and smooth[first - 1] >= threshold:
        first -= 1
    while last < len(smooth) - 1 and smooth[last + 1] >= threshold:
        last += 1
    begins, ends = frame_spans(times, start, end)
    return float(begins[first]), float(ends[last])


def further_moments(
    best: tuple[float | None, float | None], others: Iterable[tuple[tuple[float | None, float | None], float, str]]
) -> tuple[Moment, ...]:
    """Return the first moments that overlap no better one, at most `MAX_FURTHER_MOMENTS`.

    Args:
        best: The video's best moment.
        others: Moments of its other windows with their scores and ids, best first; found one by one while more are
            wanted.
    """
    kept: list[Moment] = []
    taken = [best]
    for (start, end), score, window in others:
        if start is None or end is None:
            continue
        if all(a is None or b is None or end <= a or start >= b for a, b in taken):
            kept.append(Moment(start, end, score, window))
            taken.append((start, end))
            if len(kept) == MAX_FURTHER_MOMENTS:
                break
    return tuple(kept)
