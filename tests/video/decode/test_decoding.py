"""Frames may be skipped only where that changes no other frame."""

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from thorough import amount
from video_writer import write_clip

from colbert_video.video.decode import decoding
from colbert_video.video.decode.container import Deadline, open_video
from colbert_video.video.decode.decoding import FrameDecoder, PacketRun, can_skip
from colbert_video.video.decode.read import read_frames
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.frames import SamplingSettings


def context(codec: str, extradata: bytes | None = None) -> Any:
    return SimpleNamespace(codec=SimpleNamespace(canonical_name=codec), extradata=extradata)


def hevc_record(layers: int) -> bytes:
    return bytes([1] + [0] * 20 + [layers << 3 | 0b111, 0])


@pytest.mark.parametrize(
    ("codec", "extradata", "safe"),
    [
        ("h264", None, True),
        ("mpeg2video", b"", True),
        ("av1", None, False),
        ("vp9", None, False),
        ("hevc", hevc_record(1), True),
        ("hevc", hevc_record(2), False),
        ("hevc", hevc_record(0), False),
        ("hevc", None, False),
        ("hevc", b"\0\0\0\1\x40\1" + bytes(30), False),
    ],
)
def test_where_skipping_is_safe(codec: str, extradata: bytes | None, safe: bool) -> None:
    assert can_skip(context(codec, extradata)) is safe


CODECS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"bf": "3", "g": "30"}},
    "h264-pyramid.mp4": {"options": {"x264-params": "bframes=7:b-pyramid=normal:ref=6:keyint=30"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30:bframes=4"}},
    "hevc-layers.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30:temporal-layers=2"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"bf": "2", "g": "30"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "30"}},
    "vp8.webm": {
        "codec": "libvpx",
        "options": {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "8"},
    },
}


@pytest.mark.parametrize("name", CODECS)
def test_skipping_changes_no_wanted_frame(tmp_path: Path, name: str) -> None:
    path = str(write_clip(tmp_path / name, 60, noise=30, **CODECS[name]))
    with open_video(path, Deadline(60.0, path), 2**26) as video:
        packets = list(video.packets())
        decoder = FrameDecoder(video, FrameResizer(path, SamplingSettings(height=64, width=64)))
        for first in range(5):
            wanted = frozenset(sorted(packet.pts for packet in packets)[first::5])
            run = PacketRun(lambda: packets, wanted)
            decoder._may_skip = can_skip(video.context)
            skipping = decoder.read_run(run)
            decoder._may_skip = False
            video.context.skip_frame = "DEFAULT"
            every = decoder.read_run(run)
            assert skipping.keys() == every.keys()
            assert all((skipping[stamp].pixels == every[stamp].pixels).all() for stamp in every)


NO_VIDEO = {"exo_audio_ac3.mp4", "mp_zero_bytes.webm"}


@pytest.mark.slow
def test_skipping_changes_no_frame_of_real_clips(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [path for path in sorted(clips.iterdir()) if path.suffix != ".md" and path.name not in NO_VIDEO]
    paths = paths[:: amount(3, thorough=1)]
    settings = SamplingSettings(num_frames=5, height=64, width=64)
    skipping = [read_frames(path, settings) for path in paths]
    monkeypatch.setattr(decoding, "can_skip", lambda context: False)
    for path, frames in zip(paths, skipping, strict=True):
        every = read_frames(path, settings)
        assert (frames.pixels == every.pixels).all(), path.name
        assert frames.times.tolist() == every.times.tolist(), path.name


def test_skipping_saves_work(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 60, options={"bf": "3", "g": "60"}))
    with open_video(path, Deadline(60.0, path), 2**26) as video:
        packets = list(video.packets())
        decoder = FrameDecoder(video, FrameResizer(path, SamplingSettings()))
        some = sum(1 for _ in decoder.frames(packets, wanted={packets[0].pts}))
        every = sum(1 for _ in decoder.frames(packets))
    assert every == 60
    assert some < 45


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_frames_leave_the_memory_at_once(tmp_path: Path, name: str) -> None:
    """Frames that refer to themselves would stay until Python looks for such, a dozen of 4K take 180 MB."""
    path = write_clip(tmp_path / name, 20)
    read_frames(path)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        read_frames(path)
        gc.collect()
        assert not [thing for thing in gc.garbage if isinstance(thing, (av.VideoFrame, av.Packet))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
