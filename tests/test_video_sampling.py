"""Segments cover the video, each gives one frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import SettingsError
from colbert_video.video.sampling import moments_in_segments, random_in_segments, segment_centres

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
