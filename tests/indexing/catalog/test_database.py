"""The catalog's file: durable, checked before it is trusted, and named where it cannot be used."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog import database
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.schema import OWN_NAMES, SHADOWS, WORDS

FILES = {"segments/a/frame/0.codes.pt": (10, "00")}


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    folder = tmp_path / "my.index"
    with Catalog.create(folder) as catalog:
        catalog.commit_segment("a", "c", [VideoEntry("x"), VideoEntry("y")], FILES)
        catalog.remove(["y"])
    return folder


def test_commits_are_durable_settings(closed: Path) -> None:
    with Catalog.open(closed, writable=True) as catalog:
        assert catalog._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert catalog._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert catalog._connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


def test_creating_over_an_index_is_refused(closed: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"catalog\.sqlite exists"):
        Catalog.create(closed)
    with Catalog.open(closed) as reader:
        assert reader.count() == 1


def test_an_interrupted_creation_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").touch()
    with pytest.raises(IndexFolderError, match="was not finished"):
        Catalog.open(tmp_path)
    Catalog.create(tmp_path).close()
    Catalog.open(tmp_path).close()


@pytest.mark.parametrize("writable", [True, False])
def test_missing_and_damaged_catalogs_are_named(closed: Path, writable: bool) -> None:
    path = closed / "catalog.sqlite"
    with pytest.raises(IndexFolderError, match=r"there is no index in .*nowhere"):
        Catalog.open(closed / "nowhere", writable=writable)
    assert not (closed / "nowhere").exists()
    content = path.read_bytes()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(
        IndexFolderError,
        match=r"catalog\.sqlite cannot be read .*no SQLite database, or its beginning is damaged: restore it",
    ):
        Catalog.open(closed, writable=writable)
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(IndexFolderError, match=r"catalog\.sqlite"), Catalog.open(closed, writable=writable) as opened:
        opened.snapshot()


def test_damage_anywhere_is_found(closed: Path) -> None:
    path = closed / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    Catalog.open(closed).check_integrity()
    with sqlite3.connect(path) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'videos'").fetchone()[0]
    connection.close()
    content[(page - 1) * 4096 : (page - 1) * 4096 + 8] = b"\x07" * 8
    path.write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"catalog\.sqlite"), Catalog.open(closed) as opened:
        opened.check_integrity()


def tamper(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    for statement in statements:
        connection.executescript(statement)
    connection.close()


def test_newer_and_foreign_databases_are_refused(closed: Path) -> None:
    tamper(closed, "PRAGMA user_version = 4")
    with pytest.raises(IndexFolderError, match="format version 4, this release reads up to 3; upgrade"):
        Catalog.open(closed)
    tamper(closed, "PRAGMA user_version = 0")
    with pytest.raises(IndexFolderError, match="not a colbert_video catalog"):
        Catalog.open(closed)


def test_an_index_of_the_first_version_is_read_and_brought_up_to_date(closed: Path) -> None:
    later = ("checksums", "timed_lines", "line_sources", "staged_lines")
    tamper(closed, *(f"DROP TABLE {name}" for name in later), "PRAGMA user_version = 1")
    with Catalog.open(closed) as reader:
        assert [e.id for e in reader.entries()] == ["x"]
    with Catalog.open(closed, writable=True) as catalog:
        catalog.set_checksums({"x": "00"})
    with Catalog.open(closed) as reader:
        assert reader.checksums(["x"]) == {"x": "00"}
    assert sqlite3.connect(closed / "catalog.sqlite").execute("PRAGMA user_version").fetchone() == (3,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON videos BEGIN DELETE FROM videos; END",
        "CREATE TABLE own (a); CREATE TRIGGER t AFTER INSERT ON own BEGIN DELETE FROM videos; END",
        "CREATE VIEW v AS SELECT 1 AS a; CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN DELETE FROM videos; END",
        "CREATE UNIQUE INDEX i ON videos (path)",
        "CREATE INDEX i ON videos (hex(path))",
        "CREATE INDEX i ON videos (path) WHERE start > 1",
        "CREATE VIRTUAL TABLE t USING fts5 (a)",
        "DROP TABLE failures",
        "ALTER TABLE failures ADD COLUMN seen INTEGER",
        "DROP TABLE failures; CREATE VIEW failures AS SELECT 1",
        "DROP INDEX videos_parent; CREATE INDEX videos_parent ON videos (path)",
        "DROP INDEX videos_parent",
    ],
)
def test_any_other_schema_is_refused(closed: Path, statement: str) -> None:
    tamper(closed, *statement.split("; ") if "BEGIN" not in statement else [statement])
    for writable in (True, False):
        with pytest.raises(IndexFolderError, match="not a colbert_video catalog"):
            Catalog.open(closed, writable=writable)


@pytest.mark.parametrize(
    "statements",
    [
        ["ANALYZE"],
        ["VACUUM"],
        ["PRAGMA optimize"],
        ["PRAGMA journal_mode = DELETE"],
        ["PRAGMA application_id = 7"],
        ["CREATE VIEW v AS SELECT id FROM videos"],
        ["CREATE INDEX by_path ON videos (path, start)", "ANALYZE"],
        ["CREATE TABLE notes (n INTEGER PRIMARY KEY AUTOINCREMENT, t)", "CREATE UNIQUE INDEX u ON notes (t)"],
        ["CREATE TABLE o (id REFERENCES videos (id) ON DELETE RESTRICT)", "INSERT INTO o VALUES ('x')"],
        ['CREATE TABLE "a ""b""; c" (a)'],
    ],
)
def test_what_an_administrator_adds_changes_nothing_and_is_not_copied(
    closed: Path, tmp_path: Path, statements: list[str]
) -> None:
    tamper(closed, *statements)
    with Catalog.open(closed) as reader:
        assert [entry.id for entry in reader.entries()] == ["x"]
    with Catalog.open(closed, writable=True) as catalog:
        catalog.commit_segment("b", "c", [VideoEntry("z")], {})
        assert catalog.remove(["x"]) == ["x"]
        assert [entry.id for entry in catalog.entries()] == ["z"]
        catalog.check_integrity()
        catalog.copy_to(tmp_path / "copy.sqlite", ())
    with sqlite3.connect(tmp_path / "copy.sqlite") as copy:
        names = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}
    assert names - {"sqlite_sequence"} == OWN_NAMES - {WORDS, *SHADOWS}  # it has no lines


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE segments SET name = '../../a'",
        "UPDATE segments SET codec = '/etc'",
        "UPDATE segments SET name = NULL",
        "UPDATE segments SET name = x'ff'",
        "UPDATE segments SET count = 'many'",
        "UPDATE codecs SET name = '..'",
        "INSERT INTO tombstones VALUES ('a', 2)",
        "INSERT INTO tombstones VALUES ('a', -1)",
        "INSERT INTO tombstones VALUES ('a', 'x')",
        "INSERT INTO tombstones VALUES ('b', 0)",
        "DELETE FROM tombstones",
        "UPDATE settings SET value = '{'",
    ],
)
def test_tampered_rows_are_refused(closed: Path, statement: str) -> None:
    with Catalog.open(closed, writable=True) as catalog:
        catalog.set_settings(a=1)
    tamper(closed, statement)
    with pytest.raises(IndexFolderError, match=r"damaged|tampered"), Catalog.open(closed) as reader:
        reader.snapshot()


def test_tampered_paths_and_entries_are_refused(closed: Path) -> None:
    tamper(
        closed,
        "INSERT INTO files VALUES ('/etc/passwd', 1, '')",
        "UPDATE videos SET metadata = '{'",
        "INSERT INTO chunks VALUES ('../x')",
    )
    with Catalog.open(closed) as reader:
        with pytest.raises(
            IndexFolderError, match=r"catalog\.sqlite: .*tampered.*'/etc/passwd' must be relative.*; restore"
        ):
            reader.files()
        with pytest.raises(IndexFolderError, match=r"catalog\.sqlite: .*row of video 'x' is damaged: .*; restore it"):
            reader.entries()
        with pytest.raises(IndexFolderError, match="tampered"):
            reader.staged_chunks()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """An index that this process can read but not write, even when root runs the tests."""
    if os.name == "nt":
        pytest.skip("folder permissions are POSIX")
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    folder = base / "my.index"
    with Catalog.create(folder) as catalog:
        catalog.commit_segment("a", "c", [VideoEntry("x")], {})
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(base)


class NoWriting:
    """Takes the write permission on a folder away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.folder.chmod(0o555)
        self.user = os.geteuid()
        if self.user == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self.user)
        self.folder.chmod(0o755)


def test_an_index_on_read_only_media_opens(read_only: Path) -> None:
    with NoWriting(read_only):
        with Catalog.open(read_only) as reader:
            assert reader.snapshot().count == 1
        with pytest.raises(
            IndexFolderError,
            match=r"sqlite cannot be written: the user nobody may not write to .*my\.index of root: change",
        ):
            Catalog.open(read_only, writable=True)
    assert sorted(path.name for path in read_only.iterdir()) == ["catalog.sqlite", "writer.lock"]


def test_an_unfinished_write_on_read_only_media_is_not_overlooked(read_only: Path) -> None:
    with Catalog.open(read_only, writable=True) as catalog:
        catalog.commit_segment("b", "c", [VideoEntry("y")], {})
        wal = (read_only / "catalog.sqlite-wal").read_bytes()
        main = (read_only / "catalog.sqlite").read_bytes()
    (read_only / "catalog.sqlite").write_bytes(main)
    (read_only / "catalog.sqlite-wal").write_bytes(wal)  # as after a crash
    with NoWriting(read_only), pytest.raises(IndexFolderError, match="left in the middle of a write"):
        Catalog.open(read_only)
    with Catalog.open(read_only) as reader:  # writable again: SQLite recovers the commit
        assert reader.count() == 2


def test_locked_databases_are_reported(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with Catalog.open(closed, writable=True) as catalog:
        other = sqlite3.connect(closed / "catalog.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexFolderError, match="stayed locked"):
            catalog.remove(["x"])
        other.execute("ROLLBACK")
        other.close()
        assert catalog.remove(["x"]) == ["x"]
