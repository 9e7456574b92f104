"""Text streams inside a video file: SubRip, WebVTT, ASS and the timed text of MP4. Streams of pictures are left out."""

from typing import Any

from colbert_video.errors import VideoError
from colbert_video.video.decode.container import Deadline, open_texts
from colbert_video.video.subtitles.subtitle_text import decode_subtitles, plain_markup
from colbert_video.video.subtitles.timed_line import MAX_LINES, ReadLines, usable_lines

FIELDS_OF_ASS = 8
"""Fields of a line of ASS before its text, separated by commas."""

Lines = list[tuple[float, float | None, str]]


def read_text_streams(path: str, seconds: float) -> ReadLines:
    """Read the lines of all text streams of a video file.

    A file without any costs a look at its header. In MP4 an index leads to the lines; other containers are read through.

    Args:
        path: A local file, or a member of a tar archive.
        seconds: Time limit; what was read until then is kept, and a problem says so.

    Raises:
        VideoError: If the file cannot be opened.
    """
    with open_texts(path, Deadline(seconds, path)) as opened:
        if opened is None:
            return ReadLines()
        found: dict[int, Lines] = {stream.index: [] for stream in opened.streams}
        problems: list[str] = []
        try:
            for packet in opened.packets():
                own = found[packet.stream.index]
                if len(own) <= MAX_LINES:  # one more, for the report
                    own.append((*opened.span(packet), _text(packet)))
        except VideoError as error:
            problems.append(error.detail)
    read = [usable_lines(lines) for lines in found.values()]  # each by itself: its lines follow each other
    problems += [problem for own in read for problem in own.problems]
    named = tuple(f"its subtitles: {problem}" for problem in dict.fromkeys(problems))
    return ReadLines(tuple(line for own in read for line in own.lines), named)


def _text(packet: Any) -> str:
    """Return the text of a packet, as its codec stores it."""
    codec, data = packet.stream.codec_context.name, bytes(packet)
    if codec == "mov_text":
        return plain_markup(decode_subtitles(data[2 : 2 + int.from_bytes(data[:2], "big")]))  # styles follow the text
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", FIELDS_OF_ASS)[-1]
    return plain_markup(text)
