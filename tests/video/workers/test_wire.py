"""Messages come out as they went in."""

import json
from pathlib import Path

import numpy as np
import pytest

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames
from colbert_video.video.workers.wire import pack_error, pack_frames, read_message, unpack, write_message


def test_frames_pass_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    sent = SampledFrames(
        pixels[:, :, ::-1], np.array([0.1, 0.2, 1 / 3]), 1.5, 29.97, 5, 4, 90, "vp9", "pyav", ("a", "b")
    )
    with (tmp_path / "pipe").open("w+b") as stream:
        write_message(stream, *pack_frames(sent))
        stream.seek(0)
        got = unpack(*read_message(stream))
    assert isinstance(got, SampledFrames)
    assert (got.pixels == sent.pixels).all()
    assert got.times.tolist() == sent.times.tolist()
    facts = ("duration", "fps", "width", "height", "rotation", "codec", "decoder", "warnings")
    assert [getattr(got, name) for name in facts] == [getattr(sent, name) for name in facts]
    got.pixels[0, 0, 0] = 7  # Receivers may write into what they got.


def test_errors_pass_unchanged() -> None:
    got = unpack(
        json.loads(json.dumps(pack_error(VideoError("a\udce9.mp4", FailureKind.NO_VIDEO, "sound")))),
        bytearray(),
    )
    assert isinstance(got, VideoError)
    assert (got.path, got.kind, got.detail) == ("a\udce9.mp4", FailureKind.NO_VIDEO, "sound")


def test_a_message_that_breaks_off_is_an_eof(tmp_path: Path) -> None:
    file = tmp_path / "pipe"
    with file.open("wb") as stream:
        write_message(stream, {"a": 1}, b"payload")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with file.open("rb") as stream, pytest.raises(EOFError, match="the stream ended after"):
            read_message(stream)
