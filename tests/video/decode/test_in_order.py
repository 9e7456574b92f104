"""Files without timestamps are decoded from the start, and frames counted."""

from pathlib import Path
from typing import Any

import pytest
from video_writer import read_number, write_clip

import colbert_video.video.decode.in_order as in_order
from colbert_video.video.decode.container import Deadline, open_video
from colbert_video.video.decode.in_order import listed_timeline, read_in_order
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.sampling import segment_centres
from colbert_video.video.frames import SamplingSettings


def read(path: Path, **settings: Any) -> Any:
    asked = SamplingSettings(**settings)
    return read_in_order(str(path), asked, Deadline(60.0, str(path)), FrameResizer(str(path), asked))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"options": {"bf": "3", "g": "12"}}),
        ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("a.h264", {"options": {"bf": "2"}}),
    ],
)
def test_frames_in_order(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    reading = read(write_clip(tmp_path / name, 60, **options), num_frames=7)
    expected = segment_centres(60, 7)
    assert [read_number(picture) for picture in reading.pixels] == expected.tolist()
    delay = 1 if name == "a.avi" else 0  # AVI says when frames are decoded; FFmpeg shows them as they leave the decoder
    assert reading.times == pytest.approx((expected + delay) / 25, abs=1e-3)
    assert reading.duration == pytest.approx(2.4 + delay / 25, abs=1e-3)
    assert reading.warnings == ()


def test_window(tmp_path: Path) -> None:
    reading = read(write_clip(tmp_path / "a.avi", 60, codec="mpeg4"), num_frames=3, window=(1.2, 1.32))
    assert [read_number(picture) for picture in reading.pixels] == [30, 31, 32]


def test_packets_without_frames_need_a_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options={"g": "12"})
    with open_video(str(path), Deadline(60.0, str(path)), 2**26) as video:
        real = listed_timeline(video)
    claimed = type(real).from_stamps(
        range(0, 512 * 90, 512), real.time_base, real.origin, last_units=None, rate=0.0
    )  # ninety packets where sixty frames are
    passes = []
    decode = in_order._decoded
    monkeypatch.setattr(in_order, "listed_timeline", lambda video: claimed)
    monkeypatch.setattr(in_order, "_decoded", lambda *given: passes.append(given) or decode(*given))
    reading = read(path, num_frames=4)
    assert [read_number(picture) for picture in reading.pixels] == segment_centres(60, 4).tolist()
    assert len(passes) == 2
    assert reading.warnings == ("90 packets gave 60 frames",)


@pytest.mark.parametrize(
    ("stamps", "usable"), [([3, 1, 2], True), ([1, 1, 2], True), ([1, 1, 1, 2], False), ([1, None], False)]
)
def test_which_timestamps_are_used(stamps: list[int | None], usable: bool) -> None:
    assert in_order._usable(stamps) is usable
