"""The catalog's SQLite database: its schema, and connections that neither trust the file nor leave it half-written."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colbert_video.errors import IndexFolderError

CATALOG_NAME = "catalog.sqlite"
SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0

SCHEMA = """
CREATE TABLE generation (value INTEGER NOT NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE codecs (name TEXT PRIMARY KEY, created REAL NOT NULL);
CREATE TABLE segments (name TEXT PRIMARY KEY, codec TEXT NOT NULL, count INTEGER NOT NULL, created REAL NOT NULL);
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE videos (
    id TEXT PRIMARY KEY, segment TEXT NOT NULL, ordinal INTEGER NOT NULL,
    path TEXT, parent TEXT, start REAL, "end" REAL, duration REAL, frame_times BLOB NOT NULL,
    metadata TEXT NOT NULL, source_size INTEGER, source_mtime_ns INTEGER,
    UNIQUE (segment, ordinal)
);
CREATE INDEX videos_parent ON videos (parent);
CREATE TABLE tombstones (
    segment TEXT NOT NULL, ordinal INTEGER NOT NULL, PRIMARY KEY (segment, ordinal)
) WITHOUT ROWID;
CREATE TABLE failures (
    id TEXT PRIMARY KEY, path TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE chunks (name TEXT PRIMARY KEY);
CREATE TABLE staged (
    id TEXT PRIMARY KEY, chunk TEXT NOT NULL, row INTEGER NOT NULL,
    path TEXT, parent TEXT, start REAL, "end" REAL, duration REAL, frame_times BLOB NOT NULL,
    metadata TEXT NOT NULL, source_size INTEGER, source_mtime_ns INTEGER
);
CREATE INDEX staged_chunk ON staged (chunk, row);
"""
STATEMENTS = tuple(statement.strip() for statement in SCHEMA.split(";") if statement.strip())


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors inside the block into ones that name the file."""
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise IndexFolderError(
                f"{path} stayed locked for {BUSY_SECONDS:g} s; end other programs using it"
            ) from error
        if "readonly" in str(error):
            raise IndexFolderError(f"{path} cannot be written; is {path.parent} writable?") from error
        raise IndexFolderError(f"{path} cannot be used ({error}); restore it or rebuild the index") from error


def create_database(path: Path) -> sqlite3.Connection:
    """Make the catalog's database and return a connection that can write.

    Raises:
        IndexFolderError: There is one already, or it cannot be made.
    """
    with translated(path):
        connection = _connect(path, "rwc")
        with closed_on_error(connection):
            if _user_version(connection) or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise IndexFolderError(f"{path} exists; open it, or index with overwrite=True")
            _make_durable(connection)
            connection.execute("BEGIN IMMEDIATE")
            for statement in STATEMENTS:
                connection.execute(statement)
            connection.execute("INSERT INTO generation VALUES (0)")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
    return connection


def open_database(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open the catalog's database and check that it is one.

    A reader needs no write permission: where SQLite cannot make its side files, on read-only media, the database is
    read as immutable.

    Raises:
        IndexFolderError: The file is missing, damaged, of a newer version, or not a catalog.
    """
    if not path.is_file():
        raise IndexFolderError(
            f"{path} is missing: there is no index in {path.parent}; make one with Indexer(...).index"
        )
    with translated(path):
        if writable:
            connection = _connect(path, "rw")
            with closed_on_error(connection):
                _check_schema(connection, path)
                _make_durable(connection)
            return connection
        return _open_reader(path)


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "ro")
    with closed_on_error(connection):
        try:
            _check_schema(connection, path)
            return connection
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
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
        _check_schema(connection, path)
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
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _make_durable(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while a writer commits
    connection.execute("PRAGMA synchronous = FULL")


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse other versions, and any schema but ours: no triggers, no views, no tables that compute."""
    version = _user_version(connection)
    if version > SCHEMA_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version}, this release reads up to {SCHEMA_VERSION}; upgrade colbert_video"
        )
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    if version < 1 or {sql for (sql,) in found} != set(STATEMENTS):
        raise IndexFolderError(
            f"{path} is not a colbert_video catalog, or was not finished; rebuild the index"
        )
