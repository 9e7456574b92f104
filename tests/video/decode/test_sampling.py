"""Segments cover the video, each gives one frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import SettingsError
from colbert_video.video.decode.sampling import moments_in_segments, random_in_segments, segment_centres, snap_to

COUNTS = st.integers(1, 5000), st.integers(1, 80)


def test_centres_of_tsn() -> None:
    assert segment_centres(300, 12).tolist() == [12, 37, 62, 87, 112, 137, 162, 187, 212, 237, 262, 287]
    assert segment_centres(5, 12).tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4]
    assert segment_centres(1, 3).tolist() == [0, 0, 0]


@given(*COUNTS)
def test_centres_equal_the_formula(available: int, wanted: int) -> None:
    exact = [int(available * (2 * i + 1) / (2 * wanted) + 1e-9) for i in range(wanted)]
    assert segment_centres(available, wanted).tolist() == exact


@given(*COUNTS, st.integers(0, 2**32))
def test_random_frames_lie_in_their_segments(available: int, wanted: int, seed: int) -> None:
    chosen = random_in_segments(available, wanted, np.random.default_rng(seed))
    for segment, index in enumerate(chosen.tolist()):
        assert int(segment * available / wanted - 1e-9) <= index < (segment + 1) * available / wanted + 1e-9
    assert (np.diff(chosen) >= 0).all()
    assert chosen.max() < available
    assert chosen.tolist() == random_in_segments(available, wanted, np.random.default_rng(seed)).tolist()


def test_random_frames_reach_the_last_frame() -> None:
    rng = np.random.default_rng(0)
    seen = {int(index) for _ in range(300) for index in random_in_segments(10, 3, rng)}
    assert seen == set(range(10))


@given(st.floats(0, 1e4), st.floats(0.01, 1e4), st.integers(1, 80), st.one_of(st.none(), st.integers(0, 99)))
def test_moments_lie_in_their_segments(start: float, length: float, wanted: int, seed: int | None) -> None:
    end = start + length
    moments = moments_in_segments(start, end, wanted, None if seed is None else np.random.default_rng(seed))
    borders = np.linspace(start, end, wanted + 1)
    assert (moments >= borders[:-1] - 1e-6).all()
    assert (moments <= borders[1:] + 1e-6).all()


def test_positions_move_to_landmarks_within_reach() -> None:
    positions, landmarks = np.array([5, 15, 25, 35]), np.array([0, 12, 27, 31])
    assert snap_to(positions, landmarks, 3).tolist() == [5, 12, 27, 35]
    assert snap_to(positions, landmarks, 4).tolist() == [5, 12, 27, 31]
    assert snap_to(positions, landmarks, 0).tolist() == positions.tolist()
    assert snap_to(positions, np.array([], dtype=np.int64), 9).tolist() == positions.tolist()


@given(st.integers(1, 500), st.integers(1, 40), st.sets(st.integers(0, 499)), st.floats(0, 0.25))
def test_moved_positions_ascend_within_reach_and_stay_distinct(
    available: int, wanted: int, landmarks: set[int], snap: float
) -> None:
    positions = segment_centres(available, wanted)
    reach = int(snap * available / wanted)
    moved = snap_to(positions, np.array(sorted(landmarks), dtype=np.int64), reach)
    assert (np.diff(moved) >= 0).all()
    assert (np.abs(moved - positions) <= reach).all()
    assert len(set(moved.tolist())) == len(set(positions.tolist()))
    assert all(place in landmarks or place == at for place, at in zip(moved, positions, strict=True))


def test_middle_moments() -> None:
    assert moments_in_segments(2.0, 6.0, 2).tolist() == [3.0, 5.0]


@pytest.mark.parametrize(("available", "wanted"), [(0, 3), (3, 0)])
def test_nothing_to_choose_is_refused(available: int, wanted: int) -> None:
    with pytest.raises(SettingsError, match="must be at least 1"):
        segment_centres(available, wanted)
    with pytest.raises(SettingsError, match="must be at least 1"):
        random_in_segments(available, wanted, np.random.default_rng(0))


def test_empty_span_is_refused() -> None:
    with pytest.raises(SettingsError, match="give end > start"):
        moments_in_segments(3.0, 3.0, 2)
