"""The right frames at the right times, or a named refusal."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_writer import read_number, read_numbers, trim_without_decoding, write_clip, write_sound

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.decode.sampling import random_in_segments, segment_centres
from colbert_video.video.frames import SampledFrames, SamplingSettings

B_FRAMES = {"bf": "3", "g": "12"}
CENTRES = [2, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57]
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with the ffmpeg program")


def refusal(path: Path, **settings: Any) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read_frames(path, SamplingSettings(**settings))
    assert caught.value.path == str(path)
    return caught.value


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty numbered frames at 25 a second, with B-frames and a keyframe every twelve."""
    return write_clip(tmp_path_factory.mktemp("clips") / "numbered.mp4", 60, options=B_FRAMES)


CODECS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "bframes.mkv": {"options": B_FRAMES},
    "open-gop.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}},
    "stream.ts": {"options": B_FRAMES},
    "fragmented.mp4": {"options": B_FRAMES, "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "raw.h264": {"options": B_FRAMES},
    "flash.flv": {},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "motion.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "vp8.webm": {
        "codec": "libvpx",
        "options": {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "8"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs_and_containers(tmp_path: Path, name: str) -> None:
    frames = read_frames(write_clip(tmp_path / name, 60, **CODECS[name]))
    assert read_numbers(frames) == CENTRES
    delay = 0.04 if name == "mpeg4.avi" else 0.0  # AVI says when frames are decoded
    assert frames.times == pytest.approx(np.array(CENTRES) / 25 + delay, abs=2e-3)
    assert frames.duration == pytest.approx(2.4 + delay, abs=2e-3)
    assert frames.fps == pytest.approx(25, abs=0.1)
    assert (frames.width, frames.height, frames.rotation, frames.warnings) == (64, 64, 0, ())
    assert frames.pixels.shape == (12, 224, 224, 3)


@pytest.mark.parametrize("name", ["plain.mp4", "open-gop.mp4", "hevc.mp4", "vp8.webm", "mpeg2.mpg"])
def test_every_single_frame(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 60, **CODECS[name])
    alone = [
        read_frames(path, SamplingSettings(num_frames=1, window=(i / 25 - 0.01, (i + 1) / 25 - 0.01)))
        for i in range(1, 60)
    ]
    assert [read_number(frames.pixels[0]) for frames in alone] == list(range(1, 60))
    assert read_numbers(read_frames(path, SamplingSettings(num_frames=60))) == list(range(60))


def test_size_codec_and_decoder(clip: Path) -> None:
    frames = read_frames(clip, SamplingSettings(num_frames=3, height=32, width=128, interpolation="bilinear"))
    assert frames.pixels.shape == (3, 32, 128, 3)
    assert read_numbers(frames) == [10, 30, 50]
    assert (frames.codec, frames.decoder) == ("h264", "pyav")


def test_uneven_times(tmp_path: Path) -> None:
    moments = [40 * i + 7 * (i % 5) + (2000 if i > 30 else 0) for i in range(60)]
    frames = read_frames(write_clip(tmp_path / "vfr.mp4", 60, options=B_FRAMES, milliseconds=moments))
    assert read_numbers(frames) == CENTRES
    assert frames.times == pytest.approx(np.array(moments)[CENTRES] / 1000, abs=1e-3)


def test_frames_hidden_by_an_edit_list_are_not_shown(clip: Path, tmp_path: Path) -> None:
    frames = read_frames(trim_without_decoding(clip, tmp_path / "trimmed.mp4", 17))
    shown = np.arange(17, 60)[segment_centres(43, 12)]
    assert read_numbers(frames) == shown.tolist()
    assert frames.times == pytest.approx((shown - 17) / 25, abs=1e-3)
    assert frames.duration == pytest.approx(43 / 25, abs=1e-3)


@needs_ffmpeg
@pytest.mark.parametrize("start", [0.25, 0.61, 1.3])
def test_trimmed_by_ffmpeg(clip: Path, tmp_path: Path, start: float) -> None:
    run_ffmpeg("-ss", str(start), "-i", clip, "-c", "copy", tmp_path / "trimmed.mp4")
    frames = read_frames(tmp_path / "trimmed.mp4", SamplingSettings(num_frames=5))
    expected, times = ffmpeg_frames(tmp_path / "trimmed.mp4")
    chosen = segment_centres(len(expected), 5)
    assert read_numbers(frames) == [read_number(expected[i]) for i in chosen]
    assert frames.times == pytest.approx(times[chosen], abs=2e-3)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotated(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "rotated.mp4", 60, rotation=rotation)
    frames = read_frames(path, SamplingSettings(height=64, width=64))
    assert frames.rotation == rotation % 360
    undone = [np.rot90(picture, -rotation // 90) for picture in frames.pixels]
    assert [read_number(picture) for picture in undone] == CENTRES


def test_rotation_swaps_sides(clips: Path) -> None:
    frames = read_frames(clips / "me_gps.mov", SamplingSettings(num_frames=2, height=20, width=30))
    assert (frames.width, frames.height, frames.rotation) == (320, 568, 270)
    assert frames.pixels.shape == (2, 20, 30, 3)


def test_one_frame(tmp_path: Path) -> None:
    frames = read_frames(write_clip(tmp_path / "one.mp4", 1))
    assert read_numbers(frames) == [0] * 12
    assert frames.times.tolist() == [0.0] * 12
    assert frames.duration == pytest.approx(0.04, abs=1e-3)
    assert frames.warnings == ("1 distinct frames of 12; some repeat",)


def test_fewer_frames_than_wanted(tmp_path: Path) -> None:
    frames = read_frames(write_clip(tmp_path / "short.mp4", 5))
    assert read_numbers(frames) == segment_centres(5, 12).tolist()
    assert frames.warnings == ("5 distinct frames of 12; some repeat",)


def test_window(clip: Path) -> None:
    frames = read_frames(clip, SamplingSettings(num_frames=4, window=(1.0, 1.16)))
    assert read_numbers(frames) == [25, 26, 27, 28]
    assert frames.duration == pytest.approx(2.4, abs=1e-3)
    error = refusal(clip, window=(9.0, 10.0))
    assert error.kind is FailureKind.UNDECODABLE
    assert "the video lasts 2.400 seconds" in error.detail


def test_random_placement(clip: Path) -> None:
    frames = read_frames(clip, SamplingSettings(num_frames=5, placement="random", seed=11))
    assert read_numbers(frames) == random_in_segments(60, 5, np.random.default_rng(11)).tolist()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("empty.mp4", b"", FailureKind.EMPTY),
        ("text.mp4", b"I am no video.\n" * 100, FailureKind.UNREADABLE),
        ("noise.mp4", bytes(np.random.default_rng(0).integers(0, 256, 9999, dtype=np.uint8)), FailureKind.UNREADABLE),
        (
            "hls.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nnumbered.mp4\n#EXT-X-ENDLIST\n",
            FailureKind.UNREADABLE,
        ),
        ("concat.mp4", b"ffconcat version 1.0\nfile numbered.mp4\n", FailureKind.UNREADABLE),
    ],
)
def test_what_is_no_video_is_refused(clip: Path, name: str, content: bytes, kind: FailureKind) -> None:
    (clip.parent / name).write_bytes(content)
    assert refusal(clip.parent / name).kind is kind


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path, tmp_path / ("x" * 300), tmp_path / "nul\0.mp4"):
        assert refusal(path).kind is FailureKind.MISSING


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "secret.mp4", 3)
    path.chmod(0)
    assert refusal(path).kind is FailureKind.MISSING


def test_a_url_is_never_fetched() -> None:
    with pytest.raises(VideoError) as caught:
        read_frames("http://127.0.0.1:1/a.mp4")
    assert caught.value.kind is FailureKind.MISSING


def test_sound_without_picture(tmp_path: Path) -> None:
    error = refusal(write_sound(tmp_path / "sound.mp4"))
    assert (error.kind, error.detail) == (FailureKind.NO_VIDEO, "no video stream")


def test_too_large_a_picture(clip: Path) -> None:
    error = refusal(clip, max_pixels=64 * 64 - 1)
    assert (error.kind, error.detail) == (FailureKind.TOO_LARGE, "64x64 is more than max_pixels=4095")
    assert len(read_frames(clip, SamplingSettings(max_pixels=64 * 64))) == 12


def test_time_limit(clip: Path) -> None:
    error = refusal(clip, timeout=1e-4)
    assert (error.kind, error.detail) == (FailureKind.TIMEOUT, "decoding took longer than 0.0001 seconds")


@pytest.mark.parametrize(
    "name", ["10:30.mp4", "100%.mp4", "é 日本.mp4", "http:x.mp4", "a'b\"c.mp4", "-i.mp4", "clip[1].mp4"]
)
def test_odd_names(clip: Path, name: str) -> None:
    shutil.copy(clip, clip.parent / name)
    assert read_numbers(read_frames(clip.parent / name)) == CENTRES


def test_names_that_are_not_unicode(clip: Path) -> None:
    native = os.fsdecode(os.fsencode(clip.parent) + b"/caf\xe9.mp4")
    try:
        shutil.copy(clip, native)
    except OSError:
        pytest.skip("this system allows Unicode names only")
    assert read_numbers(read_frames(native)) == CENTRES
    assert read_numbers(read_frames(clip.parent / "caf\\xe9.mp4")) == CENTRES


def test_relative_path(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    assert read_numbers(read_frames(clip.name)) == CENTRES


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 60, options=B_FRAMES, noise=30, muxer={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    frames = read_frames(cut)
    numbers = read_numbers(frames)
    assert numbers == np.round(frames.times * 25).astype(int).tolist()
    assert 25 < numbers[-1] < 45
    assert frames.duration < 1.8
    assert "the file breaks off in the middle of a frame" in frames.warnings


def test_a_header_that_is_cut_off(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "headless.mp4"
    path.write_bytes(clip.read_bytes()[:1000])  # The index comes last in this file.
    assert refusal(path).kind is FailureKind.UNREADABLE


def test_damaged_packets_cost_their_frames_only(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "whole.mp4", 60, options={"g": "10", "bf": "0"}, noise=30)
    data = bytearray(path.read_bytes())
    for number in (22, 23):  # 22 is wanted; the keyframe before it, 20, is sound.
        wipe(data, *positions(path)[number])
    path.write_bytes(bytes(data))
    frames = read_frames(path, SamplingSettings(num_frames=20))
    expected = [21 if number == 22 else number for number in segment_centres(60, 20).tolist()]
    assert read_numbers(frames) == expected
    assert frames.times == pytest.approx(np.array(expected) / 25, abs=1e-3)
    assert "1 wanted frames do not decode; the nearest that do stand for them" in frames.warnings


def test_when_most_is_damaged_the_rest_is_sampled(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "whole.mp4", 60, options={"g": "10", "bf": "0", "sc_threshold": "0"}, noise=30)
    data = bytearray(path.read_bytes())
    for place in positions(path)[10:50]:
        wipe(data, *place)
    path.write_bytes(bytes(data))
    frames = read_frames(path, SamplingSettings(num_frames=6))
    numbers = read_numbers(frames)
    assert numbers == np.round(frames.times * 25).astype(int).tolist()
    assert numbers == [1, 5, 8, 51, 55, 58]  # the middles of what decodes: 0 to 9 and 50 to 59
    assert "60 packets gave 20 frames" in frames.warnings


def test_packets_before_the_first_keyframe(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "whole.ts", 60, options={"g": "10", "bf": "0", "sc_threshold": "0"}, noise=30)
    start = positions(path)[3][0] // 188 * 188
    path.write_bytes(path.read_bytes()[: 3 * 188] + path.read_bytes()[start:])  # The tables, then frame 3 and on.
    frames = read_frames(path, SamplingSettings(num_frames=5))
    assert read_numbers(frames) == (10 + segment_centres(50, 5)).tolist()
    assert frames.warnings[0].endswith("packets before the first keyframe cannot be decoded")


def wipe(data: bytearray, start: int, length: int) -> None:
    data[start + 4 : start + length] = bytes(length - 4)


def positions(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_no_frame_decodes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 10, muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(bytes(data))
    assert refusal(path).kind is FailureKind.UNDECODABLE


@needs_ffmpeg
def test_encrypted(clip: Path, tmp_path: Path) -> None:
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    scheme = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    run_ffmpeg("-i", clip, "-c", "copy", *scheme, tmp_path / "locked.mp4")
    assert refusal(tmp_path / "locked.mp4").kind is FailureKind.ENCRYPTED


@needs_ffmpeg
def test_cover_art_is_no_video(clip: Path, tmp_path: Path) -> None:
    run_ffmpeg("-i", clip, "-frames:v", "1", tmp_path / "cover.png")
    sound = write_sound(tmp_path / "sound.m4a")
    cover = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic")
    run_ffmpeg("-i", sound, "-i", tmp_path / "cover.png", *cover, tmp_path / "album.m4a")
    error = refusal(tmp_path / "album.m4a")
    assert (error.kind, error.detail) == (FailureKind.NO_VIDEO, "only cover art, no video stream")


def test_keyframes_are_taken_where_near_if_asked(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options={"bf": "3", "g": "12", "sc_threshold": "0"})
    settings = SamplingSettings(num_frames=3, snap=0.25)  # The middles are 10, 30 and 50; keyframes 12, 24 to 48.
    frames = read_frames(path, settings)
    assert read_numbers(frames) == [12, 30, 48]
    assert frames.times.tolist() == [0.48, 1.2, 1.92]
    late = read_frames(path, settings.with_request((1.0, 2.0), None))  # Frames 25 to 49; keyframe 24 lies outside.
    assert read_numbers(late) == [29, 36, 45]
    for seed in range(20):  # Frame 24 is close to the earliest random ones.
        random = SamplingSettings(num_frames=1, snap=0.25, window=(1.0, 1.4), placement="random", seed=seed)
        assert 25 <= read_numbers(read_frames(path, random))[0] < 35


REFUSED = {"exo_audio_ac3.mp4": FailureKind.NO_VIDEO, "mp_zero_bytes.webm": FailureKind.EMPTY}


@pytest.mark.slow
def test_real_clips_yield_frames_or_named_refusals(clips: Path) -> None:
    for path in sorted(clips.iterdir()):
        if path.suffix == ".md":
            continue
        if path.name in REFUSED:
            assert refusal(path).kind is REFUSED[path.name]
            continue
        frames = read_frames(path, SamplingSettings(num_frames=4, timeout=30.0))
        assert frames.pixels.shape == (4, 224, 224, 3)
        assert frames.times[-1] < frames.duration


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "dc_rot180.mov", "dc_rot270.mov", "dc_rot90.mov", "dc_unordered.mov", "exo_frag.mp4", "exo_h263.ts",
        "exo_h265_meta.mp4", "exo_htcrot.mkv", "exo_sample.avi", "exo_slowmo.mp4", "me_100_0306.avi", "me_gps.mov",
        "me_sample.3gp", "mm_part0.mp4", "mm_test.avi", "tc_animated.gif", "tc_av1.mkv", "tc_h264_10bit.mp4", "tc_mpeg4.avi",
        "tc_nasa_rotated.mp4", "tc_non_zero_start.mp4", "tc_odd_vp9.mp4",
    ],
)  # fmt: skip
def test_real_clips_equal_ffmpeg(clips: Path, name: str) -> None:
    frames = read_frames(clips / name)
    expected, _ = ffmpeg_frames(clips / name)
    for index, picture in zip(segment_centres(len(expected), 12), frames.pixels, strict=True):
        assert np.abs(expected[index].astype(np.int16) - picture).mean() < 3.5


@needs_ffmpeg
@pytest.mark.parametrize("name", ["plain.mp4", "bframes.mkv", "mpeg2.mpg"])
def test_made_clips_equal_ffmpeg(tmp_path: Path, name: str) -> None:
    frames: SampledFrames = read_frames(write_clip(tmp_path / name, 60, **CODECS[name]))
    expected, times = ffmpeg_frames(tmp_path / name)
    assert np.abs(expected[CENTRES].astype(np.int16) - frames.pixels).mean() < 1.0
    assert frames.times == pytest.approx(times[CENTRES], abs=2e-3)


def run_ffmpeg(*arguments: Any) -> "subprocess.CompletedProcess[bytes]":
    command = ["ffmpeg", "-v", "info", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60)


def ffmpeg_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All frames of a file as the ffmpeg program shows them, (frames, 224, 224, 3), and their times in seconds."""
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    chain = f"scale=224:224:flags={flags},format=rgb24,showinfo"
    done = run_ffmpeg("-i", path, "-an", "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    times = [
        float(line.split("pts_time:")[1].split()[0])
        for line in done.stderr.decode().splitlines()
        if "pts_time:" in line
    ]
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, 224, 224, 3), np.array(times)
