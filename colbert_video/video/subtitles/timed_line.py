"""A line of text with the time in which it is said or shown, and how lines from outside become usable ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from colbert_video.base.wording import counted

MAX_LINES = 50_000
"""Lines of one video from one source; a film has about 1,500."""
MAX_LETTERS = 500
"""Characters of a line; the rest is cut off."""
MAX_SECONDS = 10.0
"""Length of a line that has no end of its own, if the next one does not begin before."""
SAME_CUE_SECONDS = 0.1
"""A line that begins again within this time of its end is the same one, cut into pieces."""


@dataclass(frozen=True)
class TimedLine:
    """A line that is said or shown in a part [start, end) of a video, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class ReadLines:
    """What was read of one source."""

    lines: tuple[TimedLine, ...] = ()
    """In the order of time."""
    problems: tuple[str, ...] = ()
    """What could not be read, in words."""


def usable_lines(found: Iterable[tuple[float, float | None, str]]) -> ReadLines:
    """Return lines in the order of time, bounded in number and length.

    White space becomes single spaces; a line that follows its equal at once becomes one with it.

    Args:
        found: Start, end and text of each line, in any order; None as the end of a line that lasts until the next one.

    Returns:
        The lines. Those without text are left out; those without a usable time too, and a problem says how many.
    """
    timed: list[tuple[float, float | None, str]] = []
    wrong, too_many = 0, False
    for start, end, text in found:
        words = plain_words(text)
        if not words:
            continue
        if not math.isfinite(start) or start < 0 or (end is not None and not start <= end < math.inf):
            wrong += 1
            continue
        if len(timed) == MAX_LINES:
            too_many = True
            break
        timed.append((start, end, words))
    problems = [f"{counted(wrong, 'line')} without usable times"] if wrong else []
    problems += [f"more than {MAX_LINES} lines, of which the rest is left out"] if too_many else []
    return ReadLines(_joined(sorted(timed, key=lambda line: line[0])), tuple(problems))


def plain_words(text: str) -> str:
    """Return a text with single spaces, at most `MAX_LETTERS` long, without what cannot be stored as UTF-8."""
    words = " ".join(text.replace("\0", " ").split())[:MAX_LETTERS]
    return words.encode("utf-8", "replace").decode()


def _joined(timed: list[tuple[float, float | None, str]]) -> tuple[TimedLine, ...]:
    """Give each line an end, and make one of equal lines that follow each other at once."""
    lines: list[TimedLine] = []
    for number, (start, end, text) in enumerate(timed):
        following = timed[number + 1][0] if number + 1 < len(timed) else math.inf
        until = end if end is not None and end > start else min(max(following, start), start + MAX_SECONDS)
        last = lines[-1] if lines else None
        if last is not None and last.text == text and start <= last.end + SAME_CUE_SECONDS:
            lines[-1] = TimedLine(last.start, max(last.end, until), text)
        else:
            lines.append(TimedLine(start, until, text))
    return tuple(lines)
