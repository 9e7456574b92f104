"""Lines of subtitle files and text streams: exact values of usual files, and no input that crashes."""

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from av.subtitles.codeccontext import SubtitleCodecContext
from hypothesis import given, settings
from subtitled_clips import clock, srt, vtt, write_subtitled
from thorough import amount
from video_writer import write_clip

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.subtitles import sidecars as sidecars_module
from colbert_video.video.subtitles import timed_line
from colbert_video.video.subtitles.sidecars import Sidecars
from colbert_video.video.subtitles.subtitle_text import decode_subtitles, parse_subtitles
from colbert_video.video.subtitles.text_streams import read_text_streams
from colbert_video.video.subtitles.timed_line import ReadLines, TimedLine, usable_lines
from colbert_video.video.workers.pool import FramePool

HELLO = (TimedLine(1.0, 2.5, "Hello."),)


def parsed(text: str) -> list[tuple[float, float, str]]:
    return [(line.start, line.end, line.text) for line in parse_subtitles(text).lines]


def test_a_subrip_file() -> None:
    text = (
        "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Where</i> are we\r\ngoing?\r\n\r\n"
        '2\r\n01:02:03,045 --> 01:02:04,5 X1:1 X2:2\r\n{\\an8}- Home &amp; <font color="#fff">away</font>.\r\n\r\n'
    )
    assert parsed(text) == [(1.0, 2.5, "Where are we going?"), (3723.045, 3724.5, "- Home & away.")]
    assert parse_subtitles(text).problems == ()


def test_a_webvtt_file() -> None:
    text = (
        "WEBVTT - a title\nKind: captions\n\nNOTE 00:01 is no cue\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:01.000 --> 00:02.500 align:start position:0%\n<v Anna>Good <00:01.500><c.loud>morning</c>\n\n"
        "00:00:03.000 --> 00:00:04.000\nif a < b and b > c\n"
    )
    assert parsed(text) == [(1.0, 2.5, "Good morning"), (3.0, 4.0, "if a < b and b > c")]


def test_cues_without_empty_lines_numbers_or_order() -> None:
    text = "00:00:05,000 --> 00:00:06,000\nlater\n2\n00:00:01,000 --> 00:00:02,000\nfirst\n3\n00:00:03,000 --> 00:00:04,000\n42\n"
    assert parsed(text) == [(1.0, 2.0, "first"), (3.0, 4.0, "42"), (5.0, 6.0, "later")]


def test_what_is_broken_is_counted_and_the_rest_is_read() -> None:
    broken = "1\n00:00:09,000 --> 00:00:08,000\nbackwards\n\n2\n0:0:0:0 --> 00:00:08,000\nno clock\n\n"
    read = parse_subtitles(broken + srt([(1.0, 2.5, "Hello.")]))
    assert read == ReadLines(HELLO, ("2 lines without usable times",))
    assert parse_subtitles("a letter\n\nnot subtitles").problems == ("no line with times is in it",)
    assert parse_subtitles("").problems == ("no line with times is in it",)


def test_rolling_captions_are_said_once() -> None:
    rolling = srt([(1.0, 2.0, "one"), (2.05, 3.0, "one"), (3.0, 4.0, "two"), (9.0, 9.5, "one")])
    assert parsed(rolling) == [(1.0, 3.0, "one"), (3.0, 4.0, "two"), (9.0, 9.5, "one")]


def test_lines_without_ends_last_until_the_next() -> None:
    read = usable_lines([(1.0, None, "a"), (2.0, 2.0, "b"), (60.0, None, "c")])
    assert [(line.start, line.end) for line in read.lines] == [(1.0, 2.0), (2.0, 12.0), (60.0, 70.0)]


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_line, "MAX_LINES", 2)
    read = usable_lines([(float(number), number + 0.5, "x" * 10_000 + str(number)) for number in range(5)])
    assert [len(line.text) for line in read.lines] == [timed_line.MAX_LETTERS] * 2
    assert read.problems == ("more than 2 lines, of which the rest is left out",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_of_unicode(encoding: str) -> None:
    text = srt([(1.0, 2.5, "Größe “企鹅” مرحبا")])
    assert decode_subtitles(text.encode(encoding)) == text


def test_old_encodings_are_western() -> None:
    assert decode_subtitles("Größe – “süß”".encode("cp1252")) == "Größe – “süß”"
    assert decode_subtitles(b"\x81\xe4") == "\x81ä"  # 0x81 is no letter of Windows-1252


@given(st.binary(max_size=400))
@settings(max_examples=amount(300, thorough=5000))
def test_no_bytes_crash_and_lines_are_usable(data: bytes) -> None:
    check_usable(parse_subtitles(decode_subtitles(data)))


CUE_PARTS = st.sampled_from(
    [
        "00:00:01,000",
        "99:59:59.999",
        " --> ",
        "-->",
        "\n",
        "\n\n",
        "1",
        "<i>",
        "</i>",
        "<v ",
        "{\\an8}",
        "&lt;",
        "\0",
        "ä",
        "\ud7ff",
    ]
)


@given(st.lists(CUE_PARTS | st.text(max_size=5), max_size=60).map("".join))
@settings(max_examples=amount(300, thorough=5000))
def test_no_text_crashes_and_lines_are_usable(text: str) -> None:
    check_usable(parse_subtitles(text))


def check_usable(read: ReadLines) -> None:
    assert [line.start for line in read.lines] == sorted(line.start for line in read.lines)
    for line in read.lines:
        assert 0 <= line.start < line.end < float("inf")
        assert line.text == " ".join(line.text.split()) != ""
        assert "\0" not in line.text
        line.text.encode()


TIMES = st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
WORDS = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(TIMES, st.lists(WORDS, min_size=1, max_size=4).map(" ".join)),
        max_size=8,
        unique_by=lambda one: one[0],
    )
)
@settings(max_examples=amount(100, thorough=1000))
def test_what_is_written_is_read(drawn: list[tuple[float, str]]) -> None:
    lines = [(start, start + 0.05, f"{number}: {text}") for number, (start, text) in enumerate(drawn)]
    wanted = sorted((start, end, text) for start, end, text in lines)
    for write in (srt, vtt):
        read = [(round(start, 3), round(end, 3), text) for start, end, text in parsed(write(lines))]
        assert read == [(start, round(end, 3), text) for start, end, text in wanted]


def test_files_beside_a_video(tmp_path: Path) -> None:
    belong = ["film.srt", "film.en.vtt", "film.pt-BR.forced.SRT", "film.de.sdh.srt"]
    others = ["film.part2.srt", "film.txt", "film2.srt", "other.srt", "film.en", "the film.srt"]
    for name in (*belong, *others):
        (tmp_path / name).write_text(srt([(1.0, 2.5, name)]))
    found = Sidecars()
    assert [file.name for file in found.find(str(tmp_path / "film.mp4"))] == sorted(belong)
    assert {line.text for line in found.read(str(tmp_path / "film.mp4")).lines} == set(belong)
    assert [file.name for file in found.find(str(tmp_path / "film.part2.mkv"))] == ["film.part2.srt"]
    assert found.find(str(tmp_path / "missing" / "film.mp4")) == []


def test_a_file_belongs_to_the_video_of_the_longest_name(tmp_path: Path) -> None:
    for name in ("the.mp4", "the.big.mkv", "the.srt", "the.big.srt", "the.big.en.srt"):
        (tmp_path / name).write_text("x")
    found = Sidecars()
    assert [file.name for file in found.find(str(tmp_path / "the.mp4"))] == ["the.srt"]
    assert [file.name for file in found.find(str(tmp_path / "the.big.mkv"))] == ["the.big.en.srt", "the.big.srt"]


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    video, file = str(tmp_path / "film.mp4"), tmp_path / "film.srt"
    assert Sidecars().stamp(video) == ""
    file.write_text(srt([(1.0, 2.5, "Hello.")]))
    before = Sidecars().stamp(video)
    assert before == Sidecars().stamp(video) != ""
    os.utime(file, ns=(1, 1))
    assert Sidecars().stamp(video) not in ("", before)


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecars_module, "MAX_BYTES", 500)
    (tmp_path / "film.srt").write_text(srt([(1.0, 2.5, "Hello.")]))
    (tmp_path / "film.de.srt").write_text(srt([(number, number + 1, "long") for number in range(40)]))
    (tmp_path / "film.en.srt").mkdir()
    (tmp_path / "film.fr.srt").symlink_to("nowhere")
    read = Sidecars().read(str(tmp_path / "film.mp4"))
    assert read.lines == HELLO
    assert read.problems == (
        "film.de.srt: it has more than 500 bytes",
        "film.en.srt: it is no file",
        "film.fr.srt: it is no file",
    )


SAID = [(0.5, 1.5, "Hello, Größe 企鹅"), (2.0, 3.0, "second line")]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.mkv", "srt"), ("a.mkv", "vtt"), ("a.mkv", "ass"), ("a.mp4", "mov_text")]
)
def test_text_streams_inside_a_video(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "mov_text" and not hasattr(SubtitleCodecContext, "subtitle_header"):
        pytest.skip("this PyAV cannot write timed text")
    clip = write_subtitled(tmp_path / name, [(kind, SAID)])
    read = read_text_streams(str(clip), 10.0)
    assert read.problems == ()
    assert [line.text for line in read.lines] == [text for *_, text in SAID]
    for line, (start, end, _) in zip(read.lines, SAID, strict=True):
        assert (line.start, line.end) == pytest.approx((start, end), abs=0.011)
    assert read_frames(clip).has_texts


def test_several_streams_and_styles(tmp_path: Path) -> None:
    styled = [(0.5, 1.5, "{\\an8\\i1}Guten{\\i0} Tag,\\Nwelt")]
    clip = write_subtitled(tmp_path / "a.mkv", [("ass", styled), ("srt", [(0.7, 1.5, "<b>Bonjour</b>")])])
    assert [line.text for line in read_text_streams(str(clip), 10.0).lines] == ["Guten Tag, welt", "Bonjour"]


def test_a_video_without_text_streams_says_so_when_it_is_sampled(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 10)
    assert not read_frames(clip).has_texts
    assert read_text_streams(str(clip), 10.0) == ReadLines()


def test_a_decoding_process_reads_them_too(tmp_path: Path) -> None:
    clip = write_subtitled(tmp_path / "a.mkv", [("srt", SAID)])
    with FramePool(workers=1) as pool:
        assert pool.read_texts(str(clip)) == read_text_streams(str(clip), 10.0)
        with pytest.raises(VideoError) as caught:
            pool.read_texts(str(tmp_path / "missing.mkv"))
    assert caught.value.kind is FailureKind.MISSING


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    many = [(number / 10, number / 10 + 0.05, f"line {number}") for number in range(40)]
    clip = write_subtitled(tmp_path / "a.mkv", [("srt", many)], frames=60)
    data = clip.read_bytes()
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(data[: len(data) * 2 // 3])
    texts = [line.text for line in read_text_streams(str(torn), 10.0).lines]
    assert texts == [f"line {number}" for number in range(len(texts))]


def test_clocks() -> None:
    assert clock(3723.045) == "01:02:03,045"
