"""The catalog: one SQLite file that alone says what an index holds.

A segment's files are written and synced first; one transaction then makes the segment visible. Whatever the catalog
does not name does not exist, so a process may die anywhere: the index is what it was before, or what it is after.
Removing a video is a tombstone on its place in the segment; the row of a replaced video moves to its new segment.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog_reader import COLUMNS, CatalogReader
from colbert_video.indexing.database import CATALOG_NAME, create_database, open_database
from colbert_video.indexing.entries import (
    VIDEO_COLUMNS,
    Failure,
    IndexView,
    NewSegment,
    SegmentRow,
    VideoEntry,
    check_name,
    check_relative,
    video_values,
)
from colbert_video.indexing.files import make_folder_durably
from colbert_video.indexing.lock import WriterLock
from colbert_video.video.windows import WINDOW_ID

__all__ = ["Catalog", "Failure", "IndexView", "NewSegment", "SegmentRow", "VideoEntry"]

MARKS = ", ".join("?" * len(VIDEO_COLUMNS))


class Catalog(CatalogReader):
    """An open catalog; safe to share between threads.

    Readers never wait for the writer. There is one writer at a time; it holds the lock until `close`.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: WriterLock | None) -> None:
        """Wrap a connection; use `Catalog.create` or `Catalog.open`."""
        super().__init__(folder, connection)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path) -> "Catalog":
        """Make an empty catalog in `folder`, which is made if missing, and open it for writing.

        Raises:
            IndexFolderError: There is a catalog already, or another process is writing to the folder.
        """
        make_folder_durably(folder)
        lock = WriterLock(folder)
        try:
            connection = create_database(folder / CATALOG_NAME)
        except BaseException:
            lock.release()
            raise
        return cls(folder, connection, lock)

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> "Catalog":
        """Open the catalog in `folder`.

        Args:
            folder: The index folder.
            writable: Take the writer's lock; otherwise nothing in the folder is changed, and it may be read-only.

        Raises:
            IndexFolderError: There is none, it is damaged or of a newer version, or another process is writing.
        """
        if not writable:
            return cls(folder, open_database(folder / CATALOG_NAME, writable=False), None)
        if not (folder / CATALOG_NAME).is_file():
            raise IndexFolderError(f"there is no index in {folder}; make one with Indexer(...).index")
        lock = WriterLock(folder)
        try:
            return cls(folder, open_database(folder / CATALOG_NAME, writable=True), lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the database, then let other writers in."""
        super().close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_settings(self, **settings: Any) -> None:
        """Set some settings to JSON values; others stay."""
        with self._commit():
            self._set_settings(settings)

    def commit_segment(
        self,
        name: str,
        codec: str,
        entries: Iterable[VideoEntry],
        files: Mapping[str, tuple[int, str]],
        *,
        replace: bool = False,
        settings: Mapping[str, Any] | None = None,
        failures: Iterable[Failure] = (),
    ) -> None:
        """Make a written and synced segment visible, in one transaction.

        Its videos leave the staged ones and the failures.

        Args:
            name: The segment's name.
            codec: Name of the codec that encoded it.
            entries: Its videos in order.
            files: Size and SHA-256 of each file, by path relative to the index folder; those of a new codec too.
            replace: Whether videos that are live already take their place, with all their windows, so the windows
                of one video belong in one segment; otherwise ids that are live are refused.
            settings: Settings to change with it.
            failures: What could not be indexed with them, to be remembered.

        Raises:
            SettingsError: An id comes twice, or is live and `replace` is False; or a name or path is unsafe.
        """
        with self._commit():
            self._insert_segment(NewSegment(name, codec, entries, files), replace)
            self._forget_failures_of(name)
            self._note_failures(failures)
            self._set_settings(settings or {})

    def move_everything(
        self,
        name: str,
        codec: str,
        count: int,
        files: Mapping[str, tuple[int, str]],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Move all live videos into one new segment, in the order of `entries`, in one transaction.

        Tombstones, the other segments and their files are forgotten; nothing is deleted on disk.

        Args:
            name: The new segment's name.
            codec: Name of the codec that encoded it.
            count: How many videos were written into it.
            files: Size and SHA-256 of each file that stays.
            settings: Settings to change with it.

        Raises:
            SettingsError: There are not `count` live videos, or a name or path is unsafe.
        """
        execute = self._connection.execute
        with self._commit():
            order = "JOIN segments ON segments.name = segment ORDER BY segments.rowid, ordinal"
            places = self._rows(f"SELECT segment, ordinal FROM videos {order}")
            if len(places) != count:
                raise SettingsError(f"{count} videos were written for {len(places)} live ones; try again")
            moves = ((check_name(name), new, *old) for new, old in enumerate(places))
            self._connection.executemany(
                "UPDATE videos SET segment = ?, ordinal = ? WHERE segment = ? AND ordinal = ?", moves
            )
            for table in ("segments", "codecs", "files", "tombstones"):
                execute(f"DELETE FROM {table}")
            self._insert_rows(name, codec, count, files)
            self._set_settings(settings or {})

    def replace_everything(
        self,
        segments: Sequence[NewSegment],
        *,
        settings: Mapping[str, Any] | None = None,
        forget_failures: bool = False,
        failures: Iterable[Failure] = (),
    ) -> None:
        """Swap all live segments for new ones in one transaction, as compacting and overwriting do.

        Codecs and files that no new segment names are forgotten with the old segments; nothing is deleted on disk.

        Args:
            segments: The new segments.
            settings: Settings to change with them.
            forget_failures: Whether recorded failures go too; otherwise all stay.
            failures: What could not be indexed with them, to be remembered.

        Raises:
            SettingsError: An id comes twice, or a name or path is unsafe.
        """
        with self._commit():
            for table in ("segments", "codecs", "files", "videos", "tombstones", "checksums"):
                self._connection.execute(f"DELETE FROM {table}")
            if forget_failures:
                self._connection.execute("DELETE FROM failures")
            for segment in segments:
                self._insert_segment(segment, replace=False)
            self._note_failures(failures)
            self._set_settings(settings or {})

    def tombstone(self, ids: Iterable[str]) -> list[str]:
        """Remove videos, with what is recorded of their failures.

        Args:
            ids: Ids of videos, or of the long videos whose windows all go.

        Returns:
            The ids of the rows removed.
        """
        wanted = list(ids)
        with self._commit():
            rows = self._rows_in("SELECT id FROM videos WHERE id IN", wanted)
            rows += self._rows_in("SELECT id FROM videos WHERE parent IN", wanted)
            removed = list(dict.fromkeys(identity for (identity,) in rows))
            self._bury(removed)
            keys = [(identity,) for identity in {*wanted, *removed}]
            self._connection.executemany("DELETE FROM failures WHERE id = ?", keys)
        return removed

    def stage(self, chunk: str, entries: Iterable[VideoEntry]) -> None:
        """Record the videos of a written chunk of uncompressed tokens, in order; a staged id moves to this chunk."""
        columns = f"INSERT OR REPLACE INTO staged (chunk, row, {COLUMNS}) VALUES (?, ?, {MARKS})"
        rows = ((chunk, row, *video_values(entry)) for row, entry in enumerate(entries))
        with self._commit(visible=False):
            self._connection.execute("INSERT INTO chunks VALUES (?)", [check_name(chunk)])
            self._connection.executemany(columns, rows)
            self._drop_empty_chunks()

    def forget_staged(self, ids: Iterable[str]) -> None:
        """Forget what is staged of some videos, with all their windows."""
        keys = [(identity, identity) for identity in ids]
        with self._commit(visible=False):
            self._connection.executemany("DELETE FROM staged WHERE id = ? OR parent = ?", keys)
            self._drop_empty_chunks()

    def drop_staged(self) -> None:
        """Forget all staged videos and their chunks."""
        with self._commit(visible=False):
            self._connection.execute("DELETE FROM staged")
            self._connection.execute("DELETE FROM chunks")

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Remember why videos could not be indexed; a newer reason replaces an older one."""
        with self._commit(visible=False):
            self._note_failures(failures)

    def set_checksums(self, checksums: Mapping[str, str]) -> None:
        """Remember the SHA-256 of the files of some live videos, whole ones; it is forgotten when they are replaced."""
        with self._commit(visible=False):
            self._connection.executemany("INSERT OR REPLACE INTO checksums VALUES (?, ?)", checksums.items())

    def update(self, entries: Iterable[VideoEntry]) -> None:
        """Change what the catalog keeps of some live videos; their tokens stay where they are."""
        changes = ", ".join(f'"{name}" = ?' for name in VIDEO_COLUMNS)
        rows = [(*video_values(entry), entry.id) for entry in entries]
        with self._commit():
            self._connection.executemany(f"UPDATE videos SET {changes} WHERE id = ?", rows)

    def _set_settings(self, settings: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value, allow_nan=False)) for key, value in settings.items()]
        self._connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def _note_failures(self, failures: Iterable[Failure]) -> None:
        rows = ((f.id, f.path, f.kind, f.detail, f.at or time.time()) for f in failures)
        self._connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", rows)

    def _forget_failures_of(self, segment: str) -> None:
        """Forget the failures of videos and windows that a new segment holds."""
        for column in ("id", "parent"):
            indexed = f"SELECT {column} FROM videos WHERE segment = ?"
            self._connection.execute(f"DELETE FROM failures WHERE id IN ({indexed})", [segment])

    def _insert_segment(self, segment: NewSegment, replace: bool) -> None:
        name, count = check_name(segment.name), 0
        for count, entry in enumerate(segment.entries, start=1):
            self._insert_video(name, count - 1, entry, replace)
        if count == 0:
            raise SettingsError(f"segment {name} has no videos; a segment holds at least one")
        self._insert_rows(name, segment.codec, count, segment.files)
        self._drop_empty_chunks()

    def _insert_rows(self, name: str, codec: str, count: int, files: Mapping[str, tuple[int, str]]) -> None:
        """Name a segment, its codec and their files."""
        now = time.time()
        self._connection.execute("INSERT OR IGNORE INTO codecs VALUES (?, ?)", [check_name(codec), now])
        self._connection.execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?)", [check_name(name), codec, count, now]
        )
        rows = [(check_relative(path), size, sha256) for path, (size, sha256) in files.items()]
        self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)

    def _insert_video(self, segment: str, ordinal: int, entry: VideoEntry, replace: bool) -> None:
        execute = self._connection.execute
        older = execute("SELECT segment FROM videos WHERE id = ?", [entry.id]).fetchone()
        if older is not None and (older[0] == segment or not replace):
            where = "comes twice" if older[0] == segment else "is in the index already; replace or remove it"
            raise SettingsError(f"video id {entry.id!r} {where}")
        if replace:
            self._bury(self._older_versions(segment, entry))
        values = (segment, ordinal, *video_values(entry))
        execute(f"INSERT INTO videos (segment, ordinal, {COLUMNS}) VALUES (?, ?, {MARKS})", values)
        execute("DELETE FROM staged WHERE id = ?", [entry.id])

    def _older_versions(self, segment: str, entry: VideoEntry) -> list[str]:
        """Return live rows of the same video in other segments, whether it was cut into windows then or now."""
        whole = entry.id if entry.parent is None else entry.parent
        statement = "SELECT id FROM videos WHERE (id = ? OR id = ? OR parent = ?) AND segment <> ?"
        return [identity for (identity,) in self._rows(statement, [entry.id, whole, whole, segment])]

    def _bury(self, ids: Iterable[str]) -> None:
        """Turn live rows into tombstones; with its last window, a video's failed ones are forgotten."""
        keys = [(identity,) for identity in ids]
        parent = "SELECT parent FROM videos WHERE parent IS NOT NULL AND id = ?"
        cut = {found for key in keys for (found,) in self._rows(parent, key)}
        self._connection.executemany(
            "INSERT INTO tombstones SELECT segment, ordinal FROM videos WHERE id = ?", keys
        )
        self._connection.executemany(
            "DELETE FROM checksums WHERE id IN (SELECT COALESCE(parent, id) FROM videos WHERE id = ?)", keys
        )
        self._connection.executemany("DELETE FROM videos WHERE id = ?", keys)
        for video in cut:
            self._forget_failed_windows(video)

    def _forget_failed_windows(self, video: str) -> None:
        """Forget the failures of a video's windows, unless others of them are live."""
        if self._rows("SELECT 1 FROM videos WHERE parent = ? LIMIT 1", [video]):
            return
        named = [f"{video}#t=", f"{video}#t>"]  # all ids that begin like those of its windows
        failed = self._rows("SELECT id FROM failures WHERE id >= ? AND id < ?", named)
        windows = [(name,) for (name,) in failed if WINDOW_ID.match(name, len(video))]
        self._connection.executemany("DELETE FROM failures WHERE id = ?", windows)

    def _drop_empty_chunks(self) -> None:
        self._connection.execute("DELETE FROM chunks WHERE name NOT IN (SELECT chunk FROM staged)")

    @contextmanager
    def _commit(self, *, visible: bool = True) -> Iterator[None]:
        """Run the block in one transaction; `visible` ones count up `version`."""
        if self._lock is None:
            raise SettingsError(f"{self._path} is open for reading; open it with writable=True")
        with self._transaction("BEGIN IMMEDIATE"):
            yield
            if visible:
                self._connection.execute("UPDATE generation SET value = value + 1")
