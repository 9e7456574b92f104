"""Occurrences are the runs of frames that answer a query clearly better than the video usually does."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.asking.occurrences import LEVEL, SearchedWindow, find_occurrences
from colbert_video.search.hit import Moment
from colbert_video.search.moments import MIN_DIFFERENCE


def window(name: str, start: float, end: float, times: Sequence[float], values: Sequence[float]) -> SearchedWindow:
    """A window whose frames have these similarities with the one query token."""
    entry = VideoEntry(name, start=start, end=end, frame_times=tuple(map(float, times)))
    return SearchedWindow(entry, {"frame": np.array([values])}, max(values))


def plain(found: Sequence[Moment]) -> list[tuple[float, float, float, str]]:
    return [(moment.start, moment.end, round(moment.score, 6), moment.window) for moment in found]


def test_each_peak_is_an_occurrence_in_the_order_of_time() -> None:
    low, times = 0.1, [float(second) + 0.5 for second in range(20)]
    values = [low] * 20
    values[3:6] = [0.8, 0.9, 0.8]
    values[12:15] = [0.7, 0.8, 0.7]
    found = find_occurrences([window("film", 0, 20, times, values)], {"frame": 1.0})
    assert plain(found) == [(3.0, 6.0, 0.9, "film"), (12.0, 15.0, 0.8, "film")]


def test_frames_of_overlapping_windows_are_one_curve() -> None:
    first = window("a", 0, 10, [1, 3, 5, 7, 9], [0.1, 0.1, 0.1, 0.1, 0.8])
    second = window("b", 5, 15, [6, 8, 10, 12, 14], [0.1, 0.8, 0.9, 0.1, 0.1])
    assert plain(find_occurrences([second, first], {"frame": 1.0})) == [(7.5, 11.0, 0.9, "b")]


def test_a_flat_video_is_one_occurrence_and_windows_without_times_none() -> None:
    flat = window("film", 0, 4, [1, 3], [0.5, 0.5])
    assert plain(find_occurrences([flat], {"frame": 1.0})) == [(0.0, 4.0, 0.5, "film")]
    assert find_occurrences([SearchedWindow(VideoEntry("x"), {"frame": np.ones((1, 2))}, 1.0)], {"frame": 1.0}) == []


def test_windows_whose_tokens_are_no_frames_are_met_as_a_whole() -> None:
    def spoken(name: str, start: float, score: float) -> SearchedWindow:
        entry = VideoEntry(name, start=start, end=start + 10)
        return SearchedWindow(entry, {"speech": np.array([[score, 0.0]])}, score)

    windows = [spoken(f"w{number}", 10.0 * number, 0.9 if number == 3 else 0.1) for number in range(7)]
    ((start, end, score, name),) = plain(find_occurrences(windows, {"speech": 1.0}))
    assert (start, end, score, name) == (30.0, 40.0, 0.9, "w3")


def naive(times: list[float], values: list[float], end: float) -> list[tuple[float, float, float]]:
    """The same, one frame at a time, of one window of one token."""
    padded = [values[0], *values, values[-1]]
    smooth = [0.25 * padded[row] + 0.5 * padded[row + 1] + 0.25 * padded[row + 2] for row in range(len(values))]
    low, high = float(np.median(smooth)), max(smooth)
    level = low + LEVEL * (high - low) if high - low >= MIN_DIFFERENCE else -1.0
    edges = [0.0, *[(one + other) / 2 for one, other in itertools.pairwise(times)], end]
    found: list[tuple[float, float, float]] = []
    for row, value in enumerate(smooth):
        if value < level:
            continue
        if found and found[-1][1] == edges[row]:
            found[-1] = (found[-1][0], edges[row + 1], max(found[-1][2], values[row]))
        else:
            found.append((edges[row], edges[row + 1], values[row]))
    return found


@settings(max_examples=amount(60, thorough=500), deadline=None)
@given(values=st.lists(st.integers(0, 16), min_size=1, max_size=30))
def test_occurrences_are_those_of_the_naive_reference(values: list[int]) -> None:
    scaled, times = [value / 16 for value in values], [row + 0.5 for row in range(len(values))]
    found = find_occurrences([window("film", 0, len(values), times, scaled)], {"frame": 1.0})
    wanted = np.array(naive(times, scaled, float(len(values))))
    assert np.array([(one.start, one.end, one.score) for one in found]) == pytest.approx(wanted)
