"""Large files: the frame at each reported time is the true one, near the wanted moment."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_writer import read_numbers, trim_without_decoding, write_clip

import colbert_video.video.decode.seeking as seeking
from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode import read as reading
from colbert_video.video.decode.container import OpenVideo
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SampledFrames, SamplingSettings

FORMATS: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": {"bf": "3", "g": "20"}},
    "a.mkv": {"options": {"bf": "3", "g": "20"}},
    "a.ts": {"options": {"bf": "3", "g": "20"}},
    "a.flv": {"options": {"g": "20"}},
    "open-gop.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0"}},
    "a.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "20", "b": "4M"}, "noise": 60},
    "a.webm": {
        "codec": "libvpx",
        "options": {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "8"},
    },
}


@pytest.fixture(autouse=True)
def _every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT_BYTES", 0)


def check_truth(frames: SampledFrames, first: int = 0) -> list[int]:
    numbers = read_numbers(frames)
    assert numbers == (np.round(frames.times * 25).astype(int) + first).tolist()
    return numbers


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_true_and_near(tmp_path: Path, name: str) -> None:
    frames = read_frames(write_clip(tmp_path / name, 200, **FORMATS[name]), SamplingSettings(num_frames=9))
    numbers = check_truth(frames)
    middles = (np.arange(9) + 0.5) * 200 / 9
    assert (np.abs(np.array(numbers) - middles) <= 0.25 * 200 / 9 + 1.5).all()
    assert frames.duration == pytest.approx(8.0, abs=0.05)
    assert frames.fps == pytest.approx(25, abs=0.1)
    assert frames.warnings == ()


def test_exact_frames_without_snapping(tmp_path: Path) -> None:
    frames = read_frames(
        write_clip(tmp_path / "a.mp4", 200, **FORMATS["open-gop.mp4"]), SamplingSettings(num_frames=40, snap=0)
    )
    assert check_truth(frames) == [int(5 * (i + 0.5)) for i in range(40)]


def test_keyframes_are_taken_where_near(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, options={"bf": "3", "g": "20", "sc_threshold": "0"})
    frames = read_frames(path, SamplingSettings(num_frames=2))
    assert check_truth(frames) == [40, 140]  # The moments are 50 and 150; keyframes lie at 40 and 140.


def test_one_seek_serves_all_frames_of_a_keyframe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, options={"bf": "0", "g": "100", "sc_threshold": "0"})
    runs = []
    build = seeking.PacketRun
    monkeypatch.setattr(seeking, "PacketRun", lambda *given: runs.append(given[1]) or build(*given))
    numbers = check_truth(read_frames(path, SamplingSettings(num_frames=20)))
    assert len(set(numbers)) == 20
    assert len(runs) == 2


def test_window(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, **FORMATS["a.mp4"])
    frames = read_frames(path, SamplingSettings(num_frames=4, window=(4.0, 5.0)))
    numbers = check_truth(frames)
    assert min(numbers) >= 100
    assert max(numbers) < 125
    assert len(set(numbers)) == 4
    with pytest.raises(VideoError, match=r"the video lasts 8\.000 seconds") as caught:
        read_frames(path, SamplingSettings(window=(9.0, 10.0)))
    assert caught.value.kind is FailureKind.UNDECODABLE


def test_in_a_window_between_two_frames_the_first_stays(tmp_path: Path) -> None:
    moments = [40 * i + (5000 if i >= 30 else 0) for i in range(60)]
    path = write_clip(tmp_path / "gap.mp4", 60, milliseconds=moments)
    frames = read_frames(path, SamplingSettings(num_frames=3, window=(2.0, 3.0)))
    assert read_numbers(frames) == [29, 29, 29]
    assert frames.times.tolist() == [2.0, 2.0, 2.0]
    frames = read_frames(path, SamplingSettings(num_frames=2, window=(4.2, 8.0), snap=0))
    assert read_numbers(frames)[0] == 29  # until 6.2
    assert read_numbers(frames)[1] > 29
    with pytest.raises(VideoError, match=r"no frame is shown in \[9, 10\) seconds"):
        read_frames(path, SamplingSettings(window=(9.0, 10.0)))


def test_an_edit_list(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", 200, **FORMATS["a.mp4"])
    frames = read_frames(trim_without_decoding(whole, tmp_path / "b.mp4", 47), SamplingSettings(num_frames=9))
    numbers = check_truth(frames, first=47)
    assert min(numbers) >= 47
    assert frames.duration == pytest.approx(153 / 25, abs=1e-3)


def test_random_placement(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, **FORMATS["a.mp4"])
    settings = SamplingSettings(num_frames=5, placement="random", seed=5)
    numbers = check_truth(read_frames(path, settings))
    assert numbers == check_truth(read_frames(path, settings))
    assert numbers != check_truth(read_frames(path, settings.with_request(None, 6)))


def test_random_moments_never_leave_the_window(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, options={"bf": "0", "g": "20", "sc_threshold": "0"})
    for seed in range(12):  # Frame 100 is a keyframe, and close enough for the earliest moments.
        settings = SamplingSettings(num_frames=1, window=(4.04, 4.8), placement="random", seed=seed)
        assert 101 <= check_truth(read_frames(path, settings))[0] < 120


def test_without_timestamps_frames_are_decoded_in_order(tmp_path: Path) -> None:
    frames = read_frames(write_clip(tmp_path / "a.h264", 60), SamplingSettings(num_frames=3))
    assert check_truth(frames) == [10, 30, 50]


def test_a_seek_that_lands_too_late_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OpenVideo.seek
    late = 60 * 512  # sixty frames in units of the time base
    monkeypatch.setattr(OpenVideo, "seek", lambda self, stamp: honest(self, stamp + late if stamp > late else stamp))
    frames = read_frames(
        write_clip(tmp_path / "a.mp4", 200, **FORMATS["a.mp4"]), SamplingSettings(num_frames=4, snap=0)
    )
    assert check_truth(frames) == [25, 75, 125, 175]


def test_a_small_file_that_lasts_long_is_sought_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT_BYTES", 64 * 2**20)
    path = write_clip(tmp_path / "a.mp4", 200, options={"bf": "3", "g": "20", "sc_threshold": "0"})
    exact = read_frames(path, SamplingSettings(num_frames=2))
    assert check_truth(exact) == [50, 150]
    monkeypatch.setattr(reading, "LONG_SECONDS", 7.9)
    assert check_truth(read_frames(path, SamplingSettings(num_frames=2))) == [40, 140]
    assert check_truth(read_frames(path, SamplingSettings(num_frames=2, snap=0))) == [50, 150]
    monkeypatch.setattr(OpenVideo, "seek", lambda self, stamp: False)
    assert check_truth(read_frames(path, SamplingSettings(num_frames=2))) == [50, 150]


def test_a_header_that_claims_too_long_a_video_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT_BYTES", 64 * 2**20)
    path = write_clip(tmp_path / "a.mkv", 200, options={"bf": "3", "g": "20", "sc_threshold": "0"})
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Duration: eight bytes, in milliseconds.
    path.write_bytes(data[:place] + struct.pack(">d", 3.6e6) + data[place + 8 :])
    frames = read_frames(path, SamplingSettings(num_frames=2))
    assert check_truth(frames) == [50, 150]
    assert frames.duration == pytest.approx(8.0, abs=0.01)


def test_a_file_that_cannot_be_sought_is_decoded_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVideo, "seek", lambda self, stamp: False)
    frames = read_frames(write_clip(tmp_path / "a.mp4", 60, **FORMATS["a.mp4"]), SamplingSettings(num_frames=3))
    assert check_truth(frames) == [10, 30, 50]
