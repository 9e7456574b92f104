"""Times come from timestamps, the end from the last frame, windows are half open."""

from fractions import Fraction

import pytest

from colbert_video.errors import FailureKind, SettingsError, VideoError
from colbert_video.video.decode.timeline import Timeline
from colbert_video.video.frames import SamplingSettings


def timeline(stamps: list[int], *, origin: float = 0.0, last: int | None = None, rate: float = 25.0) -> Timeline:
    return Timeline.from_stamps(stamps, Fraction(1, 100), origin, last_units=last, rate=rate)


def test_frames_are_sorted_and_timed() -> None:
    line = timeline([30, 10, 20], origin=0.1)
    assert line.times.tolist() == [0.0, 0.1, 0.2]
    assert (len(line), line.duration, line.fps) == (3, 0.3, pytest.approx(10.0))


def test_a_last_duration_far_below_the_spacing_is_not_believed() -> None:
    assert timeline([0, 10, 20], last=1).duration == 0.3
    assert timeline([0, 10, 20], last=6).duration == 0.26


@pytest.mark.parametrize(("rate", "last", "end"), [(50.0, None, 0.02), (0.0, None, 0.0), (50.0, 300, 3.0)])
def test_a_single_frame(rate: float, last: int | None, end: float) -> None:
    line = timeline([0], last=last, rate=rate)
    assert line.duration == end
    assert line.fps == (1 / end if end else 0.0)


def test_a_first_frame_is_never_before_zero() -> None:
    line = Timeline.from_stamps([127995, 128507], Fraction(1, 15360), 8.333008, last_units=None, rate=0.0)
    assert line.times[0] == 0.0
    assert str(line.times[0]) == "0.0"


@pytest.mark.parametrize("stamps", [[], [1, 1]])
def test_unusable_stamps_are_refused(stamps: list[int]) -> None:
    with pytest.raises(SettingsError, match="strictly ascending"):
        Timeline(timeline([0]).stamps.repeat(2) if stamps else timeline([0]).stamps[:0], Fraction(1), 0.0, 0.0)


def test_windows_are_half_open() -> None:
    line = timeline(list(range(0, 100, 10)))
    chosen = line.choose("a.mp4", SamplingSettings(num_frames=3, window=(0.2, 0.5)))
    assert line.times[chosen].tolist() == [0.2, 0.3, 0.4]


@pytest.mark.parametrize("window", [(1.0, 1.1), (5.0, 6.0)])
def test_a_window_without_frames_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(VideoError, match=r"no frame is shown in \[.* the video lasts 1.000 seconds") as caught:
        timeline(list(range(0, 100, 10))).choose("a.mp4", SamplingSettings(window=window))
    assert caught.value.kind is FailureKind.UNDECODABLE


SLIDES = [0, 6000, 7500, 8000, 8500, 20000, 22000]
"""Hundredths of a second."""


@pytest.mark.parametrize(
    ("window", "rows"),
    [
        ((0.0, 30.0), [0]),
        ((30.0, 60.0), [0]),
        ((60.0, 90.0), [1, 2, 3, 4]),
        ((62.0, 80.0), [1, 2]),  # the slide of second 60 stays until 75
        ((74.0, 78.0), [2]),  # hardly anything of it is left
        ((90.0, 120.0), [4]),
        ((210.0, 220.04), [5, 6]),
        ((220.0, 220.04), [6]),
    ],
)
def test_a_slide_belongs_to_the_windows_in_which_it_stays(window: tuple[float, float], rows: list[int]) -> None:
    first, number = timeline(SLIDES, last=4).span("a.mp4", window)
    assert list(range(first, first + number)) == rows


def test_between_two_frames_of_ordinary_video_a_window_begins_with_the_next() -> None:
    assert timeline(list(range(0, 100, 10))).span("a.mp4", (0.21, 0.5)) == (3, 2)
    assert timeline(list(range(0, 100, 10))).span("a.mp4", (0.21, 0.29)) == (2, 1)


def test_the_last_slide_lasts_as_long_as_it_states() -> None:
    assert timeline(SLIDES, last=4).duration == 220.04
    assert timeline(SLIDES, last=None, rate=25.0).duration == 220.04
    assert timeline(SLIDES, last=None, rate=0.0).duration == 237.5


def test_a_frame_before_the_start_counts_to_it() -> None:
    assert timeline([-3, 0, 3]).times.tolist() == [0.0, 0.0, 0.03]


def test_random_placement_repeats_with_its_seed() -> None:
    line = timeline(list(range(1000)))
    settings = SamplingSettings(num_frames=5, placement="random", seed=3)
    first = line.choose("a.mp4", settings).tolist()
    assert first == line.choose("a.mp4", settings).tolist()
    assert first != line.choose("a.mp4", settings.with_request(None, 4)).tolist()
    assert all(200 * i <= index < 200 * (i + 1) for i, index in enumerate(first))
