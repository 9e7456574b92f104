"""The best order of several steps in one video: "first this, then that".

A window is cut into runs of frames, one for each of the steps that it shows, and each step is scored by MeanMaxSim over its run;
neighbouring runs share one frame. A window that shows one step alone is scored as a whole. Of two windows, the later one begins
where the earlier one ends, or after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from colbert_video.model.bags import holds_frames
from colbert_video.model.interaction import SCORE_RESOLUTION

RunScores = Float[np.ndarray, "steps frames frames"]
"""Score of each step on each run of frames, by its first and its last frame."""
SECONDS_OF_OVERLAP = 1e-3
"""Windows that overlap by less count as one after the other."""


@dataclass(frozen=True)
class Run:
    """Where a step is met: in a window, and there in a run of frames."""

    window: int
    frames: tuple[int, int] | None
    """First and last frame; None for the whole window."""


Block = tuple[float, tuple[Run, ...]]
"""The weighted score of some steps, and where they are met."""
NOTHING: Block = (-np.inf, ())


def run_scores(
    similarities: Sequence[Mapping[str, Float[np.ndarray, "_ _"]]], frames: int, weights: Mapping[str, float]
) -> dict[str, RunScores]:
    """Return the MeanMaxSim of each step on each run of frames, by bag; tokens that are no frames count in no run.

    Args:
        similarities: Of each step, query tokens × (frames, then other tokens) by bag.
        frames: Sampled frames. Without any, and in bags without frames, all tokens count as one frame that is always shown.
        weights: How much each bag counts, of those that are wanted.
    """
    size = max(frames, 1)
    found = {bag: np.zeros((len(similarities), size, size)) for bag in weights}
    for step, own in enumerate(similarities):
        for bag, matrix in own.items():
            if frames and holds_frames(bag, matrix.shape[1], frames):
                for first in range(frames):
                    best = np.maximum.accumulate(
                        matrix[:, first:frames], axis=1
                    )  # (query_tokens, frames from the first)
                    found[bag][step, first, first:] = best.mean(axis=0)
            else:
                found[bag][step] = matrix.max(axis=1).mean()
    return found


def best_order(
    scores: Float[np.ndarray, "steps windows"],
    spans: Sequence[tuple[float, float]],
    weights: Sequence[float],
    runs: Callable[[int], RunScores],
) -> Block:
    """Return the greatest weighted sum of the steps' scores in order, and where each step is met.

    Args:
        scores: Score of each step in each window as a whole.
        spans: Begin and end of each window in seconds, in the order of `scores`.
        weights: How much each step counts.
        runs: Returns the scores of all steps on the runs of a window; it decodes the window.
    """
    weighted = scores * np.asarray(weights)[:, None]  # (steps, windows)
    cut = cache(lambda window: _blocks(runs(window), weights, window))
    if len(spans) == 1 and len(weights) > 1:
        return cut(0)[0, len(weights) - 1]
    alone: dict[int, dict[tuple[int, int], Block]] = {
        window: {(step, step): (float(weighted[step, window]), (Run(window, None),)) for step in range(len(weights))}
        for window in range(len(spans))
    }
    found = _chain(alone, spans, len(weights))
    best = weighted.max(axis=1)  # (steps,)
    for window in range(len(spans)):
        if _most(weighted[:, window], best) >= found[0] - SCORE_RESOLUTION:
            alone[window] |= {steps: block for steps, block in cut(window).items() if steps[0] < steps[1]}
    return _chain(alone, spans, len(weights))


def _most(own: Float[np.ndarray, "steps"], best: Float[np.ndarray, "steps"]) -> float:
    """Return the most that all steps can get if a window shows two or more of them in a row."""
    if len(own) < 2:
        return -np.inf
    lost = best - own  # (steps,), at least 0
    return float(best.sum() - (lost[1:] + lost[:-1]).min())


def _blocks(scores: RunScores, weights: Sequence[float], window: int) -> dict[tuple[int, int], Block]:
    """Return the best cut of a window into the runs of the steps from i to j, for every i and j."""
    found: dict[tuple[int, int], Block] = {}
    steps = len(weights)
    for first in range(steps):
        value = weights[first] * scores[first, 0]  # (frames,), by the last frame of the first run
        cuts: list[np.ndarray] = []
        found[first, first] = _block(value, cuts, window)
        for step in range(first + 1, steps):
            joint = value[:, None] + np.where(
                np.tri(len(value), dtype=bool).T, weights[step] * scores[step], -np.inf
            )  # (first frame, last frame)
            cuts = [*cuts, joint.argmax(axis=0)]
            value = joint.max(axis=0)
            found[first, step] = _block(value, cuts, window)
    return found


def _block(value: Float[np.ndarray, "frames"], cuts: Sequence[np.ndarray], window: int) -> Block:
    last = len(value) - 1
    runs: list[Run] = []
    for own in reversed(cuts):
        runs.append(Run(window, (int(own[last]), last)))
        last = int(own[last])
    return float(value[-1]), (*[Run(window, (0, last))], *reversed(runs))


def _chain(
    blocks: Mapping[int, Mapping[tuple[int, int], Block]], spans: Sequence[tuple[float, float]], steps: int
) -> Block:
    """Return the best chain of blocks that holds all steps in order, each block in a window after the one before."""
    done: list[Block] = [NOTHING] * steps  # the best chain up to each step, of windows that have ended
    ends = sorted((end, window) for window, (_, end) in enumerate(spans))
    reached: dict[int, list[Block]] = {}
    ended = 0
    for window in sorted(range(len(spans)), key=lambda window: spans[window]):
        while ended < len(ends) and ends[ended][0] <= spans[window][0] + SECONDS_OF_OVERLAP:
            done = [_better(own, new) for own, new in zip(done, reached.get(ends[ended][1], done), strict=True)]
            ended += 1
        reached[window] = _reach(blocks[window], done)
    return max((found[-1] for found in reached.values()), key=lambda block: block[0])


def _reach(own: Mapping[tuple[int, int], Block], done: Sequence[Block]) -> list[Block]:
    """Return the best chain up to each step that ends in a window with these blocks."""
    best = [NOTHING] * len(done)
    for (first, last), block in own.items():
        before = done[first - 1] if first else (0.0, ())
        best[last] = _better(best[last], (before[0] + block[0], (*before[1], *block[1])))
    return best


def _better(one: Block, other: Block) -> Block:
    return one if one[0] >= other[0] else other
