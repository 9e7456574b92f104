import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing import database
from colbert_video.indexing.catalog import Catalog, Failure, NewSegment, SegmentRow, VideoEntry

FILES = {"segments/a/frame/0.codes.pt": (10, "00")}


def videos(*ids: str) -> list[VideoEntry]:
    return [VideoEntry(identity, path=f"/clips/{identity}.mp4") for identity in ids]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "my.index") as created:
        yield created


@pytest.fixture
def reader(catalog: Catalog) -> Iterator[Catalog]:
    with Catalog.open(catalog.folder) as opened:
        yield opened


def test_a_segment_becomes_visible_with_all_its_rows(catalog: Catalog, reader: Catalog) -> None:
    assert reader.snapshot().segments == ()
    entry = VideoEntry(
        "dog/é😀\0", path="dög.mp4", parent="dög", start=1.5, end=4.0, duration=9.25, frame_times=(1.5, 2.75),
        metadata={"channel": "news", "tags": [1, None]}, source_size=2**40, source_mtime_ns=2**62,
    )  # fmt: skip
    catalog.set_settings(model="toy", bags=["frame", "video"], nbits=4)
    catalog.commit_segment("a", "codec0", [entry, *videos("cat")], FILES)
    view = reader.snapshot()
    assert view.settings == {"model": "toy", "bags": ["frame", "video"], "nbits": 4}
    assert [(s.name, s.codec, s.count) for s in view.segments] == [("a", "codec0", 2)]
    assert (view.codec, view.count, view.tombstones, view.version) == ("codec0", 2, {}, 2)
    stored = reader.entry(entry.id)
    assert (stored.segment, stored.ordinal) == ("a", 0)
    assert stored == VideoEntry(**{**vars(entry), "segment": "a", "ordinal": 0})
    assert [e.id for e in reader.entries()] == [entry.id, "cat"]
    assert reader.files() == FILES
    assert reader.entries_at("a", [1, 7])[1].id == "cat"


def test_entries_keep_the_asked_order_and_leave_out_unknown_ids(catalog: Catalog) -> None:
    ids = [f"v{number}" for number in range(1200)]  # more than one statement takes
    catalog.commit_segment("b", "c", videos(*ids), {})
    catalog.commit_segment("a", "c", videos("later"), {})
    asked = ["later", *reversed(ids), "none"]
    assert [e.id for e in catalog.entries(asked)] == asked[:-1]
    assert [e.id for e in catalog.entries()] == [*ids, "later"]
    with pytest.raises(SettingsError, match="no video with id 'none'"):
        catalog.entry("none")
    with pytest.raises(SettingsError, match="no video with id"):
        catalog.entry("x' OR '1'='1")


def test_removed_videos_leave_tombstones(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y", "z"), {})
    assert sorted(catalog.tombstone(["z", "unknown", "x", "x"])) == ["x", "z"]
    assert catalog.tombstoned("a") == [0, 2]
    assert catalog.snapshot().tombstones == {"a": [0, 2]}
    assert [e.id for e in catalog.entries()] == ["y"]
    assert catalog.count() == 1
    assert catalog.tombstone(["z"]) == []


def test_removing_a_long_video_removes_its_windows(catalog: Catalog) -> None:
    windows = [VideoEntry(f"film#{n}", parent="film") for n in range(3)]
    catalog.commit_segment("a", "c", [*windows, *videos("other")], {})
    assert sorted(catalog.tombstone(["film"])) == ["film#0", "film#1", "film#2"]
    assert catalog.tombstoned("a") == [0, 1, 2]


def test_replacing_moves_the_row_and_buries_the_old_place(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    with pytest.raises(SettingsError, match="video id 'x' is in the index already"):
        catalog.commit_segment("b", "c", videos("w", "x"), {})
    assert [s.name for s in catalog.live_segments()] == ["a"]  # nothing of the refused segment stayed
    assert catalog.count() == 2
    catalog.commit_segment("b", "c", videos("w", "x"), {}, replace=True)
    assert catalog.tombstoned("a") == [0]
    assert (catalog.entry("x").segment, catalog.entry("x").ordinal) == ("b", 1)
    assert catalog.count() == 3


def test_windows_are_found_by_their_video(catalog: Catalog) -> None:
    windows = [VideoEntry(f"film#{n}", parent="film") for n in range(12)]
    catalog.commit_segment("a", "c", [*windows, *videos("other")], {})
    catalog.commit_segment("b", "c", [VideoEntry("talk#0", parent="talk")], {})
    found = catalog.rows_of(["film", "other", "unknown", "film#3", "film"])
    assert {name: [entry.id for entry in rows] for name, rows in found.items()} == {
        "film": [f"film#{n}" for n in range(12)],
        "other": ["other"],
        "film#3": ["film#3"],
    }
    assert [entry.video for entry in found["film#3"] + found["other"]] == ["film", "other"]
    assert (catalog.count(), catalog.count_videos(), catalog.count_windows()) == (14, 3, 13)
    view = catalog.snapshot()
    assert (view.count, view.videos, view.windows) == (14, 3, 13)


def test_what_is_staged_of_a_video_is_forgotten_with_its_windows(catalog: Catalog) -> None:
    catalog.stage("x", [VideoEntry("film#0", parent="film"), VideoEntry("film#1", parent="film")])
    catalog.stage("y", [VideoEntry("clip"), VideoEntry("talk#0", parent="talk")])
    assert catalog.staged_ids() == {"film", "clip", "talk"}
    catalog.forget_staged(["film", "clip", "unknown"])
    assert catalog.staged_ids() == {"talk"}
    assert catalog.staged_chunks() == ["y"]


def test_the_checksum_of_a_cut_file_goes_with_its_windows(catalog: Catalog) -> None:
    windows = [VideoEntry(f"film#{n}", parent="film") for n in range(2)]
    catalog.commit_segment("a", "c", [*windows, *videos("clip", "other")], {})
    catalog.set_checksums({"film": "1" * 64, "clip": "2" * 64, "other": "3" * 64})
    catalog.tombstone(["film", "clip"])
    assert catalog.checksums(["film", "clip", "other"]) == {"other": "3" * 64}


def test_replacing_a_video_replaces_all_its_windows(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", [VideoEntry(f"f#{n}", parent="f") for n in range(4)] + videos("g"), {})
    catalog.commit_segment("b", "c", [VideoEntry(f"f#{n}", parent="f") for n in range(2)], {}, replace=True)
    assert [e.id for e in catalog.entries()] == ["g", "f#0", "f#1"]
    catalog.commit_segment("d", "c", videos("f"), {}, replace=True)  # no longer cut
    assert [e.id for e in catalog.entries()] == ["g", "f"]
    catalog.commit_segment("e", "c", [VideoEntry("f#0", parent="f")], {}, replace=True)  # cut again
    assert [e.id for e in catalog.entries()] == ["g", "f#0"]
    assert catalog.snapshot().count == 2


def test_refused_segments_change_nothing(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x"), {})
    before = (catalog.version, catalog.entries(), catalog.files(), catalog.codecs())
    with pytest.raises(SettingsError, match="video id 'y' comes twice"):
        catalog.commit_segment("b", "new", videos("y", "y"), FILES, replace=True)
    with pytest.raises(SettingsError, match="segment b has no videos"):
        catalog.commit_segment("b", "new", [], FILES)
    with pytest.raises(SettingsError, match="must be relative"):
        catalog.commit_segment("b", "new", videos("y"), {"../../etc/passwd": (1, "0")})
    with pytest.raises(SettingsError, match=r"name '../b' may hold"):
        catalog.commit_segment("../b", "new", videos("y"), {})
    with pytest.raises(SettingsError, match="metadata of video 'y' is not JSON"):
        catalog.commit_segment("b", "new", [VideoEntry("y", metadata={"a": object()})], {})
    assert (catalog.version, catalog.entries(), catalog.files(), catalog.codecs()) == before


def test_everything_is_replaced_at_once(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "old", videos("x", "y"), FILES)
    catalog.commit_segment("b", "old", videos("y", "z"), {"segments/b/f": (1, "1")}, replace=True)
    catalog.record_failures([Failure(name, f"{name}.mp4", "empty", "no bytes") for name in ("bad", "y")])
    with pytest.raises(SettingsError, match="'x' is in the index already"):
        catalog.replace_everything(
            [NewSegment("c", "new", videos("x"), {}), NewSegment("d", "new", videos("x"), {})]
        )
    assert reader.snapshot().count == 3
    catalog.replace_everything(
        [NewSegment("c", "new", videos("y", "z"), {"segments/c/f": (2, "2")})], settings={"k": 1}
    )
    view = reader.snapshot()
    assert [s.name for s in view.segments] == ["c"]
    assert (view.count, view.tombstones, view.codec, view.settings) == (2, {}, "new", {"k": 1})
    assert reader.files() == {"segments/c/f": (2, "2")}
    assert reader.codecs() == ["new"]
    assert [failure.id for failure in reader.failures()] == ["bad", "y"]  # that of a live video too
    catalog.replace_everything([], forget_failures=True)
    assert (reader.snapshot().count, reader.failures(), reader.snapshot().codec) == (0, [], None)


def test_everything_moves_into_one_segment_in_order(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "old", videos("x", "y"), FILES)
    catalog.commit_segment("b", "old", videos("w", "x"), {"segments/b/f": (1, "1")}, replace=True)
    catalog.set_checksums({"x": "00"})
    with pytest.raises(SettingsError, match="2 videos were written for 3 live ones"):
        catalog.move_everything("c", "new", 2, {})
    assert reader.snapshot().count == 3
    catalog.move_everything("c", "new", 3, {"segments/c/f": (2, "2")}, settings={"k": 1})
    view = reader.snapshot()
    assert [(s.name, s.codec, s.count) for s in view.segments] == [("c", "new", 3)]
    assert (view.tombstones, view.codec, view.settings) == ({}, "new", {"k": 1})
    assert [(e.id, e.ordinal) for e in reader.entries()] == [("y", 0), ("w", 1), ("x", 2)]
    assert reader.files() == {"segments/c/f": (2, "2")}
    assert reader.checksums(["x", "y"]) == {"x": "00"}


def test_checksums_are_forgotten_with_the_video_they_belong_to(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y", "z"), {})
    catalog.set_checksums({"x": "11", "y": "22", "z": "33"})
    catalog.commit_segment("b", "c", videos("x"), {}, replace=True)
    catalog.tombstone(["y"])
    assert catalog.checksums(["x", "y", "z"]) == {"z": "33"}
    catalog.replace_everything([NewSegment("d", "c", videos("z"), {})])
    assert catalog.checksums(["z"]) == {}


def test_rows_can_be_updated_in_place(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    catalog.update([VideoEntry("y", path="/new/y.mp4", metadata={"a": 1}, source_size=3)])
    assert catalog.entry("y") == VideoEntry(
        "y", path="/new/y.mp4", metadata={"a": 1}, source_size=3, segment="a", ordinal=1
    )
    assert catalog.entry("x").path == "/clips/x.mp4"
    assert catalog.ids_below("/new/") == {"y": "/new/y.mp4"}
    assert catalog.ids_below("/%") == {}


def test_a_held_commit_stays_while_the_writer_goes_on(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    assert reader.hold().count == 2
    catalog.tombstone(["x"])
    catalog.replace_everything([NewSegment("b", "d", videos("z"), {})])
    assert [e.id for e in reader.entries()] == ["x", "y"]
    assert (reader.version, reader.entry("x").segment) == (1, "a")
    view = reader.hold()
    assert (view.version, view.codec, [e.id for e in reader.entries()]) == (3, "d", ["z"])


def test_staged_videos_wait_for_their_segment(catalog: Catalog) -> None:
    catalog.stage("chunk0", videos("x", "y"))
    catalog.stage("chunk1", [VideoEntry("z", metadata={"a": 1}), *videos("x")])  # x encoded again
    assert catalog.staged_ids() == {"x", "y", "z"}
    assert catalog.staged_chunks() == ["chunk0", "chunk1"]
    assert {row: e.id for row, e in catalog.staged_entries("chunk0").items()} == {1: "y"}
    assert catalog.staged_entries("chunk1")[0] == VideoEntry("z", metadata={"a": 1})
    assert (catalog.count(), catalog.version) == (0, 0)
    catalog.commit_segment("a", "c", videos("y"), {})
    assert catalog.staged_chunks() == ["chunk1"]  # nothing of chunk0 is wanted any more
    catalog.drop_staged()
    assert (catalog.staged_ids(), catalog.staged_chunks()) == (set(), [])


def test_failures_last_until_the_video_is_indexed(catalog: Catalog) -> None:
    catalog.record_failures(
        [Failure("b", "b.mp4", "timeout", "60 s"), Failure("a", "a.mp4", "empty", "no bytes", 5.0)]
    )
    catalog.record_failures([Failure("b", "b.mp4", "crashed", "signal 11")])
    first, second = catalog.failures()
    assert first == Failure("a", "a.mp4", "empty", "no bytes", 5.0)
    assert (second.id, second.kind) == ("b", "crashed")
    assert second.at > 1e9
    catalog.commit_segment("s", "c", videos("b"), {})
    assert catalog.failures() == [first]


def test_failures_of_another_video_whose_id_looks_like_a_windows_stay(catalog: Catalog) -> None:
    """Without windows such an id is an id like any other."""
    catalog.commit_segment("s", "c", videos("a"), {})
    catalog.record_failures([Failure(name, "", "empty", "") for name in ("a", "a#t=0,6", "b")])
    catalog.commit_segment("t", "c", videos("a"), {}, replace=True)
    assert [failure.id for failure in catalog.failures()] == ["a#t=0,6", "b"]
    catalog.tombstone(["a"])
    assert [failure.id for failure in catalog.failures()] == ["a#t=0,6", "b"]


def test_failures_are_remembered_with_what_they_belong_to(catalog: Catalog) -> None:
    """In one commit: what was refused before goes, what is refused now comes, and nothing if it fails."""
    old, new = Failure("x", "x.mp4", "empty", "", 1.0), Failure("x#t=0,6", "x.mp4", "timeout", "", 2.0)
    catalog.record_failures([old])
    with pytest.raises(SettingsError, match="comes twice"):
        catalog.commit_segment("s", "c", videos("x", "x"), {}, failures=[new])
    assert catalog.failures() == [old]
    catalog.commit_segment("s", "c", videos("x"), {}, failures=[new])
    assert catalog.failures() == [new]
    catalog.replace_everything([NewSegment("t", "c", videos("x"), {})], forget_failures=True, failures=[old])
    assert catalog.failures() == [old]


def test_version_counts_changes_that_searchers_must_see(catalog: Catalog, reader: Catalog) -> None:
    versions = [reader.version]
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    versions.append(reader.version)
    catalog.tombstone(["x"])
    versions.append(reader.version)
    catalog.set_settings(model="b")
    versions.append(reader.version)
    catalog.replace_everything([])
    versions.append(reader.version)
    assert versions == [0, 1, 2, 3, 4]
    catalog.stage("s", videos("z"))
    catalog.record_failures([Failure("f", "f", "empty", "")])
    assert reader.version == 4


def test_a_reader_keeps_one_view_while_the_writer_commits(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x"), {})
    with reader._transaction("BEGIN"):
        assert reader.count() == 1
        catalog.commit_segment("b", "c", videos("y"), {})  # does not wait for the reader
        assert reader.count() == 1
    assert reader.count() == 2


def test_a_snapshot_mixes_no_two_commits(
    catalog: Catalog, reader: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit_segment("a", "c", videos("x"), {})
    read_segments = reader.live_segments

    def commit_after_reading() -> list[SegmentRow]:
        rows = read_segments()
        catalog.commit_segment("b", "d", videos("y"), {})
        return rows

    monkeypatch.setattr(reader, "live_segments", commit_after_reading)
    view = reader.snapshot()
    assert (view.version, view.count, view.codec, len(view.segments)) == (1, 1, "c", 1)
    assert reader.version == 2


def test_threads_share_a_reader(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "c", videos(*(f"v{n}" for n in range(50))), {})
    problems: list[Exception] = []

    def read() -> None:
        try:
            for number in range(30):
                assert reader.snapshot().count == 50
                assert reader.entry(f"v{number}").ordinal == number
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_readers_cannot_write(reader: Catalog) -> None:
    with pytest.raises(SettingsError, match="open it with writable=True"):
        reader.set_settings(a=1)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM videos")


def test_writers_exclude_each_other_in_one_process(catalog: Catalog) -> None:
    with pytest.raises(IndexFolderError, match=r"another process is writing to .*my\.index"):
        Catalog.open(catalog.folder, writable=True)
    with pytest.raises(IndexFolderError, match="another process is writing"):
        Catalog.create(catalog.folder)
    catalog.close()
    Catalog.open(catalog.folder, writable=True).close()


HOLD = """
import sys, time
from pathlib import Path
from colbert_video.indexing.catalog import Catalog, VideoEntry
catalog = Catalog.open(Path(sys.argv[1]), writable=True)
catalog.commit_segment("a", "c", [VideoEntry("kept")], {})
catalog._connection.execute("BEGIN IMMEDIATE")
catalog._connection.execute("DELETE FROM videos")
print("ready", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_no_lock_and_no_half_transaction(tmp_path: Path) -> None:
    folder = tmp_path / "my.index"
    Catalog.create(folder).close()
    command = [sys.executable, "-c", HOLD, str(folder)]
    root = str(Path(__file__).resolve().parent.parent)
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(IndexFolderError, match="another process is writing"):
            Catalog.open(folder, writable=True)
        with Catalog.open(folder) as reader:  # readers do not mind
            assert reader.count() == 1
    finally:
        holder.kill()
        holder.communicate()
    with Catalog.open(folder, writable=True) as catalog:
        assert [e.id for e in catalog.entries()] == ["kept"]
        catalog.check_integrity()


def test_commits_are_durable_settings(catalog: Catalog) -> None:
    assert catalog._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert catalog._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert catalog._connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    folder = tmp_path / "my.index"
    with Catalog.create(folder) as catalog:
        catalog.commit_segment("a", "c", videos("x", "y"), FILES)
        catalog.tombstone(["y"])
    return folder


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
    with pytest.raises(IndexFolderError, match=r"catalog\.sqlite cannot be used"):
        Catalog.open(closed, writable=writable)
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with (
        pytest.raises(IndexFolderError, match=r"catalog\.sqlite"),
        Catalog.open(closed, writable=writable) as opened,
    ):
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
    connection = sqlite3.connect(folder / "catalog.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_newer_and_foreign_databases_are_refused(closed: Path) -> None:
    tamper(closed, "PRAGMA user_version = 3")
    with pytest.raises(IndexFolderError, match="format version 3, this release reads up to 2; upgrade"):
        Catalog.open(closed)
    tamper(closed, "PRAGMA user_version = 0")
    with pytest.raises(IndexFolderError, match="not a colbert_video catalog"):
        Catalog.open(closed)


def test_an_index_of_the_first_version_is_read_and_brought_up_to_date(closed: Path) -> None:
    tamper(closed, "DROP TABLE checksums", "PRAGMA user_version = 1")
    with Catalog.open(closed) as reader:
        assert [e.id for e in reader.entries()] == ["x"]
    with Catalog.open(closed, writable=True) as catalog:
        catalog.set_checksums({"x": "00"})
    with Catalog.open(closed) as reader:
        assert reader.checksums(["x"]) == {"x": "00"}
    assert sqlite3.connect(closed / "catalog.sqlite").execute("PRAGMA user_version").fetchone() == (2,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON videos BEGIN DELETE FROM videos; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE extra (a)",
        "DROP TABLE failures",
    ],
)
def test_any_other_schema_is_refused(closed: Path, statement: str) -> None:
    tamper(closed, statement)
    for writable in (True, False):
        with pytest.raises(IndexFolderError, match="not a colbert_video catalog"):
            Catalog.open(closed, writable=writable)


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
        with pytest.raises(IndexFolderError, match=r"tampered.*'/etc/passwd' must be relative"):
            reader.files()
        with pytest.raises(IndexFolderError, match="row of video 'x' is damaged"):
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
        catalog.commit_segment("a", "c", videos("x"), {})
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
        with pytest.raises(IndexFolderError, match=r"is .*my\.index writable\?"):
            Catalog.open(read_only, writable=True)
    assert sorted(path.name for path in read_only.iterdir()) == ["catalog.sqlite", "writer.lock"]


def test_an_unfinished_write_on_read_only_media_is_not_overlooked(read_only: Path) -> None:
    with Catalog.open(read_only, writable=True) as catalog:
        catalog.commit_segment("b", "c", videos("y"), {})
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
            catalog.tombstone(["x"])
        other.execute("ROLLBACK")
        other.close()
        assert catalog.tombstone(["x"]) == ["x"]


class CatalogHistory(RuleBasedStateMachine):
    """Any sequence of commits, replacements and removals against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.catalog = Catalog.create(self.folder)
        self.live: dict[str, tuple[str, int]] = {}
        self.segments: dict[str, int] = {}
        self.made = 0

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    def new_segment(self, ids: list[str]) -> NewSegment:
        self.made += 1
        return NewSegment(f"s{self.made}", "c", videos(*ids), {})

    @rule(ids=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    def add(self, ids: list[str]) -> None:
        segment = self.new_segment(ids)
        self.catalog.commit_segment(segment.name, "c", segment.entries, {}, replace=True)
        self.segments[segment.name] = len(ids)
        self.live.update({identity: (segment.name, ordinal) for ordinal, identity in enumerate(ids)})

    @rule(ids=st.lists(st.sampled_from("abcdef")))
    def remove(self, ids: list[str]) -> None:
        assert set(self.catalog.tombstone(ids)) == set(ids) & set(self.live)
        self.live = {identity: place for identity, place in self.live.items() if identity not in ids}

    @precondition(lambda self: self.live)
    @rule()
    def compact(self) -> None:
        ids = [e.id for e in self.catalog.entries()]
        segment = self.new_segment(ids)
        self.catalog.replace_everything([segment])
        self.segments = {segment.name: len(ids)}
        self.live = {identity: (segment.name, ordinal) for ordinal, identity in enumerate(ids)}

    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = Catalog.open(self.folder, writable=True)

    @invariant()
    def matches(self) -> None:
        view = self.catalog.snapshot()
        assert {s.name: s.count for s in view.segments} == self.segments
        assert {e.id: (e.segment, e.ordinal) for e in self.catalog.entries()} == self.live
        dead = {
            name: sorted(set(range(count)) - {place[1] for place in self.live.values() if place[0] == name})
            for name, count in self.segments.items()
        }
        assert view.tombstones == {name: ordinals for name, ordinals in dead.items() if ordinals}
        assert view.count == len(self.live)


def test_any_history_matches_a_dictionary() -> None:
    from hypothesis import settings

    run_state_machine_as_test(
        CatalogHistory, settings=settings(max_examples=15, stateful_step_count=12, deadline=None)
    )
