"""Which stream is taken, and what is asked of FFmpeg."""

import numbers
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from av.stream import Disposition

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, _demuxed, check_pixels, choose_stream
from colbert_video.video.decode.formats import FORMATS


def stream(side: int, *, disposition: int = 0, decodable: bool = True, **facts: Any) -> Any:
    context = SimpleNamespace(width=side, height=side, codec_tag=facts.get("tag", "avc1"))
    metadata = facts.get("metadata", {})
    found = context if decodable else None
    return SimpleNamespace(
        disposition=disposition, metadata=metadata, codec_context=found, frames=facts.get("frames", 0)
    )


def streams(*videos: Any, best: Any = None) -> Any:
    return SimpleNamespace(video=videos, best=lambda kind: best)


def test_ffmpegs_choice_is_taken_unless_it_is_a_still() -> None:
    small, large, film = stream(10), stream(20), stream(5, frames=58)
    cover = stream(99, disposition=Disposition.attached_pic | Disposition.default)
    still = stream(99, disposition=Disposition.default, frames=1)
    thumbnails = stream(99, disposition=Disposition.timed_thumbnails)
    assert choose_stream("a.mp4", streams(small, large, best=small)) is small
    assert choose_stream("a.mp4", streams(cover, small, large, best=cover)) is large
    assert choose_stream("a.mp4", streams(still, film, best=still)) is film
    assert choose_stream("a.mp4", streams(thumbnails, film, best=thumbnails)) is film
    assert choose_stream("a.mp4", streams(stream(50, decodable=False), small)) is small
    assert choose_stream("a.mp4", streams(still, best=still)) is still


def test_a_stream_may_be_named() -> None:
    film, still = stream(20), stream(99, frames=1)
    assert choose_stream("a.mp4", streams(film, still, best=film), 1) is still
    with pytest.raises(VideoError, match="stream=2 was asked for; its video streams are numbered from 0 to 1"):
        choose_stream("a.mp4", streams(film, still, best=film), 2)
    with pytest.raises(VideoError, match="no decoder for its codec"):
        choose_stream("a.mp4", streams(film, stream(9, decodable=False)), 1)


@pytest.mark.parametrize(
    ("videos", "kind", "words"),
    [
        ([], FailureKind.NO_VIDEO, "no video stream"),
        ([stream(9, disposition=Disposition.attached_pic)], FailureKind.NO_VIDEO, "only cover art"),
        ([stream(9, decodable=False)], FailureKind.UNDECODABLE, "no decoder for its codec"),
        ([stream(9, tag="drmi")], FailureKind.ENCRYPTED, "the video stream is encrypted"),
        ([stream(9, metadata={"enc_key_id": "x"})], FailureKind.ENCRYPTED, "the video stream is encrypted"),
    ],
)
def test_refusals(videos: list[Any], kind: FailureKind, words: str) -> None:
    with pytest.raises(VideoError, match=words) as caught:
        choose_stream("a.mp4", streams(*videos))
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


def test_streams_that_begin_in_mid_file_are_not_read() -> None:
    """PyAV ends with an empty packet of each stream, and raises IndexError at one that it does not know."""

    def demux(_: Any) -> Any:
        yield from range(3)
        raise IndexError("list index out of range")

    assert list(_demuxed(SimpleNamespace(demux=demux), None)) == [0, 1, 2]
