import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from colbert_video.moments import best_moment, frame_spans

TIMES = np.array([0.5, 1.5, 2.5, 3.5])


def test_each_frame_stands_for_the_time_up_to_halfway_to_its_neighbours() -> None:
    begins, ends = frame_spans(TIMES, 0.0, 4.0)
    assert begins.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert ends.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_peak_gives_its_own_stretch() -> None:
    relevance = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0])
    times = np.arange(10) + 0.5
    start, end = best_moment(relevance, times, 0.0, 10.0)
    assert start <= 5.0
    assert end >= 6.0
    assert end - start <= 3.0


def test_a_plateau_is_found_whole() -> None:
    relevance = np.array([0.0] * 6 + [1.0] * 4 + [0.0] * 6)
    assert best_moment(relevance, np.arange(16) + 0.5, 0.0, 16.0) == (6.0, 10.0)


def test_one_frame_is_the_whole_video() -> None:
    assert best_moment(np.array([0.3]), np.array([1.0]), 0.0, 2.0) == (0.0, 2.0)


@given(relevance=hnp.arrays(float, st.integers(1, 30), elements=st.floats(-1, 1)))
def test_the_moment_lies_in_the_video_and_is_not_empty(relevance: np.ndarray) -> None:
    frames = len(relevance)
    start, end = best_moment(relevance, np.arange(frames) + 0.5, 0.0, float(frames))
    assert 0.0 <= start < end <= frames
