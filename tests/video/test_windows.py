"""Where windows lie: no gap, no tail without content, cuts where pictures jump, and ids that say so."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.errors import SettingsError
from colbert_video.video.windows import (
    MAX_SHOT_SECONDS,
    MIN_SHOT_SECONDS,
    WINDOW_ID,
    Cutting,
    cell_histograms,
    check_window_ids,
    find_cuts,
    jumps,
    parse_window_id,
    shot_spans,
    window_id,
)

SECONDS = st.floats(0.1, 500.0)


def test_windows_overlap_by_half_by_default() -> None:
    assert Cutting(30.0).even_spans(60.0) == [(0.0, 30.0), (15.0, 45.0), (30.0, 60.0)]
    assert Cutting(30.0, 30.0).even_spans(60.0) == [(0.0, 30.0), (30.0, 60.0)]


@pytest.mark.parametrize(
    ("duration", "spans"),
    [
        (10.0, [(0.0, 10.0)]),
        (35.0, [(0.0, 35.0)]),  # too little is left over for a window of its own
        (35.1, [(0.0, 30.0), (10.0, 35.1)]),
        (45.0, [(0.0, 30.0), (10.0, 45.0)]),
    ],
)
def test_what_is_left_over_goes_to_the_last_window(duration: float, spans: list) -> None:
    assert Cutting(30.0, 10.0).even_spans(duration) == spans


@settings(max_examples=amount(10, thorough=100), deadline=None)
@given(window=SECONDS, share=st.floats(0.05, 1.0), duration=st.floats(0.01, 2000.0))
def test_windows_cover_the_video_and_are_nearly_as_long_as_asked(window: float, share: float, duration: float) -> None:
    stride = window * share
    spans = Cutting(window, stride).even_spans(duration)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == pytest.approx(duration, abs=1e-3)
    for (_, end), (start, _) in pairwise(spans):
        assert start <= end + 2e-3
    for start, end in spans[:-1]:
        assert end - start == pytest.approx(window, abs=2e-3)
    longest = window + stride / 2 + 2e-3
    assert spans[-1][1] - spans[-1][0] <= longest
    assert len(spans) == 1 or spans[-1][1] - spans[-1][0] > window - stride / 2 - 2e-3


@given(start=st.floats(0, 1e5), length=st.floats(0.01, 100.0))
def test_ids_are_media_fragments(start: float, length: float) -> None:
    name = window_id("a film.mp4", (start, start + length))
    assert WINDOW_ID.search(name)
    first, last = name.removeprefix("a film.mp4#t=").split(",")
    assert (float(first), float(last)) == (pytest.approx(start, abs=1e-3), pytest.approx(start + length, abs=1e-3))


def test_an_id_as_it_is_written() -> None:
    assert window_id("film.mp4", (30.0, 60.0)) == "film.mp4#t=30,60"
    assert window_id("film.mp4", (0.0, 7.25)) == "film.mp4#t=0,7.25"
    assert window_id("film.mp4", (100.0, 1200.0)) == "film.mp4#t=100,1200"
    assert parse_window_id("film.mp4#t=0,7.25") == ("film.mp4", (0.0, 7.25))
    assert parse_window_id("film.mp4") is None


def test_ids_of_windows_are_kept_for_windows() -> None:
    check_window_ids(["film.mp4", "film#t=x", "a#t=1,2/b"])
    with pytest.raises(SettingsError, match="'film#t=0,30' looks like that of a window"):
        check_window_ids(["film.mp4", "film#t=0,30"])


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (0.0, None, "window=0.0 must be a number of seconds above 0, or 'shots'"),
        (float("inf"), None, "window=inf"),
        (30.0, 31.0, "stride=31.0 must be above 0 and at most window=30.0"),
        (30.0, 0.0, "stride=0.0"),
        (30.0, 0.0004, "are stored in milliseconds"),
        ("shots", 3.0, "stride=3.0 contradicts window='shots'"),
    ],
)
def test_contradictions_are_refused(window: object, stride: float | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Cutting(window, stride)  # type: ignore[arg-type]


def test_shots_have_no_even_spans() -> None:
    with pytest.raises(SettingsError, match="found in the video"):
        Cutting("shots").even_spans(10.0)


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


def test_steady_motion_is_no_cut() -> None:
    assert find_cuts(TIMES, np.full(47, 0.4), 12.0) == []
    assert find_cuts(TIMES, changes(_19=0.09), 12.0) == []


def test_of_cuts_close_together_the_larger_stays() -> None:
    assert find_cuts(TIMES, changes(_19=0.3, _23=0.9), 12.0) == [5.875]
    assert find_cuts(TIMES, changes(_2=0.9, _45=0.9), 12.0) == []  # too close to the ends


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=200), rest=st.floats(0.0, 100.0))
def test_shots_cover_the_video_within_their_bounds(values: list[float], rest: float) -> None:
    times = np.arange(len(values) + 1) / 4
    duration = float(times[-1]) + 0.25 + rest
    cuts = find_cuts(times, np.array(values), duration)
    spans = shot_spans(cuts, duration)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == pytest.approx(duration, abs=1e-3)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert all(end - start <= MAX_SHOT_SECONDS + 2e-3 for start, end in spans)
    assert len(spans) == 1 or all(end - start >= MIN_SHOT_SECONDS - 2e-3 for start, end in spans)


def test_long_shots_become_equal_parts() -> None:
    assert shot_spans([10.0], 80.0) == [(0.0, 10.0), (10.0, 33.333), (33.333, 56.667), (56.667, 80.0)]
