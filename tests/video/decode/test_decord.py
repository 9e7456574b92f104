"""decord reads ordinary files as PyAV does; what it would get wrong is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_writer import read_numbers, trim_without_decoding, write_clip

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.frames import SamplingSettings, read_frames
from colbert_video.video.workers.pool import FramePool

B_FRAMES = {"bf": "3", "g": "12"}


def read(path: Path, **settings: Any) -> Any:
    return read_frames(path, SamplingSettings(decoder="decord", **settings))


@pytest.fixture
def installed() -> None:
    pytest.importorskip("decord")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_ordinary_files_equal_pyav(tmp_path: Path, name: str, interpolation: Any) -> None:
    path = write_clip(tmp_path / name, 60, options={} if name == "a.flv" else B_FRAMES)
    ours = read_frames(path, SamplingSettings(interpolation=interpolation))
    theirs = read(path, interpolation=interpolation)
    assert read_numbers(theirs) == read_numbers(ours)
    assert theirs.times.tolist() == ours.times.tolist()
    assert np.abs(theirs.pixels.astype(np.int16) - ours.pixels).mean() < 3
    facts = ("duration", "fps", "width", "height", "rotation", "codec", "warnings")
    assert [getattr(theirs, fact) for fact in facts] == [getattr(ours, fact) for fact in facts]
    assert theirs.decoder == "decord"


@pytest.mark.usefixtures("installed")
def test_window_and_repeats(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES), num_frames=6, window=(1.0, 1.12))
    assert read_numbers(frames) == [25, 25, 26, 26, 27, 27]
    assert frames.warnings == ("3 distinct frames of 6; some repeat",)


@pytest.mark.usefixtures("installed")
def test_trimmed_files_are_refused(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", 60, options=B_FRAMES)
    with pytest.raises(
        VideoError, match=r"decord counts \d+ frames where 43 are shown; use decoder='pyav'"
    ) as caught:
        read(trim_without_decoding(whole, tmp_path / "b.mp4", 17))
    assert caught.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.ts", {}, "decord misreads mpegts files"),
        ("a.mpg", {"codec": "mpeg2video"}, "decord misreads mpeg files"),
        ("a.h264", {}, "decord fails"),
    ],
)
def test_formats_it_misreads_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(VideoError, match=words) as caught:
        read(write_clip(tmp_path / name, 60, **options))
    assert caught.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.usefixtures("installed")
def test_av1_is_refused(clips: Path) -> None:
    with pytest.raises(VideoError, match="decord cannot decode av1") as caught:
        read(clips / "tc_av1.mkv")
    assert caught.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.usefixtures("installed")
def test_other_refusals_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for path, kind in (
        (tmp_path / "none.mp4", FailureKind.MISSING),
        (tmp_path / "text.mp4", FailureKind.UNREADABLE),
    ):
        with pytest.raises(VideoError) as caught:
            read(path)
        assert caught.value.kind is kind


@pytest.mark.usefixtures("installed")
def test_in_a_pool(tmp_path: Path) -> None:
    from colbert_video.video.workers.pool import FrameRequest

    path = write_clip(tmp_path / "a.mp4", 60)
    with FramePool(SamplingSettings(num_frames=3, decoder="decord"), workers=1) as pool:
        (result,) = pool.read_many([FrameRequest(str(path))])
    assert result.frames is not None
    assert read_numbers(result.frames) == [10, 30, 50]


def test_without_decord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(DependencyError, match="`pip install decord`"):
        read(tmp_path / "a.mp4")
    monkeypatch.setattr("colbert_video.video.workers.pool.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="use decoder='pyav'"):
        FramePool(SamplingSettings(decoder="decord"))
