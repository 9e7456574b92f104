"""Files whose containers mislead: the frames are those of a decoder that reads all of the file from its start."""

import os
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Discard
from sample_descriptions import join_recordings
from video_writer import SIDE, numbered_picture, read_numbers, write_clip

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode import read as reading
from colbert_video.video.decode.read import read_frames
from colbert_video.video.decode.sampling import segment_centres
from colbert_video.video.frames import SampledFrames, SamplingSettings

SETTINGS = SamplingSettings(num_frames=12, height=SIDE, width=SIDE)


@pytest.fixture(params=["packets", "seeking"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read small files both ways."""
    if request.param == "seeking":
        monkeypatch.setattr(reading, "KEPT_BYTES", 0)
    return request.param


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decode all of a file's first video stream: times (frames,) and pictures (frames, 64, 64, 3)."""
    times, pictures = [], []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        start = (container.start_time or 0) / av.time_base
        for other in container.streams:
            other.discard = Discard.default if other is video else Discard.all
        for packet in container.demux(video):
            with suppress(av.error.InvalidDataError):  # The last packet of a file that breaks off.
                for frame in packet.decode():
                    small = frame.to_ndarray(width=SIDE, height=SIDE, format="rgb24", interpolation="BICUBIC")
                    times.append(float(frame.pts * video.time_base) - start)
                    pictures.append(np.rot90(small, round(frame.rotation / 90)))
    return np.array(times), np.stack(pictures).astype(np.int16)


def check_truth(path: Path) -> SampledFrames:
    """Check that each frame resembles none of the file more than the one that is on screen at its time."""
    frames = read_frames(path, SETTINGS)
    times, pictures = decoded(path)
    rows = np.maximum(np.searchsorted(times, frames.times + 1e-4, side="right") - 1, 0)
    for picture, row in zip(frames.pixels, rows, strict=True):
        differences = np.abs(pictures - picture).mean((1, 2, 3))
        assert differences[row] <= min(differences.min() + 1.0, 12.0)
    return frames


def flag_all_as_keyframes(path: Path) -> Path:
    """Change an MP4 so that its table of keyframes is skipped, and an FLV so that each video tag says keyframe."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".mp4":
        place = data.index(b"stss")
        data[place : place + 4] = b"free"
    place = 13
    while path.suffix == ".flv" and place < len(data):
        if data[place] == 9:
            data[place + 11] = data[place + 11] & 0x0F | 0x10
        place += 11 + int.from_bytes(data[place + 1 : place + 4], "big") + 4
    path.write_bytes(data)
    return path


FALSE_KEYS: dict[str, dict[str, Any]] = {
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "50"}},
    "mpeg4-b.mp4": {"codec": "mpeg4", "options": {"g": "50", "bf": "2"}},
    "mpeg2.mp4": {"codec": "mpeg2video", "options": {"g": "40", "bf": "2"}},
    "h264.mp4": {"options": {"g": "40", "bf": "2"}},
    "flv1.flv": {"codec": "flv1", "options": {"g": "60"}},
    "h264.flv": {"options": {"g": "40"}},
}


@pytest.mark.parametrize("name", FALSE_KEYS)
def test_keyframes_that_are_none(tmp_path: Path, method: str, name: str) -> None:
    path = flag_all_as_keyframes(write_clip(tmp_path / name, 150, noise=20, **FALSE_KEYS[name]))
    frames = check_truth(path)
    assert read_numbers(frames) == (np.round(frames.times * 25)).astype(int).tolist()
    assert frames.warnings == ()


def test_a_single_real_keyframe_in_a_long_file(tmp_path: Path) -> None:
    """Going back by keyframes ends at some point, and the file is decoded in order."""
    path = write_clip(tmp_path / "a.mp4", 700, codec="mpeg4", options={"g": "600"})
    assert read_numbers(check_truth(flag_all_as_keyframes(path)))


def test_a_palette_that_only_the_first_packet_brings(tmp_path: Path, method: str) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "pal8"
        for number in range(50):
            picture = numbered_picture(number)[:, :, 0]
            palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
            palette[:, 0] = 255  # opaque
            frame = av.VideoFrame.from_ndarray((picture, palette), format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = check_truth(path)
    assert read_numbers(frames) == np.round(frames.times * 10).astype(int).tolist()


def join_flv(first: Path, second: Path, target: Path, seconds: float) -> Path:
    """Append the tags of a second FLV, its decoder's header included, at later times."""
    data = bytearray(second.read_bytes()[13:])
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place + 1 : place + 4], "big")
        stamp = int.from_bytes(data[place + 4 : place + 7], "big") + round(1000 * seconds)
        data[place + 4 : place + 7] = stamp.to_bytes(3, "big")
        place += 11 + size + 4
    target.write_bytes(first.read_bytes() + data)
    return target


def test_a_second_recording_with_another_header(tmp_path: Path, method: str) -> None:
    """Of other settings and another size: without the second header, its packets are garbage to the decoder."""
    first = write_clip(tmp_path / "1.flv", 100, options={"g": "25", "x264-params": "cabac=1:ref=4"})
    second = write_clip(tmp_path / "2.flv", 100, options={"g": "25", "x264-params": "cabac=0:ref=1:8x8dct=0"}, side=96)
    frames = read_frames(join_flv(first, second, tmp_path / "joined.flv", 4.0), SETTINGS)
    assert frames.duration == pytest.approx(8.0, abs=0.05)
    assert frames.warnings == ()
    expected = np.round(frames.times * 25).astype(int) % 100
    assert read_numbers(frames) == expected.tolist()


DESCRIPTIONS = {
    "H.264": {"options": {"g": "12", "bf": "0", "sc_threshold": "0"}},
    "H.264, B-frames": {"options": {"g": "12", "bf": "2"}},
    "HEVC": {"codec": "libx265", "options": {"x265-params": "keyint=12:log-level=none:pools=1"}},
}


def write_two_descriptions(folder: Path, kind: str) -> Path:
    """Fifty frames of 64 pixels, then fifty of 128, each with a header that the other does not have."""
    halves = [(folder / "small.mp4", 0, SIDE), (folder / "large.mp4", 50, 2 * SIDE)]
    parts = [write_clip(path, 50, first=first, side=side, **DESCRIPTIONS[kind]) for path, first, side in halves]
    return join_recordings(*parts, folder / "joined.mp4")


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_track_that_changes_its_description(tmp_path: Path, method: str, kind: str) -> None:
    path = write_two_descriptions(tmp_path, kind)
    for wanted in (100, 10):
        frames = read_frames(path, SamplingSettings(num_frames=wanted, height=SIDE, width=SIDE, snap=0.0))
        rows = segment_centres(100, wanted)
        assert read_numbers(frames) == rows.tolist()
        np.testing.assert_allclose(frames.times, rows / 25, atol=1e-6)
        assert (frames.duration, frames.damage) == (4.0, ())
    window = SamplingSettings(num_frames=4, window=(1.92, 2.08), snap=0.0)
    assert read_numbers(read_frames(path, window)) == [48, 49, 50, 51]


def test_a_frame_that_does_not_decode_before_the_description_changes(tmp_path: Path, method: str) -> None:
    """What stands for it is decoded last, with the header of the first part."""
    path = write_two_descriptions(tmp_path, "H.264")
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for start, size in places[12:24]:
        data[start + 4 : start + size] = bytes(size - 4)
    path.write_bytes(data)
    frames = read_frames(path, SamplingSettings(num_frames=10, height=SIDE, width=SIDE, snap=0.0))
    numbers = read_numbers(frames)
    assert numbers[0:1] + numbers[2:] == [5, *range(25, 100, 10)]
    assert numbers[1] in (11, 24)
    assert any("1 wanted frames do not decode" in warning for warning in frames.warnings)


def test_missing_samples_of_another_track_end_nothing(tmp_path: Path, method: str) -> None:
    """The sound's table points past the end of the file, as if its samples, which came last, had been cut off."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "25"})
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16be", rate=8000, layout="mono")
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
            heard.sample_rate, heard.pts = 8000, 320 * number
            container.mux(sound.encode(heard))
        container.mux(video.encode())
        container.mux(sound.encode())
    data = bytearray(path.read_bytes())
    place = data.rindex(b"stco") if data.rindex(b"stco") > data.rindex(b"soun") else data.index(b"stco")
    (number,) = struct.unpack(">I", data[place + 8 : place + 12])
    for chunk in range(number // 4, number):
        data[place + 12 + 4 * chunk : place + 16 + 4 * chunk] = struct.pack(">I", len(data) + 1000 * chunk)
    path.write_bytes(data)
    frames = check_truth(path)
    assert frames.duration == pytest.approx(4.0, abs=0.01)
    assert [word for word in frames.warnings if "bytes are missing at its end" in word]


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_file_that_breaks_off_says_so(tmp_path: Path, name: str) -> None:
    options = {"muxer": {"movflags": "faststart"}} if name == "a.mp4" else {}
    path = write_clip(tmp_path / name, 100, noise=20, options={"g": "10"}, codec="mpeg4", **options)
    whole = path.read_bytes()
    assert read_frames(path, SETTINGS).warnings == ()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    frames = read_frames(path, SETTINGS)
    assert any("breaks off" in words for words in frames.warnings)
    assert 1.0 < frames.duration < 3.5
    assert read_numbers(frames)[:6] == np.round(frames.times * 25).astype(int).tolist()[:6]


def test_clear_video_before_encrypted_is_called_encrypted(tmp_path: Path) -> None:
    """As packagers write it: a second sample entry says that fragments after a clear lead are encrypted."""
    path = write_clip(
        tmp_path / "a.mp4", 100, noise=20, options={"g": "10"}, muxer={"movflags": "frag_keyframe+default_base_moof"}
    )
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    place = data.index(b"mdat", len(data) // 2)
    size = int.from_bytes(data[place - 4 : place], "big") - 8
    data[place + 4 : place + 4 + size] = rng.bytes(size)
    path.write_bytes(data)
    assert read_frames(path, SETTINGS).warnings  # damage, as long as nothing says that it is encrypted
    moov = data.index(b"moov")
    length = int.from_bytes(data[moov - 4 : moov], "big")
    entry = struct.pack(">I4s", 12, b"free") + b"encv"
    data[moov - 4 : moov] = (length + len(entry)).to_bytes(4, "big")
    data[moov - 4 + length : moov - 4 + length] = entry
    path.write_bytes(data)
    with pytest.raises(VideoError, match="a part of the video stream is encrypted") as caught:
        read_frames(path, SETTINGS)
    assert caught.value.kind is FailureKind.ENCRYPTED


def write_tracks(path: Path, *counts: int) -> Path:
    """Write several video tracks of 64 and more pixels a side."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in counts]
        for row, stream in enumerate(streams):
            stream.width = stream.height = SIDE * (row + 1)
            stream.pix_fmt = "yuv420p"
        for stream, count in zip(streams, counts, strict=True):
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24")
                frame = frame.reformat(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def test_a_film_comes_before_a_still(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mp4", 58, 1)
    assert read_frames(path, SETTINGS).duration == pytest.approx(58 / 25, abs=0.01)
    path = write_tracks(tmp_path / "b.mkv", 58, 1)
    assert read_frames(path, SETTINGS).duration == pytest.approx(58 / 25, abs=0.01)


def test_another_stream_can_be_asked_for(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mp4", 58, 30)
    second = read_frames(path, SamplingSettings(num_frames=3, stream=1))
    assert (second.width, second.duration) == (2 * SIDE, pytest.approx(1.2, abs=0.01))
    assert read_frames(path, SamplingSettings(num_frames=3, stream=0)).width == SIDE
    with pytest.raises(VideoError, match=r"stream=2 was asked for.* numbered from 0 to 1") as caught:
        read_frames(path, SamplingSettings(stream=2))
    assert caught.value.kind is FailureKind.NO_VIDEO


def write_jpegs(path: Path, count: int) -> Path:
    """Write JPEG pictures one behind the other, without any container."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width = context.height = SIDE
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
    data = b""
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(numbered_picture(number), format="rgb24").reformat(format="yuvj420p")
        frame.pts = number
        data += b"".join(bytes(packet) for packet in context.encode(frame))
    path.write_bytes(data + b"".join(bytes(packet) for packet in context.encode(None)))
    return path


@pytest.mark.parametrize("name", ["a.mjpeg", "a.mjpg", "b"])
def test_jpegs_in_a_row_are_a_video(tmp_path: Path, name: str) -> None:
    frames = read_frames(write_jpegs(tmp_path / name, 50), SETTINGS)
    assert read_numbers(frames) == np.round(frames.times * 25).astype(int).tolist()
    assert (frames.duration, frames.codec) == (pytest.approx(2.0), "mjpeg")


LEFT_OUT = {
    "a.mp4": (b"#EXTM3U\n#EXTINF:3,\nother.ts\n", "an HLS playlist"),
    "b.mp4": (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "a DASH manifest"),
    "c.mp4": (b"ffconcat version 1.0\nfile other.mp4\n", "a list of files"),
    "d.mp4": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "an SDP description"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_on_purpose_says_why(tmp_path: Path, name: str) -> None:
    data, words = LEFT_OUT[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VideoError, match=words) as caught:
        read_frames(tmp_path / name)
    assert caught.value.kind is FailureKind.UNREADABLE


def test_a_picture_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="a picture, no video"):
        read_frames(write_jpegs(tmp_path / "a.mp4", 1))


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.avi", "mjpeg", "yuvj420p"), ("a.mp4", "libx264", "yuv420p"), ("b.mp4", "mpeg4", "yuv420p")],
)
def test_a_picture_larger_than_its_header_says_is_never_allocated(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = write_clip(tmp_path / name, 5, codec=codec, pixel_format=pixel_format, side=512)
    data = path.read_bytes()
    form = "<II" if name == "a.avi" else ">HH"
    data = data.replace(struct.pack(form, 512, 512), struct.pack(form, 16, 16))
    path.write_bytes(data)
    with pytest.raises(VideoError, match="max_pixels=4096") as caught:
        read_frames(path, SamplingSettings(max_pixels=4096))
    assert caught.value.kind is FailureKind.TOO_LARGE


def test_pictures_up_to_the_limit_are_read(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("b.mp4", "mpeg4"), ("a.ts", "mpeg2video"), ("a.flv", "flv1")):
        path = write_clip(tmp_path / name, 30, codec=codec)
        assert read_frames(path, SamplingSettings(num_frames=2, max_pixels=SIDE**2)).width == SIDE
        with pytest.raises(VideoError, match=f"64x64 is more than max_pixels={SIDE**2 - 1}"):
            read_frames(path, SamplingSettings(max_pixels=SIDE**2 - 1))


@pytest.fixture
def more_clips() -> Path:
    """Further real clips, beside those of `clips`; tests skip without them."""
    folder = Path(os.environ.get("COLBERT_VIDEO_CLIPS_2", Path(__file__).parents[3].parent / "shared" / "clips-2"))
    if not folder.is_dir():
        pytest.skip("no folder of further real clips; set COLBERT_VIDEO_CLIPS_2 to one")
    return folder


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("made_i40_text_cut.mp4", 4.0),
        ("made_i41_sound_at_end_cut.mp4", 4.0),
        ("fs_wwwq_cut.mp4", 3.9),
        ("made_slides.mp4", 220.04),
        ("am_pixel_two_tracks.mp4", 2.11),
        ("made_flv_joined.flv", 12.0),
        ("tk_testasf.asf", 14.1),
    ],
)
def test_real_files(more_clips: Path, name: str, seconds: float, method: str) -> None:
    frames = check_truth(more_clips / name)
    assert frames.duration == pytest.approx(seconds, abs=0.12)
