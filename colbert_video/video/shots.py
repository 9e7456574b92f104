"""Shots: where a video cuts from one camera, or one picture, to another.

A cut is a jump of the colour histogram that stands out from the changes around it. Comparing with the neighbourhood is
what PySceneDetect's AdaptiveDetector does, which looks at every frame through OpenCV, some 190 MB installed. For search
windows a few frames a second are enough, and those the decoding processes give, which no broken file can hang. What that
costs is precision in time (an eighth of a second) and slow fades, which are not seen as cuts.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from colbert_video.video.windows import DECIMALS, Span

FRAMES_PER_SECOND = 4
"""Frames that are compared."""
SIDE = 32
"""Height and width of the compared pictures, in pixels."""
GRID = 4
"""Rows and columns of cells with a histogram each, so that where a colour is counts too."""
LEVELS = 8
"""Levels of each of red, green and blue in a histogram."""
LEAST_JUMP = 0.1
"""Share of the pixels that must change their bin at a cut."""
RATIO = 3.0
"""How many times larger than the mean change around it a cut's must be."""
NEIGHBOURS = 4
"""Changes before and after that are looked at: a second each."""
SHORTEST = 2.0
"""Least length of a shot in seconds; of cuts closer together the larger jump stays."""
LONGEST = 30.0
"""Greatest length of a window in seconds; longer shots are cut into equal parts."""


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
        if changes[place] < LEAST_JUMP:
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
