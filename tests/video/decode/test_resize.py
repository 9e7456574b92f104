"""Resizing: upright, uncropped, close to the best that is known, with old and new PyAV."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image
from video_writer import read_numbers, write_clip

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.decode.resize import ACCURATE, FrameResizer, resized
from colbert_video.video.frames import SamplingSettings, SourcePicture


def gradient(width: int = 96, height: int = 64) -> av.VideoFrame:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return av.VideoFrame.from_ndarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8), format="rgb24")


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(32, 48), (200, 300), (64, 96)])
def test_equals_pillow(size: tuple[int, int], interpolation: str) -> None:
    settings = SamplingSettings(height=size[0], width=size[1], interpolation=interpolation)  # type: ignore[arg-type]
    got = FrameResizer("a.mp4", settings)(gradient())
    expected = resized(gradient().to_ndarray(), size[1], size[0], interpolation)
    assert got.shape == (*size, 3)
    assert np.abs(got.astype(np.int16) - expected).mean() < 1.0


def test_without_accurate_scaling_pillow_resizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(hasattr(Interpolation, name) for name in ACCURATE):
        pytest.skip("this PyAV cannot resize accurately")
    path = write_clip(tmp_path / "a.mp4", 20)
    new = read_frames(path, SamplingSettings(num_frames=3))
    monkeypatch.setattr("colbert_video.video.decode.resize.ACCURATE", ("NO_SUCH_FLAG",))
    old = read_frames(path, SamplingSettings(num_frames=3))
    assert read_numbers(old) == read_numbers(new)
    assert np.abs(old.pixels.astype(np.int16) - new.pixels).mean() < 1.0
    assert (old.pixels != new.pixels).any()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "yuvj422p", "bgra", "gray"])
@pytest.mark.parametrize("size", [(224, 224), (33, 50)])
def test_planar_rgb_has_the_values_of_packed_rgb(pixel_format: str, size: tuple[int, int]) -> None:
    frame = gradient().reformat(format=pixel_format)
    resizer = FrameResizer("a.mp4", SamplingSettings(height=size[0], width=size[1]))
    if not resizer._accurate:
        pytest.skip("this PyAV cannot resize accurately")
    flags = Interpolation.BICUBIC
    for name in ACCURATE:
        flags |= Interpolation[name]
    packed = VideoReformatter().reformat(frame, size[1], size[0], "rgb24", interpolation=flags, threads=1)
    assert (resizer(frame) == packed.to_ndarray()).all()


def test_resized_is_pillows() -> None:
    pixels = gradient().to_ndarray()
    expected = np.asarray(Image.fromarray(pixels).resize((20, 10), Image.Resampling.BICUBIC))
    assert (resized(pixels, 20, 10, "bicubic") == expected).all()


def test_full_range_is_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mov", 4, codec="mjpeg", pixel_format="yuvj420p")
    pixels = read_frames(path, SamplingSettings(num_frames=1, window=(0.0, 0.01))).pixels
    assert abs(int(pixels[0, 20, 20, 0]) - 30) <= 2  # Number 0 is all dark: 30 of 255.


def test_the_source_is_remembered() -> None:
    resizer = FrameResizer("a.mp4", SamplingSettings())
    resizer(gradient())
    assert resizer.source == SourcePicture(96, 64, 0)


def test_a_frame_that_grows_beyond_the_limit_is_refused() -> None:
    with pytest.raises(VideoError, match="96x64 is more than max_pixels=6000") as caught:
        FrameResizer("a.mp4", SamplingSettings(max_pixels=6000))(gradient())
    assert caught.value.kind is FailureKind.TOO_LARGE
