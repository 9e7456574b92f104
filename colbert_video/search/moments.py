"""From the frames that a query chose to the moment it describes."""

import numpy as np
from jaxtyping import Float

SMOOTHING = (0.25, 0.5, 0.25)
"""Weights over neighbouring frames, so that one lucky frame does not decide alone."""
HEIGHT = 0.7
"""A moment extends while relevance stays above this share of the way from the video's least to its greatest. From the
least, not the median: a window may be all one moment, and its median is then no background. Chosen on joined clips of the
synthetic world, whole and cut into windows; `benchmarks/moments.py` measures it on others."""

MIN_DIFFERENCE = 0.005
"""Where relevance differs by less over the whole video, the difference is noise and the video is the moment."""


def frame_spans(
    times: Float[np.ndarray, "frames"], start: float, end: float
) -> tuple[Float[np.ndarray, "frames"], Float[np.ndarray, "frames"]]:
    """The stretch of video that each sampled frame stands for: halfway to its neighbours.

    Args:
        times: Time of each sampled frame, in seconds, ascending.
        start: Where the video (or window) begins, in seconds.
        end: Where it ends, in seconds.

    Returns:
        Begin and end of each frame's stretch [begin, end), in seconds.
    """
    middles = (times[1:] + times[:-1]) / 2
    begins = np.concatenate([[min(start, times[0])], middles])
    return begins, np.concatenate([middles, [max(end, times[-1])]])


def best_moment(
    relevance: Float[np.ndarray, "frames"], times: Float[np.ndarray, "frames"], start: float, end: float
) -> tuple[float, float]:
    """The run of frames around the most relevant one, smoothed over its neighbours.

    Args:
        relevance: How well each frame answers the query, higher is better.
        times: Time of each frame, in seconds, ascending.
        start: Where the video begins, in seconds.
        end: Where it ends, in seconds.

    Returns:
        The moment [start, end) in seconds.
    """
    smooth = np.convolve(np.pad(relevance, 1, mode="edge"), SMOOTHING, mode="valid")  # (frames,)
    peak = int(smooth.argmax())
    difference = smooth[peak] - smooth.min()
    threshold = smooth.min() + (HEIGHT * difference if difference >= MIN_DIFFERENCE else 0.0)
    first = last = peak
    while first > 0 and smooth[first - 1] >= threshold:
        first -= 1
    while last < len(smooth) - 1 and smooth[last + 1] >= threshold:
        last += 1
    begins, ends = frame_spans(times, start, end)
    return float(begins[first]), float(ends[last])
