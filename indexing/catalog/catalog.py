"""The catalog: one SQLite file that alone says what an index holds.

A segment's files are written and synced first; one transaction then makes the segment visible. Whatever the catalog
does not name does not exist, so a process may die anywhere: the index is what it was before, or what it is after.
Removing a video is a tombstone on its place in the segment; the row of a replaced video moves to its new segment.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from colbert_video.durable import make_folder_durably
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog_reader import COLUMNS
from colbert_video.indexing.catalog.catalog_rows import MARKS, CatalogRows
from colbert_video.indexing.catalog.database import CATALOG_NAME, WriterLock, create_database, open_database
from colbert_video.indexing.catalog.entries import (
    VIDEO_COLUMNS,
    Failure,
    IndexView,
    NewSegment,
    SegmentRow,
    VideoEntry,
    check_name,
    video_values,
)

__all__ = ["Catalog", "Failure", "IndexView", "NewSegment", "SegmentRow", "VideoEntry"]


class Catalog(CatalogRows):
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

    @contextmanager
    def _commit(self, *, visible: bool = True) -> Iterator[None]:
        """Run the block in one transaction; `visible` ones count up `version`."""
        if self._lock is None:
            raise SettingsError(f"{self._path} is open for reading; open it with writable=True")
        with self._transaction("BEGIN IMMEDIATE"):
            yield
            if visible:
                self._connection.execute("UPDATE generation SET value = value + 1")
