"""Reading the catalog: live videos, segments, settings, as of the last commit."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.database import CATALOG_NAME, copy_database, translated
from colbert_video.indexing.catalog.entries import (
    VIDEO_COLUMNS,
    Failure,
    IndexView,
    SegmentRow,
    VideoEntry,
    check_name,
    check_relative,
    video_entry,
)
from colbert_video.indexing.catalog.filters import Condition

IDS_AT_ONCE = 500  # parameters in one statement; SQLite's least limit is 999
COLUMNS = ", ".join(f'"{name}"' for name in VIDEO_COLUMNS)
LISTED_ROW = """0, id, NULL, parent, start, "end", duration, x'', metadata, NULL, NULL"""
LISTED_CUT = """COUNT(*), parent, NULL, NULL, MIN(start), MAX("end"), duration, x'', metadata, NULL, NULL"""


class CatalogReader:
    """An open database of an index; safe to share between threads."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Wrap a connection to the catalog in `folder`."""
        self.folder = folder
        self._path = folder / CATALOG_NAME
        self._connection = connection
        self._mutex = threading.RLock()

    def close(self) -> None:
        """Close the database."""
        with self._mutex:
            self._connection.close()

    @property
    def version(self) -> int:
        """Number of the last commit that changed what can be found; compare it to know whether to look again."""
        rows = self._rows("SELECT value FROM generation")
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise IndexFolderError(
                f"{self._path} is damaged: it does not number its commits; rebuild the index"
            )
        return rows[0][0]

    def settings(self) -> dict[str, Any]:
        """Return all settings."""
        rows = self._rows("SELECT key, value FROM settings")
        try:
            return {key: json.loads(value) for key, value in rows}
        except (TypeError, ValueError, RecursionError) as error:
            raise IndexFolderError(
                f"{self._path} is damaged: a setting is not JSON ({error}); rebuild the index"
            ) from error

    def count(self) -> int:
        """Return how many videos are live, each window counted."""
        return int(self._rows("SELECT COUNT(*) FROM videos")[0][0])

    def count_videos(self) -> int:
        """Return how many videos are live, all windows of one counted once."""
        cut = self._rows("SELECT COUNT(DISTINCT parent) FROM videos")[0][0]
        return self.count() - self.count_windows() + int(cut)

    def count_windows(self) -> int:
        """Return how many windows of long videos are live."""
        return int(self._rows("SELECT COUNT(*) FROM videos WHERE parent IS NOT NULL")[0][0])

    def entries(self, ids: Iterable[str] | None = None) -> list[VideoEntry]:
        """Return live videos.

        Args:
            ids: Which ones; None for all.

        Returns:
            In the order of `ids`, leaving out unknown ones; or all, by segment (oldest first) and ordinal.
        """
        select = f"SELECT segment, ordinal, {COLUMNS} FROM videos"
        if ids is None:
            order = " JOIN segments ON segments.name = segment ORDER BY segments.rowid, ordinal"
            return [_live_entry(row) for row in self._rows(select + order)]
        wanted = list(ids)
        found = {row[2]: _live_entry(row) for row in self._rows_in(f"{select} WHERE id IN", wanted)}
        return [found[identity] for identity in wanted if identity in found]

    def rows_of(self, ids: Iterable[str]) -> dict[str, list[VideoEntry]]:
        """Return the live rows that ids stand for: the video or window of that id, and all windows of the video.

        Returns:
            By id, leaving out unknown ones; windows in their order in the segment.
        """
        wanted = list(dict.fromkeys(ids))
        select = f"SELECT segment, ordinal, {COLUMNS} FROM videos WHERE"
        rows = [_live_entry(row) for row in self._rows_in(f"{select} id IN", wanted)]
        windows = [_live_entry(row) for row in self._rows_in(f"{select} parent IN", wanted)]
        found: dict[str, list[VideoEntry]] = {entry.id: [entry] for entry in rows}
        for entry in sorted(windows, key=lambda entry: (str(entry.segment), entry.ordinal)):
            found.setdefault(entry.video, []).append(entry)
        return found

    def entry(self, identity: str) -> VideoEntry:
        """Return one live video.

        Raises:
            SettingsError: There is no such video.
        """
        found = self.entries([identity])
        if not found:
            raise SettingsError(f"no video with id {identity!r} in {self.folder}")
        return found[0]

    def entries_at(self, segment: str, ordinals: Iterable[int]) -> dict[int, VideoEntry]:
        """Return the live videos at some places of a segment, by ordinal."""
        select = f"SELECT segment, ordinal, {COLUMNS} FROM videos WHERE segment = ? AND ordinal IN"
        return {row[1]: _live_entry(row) for row in self._rows_in(select, list(ordinals), [segment])}

    def places(self) -> list[tuple[str, int, str]]:
        """Return segment, ordinal and video of every live row, by segment (oldest first) and ordinal."""
        select = "SELECT segment, ordinal, COALESCE(parent, id) FROM videos"
        order = "JOIN segments ON segments.name = segment ORDER BY segments.rowid, ordinal"
        return self._rows(f"{select} {order}")

    def matching(self, condition: Condition) -> list[tuple[str, int]]:
        """Return the places, segment and ordinal, of the live videos that pass a filter."""
        return self._rows(f"SELECT segment, ordinal FROM videos WHERE {condition.sql}", condition.values)

    def page(
        self, condition: Condition, *, after: str, limit: int, windows: bool
    ) -> list[tuple[VideoEntry, int]]:
        """Return the first live videos that pass a filter and whose ids come after one, and how many windows each has.

        Args:
            condition: The filter.
            after: The id; empty to begin.
            limit: How many videos.
            windows: Return windows of videos that were cut, not these, which have the extent of all windows that pass.

        Returns:
            By id, without paths and frames.
        """
        values, whole = [after, *condition.values, limit], "" if windows else "AND parent IS NULL"
        statement = (
            f"SELECT {LISTED_ROW} FROM videos WHERE id > ? AND {condition.sql} {whole} ORDER BY id LIMIT ?"
        )
        if not windows:
            cut = f"SELECT {LISTED_CUT} FROM videos WHERE parent > ? AND {condition.sql} GROUP BY parent"
            cut = f"SELECT * FROM ({cut} ORDER BY parent LIMIT ?)"
            statement = f"SELECT * FROM ({statement}) UNION ALL {cut} ORDER BY id LIMIT ?"
            values = [*values, *values, limit]
        return [(video_entry(row[1:]), row[0]) for row in self._rows(statement, values)]

    def ids_below(self, prefix: str) -> dict[str, str]:
        """Return the paths that begin with `prefix`, by the ids of their videos, of which windows are parts."""
        whole = "SELECT DISTINCT COALESCE(parent, id) AS video, path FROM videos"
        statement = f"{whole} WHERE substr(path, 1, length(?)) = ? ORDER BY video"
        return dict(self._rows(statement, [prefix, prefix]))

    def checksums(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of the files of some videos, where it is known."""
        return dict(self._rows_in("SELECT id, sha256 FROM checksums WHERE id IN", list(ids)))

    def live_segments(self) -> list[SegmentRow]:
        """Return the live segments, oldest first."""
        return [
            _segment_row(row)
            for row in self._rows("SELECT name, codec, count, created FROM segments ORDER BY rowid")
        ]

    def codecs(self) -> list[str]:
        """Return the names of the codecs in use, oldest first."""
        return [
            _trusted(check_name, name) for (name,) in self._rows("SELECT name FROM codecs ORDER BY rowid")
        ]

    def files(self) -> dict[str, tuple[int, str]]:
        """Return size and SHA-256 of every file of the index, by path relative to its folder."""
        rows = self._rows("SELECT path, size, sha256 FROM files ORDER BY path")
        return {_trusted(check_relative, path): (size, sha256) for path, size, sha256 in rows}

    def tombstoned(self, segment: str) -> list[int]:
        """Return the removed ordinals of a segment, ascending."""
        rows = self._rows("SELECT ordinal FROM tombstones WHERE segment = ? ORDER BY ordinal", [segment])
        return [ordinal for (ordinal,) in rows]

    def failures(self) -> list[Failure]:
        """Return the videos that could not be indexed, by id."""
        return [
            Failure(*row) for row in self._rows("SELECT id, path, kind, detail, at FROM failures ORDER BY id")
        ]

    def staged_ids(self) -> set[str]:
        """Return the ids of videos that are encoded but not yet in a segment, all windows of one as one."""
        return {identity for (identity,) in self._rows("SELECT DISTINCT COALESCE(parent, id) FROM staged")}

    def staged_chunks(self) -> list[str]:
        """Return the names of the chunks that hold staged videos, oldest first."""
        return [
            _trusted(check_name, name) for (name,) in self._rows("SELECT name FROM chunks ORDER BY rowid")
        ]

    def staged_entries(self, chunk: str) -> dict[int, VideoEntry]:
        """Return the videos still staged in a chunk, by row."""
        rows = self._rows(f"SELECT row, {COLUMNS} FROM staged WHERE chunk = ? ORDER BY row", [chunk])
        return {row[0]: video_entry(row[1:]) for row in rows}

    def snapshot(self) -> IndexView:
        """Return what a searcher needs, all as of one commit."""
        with self._transaction("BEGIN"):
            return self._view()

    def hold(self) -> IndexView:
        """Read as of the last commit from now on, until this is called again or the catalog is closed.

        The writer goes on meanwhile; what it writes collects in SQLite's log beside the catalog as long as an older
        commit is held.

        Returns:
            What a searcher needs, as of the commit that is held.
        """
        with self._mutex, translated(self._path):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
            self._connection.execute("BEGIN")
            return self._view()

    def copy_to(self, path: Path, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Write the catalog, as of the commit that is held, into a new file and run statements on the copy."""
        with self._mutex:
            copy_database(self._connection, path, statements)

    def _view(self) -> IndexView:
        segments = tuple(self.live_segments())
        tombstones: dict[str, list[int]] = {}
        for name, ordinal in self._rows("SELECT segment, ordinal FROM tombstones ORDER BY segment, ordinal"):
            tombstones.setdefault(name, []).append(ordinal)
        count, codecs = self.count(), self.codecs()
        _check_contradictions(self._path, segments, tombstones, count)
        newest = codecs[-1] if codecs else None
        videos, windows = self.count_videos(), self.count_windows()
        return IndexView(self.version, self.settings(), newest, segments, tombstones, count, videos, windows)

    def check_integrity(self) -> None:
        """Read the whole database and refuse it if any page is damaged.

        Raises:
            IndexFolderError: It is damaged.
        """
        findings = [text for (text,) in self._rows("PRAGMA integrity_check")]
        if findings != ["ok"]:
            raise IndexFolderError(f"{self._path} is damaged: {findings[0]}; restore it or rebuild the index")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._mutex, translated(self._path):
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._mutex, translated(self._path):
            return self._connection.execute(statement, values).fetchall()

    def _rows_in(
        self, statement: str, keys: Sequence[Any], values: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run a statement that ends in IN for any number of keys."""
        rows = []
        with self._mutex:
            for start in range(0, len(keys), IDS_AT_ONCE):
                part = keys[start : start + IDS_AT_ONCE]
                rows += self._rows(f"{statement} ({', '.join('?' * len(part))})", [*values, *part])
        return rows


def _live_entry(row: tuple[Any, ...]) -> VideoEntry:
    return video_entry(row[2:], _trusted(check_name, row[0]), row[1])


def _segment_row(row: tuple[Any, ...]) -> SegmentRow:
    name, codec, count, created = row
    if not isinstance(count, int) or count < 1:
        raise IndexFolderError(f"the catalog's row of segment {name!r} is damaged: count {count!r}")
    return SegmentRow(_trusted(check_name, name), _trusted(check_name, codec), count, created)


def _trusted(check: Callable[[object], str], text: object) -> str:
    """Run a check on text that comes from the file rather than from the caller."""
    try:
        return check(text)
    except SettingsError as error:
        raise IndexFolderError(f"the catalog is damaged or was tampered with: {error}") from error


def _check_contradictions(
    path: Path, segments: Sequence[SegmentRow], tombstones: Mapping[str, list[Any]], count: int
) -> None:
    stored = {segment.name: segment.count for segment in segments}
    for name, ordinals in tombstones.items():
        whole = all(isinstance(ordinal, int) for ordinal in ordinals)
        if name not in stored or not whole or ordinals[0] < 0 or ordinals[-1] >= stored[name]:
            raise IndexFolderError(
                f"{path} is damaged: tombstones outside segment {name!r}; rebuild the index"
            )
    expected = sum(stored.values()) - sum(len(ordinals) for ordinals in tombstones.values())
    if count != expected:
        raise IndexFolderError(
            f"{path} is damaged: {count} live videos, its segments hold {expected}; rebuild the index"
        )
