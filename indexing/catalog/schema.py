"""The catalog's schema: its statements by version, and the check that a database has them and nothing acts on them.

Administrators run ANALYZE, make views, and add tables and indexes of their own. Such things change nothing that the
catalog's statements read or write, and are tolerated. What could act on our rows is refused: triggers, virtual tables,
and indexes that refuse or compute values.
"""

import re
import sqlite3
from pathlib import Path

from colbert_video.durable import RESTORE
from colbert_video.errors import IndexFolderError, shown

SCHEMA_VERSION = 3
LINES_VERSION = 3
"""The first version with lines of text."""
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
CREATE INDEX videos_parent ON videos (parent) WHERE parent IS NOT NULL;
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
CHECKSUMS = "CREATE TABLE checksums (id TEXT PRIMARY KEY, sha256 TEXT NOT NULL)"
LINES = """
CREATE TABLE timed_lines (
    number INTEGER PRIMARY KEY, item TEXT NOT NULL, source TEXT NOT NULL,
    start REAL NOT NULL, "end" REAL NOT NULL, text TEXT NOT NULL, words TEXT NOT NULL
);
CREATE INDEX timed_lines_item ON timed_lines (item);
CREATE TABLE line_sources (
    video TEXT NOT NULL, source TEXT NOT NULL, stamp TEXT NOT NULL, PRIMARY KEY (video, source)
) WITHOUT ROWID;
CREATE TABLE staged_lines (
    video TEXT NOT NULL, source TEXT NOT NULL, stamp TEXT NOT NULL, lines TEXT NOT NULL, PRIMARY KEY (video, source)
) WITHOUT ROWID;
"""
WORDS = "line_words"
"""The full-text index over `timed_lines.words`, made with the first line: a Python without FTS5 can write all other indexes."""
WORDS_STATEMENT = f"CREATE VIRTUAL TABLE {WORDS} USING fts5(words, content = 'timed_lines', content_rowid = 'number', tokenize = 'ascii')"
"""Only words with spaces between them go in (`line_words.words_of`); "ascii" cuts at spaces, and at nothing beyond ASCII."""
SHADOWS = tuple(f"{WORDS}_{part}" for part in ("data", "idx", "docsize", "config"))
"""Tables in which FTS5 keeps its index; their form is its own."""


def _statements(script: str) -> tuple[str, ...]:
    return tuple(statement.strip() for statement in script.split(";") if statement.strip())


FIRST = _statements(SCHEMA)
SECOND = (*FIRST, CHECKSUMS)
STATEMENTS = {1: FIRST, 2: SECOND, 3: (*SECOND, *_statements(LINES))}
"""The schema of each version. Readers take any; a writer brings an older one up to date."""
CREATED = re.compile(r"CREATE (?:TABLE|INDEX) (\w+)")
OWN_NAMES = {name.lower() for statement in STATEMENTS[SCHEMA_VERSION] for name in CREATED.findall(statement)}
OWN_NAMES |= {WORDS, *SHADOWS}
TABLES = {name for name in OWN_NAMES if f"CREATE TABLE {name} " in SCHEMA + CHECKSUMS + LINES} | {*SHADOWS}
KNOWN_COLLATIONS = {"BINARY", "NOCASE", "RTRIM"}

Item = tuple[str, str, str, str]
"""Type, name, table and SQL of a part of a database."""


def user_version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a database holds the tables of a catalog, and nothing that could change them.

    Raises:
        IndexFolderError: If it is empty, of a newer version, another database, or holds what acts on our rows.
    """
    version, items = user_version(connection), _items(connection)
    if version > SCHEMA_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version}, this release reads up to {SCHEMA_VERSION}; upgrade colbert_video"
        )
    if not items and not version:
        raise IndexFolderError(f"{path} is empty: it was not finished, or its copy was not; {RESTORE}")
    problem = _own_problem(items, version)
    if problem is not None:
        raise IndexFolderError(f"{path} is not a colbert_video catalog: {problem}; {RESTORE}")
    for item in _foreign(items):
        problem = _foreign_problem(connection, item)
        if problem is not None:
            raise IndexFolderError(
                f"{path} is not a colbert_video catalog: it has {problem}, which acts on it. If you trust the rest, "
                f"remove it: sqlite3 {path} 'DROP {item[0].upper()} \"{item[1]}\"'"
            )


def drop_foreign_items(connection: sqlite3.Connection) -> None:
    """Remove from a copy of a catalog what is not in the schema: statistics, views, tables and indexes of others."""
    for kind in ("view", "index", "table"):
        for found, name, *_ in _foreign(_items(connection)):
            if found == kind and name.lower() != "sqlite_sequence":  # which SQLite keeps, empty
                connection.execute(f"""DROP {kind.upper()} "{name.replace('"', '""')}\"""")


def _items(connection: sqlite3.Connection) -> list[Item]:
    """Return all that a database holds, without the indexes that SQLite makes by itself."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()


def _foreign(items: list[Item]) -> list[Item]:
    return [item for item in items if item[1].lower() not in OWN_NAMES]


def _own_problem(items: list[Item], version: int) -> str | None:
    """Return what a catalog of this version should have and a database has not; None if it has all."""
    wanted = {CREATED.findall(statement)[0]: statement for statement in STATEMENTS.get(version, ())}
    found = {name: sql for _, name, _, sql in items}
    if not wanted:
        return f"it has format version {version}"
    if version >= LINES_VERSION and WORDS in found:
        wanted |= {WORDS: WORDS_STATEMENT, **{name: found.get(name, "") for name in SHADOWS}}
        if any(kind != "table" or _is_virtual(sql) for kind, name, _, sql in items if name in SHADOWS):
            return f"the full-text index {shown(WORDS)} is not FTS5's own"
    for name, statement in wanted.items():
        if name not in found:
            return f"it has no {shown(name)}"
        if found[name] != statement:
            return f"its {shown(name)} has another form"
    own = [name for _, name, *_ in items if name.lower() in OWN_NAMES]
    return None if sorted(own) == sorted(wanted) else "it has tables of several versions"


def _foreign_problem(connection: sqlite3.Connection, item: Item) -> str | None:
    """Return what is wrong with something that others added; None if it changes nothing for the catalog."""
    kind, name, table, sql = item
    if kind == "trigger" or kind not in ("table", "index", "view"):
        return f"a {kind} {shown(name)}"
    if kind == "table" and _is_virtual(sql):
        return f"a virtual table {shown(name)}"
    if kind == "index" and table.lower() in TABLES and not _is_plain_index(connection, name, table):
        return f"an index {shown(name)} that is unique, partial or computed"
    return None


def _is_virtual(sql: str) -> bool:
    return sql.upper().split()[:2] == ["CREATE", "VIRTUAL"]


def _is_plain_index(connection: sqlite3.Connection, name: str, table: str) -> bool:
    """Return whether an index only lists columns: it refuses no row and computes nothing."""
    listed = connection.execute('SELECT name, "unique", partial FROM pragma_index_list(?)', [table]).fetchall()
    columns = connection.execute("SELECT cid, coll FROM pragma_index_xinfo(?)", [name]).fetchall()
    plain = any(row == (name, 0, 0) for row in listed)
    return plain and all(cid >= -1 and collation in KNOWN_COLLATIONS for cid, collation in columns)
