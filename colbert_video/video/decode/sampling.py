"""Which frames stand for a video: one of each of its equal segments.

Sparse sampling of Temporal Segment Networks (Wang et al., ECCV 2016, section 3.1): cut the video into as many segments
of equal length as frames are wanted and take one of each; the middle one when testing, a random one when training.
A video with fewer frames than segments repeats frames.
"""

import numpy as np
from jaxtyping import Float, Int

from colbert_video.errors import SettingsError


def segment_centres(available: int, wanted: int) -> Int[np.ndarray, "wanted"]:
    """Return the row of the middle frame of each segment.

    Returns:
        `int(n/T/2 + i*n/T)` for segment i, n = available and T = wanted; ascending, repeated where n < T. Computed in
        integers, so that no rounding moves a frame.

    Raises:
        SettingsError: If either number is below 1.
    """
    _check(available, wanted)
    return available * (2 * np.arange(wanted) + 1) // (2 * wanted)


def random_in_segments(available: int, wanted: int, rng: np.random.Generator) -> Int[np.ndarray, "wanted"]:
    """Return the row of a frame drawn uniformly from each segment.

    Segments have fractional borders, so that the last frames are drawn as often as all others.

    Returns:
        `int(i*n/T + U(0, n/T))` for segment i, n = available and T = wanted; ascending.

    Raises:
        SettingsError: If either number is below 1.
    """
    _check(available, wanted)
    positions = (np.arange(wanted) + rng.random(wanted)) * (available / wanted)
    return np.minimum(positions.astype(np.int64), available - 1)


def moments_in_segments(
    start: float, end: float, wanted: int, rng: np.random.Generator | None = None
) -> Float[np.ndarray, "wanted"]:
    """Choose moments instead of frames, for files too large to list their frames.

    Args:
        start: Start of the sampled span, in seconds.
        end: End of the sampled span, in seconds.
        wanted: Number of segments.
        rng: Draws a moment of each segment; None takes the middles.

    Returns:
        One moment of each segment, in seconds, ascending, within [start, end).

    Raises:
        SettingsError: If the span is empty or `wanted` is below 1.
    """
    if not end > start or wanted < 1:
        raise SettingsError(f"cannot cut [{start}, {end}) seconds into {wanted} segments; give end > start and >= 1.")
    within = np.full(wanted, 0.5) if rng is None else rng.random(wanted)
    return start + (np.arange(wanted) + within) * ((end - start) / wanted)


def snap_to(
    positions: Int[np.ndarray, "wanted"], landmarks: Int[np.ndarray, "landmarks"], reach: int
) -> Int[np.ndarray, "wanted"]:
    """Move each position to the nearest landmark, where one is near enough.

    Returns:
        Ascending positions, none more than `reach` from where it was.
    """
    if len(landmarks) == 0:
        return positions
    distances = np.abs(positions[:, None] - landmarks[None, :])  # (wanted, landmarks)
    nearest = landmarks[distances.argmin(axis=1)]
    return np.where(distances.min(axis=1) <= reach, nearest, positions)


def _check(available: int, wanted: int) -> None:
    if available < 1 or wanted < 1:
        raise SettingsError(f"cannot choose {wanted} of {available} frames; both numbers must be at least 1.")
