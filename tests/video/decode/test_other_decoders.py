"""decord and torchcodec read ordinary files as PyAV does; what they would get wrong is refused."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from video_writer import numbered_picture, read_numbers, trim_without_decoding, write_clip

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest

B_FRAMES = {"bf": "3", "g": "12"}
FACTS = ("duration", "fps", "width", "height", "rotation", "codec", "warnings")


def read(path: Path, decoder: Any, **settings: Any) -> SampledFrames:
    return read_frames(path, SamplingSettings(decoder=decoder, **settings))


def refusal(path: Path, decoder: Any, **settings: Any) -> str:
    """The words with which a decoder refuses a file of the wrong kind."""
    with pytest.raises(VideoError) as caught:
        read(path, decoder, **settings)
    assert caught.value.kind is FailureKind.UNSUPPORTED
    return caught.value.detail


@pytest.fixture
def decord() -> None:
    pytest.importorskip("decord")


@pytest.fixture
def torchcodec() -> None:
    """torchcodec loads torch and FFmpeg's libraries, and fails in its own ways where they do not fit."""
    pytest.importorskip("torchcodec", exc_type=(ImportError, OSError, RuntimeError))  # type: ignore[arg-type]


@pytest.fixture(params=["decord", "torchcodec"])
def installed(request: pytest.FixtureRequest) -> str:
    """The name of a decoder that is installed."""
    request.getfixturevalue(request.param)
    return request.param


class FakeDecoder:
    """torchcodec's decoder of sixty numbered frames, 25 per second."""

    frames, late = 60, 0.0

    def __init__(self, path: str, *, dimension_order: str, num_ffmpeg_threads: int) -> None:
        assert (dimension_order, num_ffmpeg_threads) == ("NHWC", 1)

    def __len__(self) -> int:
        return self.frames

    def get_frame_at(self, position: int) -> Any:
        pixels = numbered_picture(position)
        return SimpleNamespace(data=SimpleNamespace(numpy=lambda: pixels), pts_seconds=position / 25 + self.late)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDecoder]:
    decoder = type("OneDecoder", (FakeDecoder,), {})
    decoders = SimpleNamespace(VideoDecoder=decoder)
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace(decoders=decoders))
    return decoder


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_ordinary_files_equal_pyav(tmp_path: Path, installed: str, name: str, interpolation: Any) -> None:
    path = write_clip(tmp_path / name, 60, options={} if name == "a.flv" else B_FRAMES)
    ours = read_frames(path, SamplingSettings(interpolation=interpolation))
    theirs = read(path, installed, interpolation=interpolation)
    assert read_numbers(theirs) == read_numbers(ours)
    assert theirs.times.tolist() == ours.times.tolist()
    assert np.abs(theirs.pixels.astype(np.int16) - ours.pixels).mean() < 3
    assert [getattr(theirs, fact) for fact in FACTS] == [getattr(ours, fact) for fact in FACTS]
    assert theirs.decoder == installed


def test_window_and_repeats(tmp_path: Path, installed: str) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES)
    check_window_and_repeats(read(path, installed, num_frames=6, window=(1.0, 1.12)))


def check_window_and_repeats(frames: SampledFrames) -> None:
    assert read_numbers(frames) == [25, 25, 26, 26, 27, 27]
    assert frames.times.tolist() == [1.0, 1.0, 1.04, 1.04, 1.08, 1.08]
    assert frames.warnings == ("3 distinct frames of 6; some repeat",)
    assert frames.pixels.shape == (6, 224, 224, 3)


@pytest.mark.usefixtures("decord")
def test_decord_refuses_trimmed_files(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES)
    words = refusal(trim_without_decoding(whole, tmp_path / "b.mp4", 17), "decord")
    assert words.endswith("frames where 43 are shown; use decoder='pyav'")


@pytest.mark.usefixtures("torchcodec")
def test_torchcodec_reads_trimmed_files(tmp_path: Path) -> None:
    path = trim_without_decoding(write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES), tmp_path / "b.mp4", 17)
    assert read_numbers(read(path, "torchcodec")) == read_numbers(read_frames(path))


@pytest.mark.usefixtures("decord")
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.ts", {}, "decord misreads mpegts files"),
        ("a.mpg", {"codec": "mpeg2video"}, "decord misreads mpeg files"),
        ("a.h264", {}, "decord fails"),
    ],
)
def test_formats_that_decord_misreads(tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    assert words in refusal(write_clip(tmp_path / name, 60, **options), "decord")


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.h264"])
def test_formats_that_torchcodec_misreads(tmp_path: Path, name: str) -> None:
    format_name = {"a.ts": "mpegts"}.get(name, name[2:])
    assert f"torchcodec misreads {format_name} files" in refusal(write_clip(tmp_path / name, 60), "torchcodec")


@pytest.mark.usefixtures("decord")
def test_decord_refuses_av1(clips: Path) -> None:
    assert "decord cannot decode av1" in refusal(clips / "tc_av1.mkv", "decord")


@pytest.mark.usefixtures("fake")
def test_av1_goes_to_torchcodec(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    """Each decoder has weaknesses of its own."""
    assert read_numbers(read(write_clip(tmp_path / "a.mp4", 60, codec="libsvtav1"), "torchcodec", num_frames=3)) == [
        10,
        30,
        50,
    ]


def test_other_refusals_are_the_same(tmp_path: Path, installed: str) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name, kind in (("none.mp4", FailureKind.MISSING), ("text.mp4", FailureKind.UNREADABLE)):
        with pytest.raises(VideoError) as caught:
            read(tmp_path / name, installed)
        assert caught.value.kind is kind


@pytest.mark.slow
def test_in_a_pool(tmp_path: Path, installed: Any) -> None:
    path = write_clip(tmp_path / "a.mp4", 60)
    with FramePool(SamplingSettings(num_frames=3, decoder=installed), workers=1) as pool:
        (result,) = pool.read_many([FrameRequest(str(path))])
    assert result.frames is not None
    assert read_numbers(result.frames) == [10, 30, 50]


@pytest.mark.usefixtures("fake")
def test_frames_and_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES)
    check_window_and_repeats(read(path, "torchcodec", num_frames=6, window=(1.0, 1.12)))


def test_another_number_of_frames_is_refused(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    fake.frames = 61
    words = refusal(write_clip(tmp_path / "a.mp4", 60), "torchcodec")
    assert words.startswith("torchcodec counts 61 frames where 60 are shown")


def test_a_frame_of_another_time_is_refused(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    fake.late = 0.04
    assert refusal(write_clip(tmp_path / "a.mp4", 60), "torchcodec", num_frames=3) == (
        "torchcodec gives the frame at 0.440 seconds where 0.400 was asked; use decoder='pyav'"
    )


def test_its_errors_are_the_files_failure(
    tmp_path: Path, fake: type[FakeDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FakeDecoder, position: int) -> None:
        raise RuntimeError("no more frames left to decode.\nAt line 7.")

    monkeypatch.setattr(fake, "get_frame_at", fail)
    words = refusal(write_clip(tmp_path / "a.mp4", 60), "torchcodec")
    assert words == "torchcodec fails: no more frames left to decode.; use decoder='pyav'"


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ("decord", "`pip install decord`.*use decoder='pyav'"),
        ("torchcodec", "needs the package torchcodec.*use decoder='pyav'"),
    ],
)
def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: Any, words: str) -> None:
    monkeypatch.setitem(sys.modules, decoder, None)
    with pytest.raises(DependencyError, match=words):
        read(tmp_path / "a.mp4", decoder)
    monkeypatch.setattr("colbert_video.video.workers.pool.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=words):
        FramePool(SamplingSettings(decoder=decoder))
