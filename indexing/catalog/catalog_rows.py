"""What the transactions of a catalog write: rows of segments, videos, tombstones and failures.

Nothing here commits; `Catalog` calls it within one transaction.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.catalog_reader import COLUMNS, CatalogReader
from colbert_video.indexing.catalog.entries import (
    VIDEO_COLUMNS,
    Failure,
    NewSegment,
    VideoEntry,
    check_name,
    check_relative,
    video_values,
)
from colbert_video.video.windows import WINDOW_ID

MARKS = ", ".join("?" * len(VIDEO_COLUMNS))


class CatalogRows(CatalogReader):
    """The rows that belong together, on a connection that is in a transaction."""

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
