"""A part of a video as a file of its own: which pictures it shows, what is copied, and what is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command_line import run
from container_bytes import add_clean_aperture
from video_writer import read_numbers, trim_without_decoding, write_clip, write_two_films

from colbert_video.errors import SettingsError, VideoError
from colbert_video.video.clips.cutting import CutSettings, cut_video
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.process import command_of, worker_environment

RATE = 25
CLOSED = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0"}  # a keyframe every ten frames, in order
OPEN = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "2", "x264-params": "open-gop=1"}


def all_frames(path: Path, **settings: Any) -> Any:
    """Every picture of a short clip."""
    with av.open(str(path)) as container:
        count = sum(1 for _ in container.decode(video=0))
    return read_frames(path, SamplingSettings(num_frames=count, height=64, width=64, **settings))


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def with_tone(source: Path, target: Path, *, codec: str = "aac") -> Path:
    """The same pictures with a tone whose loudness rises, second by second."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        picture = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream(codec, rate=16_000, layout="mono")
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = picture
                new.mux(packet)
        seconds = np.arange(3 * 16_000) / 16_000
        wave = (np.floor(seconds) + 1) / 4 * np.sin(2 * np.pi * 440 * seconds)
        if sound.format.name == "s16":
            samples = av.AudioFrame.from_ndarray((wave * 32_767).astype(np.int16)[None], format="s16", layout="mono")
        else:
            samples = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 16_000, 0
        for frame in [samples, None]:
            new.mux(sound.encode(frame))
    return target


def loudness(path: Path) -> np.ndarray:
    """Mean amplitude of each tenth of a second."""
    with av.open(str(path)) as container:
        wave = np.concatenate([frame.to_ndarray().astype(float).mean(axis=0) for frame in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    wave /= 32_767 if np.abs(wave).max() > 2 else 1
    tenth = rate // 10
    return np.abs(wave[: len(wave) // tenth * tenth].reshape(-1, tenth)).mean(axis=1) * np.pi / 2


@pytest.mark.parametrize(("first", "last"), [(0, 7), (10, 25), (20, 39)])
def test_a_part_that_begins_with_a_keyframe_is_copied(tmp_path: Path, first: int, last: int) -> None:
    source = write_clip(tmp_path / "a.mp4", 40, options=CLOSED)
    clip = cut_video(source, first / RATE, last / RATE, tmp_path / "clip.mp4")
    assert clip.copied
    assert (clip.start, clip.end) == pytest.approx((first / RATE, last / RATE), abs=1e-6)
    assert packets(tmp_path / "clip.mp4") == packets(source)[first:last]
    shown = all_frames(tmp_path / "clip.mp4")
    assert read_numbers(shown) == list(range(first, last))
    np.testing.assert_allclose(shown.times, np.arange(last - first) / RATE, atol=1e-4)


@pytest.mark.parametrize(("first", "last"), [(3, 7), (11, 25), (19, 40)])
def test_any_other_part_is_encoded_picture_by_picture(tmp_path: Path, first: int, last: int) -> None:
    source = write_clip(tmp_path / "a.mp4", 40, options=CLOSED)
    clip = cut_video(source, first / RATE, last / RATE, tmp_path / "clip.mp4")
    assert not clip.copied
    shown = all_frames(tmp_path / "clip.mp4")
    assert read_numbers(shown) == list(range(first, last))
    np.testing.assert_allclose(shown.times, np.arange(last - first) / RATE, atol=1e-4)
    assert shown.duration == pytest.approx((last - first) / RATE, abs=1e-3)
    assert cut_video(source, 0, 1, tmp_path / "clip.mp4", CutSettings(copy=False)).copied is False


def test_pictures_before_an_open_keyframe_are_left_out(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 40, options=OPEN)
    keyframes = [frame / RATE for frame in range(40) if _is_key(source, frame)]
    for start in keyframes[1:]:
        clip = cut_video(source, start, start + 0.4, tmp_path / "clip.mp4")
        first = round(start * RATE)
        assert read_numbers(all_frames(tmp_path / "clip.mp4"))[:8] == list(range(first, min(first + 8, 40)))
        assert clip.copied


def _is_key(path: Path, frame: int) -> bool:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.is_keyframe]
    return any(abs(time - frame / RATE) < 1e-3 for time in times)


def test_the_picture_shown_at_the_start_is_there_and_the_last_lasts_to_the_end(tmp_path: Path) -> None:
    times = [0, 100, 700, 2000, 2100]
    source = write_clip(tmp_path / "a.mp4", 5, milliseconds=times)
    cut_video(source, 0.5, 1.5, tmp_path / "clip.mp4")
    shown = all_frames(tmp_path / "clip.mp4")
    assert read_numbers(shown) == [1, 2]
    np.testing.assert_allclose(shown.times, [0, 0.2], atol=1e-3)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", ["a.avi", "a.ts", "a.mkv", "a.h264"])
def test_other_containers_show_the_same_part(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    source = write_clip(tmp_path / name, 40, codec=codec, options=CLOSED)
    cut_video(source, 11 / RATE, 25 / RATE, tmp_path / "clip.mp4")
    assert read_numbers(all_frames(tmp_path / "clip.mp4")) == list(range(11, 25))


def test_times_are_those_that_players_show(tmp_path: Path) -> None:
    """An edit list hides the first frames; the clip counts from what is shown."""
    source = trim_without_decoding(write_clip(tmp_path / "a.mp4", 40, options=CLOSED), tmp_path / "b.mp4", 5)
    cut_video(source, 8 / RATE, 12 / RATE, tmp_path / "clip.mp4")
    assert read_numbers(all_frames(tmp_path / "clip.mp4")) == [13, 14, 15, 16]


@pytest.mark.parametrize("copy", [True, False])
def test_turned_pictures_stay_turned(tmp_path: Path, copy: bool) -> None:
    source = write_clip(tmp_path / "a.mp4", 20, options=CLOSED, rotation=90)
    clip = cut_video(source, 10 / RATE, 14 / RATE, tmp_path / "clip.mp4", CutSettings(copy=copy))
    assert clip.copied is copy
    settings = {"height": 64, "width": 64, "num_frames": 4}
    wanted = read_frames(source, SamplingSettings(**settings, window=(10 / RATE, 14 / RATE)))
    shown = read_frames(tmp_path / "clip.mp4", SamplingSettings(**settings))
    assert np.abs(wanted.pixels.astype(int) - shown.pixels).mean() < 4


def test_what_the_container_crops_is_not_copied(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 20, options=CLOSED)
    add_clean_aperture(source, 50, 54, -2, 6)
    assert not cut_video(source, 0, 0.4, tmp_path / "clip.mp4").copied
    shown = all_frames(tmp_path / "clip.mp4")
    assert (shown.width, shown.height) == (50, 54)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le")])
def test_sound_goes_with_the_pictures(tmp_path: Path, name: str, codec: str, copy: bool) -> None:
    silent = write_clip(tmp_path / "silent.mp4", 75, options={**CLOSED, "g": "25", "keyint_min": "25"})
    source = with_tone(silent, tmp_path / name, codec=codec)
    clip = cut_video(source, 1.0, 3.0, tmp_path / "clip.mp4", CutSettings(copy=copy))
    assert (clip.copied, clip.warnings) == (copy, ())
    found = loudness(tmp_path / "clip.mp4")
    assert len(found) == pytest.approx(20, abs=2)
    np.testing.assert_allclose([found[3:8].mean(), found[13:18].mean()], [0.5, 0.75], atol=0.06)


def test_the_stream_that_was_indexed_is_cut(tmp_path: Path) -> None:
    source = write_two_films(tmp_path / "two.mp4")
    for stream, side in ((0, 32), (1, 128)):
        for copy in (True, False):
            cut_video(source, 0, 0.5, tmp_path / "clip.mp4", CutSettings(stream=stream, copy=copy))
            with av.open(str(tmp_path / "clip.mp4")) as container:
                assert [one.width for one in container.streams.video] == [side]


def test_large_pictures_fit_where_a_limit_is_given(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 5, side=256)
    cut_video(source, 0, 0.2, tmp_path / "clip.mp4", CutSettings(copy=False, max_side=100))
    shown = all_frames(tmp_path / "clip.mp4")
    assert (shown.width, shown.height) == (100, 100)


@pytest.mark.parametrize(
    ("start", "end", "name", "message"),
    [
        (1, 1, "clip.mp4", "1 to 1 seconds is not a part"),
        (-1, 1, "clip.mp4", "not a part of a video"),
        (float("nan"), 1, "clip.mp4", "start"),
        (0, 1, "clip.webm", "name it 'clip.mp4'"),
        (0, 1, "a.mp4", "is the video itself"),
        (0, 1, "none/clip.mp4", "cannot be written"),
    ],
)
def test_bad_parts_and_targets_are_refused(tmp_path: Path, start: float, end: float, name: str, message: str) -> None:
    source = write_clip(tmp_path / "a.mp4", 5)
    before = source.read_bytes()
    with pytest.raises(SettingsError, match=message):
        cut_video(source, start, end, tmp_path / name)
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_fails_leaves_an_older_clip_as_it_was(tmp_path: Path) -> None:
    source, clip = write_clip(tmp_path / "a.mp4", 20, noise=200), tmp_path / "clip.mp4"
    clip.write_bytes(b"older")
    for part, settings, message in (
        ((5.0, 6.0), CutSettings(), "shows nothing from 5 seconds on"),
        ((0.0, 0.8), CutSettings(max_bytes=1000), "larger than 1000 bytes"),
        ((0.1, 0.8), CutSettings(max_bytes=1000), "larger than 1000 bytes"),
    ):
        with pytest.raises(VideoError, match=message):
            cut_video(source, *part, clip, settings)
    with pytest.raises(VideoError, match="missing"):
        cut_video(tmp_path / "none.mp4", 0, 1, clip)
    assert clip.read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "clip.mp4"]


def test_a_process_of_its_own_says_why_it_fails(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", 20)
    for part, code in (([0.0, 0.4], 0), ([7.0, 8.0], 1)):
        given = json.dumps({"part": part, "stream": None, "max_bytes": 10**6, "timeout": 60.0})
        command = [*command_of("colbert_video.video.clips.cutting"), str(source), str(tmp_path / "c.mp4"), given]
        done = subprocess.run(command, capture_output=True, text=True, env=worker_environment(), check=False)
        assert (done.returncode, "shows nothing" in done.stderr) == (code, bool(code))


def test_the_command_line_cuts_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_clip(tmp_path / "a.mp4", 40, options=CLOSED)
    code, out, _ = run(["cut", str(source), "0:00.4", "1", str(tmp_path / "clip.mp4")], capsys)
    assert (code, out.split(" seconds")[0], "copied as they are" in out) == (0, "0.60", True)
    code, out, _ = run(["cut", str(source), "0.5", "1", str(tmp_path / "clip.mp4"), "--json"], capsys)
    assert json.loads(out) == {
        "path": str(tmp_path / "clip.mp4"), "start": 0.5, "end": 1.0, "copied": False, "warnings": [],
    }  # fmt: skip
    for arguments, message in (
        (["1:x", "2"], "is not a time; write seconds (83.5)"),
        (["2", "1"], "not a part of a video"),
        (["0", "1", "--index", str(tmp_path / "no.index")], "make one with"),
    ):
        code, _, err = run(["cut", str(source), *arguments[:2], str(tmp_path / "c.mp4"), *arguments[2:]], capsys)
        assert (code, message in err) == (2, True), err
