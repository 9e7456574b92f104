"""Frames to pixels: scale, size, filter, normalisation."""

import inspect
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.model.backbone import Preprocess

CPU = torch.device("cpu")


def to_pixels(frames: np.ndarray | torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    return preprocess.to_pixels(frames, device=CPU)


def preprocess(height: int = 8, width: int = 8, interpolation: str = "bicubic", **constants: object) -> Preprocess:
    values = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), **constants}
    return Preprocess(height, width, interpolation=interpolation, **values)  # type: ignore[arg-type]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_channels_are_scaled_and_normalised_by_hand() -> None:
    frame = np.zeros((1, 1, 1, 3), dtype=np.uint8)
    frame[0, 0, 0] = (255, 51, 0)
    made = to_pixels(frame, preprocess(1, 1, mean=(0.5, 0.1, 0.2), std=(0.5, 0.1, 0.4)))
    assert made.shape == (1, 3, 1, 1)
    assert made.flatten().tolist() == pytest.approx([1.0, 1.0, -0.5], abs=1e-6)


def test_frames_of_the_right_size_are_not_resampled() -> None:
    frames = noise(2, 8, 8, 3)
    made = to_pixels(frames, preprocess())
    assert torch.equal(made, torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)


def test_arrays_and_tensors_give_the_same() -> None:
    frames = noise(2, 9, 12, 3)
    assert torch.equal(to_pixels(frames, preprocess()), to_pixels(torch.from_numpy(frames), preprocess()))


def test_views_with_negative_strides_are_read() -> None:
    frames = noise(2, 8, 8, 3)
    assert torch.equal(to_pixels(frames[:, ::-1, :, ::-1], preprocess())[:, [2, 1, 0]].flip(2),
                       to_pixels(frames, preprocess()))  # fmt: skip


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(40, 30), (5, 60)])
def test_resizing_matches_pillow(interpolation: str, size: tuple[int, int]) -> None:
    """open_clip's own preprocessing resizes with Pillow, which rounds to bytes twice: two steps of 255 between them."""
    frames = noise(1, *size, 3)
    made = to_pixels(frames, preprocess(16, 12, interpolation))
    resample = getattr(PIL.Image.Resampling, interpolation.upper())
    expected = np.asarray(PIL.Image.fromarray(frames[0]).resize((12, 16), resample), dtype=np.float32) / 255
    torch.testing.assert_close(made[0].permute(1, 2, 0), torch.from_numpy(expected), atol=2 / 255, rtol=0)


def test_the_whole_frame_is_seen() -> None:
    """No crop: the outermost columns of a wide frame take part."""
    frames = np.zeros((1, 8, 64, 3), dtype=np.uint8)
    frames[:, :, :8], frames[:, :, -8:] = 255, 255
    made = to_pixels(frames, preprocess())
    assert made[..., 0].min() > 0.8
    assert made[..., -1].min() > 0.8
    assert made[..., 3].max() < 0.2


def test_sharp_edges_stay_between_black_and_white() -> None:
    frames = np.zeros((1, 6, 6, 3), dtype=np.uint8)
    frames[:, :, 3:] = 255  # bicubic overshoots here
    made = to_pixels(frames, preprocess(24, 24))
    assert (made.min().item(), made.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 0, 5, 3), dtype=np.uint8),
        np.zeros((2, 5, 5, 3), dtype=np.float32),
        np.zeros((5, 5, 3), dtype=np.uint8),
        np.zeros((1, 3, 5, 5), dtype=np.uint8),
        torch.zeros(1, 5, 5, 3),
    ],
)
def test_what_is_no_rgb_frame_is_refused(frames: np.ndarray | torch.Tensor) -> None:
    plain = inspect.unwrap(Preprocess.to_pixels)  # past the test suite's own shape checks
    with pytest.raises(SettingsError, match=r"frames are torch\.\w+ of shape \(.*\); give RGB bytes"):
        plain(preprocess(), frames, device=CPU)


def test_preprocess_survives_json() -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(asdict(preprocess(mean=(0.5, 0.4, 0.3)))))) == preprocess(
        mean=(0.5, 0.4, 0.3)
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"height": 0}, "frame size 0×224 must be at least 1×1"),
        ({"interpolation": "nearest"}, "interpolation='nearest' must be one of bicubic, bilinear"),
        ({"std": (0.5, 0.0, 0.5)}, "std above 0"),
        ({"mean": (0.5,)}, "must have 3 values"),
    ],
)
def test_impossible_preprocessing_is_refused(change: dict[str, Any], match: str) -> None:
    class Unchecked(Preprocess):
        """Reaches the library's own checks past the test suite's type checks."""

        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                object.__setattr__(self, name, value)
            Preprocess.__post_init__(self)

    with pytest.raises(SettingsError, match=match):
        Unchecked(**{**asdict(preprocess(224, 224)), **change})
