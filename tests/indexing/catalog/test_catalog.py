"""The catalog: commits appear whole, readers keep the one they hold, writers exclude each other."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, NewSegment, SegmentRow, VideoEntry

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
    assert (view.codec, view.count, view.removed, view.version) == ("codec0", 2, {}, 2)
    stored = reader.entries([entry.id])[0]
    assert (stored.segment, stored.row) == ("a", 0)
    assert stored == VideoEntry(**{**vars(entry), "segment": "a", "row": 0})
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
    assert catalog.entries(["none"]) == []
    assert catalog.entries(["x' OR '1'='1"]) == []


def test_removed_videos_leave_tombstones(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y", "z"), {})
    assert sorted(catalog.remove(["z", "unknown", "x", "x"])) == ["x", "z"]
    assert catalog.snapshot().removed["a"] == [0, 2]
    assert catalog.snapshot().removed == {"a": [0, 2]}
    assert [e.id for e in catalog.entries()] == ["y"]
    assert catalog.count() == 1
    assert catalog.remove(["z"]) == []


def test_removing_a_long_video_removes_its_windows(catalog: Catalog) -> None:
    windows = [VideoEntry(f"film#{n}", parent="film") for n in range(3)]
    catalog.commit_segment("a", "c", [*windows, *videos("other")], {})
    assert sorted(catalog.remove(["film"])) == ["film#0", "film#1", "film#2"]
    assert catalog.snapshot().removed["a"] == [0, 1, 2]


def test_replacing_moves_the_row_and_buries_the_old_place(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    with pytest.raises(SettingsError, match="video id 'x' is in the index already"):
        catalog.commit_segment("b", "c", videos("w", "x"), {})
    assert [s.name for s in catalog.live_segments()] == ["a"]  # nothing of the refused segment stayed
    assert catalog.count() == 2
    catalog.commit_segment("b", "c", videos("w", "x"), {}, replace=True)
    assert catalog.snapshot().removed["a"] == [0]
    assert (catalog.entries(["x"])[0].segment, catalog.entries(["x"])[0].row) == ("b", 1)
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
    catalog.remove(["film", "clip"])
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
    with pytest.raises(SettingsError, match="metadata of video 'y' holds <object"):
        catalog.commit_segment("b", "new", [VideoEntry("y", metadata={"a": object()})], {})
    assert (catalog.version, catalog.entries(), catalog.files(), catalog.codecs()) == before


def test_everything_is_replaced_at_once(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "old", videos("x", "y"), FILES)
    catalog.commit_segment("b", "old", videos("y", "z"), {"segments/b/f": (1, "1")}, replace=True)
    catalog.record_failures([Failure(name, f"{name}.mp4", "empty", "no bytes") for name in ("bad", "y")])
    with pytest.raises(SettingsError, match="'x' is in the index already"):
        catalog.replace_everything([NewSegment("c", "new", videos("x"), {}), NewSegment("d", "new", videos("x"), {})])
    assert reader.snapshot().count == 3
    catalog.replace_everything(
        [NewSegment("c", "new", videos("y", "z"), {"segments/c/f": (2, "2")})], settings={"k": 1}
    )
    view = reader.snapshot()
    assert [s.name for s in view.segments] == ["c"]
    assert (view.count, view.removed, view.codec, view.settings) == (2, {}, "new", {"k": 1})
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
    assert (view.removed, view.codec, view.settings) == ({}, "new", {"k": 1})
    assert [(e.id, e.row) for e in reader.entries()] == [("y", 0), ("w", 1), ("x", 2)]
    assert reader.files() == {"segments/c/f": (2, "2")}
    assert reader.checksums(["x", "y"]) == {"x": "00"}


def test_checksums_are_forgotten_with_the_video_they_belong_to(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y", "z"), {})
    catalog.set_checksums({"x": "11", "y": "22", "z": "33"})
    catalog.commit_segment("b", "c", videos("x"), {}, replace=True)
    catalog.remove(["y"])
    assert catalog.checksums(["x", "y", "z"]) == {"z": "33"}
    catalog.replace_everything([NewSegment("d", "c", videos("z"), {})])
    assert catalog.checksums(["z"]) == {}


def test_rows_can_be_updated_in_place(catalog: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    catalog.update([VideoEntry("y", path="/new/y.mp4", metadata={"a": 1}, source_size=3)])
    assert catalog.entries(["y"])[0] == VideoEntry(
        "y", path="/new/y.mp4", metadata={"a": 1}, source_size=3, segment="a", row=1
    )
    assert catalog.entries(["x"])[0].path == "/clips/x.mp4"
    assert catalog.ids_below("/new/") == {"y": "/new/y.mp4"}
    assert catalog.ids_below("/%") == {}


def test_a_held_commit_stays_while_the_writer_goes_on(catalog: Catalog, reader: Catalog) -> None:
    catalog.commit_segment("a", "c", videos("x", "y"), {})
    assert reader.hold().count == 2
    catalog.remove(["x"])
    catalog.replace_everything([NewSegment("b", "d", videos("z"), {})])
    assert [e.id for e in reader.entries()] == ["x", "y"]
    assert (reader.version, reader.entries(["x"])[0].segment) == (1, "a")
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
    catalog.record_failures([Failure("b", "b.mp4", "timeout", "60 s"), Failure("a", "a.mp4", "empty", "no bytes", 5.0)])
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
    catalog.remove(["a"])
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
    catalog.remove(["x"])
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


def test_a_snapshot_mixes_no_two_commits(catalog: Catalog, reader: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
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
                assert reader.entries([f"v{number}"])[0].row == number
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
from colbert_video.indexing.catalog.catalog import Catalog, VideoEntry
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
    root = str(Path(__file__).resolve().parents[3])
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
