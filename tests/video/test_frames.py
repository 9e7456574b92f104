"""Settings refuse contradictions and survive JSON; results refuse arrays that disagree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colbert_video.errors import FailureKind, SettingsError, VideoError
from colbert_video.video import SampledFrames, SamplingSettings, read_frames


def sampled(pixels: np.ndarray, times: np.ndarray) -> SampledFrames:
    return SampledFrames(pixels, times, 2.0, 25.0, 64, 48, 0, "h264", "pyav", ("a",))


def test_repr_prints_shapes() -> None:
    frames = sampled(np.zeros((2, 8, 8, 3), np.uint8), np.array([0.5, 1.0]))
    assert repr(frames) == (
        "SampledFrames(pixels=(2, 8, 8, 3), times=0.500..1.000 s of 2.000 s, source=64x48 h264 at 25.00 fps, "
        "decoder=pyav, warnings=1)"
    )
    assert len(frames) == 2


def test_arrays_that_disagree_are_refused() -> None:
    for times in ([0.5], []):
        frames = sampled(np.zeros((2, 8, 8, 3), np.uint8), np.array([0.5, 1.0]))
        object.__setattr__(frames, "times", np.array(times))  # The tests' type checks would refuse it before.
        with pytest.raises(SettingsError, match="must agree in their first dimension"):
            frames.__post_init__()


def test_descending_times_are_refused() -> None:
    with pytest.raises(SettingsError, match="must ascend"):
        sampled(np.zeros((2, 8, 8, 3), np.uint8), np.array([1.0, 0.5]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_frames": 0}, "num_frames is 0; it must be at least 1"),
        ({"height": 0}, "height is 0"),
        ({"width": -1}, "width is -1"),
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"snap": -0.1}, "snap is -0.1; it must be between 0 and 0.25"),
        ({"snap": 0.3}, "snap is 0.3"),
        ({"timeout": 0.0}, "timeout is 0.0; it must be more than 0 seconds"),
        ({"window": (3.0, 3.0)}, "with 0 <= start < end"),
        ({"window": (-1.0, 3.0)}, "with 0 <= start < end"),
        ({"window": (0.0, float("inf"))}, "window=inf must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        SamplingSettings(**change)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("interpolation", "interpolation='odd' must be one of bicubic, bilinear"),
        ("placement", "placement='odd' must be one of centre, random"),
        ("decoder", "decoder='odd' must be one of pyav, decord, torchcodec"),
    ],
)
def test_unknown_choices_are_refused(name: str, words: str) -> None:
    settings = SamplingSettings()
    object.__setattr__(settings, name, "odd")  # The tests' type checks would refuse it before.
    with pytest.raises(SettingsError, match=words):
        settings.__post_init__()


@pytest.mark.parametrize("window", [None, (1.5, 4.0)])
def test_settings_survive_json(window: tuple[float, float] | None) -> None:
    settings = SamplingSettings(num_frames=3, placement="random", seed=7, window=window)
    assert SamplingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_request_overrides_window_and_seed() -> None:
    settings = SamplingSettings(placement="random", seed=7, window=(0.0, 1.0))
    assert settings.with_request(None, None) == settings
    changed = settings.with_request((2.0, 3.0), 9)
    assert (changed.window, changed.seed, changed.placement) == ((2.0, 3.0), 9, "random")


def test_random_placement_needs_a_seed() -> None:
    assert SamplingSettings().rng is None
    with pytest.raises(SettingsError, match="needs a seed"):
        _ = SamplingSettings(placement="random").rng


def test_missing_file_is_a_video_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="No such file") as caught:
        read_frames(tmp_path / "none.mp4")
    assert caught.value.kind is FailureKind.MISSING
