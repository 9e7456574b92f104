"""The text of SubRip (.srt) and WebVTT (.vtt) files becomes lines with times, whatever is broken around them.

Both formats are read alike: a line with "-->" gives the times, and the lines after it, up to an empty one, are said then.
What comes before the first times, comments and styles have none and are left out by themselves.
"""

import codecs
import html
import re
from collections.abc import Iterator

from colbert_video.video.subtitles.timed_line import ReadLines, usable_lines

TIMES = re.compile(r"^\s*([\d:.,]{4,20})\s*-->\s*([\d:.,]{4,20})(?:\s.*)?$")
CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?")
TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|<\d[\d:.]{0,20}>")
"""Tags such as `<i>`, `<font color="red">`, `<v Anna>`, and times of single words, `<00:00:01.500>`."""
OVERRIDE = re.compile(r"\{\\[^{}\n]{0,500}\}")
"""Styling of ASS, which some SubRip files have too: `{\\an8}`."""
ENDS_OF_LINES = re.compile(r"\r\n|\r|\n|\x0b|\x0c|\x85|\u2028|\u2029")
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
"""Marks with their encodings; those of UTF-32 begin as those of UTF-16 do, and come first."""
SEEN_BYTES = 4096
"""How much of a file without a mark shows whether it is UTF-16."""


def decode_subtitles(data: bytes) -> str:
    """Return the text of a subtitle file: UTF-8, UTF-16 or UTF-32, or else Windows' Western letters (Latin-1).

    No bytes are refused: a byte that the encoding does not know becomes U+FFFD.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace").replace("\ufeff", "")
    if (unmarked := _utf_16(data[:SEEN_BYTES])) is not None:
        return data.decode(unmarked, "replace")
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding).replace("\ufeff", "")
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _utf_16(data: bytes) -> str | None:
    """Return which UTF-16 a text without a mark is in; None if in none: the digits of its times have a zero byte each."""
    high, low = data[0::2].count(0), data[1::2].count(0)
    if 5 * (high + low) < len(data) or high == low:
        return None
    return "utf-16-be" if high > low else "utf-16-le"


def parse_subtitles(text: str) -> ReadLines:
    """Return the lines of a SubRip or WebVTT file; a problem says what was left out."""
    read = usable_lines(_cues(ENDS_OF_LINES.split(text)))
    if not read.lines and not read.problems:
        return ReadLines((), ("no line with times is in it",))
    return read


def _cues(rows: list[str]) -> Iterator[tuple[float, float | None, str]]:
    """Yield start, end and text of each cue; times that cannot be read are NaN."""
    times: tuple[float, float | None] | None = None
    said: list[str] = []
    for row in rows:
        found = _times(row)
        if found is not None:
            if times is not None:
                # Without an empty line between two cues, the number of the second is the last row of the first.
                yield *times, plain_markup("\n".join(said[:-1] if said[-1:] and said[-1].strip().isdigit() else said))
            times, said = found, []
        elif row.strip():
            said.append(row)
        elif said and times is not None:
            yield *times, plain_markup("\n".join(said))
            times, said = None, []
    if times is not None:
        yield *times, plain_markup("\n".join(said))


def _times(row: str) -> tuple[float, float | None] | None:
    """Return the times of a row "00:00:01,000 --> 00:00:02,500"; None for any other row."""
    if "-->" not in row or (match := TIMES.match(row)) is None:
        return None
    return _seconds(match[1]), _seconds(match[2])


def _seconds(clock: str) -> float:
    """Return the seconds of "[hours:]minutes:seconds[.fraction]"; NaN for anything else."""
    match = CLOCK.fullmatch(clock)
    if match is None or not clock.isascii():
        return float("nan")
    hours, minutes, seconds, fraction = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction or 0}")


def plain_markup(text: str) -> str:
    r"""Return a line without tags and styling; `\N`, ASS's break of a line, becomes a space."""
    bare = OVERRIDE.sub("", TAG.sub("", text))
    return html.unescape(bare).replace(r"\N", " ").replace(r"\n", " ").replace(r"\h", " ")
