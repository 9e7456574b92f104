"""Which stream is taken, and what is asked of FFmpeg."""

import numbers
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from av.stream import Disposition

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import FORMATS, Deadline, OpenVideo, check_pixels, choose_stream


def stream(side: int, *, disposition: int = 0, decodable: bool = True, **facts: Any) -> Any:
    context = SimpleNamespace(width=side, height=side, codec_tag=facts.get("tag", "avc1"))
    metadata = facts.get("metadata", {})
    return SimpleNamespace(disposition=disposition, metadata=metadata, codec_context=context if decodable else None)


def test_the_default_stream_is_taken_else_the_largest() -> None:
    small, large = stream(10), stream(20)
    marked = stream(5, disposition=Disposition.default)
    cover = stream(99, disposition=Disposition.attached_pic | Disposition.default)
    assert choose_stream("a.mp4", [small, large, cover]) is large
    assert choose_stream("a.mp4", [cover, large, marked]) is marked
    assert choose_stream("a.mp4", [large, stream(20)]) is large
    assert choose_stream("a.mp4", [stream(50, decodable=False), small]) is small


@pytest.mark.parametrize(
    ("streams", "kind", "words"),
    [
        ([], FailureKind.NO_VIDEO, "no video stream"),
        ([stream(9, disposition=Disposition.attached_pic)], FailureKind.NO_VIDEO, "only cover art"),
        ([stream(9, decodable=False)], FailureKind.UNDECODABLE, "no decoder for its codec"),
        ([stream(9, tag="drmi")], FailureKind.ENCRYPTED, "the video stream is encrypted"),
        ([stream(9, metadata={"enc_key_id": "x"})], FailureKind.ENCRYPTED, "the video stream is encrypted"),
    ],
)
def test_refusals(streams: list[Any], kind: FailureKind, words: str) -> None:
    with pytest.raises(VideoError, match=words) as caught:
        choose_stream("a.mp4", streams)
    assert caught.value.kind is kind


@pytest.mark.parametrize("name", ["hls", "applehttp", "dash", "concat", "image2", "rtsp", "sdp", "lavfi", "imf", "tty"])
def test_formats_that_open_other_things_are_not_allowed(name: str) -> None:
    assert name not in FORMATS.split(",")


@dataclass
class Rational:
    """A number like those of PyAV 19, which are no `Fraction`."""

    numerator: int
    denominator: int


numbers.Rational.register(Rational)


def test_units_of_timestamps_are_fractions_whatever_pyav_gives() -> None:
    given = Rational(1, 12800)
    video = OpenVideo("a.mp4", None, SimpleNamespace(time_base=given), Deadline(60.0, "a.mp4"))
    assert type(video.time_base) is Fraction
    assert video.time_base == Fraction(1, 12800)


def test_largest_picture() -> None:
    check_pixels("a.mp4", 8192, 8192, 2**26)
    with pytest.raises(VideoError, match="8193x8192 is more than max_pixels=67108864"):
        check_pixels("a.mp4", 8193, 8192, 2**26)


def test_deadline() -> None:
    Deadline(60.0, "a.mp4").check()
    late = Deadline(-1.0, "a.mp4")
    assert late.left() > 0
    with pytest.raises(VideoError, match="decoding took longer than -1 seconds"):
        late.check()
