"""The catalog's SQLite database: its schema, and connections that neither trust the file nor leave it half-written."""

import errno
import itertools
import os
import sqlite3
import stat
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from colbert_video.base.access import access_problem, kind_of, problem_of
from colbert_video.durable import check_link, fsync_folder
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.schema import (
    SCHEMA_VERSION,
    STATEMENTS,
    check_schema,
    drop_foreign_items,
    user_version,
)
from colbert_video.indexing.catalog.sqlite_errors import CANTOPEN, ERRORS, LOCKS, READONLY, explained, primary_code

CATALOG_NAME = "catalog.sqlite"
UNFINISHED_NAME = "catalog.new"
BUSY_SECONDS = 30.0
STEPS_PER_CHECK = 100_000
MAX_STEPS = 10_000_000
MAX_STEPS_PER_BYTE = 20
"""Steps of SQLite's machine for one statement, and for each byte of the catalog beyond; a scan with a filter takes about 3."""
MIN_ROW_BYTES = 4
LOCK_NAME = "writer.lock"


def has_catalog(folder: Path) -> bool:
    """Return whether a folder holds a catalog.

    Raises:
        IndexFolderError: If that cannot be known, or what has the name of a folder or catalog is something else.
    """
    path = folder / CATALOG_NAME
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        if not os.path.lexists(folder):
            return False  # a folder above it is a file
        archive = folder.suffix.lower() in (".tar", ".gz", ".tgz", ".zip")
        packed = "; unpack an archive with `colbert-video import`" if archive else ""
        raise IndexFolderError(f"{folder} is a file, not an index folder{packed}; choose another path") from error
    except OSError as error:
        raise IndexFolderError(f"{path} cannot be opened: {problem_of(error, path)}") from error
    if not stat.S_ISREG(mode):
        raise IndexFolderError(
            f"{path} is {kind_of(mode)}, not the file of an index; restore the file, or choose another path"
        )
    return True


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors inside the block into ones that name the file, the reason and a remedy."""
    try:
        yield
    except ERRORS as error:
        raise explained(error, path, seconds=BUSY_SECONDS) from error


def bounded_rows(connection: sqlite3.Connection, path: Path, statement: str, values: Sequence[Any]) -> list[Any]:
    """Run a statement that ends: pages of a forged catalog may name each other, and a few kilobytes hold rows without end.

    Returns:
        All rows.

    Raises:
        IndexFolderError: If the catalog gives more rows, or takes more work, than a file of its size can.
    """
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    checks = itertools.count(1)
    most = (MAX_STEPS + MAX_STEPS_PER_BYTE * size) // STEPS_PER_CHECK
    connection.set_progress_handler(lambda: next(checks) > most, STEPS_PER_CHECK)
    try:
        rows = list(itertools.islice(connection.execute(statement, values), size // MIN_ROW_BYTES + 1))
    except sqlite3.OperationalError as error:
        if next(checks) <= most:
            raise
        raise _endless(path) from error
    finally:
        connection.set_progress_handler(None, 0)
    if len(rows) > size // MIN_ROW_BYTES:
        raise _endless(path)
    return rows


def _endless(path: Path) -> IndexFolderError:
    return IndexFolderError(f"{path} is damaged: it gives more rows than it can hold; restore it from a copy")


def create_database(path: Path) -> sqlite3.Connection:
    """Make the catalog's database and return a connection that can write.

    It is made under another name, so that what has the catalog's name is always a whole catalog.

    Raises:
        IndexFolderError: If there is one already, or it cannot be made.
    """
    if path.exists() and path.stat().st_size:
        raise IndexFolderError(f"{path} exists; open it, or index with overwrite=True")
    unfinished = path.with_name(UNFINISHED_NAME)
    for leftover in path.parent.glob(f"{UNFINISHED_NAME}*"):
        leftover.unlink()
    with translated(path), closing(_connect(unfinished, "rwc")) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS[SCHEMA_VERSION]:
            connection.execute(statement)
        connection.execute("INSERT INTO generation VALUES (0)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    unfinished.rename(path)
    fsync_folder(path.parent)
    return open_database(path, writable=True)


def open_database(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open the catalog's database and check that it is one.

    A reader needs no write permission: where SQLite cannot make its side files, on read-only media, the database is
    read as immutable.

    Raises:
        IndexFolderError: If the file is missing, damaged, of a newer version, or not a catalog.
    """
    if not has_catalog(path.parent):
        check_link(path)
        raise IndexFolderError(
            f"{path} is missing: there is no index in {path.parent}; make one with Indexer(...).index"
        )
    check_link(path)
    with translated(path):
        if writable:
            connection = _connect(path, "rw")
            with closed_on_error(connection):
                check_schema(connection, path)
                _make_durable(connection)
                _upgrade(connection)
            return connection
        return _open_reader(path)


def copy_database(connection: sqlite3.Connection, path: Path, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Write the database as a connection sees it into a new file, run statements there, and leave no trace of the rest.

    Args:
        connection: Its open transaction, if any, says as of which commit.
        path: The new file.
        statements: What is run on the copy, with parameters.
    """
    with translated(path), closing(_connect(path, "rwc")) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        drop_foreign_items(copy)  # they hold what the statements below remove
        _upgrade(copy)
        for statement, values in statements:
            copy.execute(statement, values)
        copy.execute("VACUUM")  # deleted rows otherwise stay readable in free pages
        _make_durable(copy)


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "ro")
    with closed_on_error(connection):
        try:
            check_schema(connection, path)
            return connection
        except sqlite3.OperationalError as error:
            if primary_code(error) not in (CANTOPEN, READONLY):
                raise
            wal = path.with_name(path.name + "-wal")
            if wal.exists() and wal.stat().st_size:  # immutable would miss, or tear, what is in there
                raise IndexFolderError(
                    f"{path} was left in the middle of a write and {path.parent} is read-only; "
                    "open the index once where its folder can be written"
                ) from error
    connection.close()
    connection = _connect(path, "ro&immutable=1")
    with closed_on_error(connection):
        check_schema(connection, path)
    return connection


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close `connection` if the block raises."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = OFF")  # of tables that others added
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _make_durable(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while a writer commits
    connection.execute("PRAGMA synchronous = FULL")


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older schema up to date, in one transaction."""
    version = user_version(connection)
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS[SCHEMA_VERSION][len(STATEMENTS[version]) :]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


class WriterLock:
    """Holds the right to write to an index folder until `release`.

    Two locks, of which each makes up for what the other lacks. `flock` on the folder needs no file that this user may
    write, and stays when the process opens and closes the folder's files, as a copy of the folder does. An empty SQLite
    database in an exclusive transaction works on every system, and excludes releases that know this lock alone. Both
    notice other writers in this process too, neither is inherited by forked children, and both need a file system with
    working locks.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            IndexFolderError: If another writer holds it, or the folder cannot be written.
        """
        path = folder / LOCK_NAME
        check_link(path)
        self._folder = _lock_folder(folder)
        try:
            self._connection = _lock_file(path, alone=self._folder is None)
        except BaseException:
            self._unlock_folder()
            raise
        _held.add(self)

    def release(self) -> None:
        """Let other writers in; a second call does nothing."""
        self._connection.close()
        self._unlock_folder()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the lock if the block raises."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def __del__(self) -> None:
        """Let other writers in, as SQLite does when a connection is forgotten."""
        if getattr(self, "_folder", None) is not None:
            self._unlock_folder()

    def _unlock_folder(self) -> None:
        if self._folder is not None:
            fcntl.flock(self._folder, fcntl.LOCK_UN)  # a child in the middle of a fork may have it open still
            os.close(self._folder)
            self._folder = None

    def _forget_in_child(self) -> None:
        if self._folder is not None:
            os.close(self._folder)  # the parent keeps its lock, and this process does not keep it any longer
            self._folder = None


_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()
"""Locks of this process, which forked children must not prolong."""


def _forget_locks() -> None:
    for lock in list(_held):
        lock._forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _lock_folder(folder: Path) -> int | None:
    """Lock the folder itself; return its descriptor, or None where there is no such lock.

    Raises:
        IndexFolderError: If another writer holds it.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no permission to list it; whether it is there, the other lock says
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _being_written(folder) from error
        return None  # a file system without it, such as some network ones
    if not folder.is_dir() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
        os.close(descriptor)
        raise _being_written(folder)  # another process has removed the folder, and perhaps made it again
    return descriptor


def _lock_file(path: Path, *, alone: bool) -> sqlite3.Connection:
    """Begin the exclusive transaction.

    Args:
        path: The database.
        alone: True if no other lock excludes other writers: then a file that this user cannot write is refused, since
            SQLite locks it for no one.
    """
    folder = path.parent
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except ERRORS as error:
        raise explained(error, path, write=True) from error
    try:
        connection.execute("BEGIN EXCLUSIVE")
        if alone and not os.access(path, os.W_OK):
            raise IndexFolderError(
                f"{path} is read-only, so it would keep no other writer out; make it writable for all who write to the index."
            )
    except ERRORS as error:
        connection.close()
        if primary_code(error) in LOCKS:
            raise _being_written(folder) from error
        problem = access_problem(path, write=True) or "check its disk, and whether it is full, and try again"
        raise IndexFolderError(f"{path} cannot be locked ({error}): {problem}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _being_written(folder: Path) -> IndexFolderError:
    return IndexFolderError(f"another process is writing to {folder}; wait for it to end, or end it, and try again")
