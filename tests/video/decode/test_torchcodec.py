"""torchcodec reads ordinary files as PyAV does; what it would get wrong is refused."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from video_writer import numbered_picture, read_numbers, trim_without_decoding, write_clip

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.frames import SamplingSettings, read_frames
from colbert_video.video.workers.pool import FramePool, FrameRequest

B_FRAMES = {"bf": "3", "g": "12"}


def read(path: Path, **settings: Any) -> Any:
    return read_frames(path, SamplingSettings(decoder="torchcodec", **settings))


@pytest.fixture
def installed() -> None:
    pytest.importorskip("torchcodec", exc_type=(ImportError, OSError, RuntimeError))  # type: ignore[arg-type]


class FakeDecoder:
    """Sixty numbered frames at 25 a second, unless told otherwise."""

    frames, late = 60, 0.0

    def __init__(self, path: str, *, dimension_order: str, num_ffmpeg_threads: int) -> None:
        assert (dimension_order, num_ffmpeg_threads) == ("NHWC", 1)

    def __len__(self) -> int:
        return self.frames

    def get_frame_at(self, position: int) -> Any:
        pixels = numbered_picture(position)
        return SimpleNamespace(
            data=SimpleNamespace(numpy=lambda: pixels), pts_seconds=position / 25 + self.late
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDecoder]:
    decoder = type("OneDecoder", (FakeDecoder,), {})
    decoders = SimpleNamespace(VideoDecoder=decoder)
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace(decoders=decoders))
    return decoder


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_ordinary_files_equal_pyav(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 60, options={} if name == "a.flv" else B_FRAMES)
    ours, theirs = read_frames(path), read(path)
    assert read_numbers(theirs) == read_numbers(ours)
    assert theirs.times.tolist() == ours.times.tolist()
    assert np.abs(theirs.pixels.astype(np.int16) - ours.pixels).mean() < 3
    facts = ("duration", "fps", "width", "height", "rotation", "codec", "warnings")
    assert [getattr(theirs, fact) for fact in facts] == [getattr(ours, fact) for fact in facts]
    assert theirs.decoder == "torchcodec"


@pytest.mark.usefixtures("installed")
def test_trimmed_files(tmp_path: Path) -> None:
    path = trim_without_decoding(write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES), tmp_path / "b.mp4", 17)
    assert read_numbers(read(path)) == read_numbers(read_frames(path))


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
def test_in_a_pool(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60)
    with FramePool(SamplingSettings(num_frames=3, decoder="torchcodec"), workers=1) as pool:
        (result,) = pool.read_many([FrameRequest(str(path))])
    assert result.frames is not None
    assert read_numbers(result.frames) == [10, 30, 50]


@pytest.mark.usefixtures("fake")
def test_frames_and_times(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES), num_frames=6, window=(1.0, 1.12))
    assert read_numbers(frames) == [25, 25, 26, 26, 27, 27]
    assert frames.times.tolist() == [1.0, 1.0, 1.04, 1.04, 1.08, 1.08]
    assert frames.warnings == ("3 distinct frames of 6; some repeat",)
    assert frames.pixels.shape == (6, 224, 224, 3)


def test_another_number_of_frames_is_refused(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    fake.frames = 61
    with pytest.raises(VideoError, match="torchcodec counts 61 frames where 60 are shown") as caught:
        read(write_clip(tmp_path / "a.mp4", 60))
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_a_frame_of_another_time_is_refused(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    fake.late = 0.04
    words = r"torchcodec gives the frame at 0\.440 seconds where 0\.400 was asked; use decoder='pyav'"
    with pytest.raises(VideoError, match=words) as caught:
        read(write_clip(tmp_path / "a.mp4", 60), num_frames=3)
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_its_errors_are_the_files_failure(
    tmp_path: Path, fake: type[FakeDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeDecoder, position: int) -> None:
        raise RuntimeError("no more frames left to decode.\nAt line 7.")

    monkeypatch.setattr(fake, "get_frame_at", fail)
    with pytest.raises(VideoError, match=r"torchcodec fails: no more frames left to decode\.; use") as caught:
        read(write_clip(tmp_path / "a.mp4", 60))
    assert caught.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.h264"])
def test_formats_it_misreads_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"torchcodec misreads \w+ files") as caught:
        read(write_clip(tmp_path / name, 60))
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_without_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(DependencyError, match="use decoder='pyav'"):
        read(tmp_path / "a.mp4")
    monkeypatch.setattr("colbert_video.video.workers.pool.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="decoder='torchcodec' needs the package torchcodec"):
        FramePool(SamplingSettings(decoder="torchcodec"))
