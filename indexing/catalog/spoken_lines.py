"""Lines of text in the catalog: which item each belongs to, and the SQL by which they are stored, dropped and found.

A line belongs to one item, the video or that of its windows in whose middle it falls, and follows it: what removes the item
removes its lines. `timed_lines` holds them, and an FTS5 index over their words scores them by BM25; both change in one
transaction, so that the index counts the lines that are live, and no others.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from colbert_video.errors import DependencyError, IndexFolderError, shown
from colbert_video.indexing.catalog.filters import Condition
from colbert_video.indexing.catalog.line_words import words_of
from colbert_video.indexing.catalog.schema import WORDS, WORDS_STATEMENT
from colbert_video.video.subtitles.timed_line import TimedLine, plain_words

CELLS = 1_000_000
"""Lines times windows that are compared at once."""
INSERT = 'INSERT INTO timed_lines (item, source, start, "end", text, words) VALUES (?, ?, ?, ?, ?, ?)'
INDEX = f"INSERT INTO {WORDS} (rowid, words) SELECT number, words FROM timed_lines WHERE number > ?"
UNINDEX = f"INSERT INTO {WORDS} ({WORDS}, rowid, words) SELECT 'delete', number, words FROM timed_lines WHERE "
ITEMS = 'SELECT id, parent, start, "end", duration FROM videos WHERE id = ? OR parent = ? ORDER BY start'
FOUND = f"""
SELECT videos.id, COALESCE(videos.parent, videos.id), timed_lines.start, timed_lines."end", timed_lines.text,
    -bm25({WORDS}) AS score
FROM {WORDS} CROSS JOIN timed_lines ON timed_lines.number = {WORDS}.rowid CROSS JOIN videos ON videos.id = timed_lines.item
WHERE {WORDS} MATCH ? AND {{condition}} ORDER BY bm25({WORDS}), timed_lines.item, timed_lines.start LIMIT ?"""
"""CROSS JOIN keeps the order: the lines with a word, then their texts, then their videos."""


@dataclass(frozen=True)
class VideoLines:
    """What was read of one video from one source."""

    video: str
    """Id of the whole video."""
    source: str
    """"subtitles", or "caller" for lines that a caller's function made."""
    stamp: str
    """What it was read from; another stamp later means that it must be read again."""
    lines: tuple[TimedLine, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be read, in words, for the report."""


@dataclass(frozen=True)
class FoundLine:
    """A line that holds a word of a query."""

    item: str
    """Id of the video, or of the window."""
    video: str
    """Id of the whole video."""
    line: TimedLine
    score: float
    """BM25 over all lines of the catalog."""


def has_words(connection: sqlite3.Connection) -> bool:
    """Return whether a catalog has a full-text index: it has, or had, lines."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [WORDS])
    return found.fetchone() is not None


def fts5_is_there() -> bool:
    """Return whether this Python's SQLite can index lines."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE tried USING fts5(words)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def store_lines(connection: sqlite3.Connection, read: Iterable[VideoLines]) -> None:
    """Store what was read of live videos in place of what was stored of the same source; within a transaction."""
    for one in read:
        items = connection.execute(ITEMS, [one.video, one.video]).fetchall()
        drop_lines(connection, [item for item, *_ in items], source=one.source)
        # Only now: numbers of dropped lines are given again.
        (last,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM timed_lines").fetchone()
        rows = [
            (item, one.source, line.start, line.end, line.text, " ".join(words_of(line.text)))
            for item, line in place_lines(one.lines, items)
        ]
        if rows:
            _make_words(connection)
            connection.executemany(INSERT, rows)
            connection.execute(INDEX, [last])
        connection.execute("INSERT OR REPLACE INTO line_sources VALUES (?, ?, ?)", [one.video, one.source, one.stamp])


def drop_lines(connection: sqlite3.Connection, items: Iterable[str], *, source: str | None = None) -> None:
    """Drop the lines of some items, those of one source or all; within a transaction."""
    where = "item = ?" if source is None else "item = ? AND source = ?"
    keys = [(item,) if source is None else (item, source) for item in items]
    if has_words(connection):
        connection.executemany(UNINDEX + where, keys)  # FTS5 counts by what it is given: the words as they were stored
    connection.executemany(f"DELETE FROM timed_lines WHERE {where}", keys)


def drop_all_lines(connection: sqlite3.Connection) -> None:
    """Drop all lines; within a transaction."""
    if has_words(connection):
        connection.execute(f"INSERT INTO {WORDS} ({WORDS}) VALUES ('delete-all')")
    connection.execute("DELETE FROM timed_lines")
    connection.execute("DELETE FROM line_sources")


def _make_words(connection: sqlite3.Connection) -> None:
    if has_words(connection):
        return
    try:
        connection.execute(WORDS_STATEMENT)
    except sqlite3.OperationalError as error:
        if fts5_is_there():
            raise
        raise DependencyError(
            "the SQLite of this Python has no FTS5, which lines of text need: use another Python."
        ) from error


def place_lines(lines: Sequence[TimedLine], items: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, TimedLine]]:
    """Yield each line with the id of its item: the window that its middle lies in, or else the nearest one.

    Of windows that overlap, the one whose middle is nearest; of a video of which only a part was indexed, lines beside that
    part are left out.

    Args:
        lines: The lines.
        items: Id, parent, start, end and duration of each item of the video, by their starts.
    """
    if not items:
        return
    if items[0][1] is None:
        identity, _, start, end, duration = items[0]
        whole = end is None or (not start and (duration is None or end >= duration))
        yield from ((identity, line) for line in lines if whole or (line.start < end and line.end > (start or 0.0)))
        return
    starts = np.array([start for _, _, start, *_ in items], dtype=np.float64)
    ends = np.array([end for _, _, _, end, _ in items], dtype=np.float64)
    size = max(1, CELLS // len(items))
    for begin in range(0, len(lines), size):
        part = lines[begin : begin + size]
        middles = np.array([[(line.start + line.end) / 2] for line in part])  # (lines, 1)
        away = np.maximum(np.maximum(starts - middles, middles - ends), 0.0)  # (lines, windows)
        from_middle = np.where(away == away.min(axis=1, keepdims=True), np.abs((starts + ends) / 2 - middles), np.inf)
        for row, line in zip(from_middle.argmin(axis=1).tolist(), part, strict=True):
            yield items[row][0], line


def find_statement(condition: Condition) -> str:
    """Return the SELECT of lines with words of a query whose items pass a filter, best first.

    Its parameters are the expression of `line_words.match_expression`, those of the condition, and the number of lines.
    """
    return FOUND.format(condition=condition.sql)


def of_items(ids: Sequence[str]) -> Condition:
    """Return the condition that an item is one of some videos or windows."""
    listed = "(SELECT value FROM json_each(?))"
    return Condition(f"(videos.id IN {listed} OR videos.parent IN {listed})", (json.dumps([*ids]),) * 2)


def found_line(row: tuple[Any, ...]) -> FoundLine:
    """Return a row of `find_statement`.

    Raises:
        IndexFolderError: If it is damaged.
    """
    item, video, *line, score = row
    if not isinstance(score, float) or not math.isfinite(score):
        raise IndexFolderError(f"a line of video {shown(video)} has the score {shown(score)}")
    return FoundLine(item, video, stored_line(tuple(line)), score)


def stored_line(row: tuple[Any, ...]) -> TimedLine:
    """Return start, end and text as a line.

    Raises:
        IndexFolderError: If they are damaged.
    """
    start, end, text = row
    if not isinstance(text, str) or not all(isinstance(one, float) and math.isfinite(one) for one in (start, end)):
        raise IndexFolderError(f"a line of text is damaged: {shown(row)}")
    return TimedLine(start, end, text)


def stored_lines(source: tuple[Any, ...], lines: Iterable[tuple[Any, ...]]) -> VideoLines:
    """Return what is stored of one source.

    Args:
        source: Its row: video, source and stamp.
        lines: Start, end and text of its lines.

    Raises:
        IndexFolderError: If a value is damaged.
    """
    if not all(isinstance(text, str) for text in source):
        raise IndexFolderError(f"the source of some lines is damaged: {shown(source)}")
    video, name, stamp = source
    return VideoLines(video, name, stamp, tuple(map(stored_line, lines)))


def pack_lines(one: VideoLines) -> tuple[str, str, str, str]:
    """Return a row of the staged lines."""
    lines = [(line.start, line.end, line.text) for line in one.lines]
    return one.video, one.source, one.stamp, json.dumps({"lines": lines, "problems": one.problems})


def unpack_lines(row: tuple[Any, ...]) -> VideoLines:
    """Undo `pack_lines`.

    Raises:
        IndexFolderError: If the row is damaged.
    """
    *source, text = row
    try:
        stored = json.loads(text)
        lines = [(float(start), float(end), plain_words(said)) for start, end, said in stored["lines"]]
        return replace(stored_lines(tuple(source), lines), problems=tuple(map(str, stored["problems"])))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise IndexFolderError(f"the staged lines of video {shown(row[0])} are damaged ({error})") from error
