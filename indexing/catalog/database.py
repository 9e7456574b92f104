"""Connections to the catalog's SQLite database that neither trust the file nor leave it half-written."""

import itertools
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from colbert_video.base.access import kind_of, problem_of
from colbert_video.durable import RESTORE, check_link, fsync_folder
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.filters import FOLDED, folded
from colbert_video.indexing.catalog.schema import (
    SCHEMA_VERSION,
    STATEMENTS,
    check_schema,
    drop_foreign_items,
    user_version,
)
from colbert_video.indexing.catalog.sqlite_errors import CANTOPEN, ERRORS, READONLY, explained, primary_code

CATALOG_NAME = "catalog.sqlite"
UNFINISHED_NAME = "catalog.new"
ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zip")
BUSY_SECONDS = 30.0
MAX_STEPS = 10_000_000
"""Steps of SQLite's machine for one parameter of a statement."""
MAX_STEPS_PER_BYTE = 20
"""Further ones for each byte of the catalog; the costliest filters take less than 1 for a parameter."""
STEPS_PER_CHECK = 100_000
MIN_ROW_BYTES = 4
"""Bytes that a row takes at least."""


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
        archive = folder.suffix.lower() in ARCHIVES
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
    """Run a statement, and end it: pages of a forged catalog may name each other, so that a few hold rows without end.

    Returns:
        All rows.

    Raises:
        IndexFolderError: If the catalog gives more rows, or takes more work, than a file of its size can.
    """
    size = _size(path)
    checks = itertools.count(1)
    steps = max(1, len(values)) * (MAX_STEPS + MAX_STEPS_PER_BYTE * size)  # each condition of a filter has a parameter
    most = steps // STEPS_PER_CHECK
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


def _size(path: Path) -> int:
    """Return the bytes of a database and of its log."""
    size = 0
    for file in (path, path.with_name(f"{path.name}-wal")):
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def _endless(path: Path) -> IndexFolderError:
    return IndexFolderError(f"{path} is damaged: it gives more rows than it can hold; {RESTORE}")


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
        raise IndexFolderError(f"there is no index in {path.parent}; make one with Indexer(...).index.")
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
    connection.create_function(FOLDED, 1, folded, deterministic=True)
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
