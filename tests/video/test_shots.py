"""Cuts between shots: found where pictures jump, not where they move; and shots of bounded length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.video.windows import (
    LONGEST,
    SHORTEST,
    cell_histograms,
    find_cuts,
    jumps,
    shot_spans,
)


def plain(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array(colours, dtype=np.uint8)[:, None, None, :].repeat(8, axis=1).repeat(8, axis=2)


def test_histograms_sum_to_one_and_jumps_are_shares_of_the_picture() -> None:
    pictures = plain((0, 0, 0), (0, 0, 0), (255, 0, 0))
    pictures = np.concatenate([pictures, pictures[2:]])
    pictures[3, :4] = 0  # the upper half turns black again
    histograms = cell_histograms(pictures)
    assert histograms.sum(axis=1) == pytest.approx(1.0)
    assert jumps(histograms) == pytest.approx([0.0, 1.0, 0.5])


def test_the_place_of_a_colour_counts() -> None:
    pictures = plain((0, 0, 0), (0, 0, 0))
    pictures[0, :2], pictures[1, -2:] = 255, 255
    assert jumps(cell_histograms(pictures)) == pytest.approx([0.5])


TIMES = np.arange(48) / 4


def changes(**at: float) -> np.ndarray:
    values = np.full(47, 0.01)
    for name, value in at.items():
        values[int(name[1:])] = value
    return values


def test_a_jump_is_a_cut_between_its_frames() -> None:
    assert find_cuts(TIMES, changes(_19=0.6, _35=0.3), 12.0) == [4.875, 8.875]


def test_steady_motion_is_none() -> None:
    assert find_cuts(TIMES, np.full(47, 0.4), 12.0) == []
    assert find_cuts(TIMES, changes(_19=0.09), 12.0) == []


def test_of_cuts_close_together_the_larger_stays() -> None:
    assert find_cuts(TIMES, changes(_19=0.3, _23=0.9), 12.0) == [5.875]
    assert find_cuts(TIMES, changes(_2=0.9, _45=0.9), 12.0) == []  # too close to the ends


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=200),
    rest=st.floats(0.0, 100.0),
)
def test_shots_cover_the_video_within_their_bounds(values: list[float], rest: float) -> None:
    times = np.arange(len(values) + 1) / 4
    duration = float(times[-1]) + 0.25 + rest
    cuts = find_cuts(times, np.array(values), duration)
    spans = shot_spans(cuts, duration)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == pytest.approx(duration, abs=1e-3)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert all(end - start <= LONGEST + 2e-3 for start, end in spans)
    assert len(spans) == 1 or all(end - start >= SHORTEST - 2e-3 for start, end in spans)


def test_long_shots_become_equal_parts() -> None:
    assert shot_spans([10.0], 80.0) == [
        (0.0, 10.0),
        (10.0, 33.333),
        (33.333, 56.667),
        (56.667, 80.0),
    ]
