"""Files without timestamps are decoded from the start, and frames counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thorough import cases
from video_writer import read_number, read_numbers, write_clip

import colbert_video.video.decode.in_order as in_order
import colbert_video.video.decode.read as read_file
from colbert_video.video.decode.container import Deadline, open_video
from colbert_video.video.decode.decoding import FrameDecoder
from colbert_video.video.decode.in_order import listed_timeline, read_in_order
from colbert_video.video.decode.read import read_frames
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


AVI = {
    "closed GOPs": {"options": {"g": "12", "bf": "3", "threads": "1"}},
    "open GOPs": {"options": {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3"}},
    "B-pyramid": {"options": {"x264-params": "b-pyramid=strict:bframes=7:keyint=30"}},
    "no B-frames": {"options": {"g": "9", "bf": "0"}},
    "one keyframe": {"options": {"g": "250", "bf": "2"}},
    "MPEG-4": {"codec": "mpeg4", "options": {"g": "12", "bf": "0"}},
    "MPEG-4, B-frames": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "MPEG-2, B-frames": {"codec": "mpeg2video", "options": {"g": "9", "bf": "2"}},
    "Motion JPEG": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "WMV2": {"codec": "wmv2", "options": {"g": "12"}},
}


WAYS = ("memory", "index")
ONE_WAY = [(kind, WAYS[number % 2]) for number, kind in enumerate(AVI)]


@pytest.mark.parametrize(
    ("kind", "way"),
    cases(ONE_WAY, thorough=[(kind, way) for kind in AVI for way in WAYS if (kind, way) not in ONE_WAY]),
)
def test_avi_is_read_from_keyframes_as_if_it_were_decoded_whole(
    tmp_path: Path, kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.avi", 100, **AVI[kind])
    monkeypatch.setattr(read_file, "read_in_order", None)
    if way == "index":
        monkeypatch.setattr(read_file, "KEPT_BYTES", 0)
    for settings in (
        {"num_frames": 100},
        {"num_frames": 7},
        {"num_frames": 3, "window": (1.55, 2.3)},
        {"num_frames": 1},
    ):
        whole = read(path, **settings)
        frames = read_frames(path, SamplingSettings(**settings))
        assert frames.times.tolist() == list(whole.times)
        np.testing.assert_array_equal(frames.pixels, whole.pixels)
        assert (frames.duration, frames.fps, frames.warnings) == (whole.duration, whole.fps, whole.warnings)
    assert read_numbers(read_frames(path, SamplingSettings(num_frames=100))) == list(range(100))


def test_few_packets_of_avi_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.avi", 200, options={"g": "10", "bf": "2", "sc_threshold": "0"})
    given: list[Any] = []
    decoded = FrameDecoder._decoded
    monkeypatch.setattr(FrameDecoder, "_decoded", lambda self, packet: given.append(packet) or decoded(self, packet))
    assert read_numbers(read_frames(path, SamplingSettings(num_frames=4))) == segment_centres(200, 4).tolist()
    assert len(given) < 80
    given.clear()
    monkeypatch.setattr(read_file, "LONG_SECONDS", 1.0)  # keyframes will do in long files
    numbers = read_numbers(read_frames(path, SamplingSettings(num_frames=4)))
    assert [number % 10 for number in numbers] == [0] * 4
    assert np.abs(np.array(numbers) - segment_centres(200, 4)).max() <= 200 / 4 / 4
    assert len(given) < 40


@pytest.mark.parametrize("kept", [0, 2**26])
def test_avi_whose_packets_give_no_frame_is_decoded_whole(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.avi", 60, options={"g": "20", "bf": "2"})
    data = bytearray(path.read_bytes())
    place = data.index(b"00dc", len(data) // 2) + 8
    data[place : place + 60] = bytes(60)  # a packet without a frame
    path.write_bytes(data)
    monkeypatch.setattr(read_file, "KEPT_BYTES", kept)
    frames, whole = read_frames(path, SamplingSettings(num_frames=60)), read(path, num_frames=60)
    assert frames.times.tolist() == list(whole.times)
    np.testing.assert_array_equal(frames.pixels, whole.pixels)


def test_an_index_that_does_not_know_all_packets_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.avi", 60, options={"g": "20", "bf": "2"})
    data = bytearray(path.read_bytes())
    start = data.rindex(b"idx1")
    size = int.from_bytes(data[start + 4 : start + 8], "little") // 2 // 16 * 16
    path.write_bytes(data[: start + 4] + size.to_bytes(4, "little") + data[start + 8 : start + 8 + size])
    monkeypatch.setattr(read_file, "KEPT_BYTES", 0)
    assert read_numbers(read_frames(path, SamplingSettings(num_frames=6))) == segment_centres(60, 6).tolist()
