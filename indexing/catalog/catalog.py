"""The catalog: one SQLite file that alone says what an index holds.

A segment's files are written and synced first; one transaction then makes the segment visible. Whatever the catalog
does not name does not exist, so a process may die anywhere: the index is what it was before, or what it is after.
A removed video leaves a tombstone on its row of the segment; the entry of a replaced video moves to its new segment.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from colbert_video.base.user_files import user_path
from colbert_video.durable import RESTORE, make_folder_durably
from colbert_video.errors import MAX_SHOWN, IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.database import (
    CATALOG_NAME,
    bounded_rows,
    copy_database,
    create_database,
    has_catalog,
    open_database,
    translated,
)
from colbert_video.indexing.catalog.entries import (
    VIDEO_COLUMNS,
    Failure,
    IndexView,
    NewSegment,
    SegmentRow,
    VideoEntry,
    check_name,
    check_relative,
    check_stored_text,
    file_row,
    live_entry,
    segment_row,
    video_entry,
    video_values,
)
from colbert_video.indexing.catalog.filters import Condition
from colbert_video.indexing.catalog.schema import LINES_VERSION, user_version
from colbert_video.indexing.catalog.spoken_lines import (
    FoundLine,
    VideoLines,
    drop_all_lines,
    drop_lines,
    find_statement,
    found_line,
    has_words,
    pack_lines,
    store_lines,
    stored_lines,
    unpack_lines,
)
from colbert_video.indexing.catalog.writer_lock import WriterLock
from colbert_video.video.windows import WINDOW_ID

Read = TypeVar("Read")
IDS_PER_STATEMENT = 500  # parameters in one statement; SQLite's lowest limit is 999
COLUMNS = ", ".join(f'"{name}"' for name in VIDEO_COLUMNS)
MARKS = ", ".join("?" * len(VIDEO_COLUMNS))
LIVE = f"SELECT segment, ordinal, {COLUMNS} FROM videos"
IN_ORDER = "JOIN segments ON segments.name = segment ORDER BY segments.rowid, ordinal"
LISTED_ITEM = """0, id, NULL, parent, start, "end", duration, x'', metadata, NULL, NULL"""
LISTED_NEWEST = """
SELECT COUNT(parent), COALESCE(parent, id) AS video, NULL, CASE WHEN COUNT(parent) = 0 THEN parent END, MIN(start), MAX("end"),
    duration, x'', metadata, NULL, NULL, MAX(ordinal) AS place FROM videos WHERE segment = ? AND """
SCALARS = "('text', 'integer', 'real', 'true', 'false')"
FACETS = f"""
SELECT name, kind, value, COUNT(DISTINCT video) AS videos FROM (
    SELECT COALESCE(videos.parent, videos.id) AS video, field.key AS name, field.type AS kind, field.atom AS value
    FROM videos, json_each(videos.metadata) AS field WHERE {{condition}} AND field.type IN {SCALARS}
    UNION ALL
    SELECT COALESCE(videos.parent, videos.id), field.key, 'element ' || element.type, element.atom
    FROM videos, json_each(videos.metadata) AS field, json_each(field.value) AS element
    WHERE {{condition}} AND field.type = 'array' AND element.type IN {SCALARS}
) WHERE LENGTH(value) <= ? GROUP BY name, kind, value HAVING videos > 1 ORDER BY videos DESC, name, value LIMIT ?"""
LINES_OF = """
SELECT timed_lines.start, timed_lines."end", text FROM timed_lines JOIN videos ON videos.id = item
    WHERE source = ? AND (videos.id = ? OR videos.parent = ?) ORDER BY timed_lines.start, number"""
LISTED_CUT = """COUNT(*), parent, NULL, NULL, MIN(start), MAX("end"), duration, x'', metadata, NULL, NULL"""


class Catalog:
    """An open catalog; safe to share between threads.

    Readers never wait for the writer. There is one writer at a time; it holds the lock until `close`.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: WriterLock | None) -> None:
        """Wrap a connection; use `Catalog.create` or `Catalog.open`."""
        self.folder = folder
        self._path = folder / CATALOG_NAME
        self._connection = connection
        self._lock = lock
        self._mutex = threading.RLock()

    @classmethod
    def create(cls, folder: Path) -> "Catalog":
        """Make an empty catalog in `folder`, which is made if missing, and open it for writing.

        Raises:
            IndexFolderError: If there is a catalog already, or another process is writing to the folder.
        """
        folder = user_path(folder, "the index")
        make_folder_durably(folder)
        lock = WriterLock(folder)
        with lock.released_on_error():
            return cls(folder, create_database(folder / CATALOG_NAME), lock)

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> "Catalog":
        """Open the catalog in `folder`.

        Args:
            folder: The index folder.
            writable: Take the writer's lock; otherwise nothing in the folder is changed, and it may be read-only.

        Raises:
            IndexFolderError: If there is none, it is damaged or of a newer version, or another process is writing.
        """
        folder = user_path(folder, "the index")
        if not writable:
            return cls(folder, open_database(folder / CATALOG_NAME, writable=False), None)
        if not has_catalog(folder):
            raise IndexFolderError(f"there is no index in {folder}; make one with Indexer(...).index.")
        lock = WriterLock(folder)
        with lock.released_on_error():
            return cls(folder, open_database(folder / CATALOG_NAME, writable=True), lock)

    def close(self) -> None:
        """Close the database, then let other writers in."""
        self.close_database()
        if self._lock is not None:
            self._lock.release()

    def close_database(self) -> None:
        """Close the database alone; a writer keeps its lock until `close`."""
        with self._mutex:
            self._connection.close()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the index holds, as of the last commit, or of the one that is held.

    @property
    def version(self) -> int:
        """Number of the last commit that changed what can be found; compare it to know whether to look again."""
        rows = self._rows("SELECT value FROM generation")
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise IndexFolderError(f"{self._path} is damaged: it does not number its commits; {RESTORE}")
        return rows[0][0]

    def settings(self) -> dict[str, Any]:
        """Return all settings."""
        rows = self._rows("SELECT key, value FROM settings")
        try:
            return {key: json.loads(value) for key, value in rows}
        except (TypeError, ValueError, RecursionError) as error:
            raise IndexFolderError(f"{self._path} is damaged: a setting is not JSON ({error}); {RESTORE}") from error

    def count(self) -> int:
        """Return how many videos are live, each window counted."""
        return self._count("segment")  # SQLite counts "*" in one step, without end if pages name each other

    def count_videos(self) -> int:
        """Return how many videos are live, all windows of one counted once."""
        return self.count() - self.count_windows() + self._count("DISTINCT parent")

    def count_windows(self) -> int:
        """Return how many windows of long videos are live."""
        return self._count("parent")

    def entries(self, ids: Iterable[str] | None = None) -> list[VideoEntry]:
        """Return live videos.

        Args:
            ids: Which ones; None for all.

        Returns:
            In the order of `ids`, leaving out unknown ones; or all, by segment (oldest first) and row.
        """
        if ids is None:
            return [self.parsed(live_entry, row) for row in self._rows(f"{LIVE} {IN_ORDER}")]
        wanted = list(ids)
        found = {row[2]: self.parsed(live_entry, row) for row in self._rows_in(f"{LIVE} WHERE id IN", wanted)}
        return [found[identity] for identity in wanted if identity in found]

    def rows_of(self, ids: Iterable[str]) -> dict[str, list[VideoEntry]]:
        """Return the live items that ids stand for: the video or window of that id, and all windows of the video.

        Returns:
            By id, leaving out unknown ones; windows in their order in the segment.
        """
        wanted = list(dict.fromkeys(ids))
        found = {entry.id: [entry] for entry in self.entries(wanted)}
        windows = [self.parsed(live_entry, row) for row in self._rows_in(f"{LIVE} WHERE parent IN", wanted)]
        for entry in sorted(windows, key=lambda entry: (str(entry.segment), entry.row)):
            found.setdefault(entry.video, []).append(entry)
        return found

    def entries_at(self, segment: str, rows: Iterable[int]) -> dict[int, VideoEntry]:
        """Return the live videos at some rows of a segment, by row."""
        select = f"{LIVE} WHERE segment = ? AND ordinal IN"
        return {row[1]: self.parsed(live_entry, row) for row in self._rows_in(select, list(rows), [segment])}

    def live_rows(self) -> list[tuple[str, int, str]]:
        """Return segment, row and video of every live item, by segment (oldest first) and row."""
        return self._rows(f"SELECT segment, ordinal, COALESCE(parent, id) FROM videos {IN_ORDER}")

    def matching(self, condition: Condition) -> list[tuple[str, int]]:
        """Return segment and row of the live items that pass a filter."""
        return self._rows(f"SELECT segment, ordinal FROM videos WHERE {condition.sql}", condition.values)

    def has_value(self, path: str) -> bool:
        """Return True if a live item has something at a path of its metadata, as SQLite's JSON writes paths."""
        found = self._rows("SELECT 1 FROM videos WHERE json_type(metadata, ?) IS NOT NULL LIMIT 1", [path])
        return bool(found)

    def metadata(self) -> Iterator[Any]:
        """Yield the metadata of each live video, that of its windows once."""
        for (text,) in self._rows("SELECT metadata FROM videos GROUP BY COALESCE(parent, id)"):
            yield json.loads(text)

    def page(self, condition: Condition, *, after: str, limit: int, windows: bool) -> list[tuple[VideoEntry, int]]:
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
        statement = f"SELECT {LISTED_ITEM} FROM videos WHERE id > ? AND {condition.sql} {whole} ORDER BY id LIMIT ?"
        if not windows:
            cut = f"SELECT {LISTED_CUT} FROM videos WHERE parent > ? AND {condition.sql} GROUP BY parent"
            cut = f"SELECT * FROM ({cut} ORDER BY parent LIMIT ?)"
            statement = f"SELECT * FROM ({statement}) UNION ALL {cut} ORDER BY id LIMIT ?"
            values = [*values, *values, limit]
        return [(self.parsed(video_entry, row[1:]), row[0]) for row in self._rows(statement, values)]

    def newest(
        self, condition: Condition, *, before: tuple[float, int] | None, limit: int
    ) -> list[tuple[tuple[float, int], VideoEntry, int]]:
        """Return the videos that were indexed last and pass a filter, and how many windows each has.

        Args:
            condition: The filter; a video that was cut passes if one of its windows does.
            before: The key of the last video of the page before; None to begin.
            limit: How many videos.

        Returns:
            Keys, which fall, with the videos without paths and frames.
        """
        found: list[tuple[tuple[float, int], VideoEntry, int]] = []
        segments = self._rows("SELECT name, created FROM segments ORDER BY created DESC, rowid DESC")
        for name, created in segments:
            if before is not None and created > before[0]:
                continue
            least = before[1] if before is not None and created == before[0] else 2**62
            statement = f"{LISTED_NEWEST}{condition.sql} GROUP BY video HAVING place < ? ORDER BY place DESC LIMIT ?"
            rows = self._rows(statement, [name, *condition.values, least, limit - len(found)])
            found += [((created, row[-1]), self.parsed(video_entry, row[1:-1]), row[0]) for row in rows]
            if len(found) >= limit:
                break
        return found

    def facets(self, condition: Condition, *, longest: int, limit: int) -> list[tuple[str, str, Any, int]]:
        """Return values of the metadata that several videos share, the most frequent first.

        Args:
            condition: A filter; only videos that pass are counted.
            longest: Characters of a value; longer ones are left out.
            limit: How many values.

        Returns:
            Key of the metadata, kind of the value as JSON has it ("element text" for those in lists), value, and number
            of videos.
        """
        statement = FACETS.format(condition=condition.sql)
        return self._rows(statement, [*condition.values, *condition.values, longest, limit])

    def texts(self, *, longest: int, limit: int) -> list[str]:
        """Return different texts of the metadata's key "text", of videos all over the catalog.

        Args:
            longest: Characters of a text; longer ones are left out.
            limit: How many texts.
        """
        text = "json_extract(metadata, '$.text')"
        usual = f"json_type(metadata, '$.text') = 'text' AND LENGTH({text}) BETWEEN 3 AND ?"
        # A product with a large odd number spreads neighbours, which are often alike, all over the order.
        statement = f"SELECT {text} FROM videos WHERE {usual} GROUP BY 1 ORDER BY (MIN(rowid) * 2654435761) % 4294967296 LIMIT ?"
        return [text for (text,) in self._rows(statement, [longest, limit])]

    def ids_below(self, prefix: str) -> dict[str, str]:
        """Return the paths that begin with `prefix`, by the ids of their videos, of which windows are parts."""
        whole = "SELECT DISTINCT COALESCE(parent, id) AS video, path FROM videos"
        statement = f"{whole} WHERE substr(path, 1, length(?)) = ? ORDER BY video"
        return dict(self._rows(statement, [prefix, prefix]))

    def checksums(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of the files of some videos, where it is known."""
        return dict(self._rows_in("SELECT id, sha256 FROM checksums WHERE id IN", list(ids)))

    def has_lines(self) -> bool:
        """Return True if some live video has lines of text."""
        return self._has_words() and bool(self._rows("SELECT 1 FROM timed_lines LIMIT 1"))

    def count_lines(self) -> int:
        """Return how many lines of text the live videos have."""
        return int(self._rows("SELECT COUNT(number) FROM timed_lines")[0][0]) if self._has_words() else 0

    def find_lines(self, expression: str, condition: Condition, *, limit: int) -> list[FoundLine]:
        """Return the lines that score best by BM25, of live videos or windows that pass a filter.

        Args:
            expression: What to look for, of `line_words.match_expression`.
            condition: The filter.
            limit: How many lines.

        Returns:
            Best first; none where there are no lines.
        """
        if not self._has_words():
            return []
        rows = self._rows(find_statement(condition), [expression, *condition.values, limit])
        return [self.parsed(found_line, row) for row in rows]

    def line_stamps(self, source: str, ids: Iterable[str]) -> dict[str, str]:
        """Return by video what the lines of some live videos were read from, of those that were looked at for lines."""
        with self._mutex, translated(self._path):
            if user_version(self._connection) < LINES_VERSION:
                return {}
        return dict(
            self._rows_in("SELECT video, stamp FROM line_sources WHERE source = ? AND video IN", list(ids), [source])
        )

    def staged_lines(self, ids: Iterable[str]) -> list[VideoLines]:
        """Return the lines of some videos that wait for these to be committed."""
        rows = self._rows_in("SELECT video, source, stamp, lines FROM staged_lines WHERE video IN", list(ids))
        return [self.parsed(unpack_lines, row) for row in rows]

    def lines_of(self, ids: Iterable[str]) -> list[VideoLines]:
        """Return the stored lines of some whole videos, for another catalog."""
        if not self._has_words():
            return []
        sources = self._rows_in("SELECT video, source, stamp FROM line_sources WHERE video IN", list(ids))
        return [self.parsed(stored_lines, one, self._rows(LINES_OF, [one[1], one[0], one[0]])) for one in sources]

    def stray_lines(self) -> int:
        """Return how many lines belong to no live video or window; there are none in a catalog that is whole."""
        if not self._has_words():
            return 0
        return int(self._rows("SELECT COUNT(number) FROM timed_lines WHERE item NOT IN (SELECT id FROM videos)")[0][0])

    def _has_words(self) -> bool:
        with self._mutex, translated(self._path):
            return has_words(self._connection)

    def live_segments(self) -> list[SegmentRow]:
        """Return the live segments, oldest first."""
        rows = self._rows("SELECT name, codec, count, created FROM segments ORDER BY rowid")
        return [self.parsed(segment_row, row) for row in rows]

    def codecs(self) -> list[str]:
        """Return the names of the codecs in use, oldest first."""
        return self._names("codecs")

    def files(self) -> dict[str, tuple[int, str]]:
        """Return size and SHA-256 of every file of the index, by path relative to its folder."""
        rows = self._rows("SELECT path, size, sha256 FROM files ORDER BY path")
        return dict(self.parsed(file_row, row) for row in rows)

    def unnamed(self) -> list[str]:
        """Return what rows of the catalog need and no other row names: segments, codecs, and files of both.

        A writer deletes what has no name, so it must not believe a catalog in which a name is lost.
        """
        segments = self.live_segments()
        placed = self._rows("SELECT segment FROM videos UNION SELECT segment FROM tombstones")
        with_files = {"/".join(path.split("/")[:2]) for path in self.files()}
        named = {f"segments/{segment.name}" for segment in segments} | {f"codec/{name}" for name in self.codecs()}
        needed = {f"segments/{name}" for (name,) in placed} | {f"codec/{segment.codec}" for segment in segments}
        return sorted((needed | with_files) - named) + [f"the files of {name}" for name in sorted(named - with_files)]

    def failures(self) -> list[Failure]:
        """Return the videos that could not be indexed, by id."""
        rows = self._rows("SELECT id, path, kind, detail, at FROM failures ORDER BY id")
        return [Failure(*row) for row in rows]

    def staged_ids(self) -> set[str]:
        """Return the ids of videos that are encoded but not yet in a segment, all windows of one as one."""
        return {identity for (identity,) in self._rows("SELECT DISTINCT COALESCE(parent, id) FROM staged")}

    def staged_chunks(self) -> list[str]:
        """Return the names of the chunks that hold staged videos, oldest first."""
        return self._names("chunks")

    def staged_entries(self, chunk: str) -> dict[int, VideoEntry]:
        """Return the videos still staged in a chunk, by row."""
        rows = self._rows(f"SELECT row, {COLUMNS} FROM staged WHERE chunk = ? ORDER BY row", [chunk])
        return {row[0]: self.parsed(video_entry, row[1:]) for row in rows}

    def snapshot(self) -> IndexView:
        """Return what a searcher needs, all as of one commit."""
        with self._transaction("BEGIN"):
            return self.view()

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
            return self.view()

    def parsed(self, parse: Callable[..., Read], *values: Any) -> Read:
        """Return what `parse` makes of values from the catalog.

        Raises:
            IndexFolderError: If they are damaged; the text names the file and the remedy.
        """
        try:
            return parse(*values)
        except IndexFolderError as error:
            raise IndexFolderError(f"{self._path}: {error}; {RESTORE}") from error

    def read_commit(self, read: Callable[[IndexView], Read]) -> Read:
        """Return what `read` makes of one commit, which is held from then on.

        A writer may replace segments and delete their files while they are read: then the newer commit is read instead.

        Raises:
            IndexFolderError: If `read` raises it and there is no newer commit.
        """
        while True:
            view = self.hold()
            try:
                return read(view)
            except IndexFolderError:
                if self.hold().version == view.version:
                    raise

    def view(self) -> IndexView:
        """Return what a searcher needs, as of the commit that is held; without one, only a writer gets one commit."""
        segments, codecs = tuple(self.live_segments()), self.codecs()
        removed: dict[str, list[Any]] = {}
        for name, row in self._rows("SELECT segment, ordinal FROM tombstones ORDER BY segment, ordinal"):
            removed.setdefault(name, []).append(row)
        view = IndexView(
            version=self.version,
            settings=self.settings(),
            codec=codecs[-1] if codecs else None,
            segments=segments,
            removed=removed,
            count=self.count(),
            videos=self.count_videos(),
            windows=self.count_windows(),
        )
        view.check_contradictions(self._path)
        return view

    def copy_to(self, path: Path, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Write the catalog, as of the commit that is held, into a new file and run statements on the copy."""
        with self._mutex:
            copy_database(self._connection, path, statements)

    def check_integrity(self) -> None:
        """Read the whole database.

        Raises:
            IndexFolderError: If a page of it is damaged.
        """
        findings = [text for (text,) in self._rows("PRAGMA integrity_check")]
        if findings != ["ok"]:
            found = " ".join(str(findings[0]).split())
            raise IndexFolderError(f"{self._path} is damaged: {found[:MAX_SHOWN]}; {RESTORE}")

    # Commits: each method is one transaction.

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
            replace: Replace videos that are live already, with all their windows, so the windows of one video belong
                in one segment; otherwise ids that are live are refused.
            settings: Settings to change with it.
            failures: What could not be indexed with them, to be remembered.

        Raises:
            SettingsError: If an id comes twice, or is live and `replace` is False; or a name or path is unsafe.
        """
        with self._commit():
            self._insert_segment(NewSegment(name, codec, entries, files), replace)
            for column in ("id", "parent"):
                indexed = f"SELECT {column} FROM videos WHERE segment = ?"
                self._connection.execute(f"DELETE FROM failures WHERE id IN ({indexed})", [name])
            self._take_staged_lines([name])
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
            SettingsError: If there are not `count` live videos, or a name or path is unsafe.
        """
        with self._commit():
            rows = self._rows(f"SELECT segment, ordinal FROM videos {IN_ORDER}")
            if len(rows) != count:
                raise SettingsError(f"{count} videos were written for {len(rows)} live ones; try again")
            moves = ((check_name(name), new, *old) for new, old in enumerate(rows))
            self._connection.executemany(
                "UPDATE videos SET segment = ?, ordinal = ? WHERE segment = ? AND ordinal = ?", moves
            )
            self._clear("segments", "codecs", "files", "tombstones")
            self._insert_names(name, codec, count, files)
            self._set_settings(settings or {})

    def replace_everything(
        self,
        segments: Sequence[NewSegment],
        *,
        settings: Mapping[str, Any] | None = None,
        forget_failures: bool = False,
        failures: Iterable[Failure] = (),
        keep_lines: bool = False,
    ) -> None:
        """Swap all live segments for new ones in one transaction, as compacting and overwriting do.

        Codecs and files that no new segment names are forgotten with the old segments; nothing is deleted on disk.

        Args:
            segments: The new segments.
            settings: Settings to change with them.
            forget_failures: Forget recorded failures too; otherwise all stay.
            failures: What could not be indexed with them, to be remembered.
            keep_lines: Keep the lines of text: the new segments hold the same videos and windows.

        Raises:
            SettingsError: If an id comes twice, or a name or path is unsafe.
        """
        with self._commit():
            self._clear("segments", "codecs", "files", "videos", "tombstones", "checksums")
            if not keep_lines:
                drop_all_lines(self._connection)
            if forget_failures:
                self._clear("failures")
            for segment in segments:
                self._insert_segment(segment, replace=False)
            self._take_staged_lines([segment.name for segment in segments])
            self._note_failures(failures)
            self._set_settings(settings or {})

    def remove(self, ids: Iterable[str]) -> list[str]:
        """Remove videos, with what is recorded of their failures.

        Args:
            ids: Ids of videos or windows; that of a long video stands for all its windows.

        Returns:
            The ids of the items removed.
        """
        wanted = list(ids)
        with self._commit():
            rows = self._rows_in("SELECT id FROM videos WHERE id IN", wanted)
            rows += self._rows_in("SELECT id FROM videos WHERE parent IN", wanted)
            removed = list(dict.fromkeys(identity for (identity,) in rows))
            self._remove_items(removed)
            keys = [(identity,) for identity in {*wanted, *removed}]
            self._connection.executemany("DELETE FROM failures WHERE id = ?", keys)
        return removed

    def update(self, entries: Iterable[VideoEntry]) -> None:
        """Change what the catalog keeps of some live videos; their tokens stay where they are."""
        changes = ", ".join(f'"{name}" = ?' for name in VIDEO_COLUMNS)
        rows = [(*video_values(entry), entry.id) for entry in entries]
        with self._commit():
            self._connection.executemany(f"UPDATE videos SET {changes} WHERE id = ?", rows)

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
            self._connection.executemany("DELETE FROM staged_lines WHERE video = ?", [key[:1] for key in keys])
            self._drop_empty_chunks()

    def drop_staged(self) -> None:
        """Forget all staged videos and their chunks."""
        with self._commit(visible=False):
            self._clear("staged", "chunks", "staged_lines")

    def stage_lines(self, read: Iterable[VideoLines]) -> None:
        """Keep lines of videos that are not committed yet; the commit of a video makes them its lines."""
        with self._commit(visible=False):
            rows = map(pack_lines, read)
            self._connection.executemany("INSERT OR REPLACE INTO staged_lines VALUES (?, ?, ?, ?)", rows)

    def set_lines(self, read: Iterable[VideoLines]) -> None:
        """Give live videos lines in place of those that they have of the same source."""
        with self._commit():
            store_lines(self._connection, read)

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Remember why videos could not be indexed; a newer reason replaces an older one."""
        with self._commit(visible=False):
            self._note_failures(failures)

    def set_checksums(self, checksums: Mapping[str, str]) -> None:
        """Remember the SHA-256 of the files of some live videos, whole ones; it is forgotten when they are replaced."""
        with self._commit(visible=False):
            self._connection.executemany("INSERT OR REPLACE INTO checksums VALUES (?, ?)", checksums.items())

    # Parts of commits: these run inside a transaction.

    def _take_staged_lines(self, segments: Iterable[str]) -> None:
        """Make staged lines those of their videos, which have just become live in some segments."""
        videos = "SELECT DISTINCT video FROM staged_lines JOIN videos ON video = COALESCE(parent, id) WHERE segment = ?"
        live = [(video,) for segment in segments for (video,) in self._rows(f"{videos} ORDER BY video", [segment])]
        store_lines(self._connection, (one for (video,) in live for one in self.staged_lines([video])))
        self._connection.executemany("DELETE FROM staged_lines WHERE video = ?", live)

    def _insert_segment(self, segment: NewSegment, replace: bool) -> None:
        name, count = check_name(segment.name), 0
        for count, entry in enumerate(segment.entries, start=1):
            self._insert_item(name, count - 1, entry, replace)
        if count == 0:
            raise SettingsError(f"segment {name} has no videos; a segment holds at least one")
        self._insert_names(name, segment.codec, count, segment.files)
        self._drop_empty_chunks()

    def _insert_names(self, name: str, codec: str, count: int, files: Mapping[str, tuple[int, str]]) -> None:
        """Name a segment, its codec and their files."""
        now = time.time()
        self._connection.execute("INSERT OR IGNORE INTO codecs VALUES (?, ?)", [check_name(codec), now])
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", [check_name(name), codec, count, now])
        rows = [(check_relative(path), size, sha256) for path, (size, sha256) in files.items()]
        self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)

    def _insert_item(self, segment: str, row: int, entry: VideoEntry, replace: bool) -> None:
        execute = self._connection.execute
        older = execute("SELECT segment FROM videos WHERE id = ?", [entry.id]).fetchone()
        if older is not None and (older[0] == segment or not replace):
            where = "comes twice" if older[0] == segment else "is in the index already; replace or remove it"
            raise SettingsError(f"video id {shown(entry.id)} {where}")
        if replace:
            self._remove_items(self._older_versions(segment, entry))
        values = (segment, row, *video_values(entry))
        execute(f"INSERT INTO videos (segment, ordinal, {COLUMNS}) VALUES (?, ?, {MARKS})", values)
        execute("DELETE FROM staged WHERE id = ?", [entry.id])

    def _older_versions(self, segment: str, entry: VideoEntry) -> list[str]:
        """Return live items of the same video in other segments, whether it was cut into windows then or now."""
        statement = "SELECT id FROM videos WHERE (id = ? OR id = ? OR parent = ?) AND segment <> ?"
        rows = self._rows(statement, [entry.id, entry.video, entry.video, segment])
        return [identity for (identity,) in rows]

    def _remove_items(self, ids: Iterable[str]) -> None:
        """Turn live items into tombstones; with its last window, a video's failed ones are forgotten."""
        keys = [(identity,) for identity in ids]
        parent = "SELECT parent FROM videos WHERE parent IS NOT NULL AND id = ?"
        cut = {found for key in keys for (found,) in self._rows(parent, key)}
        drop_lines(self._connection, [identity for (identity,) in keys])
        for statement in (
            "INSERT INTO tombstones SELECT segment, ordinal FROM videos WHERE id = ?",
            "DELETE FROM checksums WHERE id IN (SELECT COALESCE(parent, id) FROM videos WHERE id = ?)",
            "DELETE FROM line_sources WHERE video IN (SELECT id FROM videos WHERE id = ? AND parent IS NULL)",
            "DELETE FROM videos WHERE id = ?",
        ):
            self._connection.executemany(statement, keys)
        for video in cut:
            self._forget_failed_windows(video)

    def _forget_failed_windows(self, video: str) -> None:
        """Forget the failures of a video's windows, unless others of them are live."""
        if self._rows("SELECT 1 FROM videos WHERE parent = ? LIMIT 1", [video]):
            return
        self._connection.execute("DELETE FROM line_sources WHERE video = ?", [video])
        bounds = [f"{video}#t=", f"{video}#t>"]  # all ids that begin like those of its windows
        failed = self._rows("SELECT id FROM failures WHERE id >= ? AND id < ?", bounds)
        windows = [(name,) for (name,) in failed if WINDOW_ID.match(name, len(video))]
        self._connection.executemany("DELETE FROM failures WHERE id = ?", windows)

    def _set_settings(self, settings: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value, allow_nan=False)) for key, value in settings.items()]
        self._connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def _note_failures(self, failures: Iterable[Failure]) -> None:
        rows = ((f.id, f.path, f.kind, f.detail, f.at or time.time()) for f in failures)
        self._connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", rows)

    def _drop_empty_chunks(self) -> None:
        self._connection.execute("DELETE FROM chunks WHERE name NOT IN (SELECT chunk FROM staged)")

    def _clear(self, *tables: str) -> None:
        for table in tables:
            self._connection.execute(f"DELETE FROM {table}")

    # Transactions and statements.

    @contextmanager
    def _commit(self, *, visible: bool = True) -> Iterator[None]:
        """Run the block in one transaction; `visible` ones count up `version`."""
        if self._lock is None:
            raise SettingsError(f"{self._path} is open for reading; open it with writable=True")
        with self._transaction("BEGIN IMMEDIATE"):
            yield
            if visible:
                self._connection.execute("UPDATE generation SET value = value + 1")

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
            return bounded_rows(self._connection, self._path, statement, values)

    def _rows_in(self, statement: str, keys: Sequence[Any], values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement that ends in IN for any number of keys."""
        rows = []
        with self._mutex:
            for start in range(0, len(keys), IDS_PER_STATEMENT):
                part = keys[start : start + IDS_PER_STATEMENT]
                rows += self._rows(f"{statement} ({', '.join('?' * len(part))})", [*values, *part])
        return rows

    def _count(self, what: str) -> int:
        return int(self._rows(f"SELECT COUNT({what}) FROM videos")[0][0])

    def _names(self, table: str) -> list[str]:
        """Return the names in a table, oldest first, each checked."""
        rows = self._rows(f"SELECT name FROM {table} ORDER BY rowid")
        return [self.parsed(check_stored_text, check_name, name) for (name,) in rows]
