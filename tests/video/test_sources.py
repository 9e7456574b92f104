"""Folders, globs, files and records become records with unique ids."""

import inspect
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tar_writer import write_tar

from colbert_video.errors import SettingsError
from colbert_video.video.sources import VideoRecord, find_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.mp4",
        "a.MKV",
        "sub/deep/c.webm",
        "sub/b.mp4",
        "notes.txt",
        "sub/x.jpg",
        ".hidden.mp4",
        ".git/d.mp4",
    ):
        file = tmp_path / "clips" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path / "clips"


def ids(videos: Any) -> list[str]:
    return [record.id for record in find_videos(videos).records]


def test_a_folder_gives_relative_ids_and_counts_other_files(folder: Path) -> None:
    sources = find_videos(folder)
    assert [record.id for record in sources.records] == ["a.MKV", "b.mp4", "sub/b.mp4", "sub/deep/c.webm"]
    assert sources.ignored == 2
    (folder / "a.en.SRT").write_text("")
    (folder / "b.vtt").write_text("")
    assert find_videos(folder).ignored == find_videos(str(folder / "*")).ignored + 1 == 2, (
        "subtitles are no other files"
    )
    assert all(Path(record.path) == folder / record.id for record in sources.records)
    assert find_videos(str(folder)) == sources


def test_relative_folders_give_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert find_videos("clips") == find_videos(folder)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["b.mp4"]),
        ("**/*.mp4", ["b.mp4", "sub/b.mp4"]),
        ("**", ["a.MKV", "b.mp4", "sub/b.mp4", "sub/deep/c.webm"]),
        ("s*/[ab].mp4", ["sub/b.mp4"]),
        ("*", ["a.MKV", "b.mp4"]),
        ("*.txt", ["notes.txt"]),
    ],
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    assert ids(f"{folder}/{pattern}") == expected


def test_globs_below_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert ids("sub/**/*.webm") == ["deep/c.webm"]
    assert ids("*.mp4") == ["b.mp4"]


def test_a_file_is_called_by_its_name_whatever_its_extension(folder: Path) -> None:
    assert ids(folder / "sub" / "x.jpg") == ["x.jpg"]
    assert ids([folder / "sub" / "b.mp4", str(folder / "a.MKV")]) == ["b.mp4", "a.MKV"]


def test_a_file_whose_name_looks_like_a_glob(folder: Path) -> None:
    (folder / "clip[1].mp4").write_bytes(b"x")
    assert ids(folder / "clip[1].mp4") == ["clip[1].mp4"]


def test_records(folder: Path) -> None:
    given = VideoRecord("w", str(folder / "b.mp4"), {"k": 1}, (0.0, 2.0))
    pairs: list[Any] = [given, ("x", folder / "b.mp4"), ("y", str(folder / "a.MKV"), {"year": 1999}), [*"z/"]]
    records = find_videos(pairs).records
    assert records[0] is given
    assert [(record.id, record.metadata) for record in records[1:3]] == [("x", {}), ("y", {"year": 1999})]
    assert ids(iter([("x", folder / "b.mp4")])) == ["x"]


def test_folders_in_a_list(folder: Path) -> None:
    assert ids([folder / "sub", ("one", folder / "b.mp4")]) == ["b.mp4", "deep/c.webm", "one"]


def test_missing_files_are_left_to_the_reader(tmp_path: Path) -> None:
    missing = find_videos(tmp_path / "gone.mp4").records[0]
    assert missing.stamp() == (None, None)
    assert ids([tmp_path / "gone"]) == ["gone"]


def test_stamp(folder: Path) -> None:
    record = find_videos(folder / "b.mp4").records[0]
    status = (folder / "b.mp4").stat()
    assert record.stamp() == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    ("videos", "words"),
    [
        ("no/such/folder", "there is no file or folder no/such/folder"),
        ("no/such/*.mp4", "no video matches no/such/"),
        ([], "no videos were given"),
        ([3], "3 names no video; give a path"),
        ([("a", "b", "c")], "must be a string, a path and a dict"),
        ([("", "b.mp4")], "id of the video 'b.mp4' is empty"),
        ([(None, "b.mp4")], "id of the video 'b.mp4' None is a value of type NoneType; an id is a text"),
        ([(True, "b.mp4")], "is a value of type bool; an id is a text"),
        (
            [("a", "b.mp4", {"when": object()})],
            "metadata of video 'a' holds <object .* under 'when', which JSON cannot hold",
        ),
        ([("a", "b.mp4", {"when": {"at": b"x"}})], "holds b'x' under 'when.at'"),
        (b"clips", "b'clips' names no videos"),
        (None, "None names no videos"),
        (7, "7 names no videos"),
        (
            [("a", "b.mp4"), ("a", "c.mp4")],
            "two videos have the id 'a': .*b.mp4 and .*c.mp4. Give the folder above both",
        ),
    ],
)
def test_refusals(videos: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        inspect.unwrap(find_videos)(videos)  # past the test suite's own type checks


def test_a_folder_without_videos(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(SettingsError, match=r"holds no videos \(1 other files\)"):
        find_videos(tmp_path)


def test_two_files_of_one_name(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"two videos have the id 'b\.mp4'"):
        find_videos([folder / "b.mp4", folder / "sub" / "b.mp4"])


def test_links_that_run_in_circles(folder: Path) -> None:
    for name in ("loop", "again"):
        (folder / "sub" / name).symlink_to(folder)
    assert ids(folder) == ["a.MKV", "b.mp4", "sub/b.mp4", "sub/deep/c.webm"]
    assert "sub/b.mp4" in ids(f"{folder}/**/*.mp4")


def test_a_broken_link_is_not_lost(folder: Path) -> None:
    (folder / "dangling.mp4").symlink_to(folder / "nothing")
    assert "dangling.mp4" in ids(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
def test_names_that_are_not_unicode(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes(b"abc")
    record = next(record for record in find_videos(folder).records if record.id.startswith("caf"))
    assert record.id == "caf\\xe9.mp4"
    record.path.encode("utf-8")
    assert record.stamp()[0] == 3
    assert ids(record.path) == ["caf\\xe9.mp4"]


def test_unicode_names(folder: Path) -> None:
    (folder / "日本 語.mp4").write_bytes(b"x")
    assert "日本 語.mp4" in ids(folder)


def test_a_source_that_is_given_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clips/a.mp4", "clips/sub/b.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("clips/text.txt").touch()
    Path("link").symlink_to("clips")
    folder = find_videos("clips")
    for others in (
        ["clips/"],
        ["./clips"],
        ["link"],
        [tmp_path / "clips"],
        ["clips/a.mp4"],
        ["clips/*.mp4"],
        ["clips"] * 3,
    ):
        assert find_videos(["clips", *others]) == folder
    assert find_videos(["clips/a.mp4", "./clips/a.mp4", "link/a.mp4"]).records == folder.records[:1]
    write_tar(tmp_path / "c.tar", {"a.mp4": b"x"})
    assert find_videos(["c.tar", tmp_path / "c.tar"]).records == find_videos("c.tar").records


def test_other_videos_of_one_id_are_refused_with_their_paths(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    with pytest.raises(SettingsError) as caught:
        find_videos([tmp_path / "one", tmp_path / "two"])
    assert f"two videos have the id 'a.mp4': {tmp_path}/one/a.mp4 and {tmp_path}/two/a.mp4." in str(caught.value)
    assert "Give the folder above both" in str(caught.value)
    with pytest.raises(SettingsError, match="given twice, with window"):
        find_videos([VideoRecord("a", "a.mp4", window=(0, 1)), VideoRecord("a", "a.mp4", window=(1, 2))])
    with pytest.raises(SettingsError, match="given twice, with metadata"):
        find_videos([("a", "a.mp4", {"x": 1}), ("a", "a.mp4", {"x": 2})])


def test_ids_that_are_numbers_or_uuids_become_text(tmp_path: Path) -> None:
    pairs = [(7, "a.mp4"), (np.int64(8), tmp_path / "b.mp4"), (uuid.UUID(int=9), "c.mp4")]
    assert ids(pairs) == ["7", "8", str(uuid.UUID(int=9))]


def test_a_record_alone_and_a_mapping_are_videos(tmp_path: Path) -> None:
    record = VideoRecord("a", str(tmp_path / "a.mp4"))
    assert find_videos(record).records == (record,)
    assert find_videos({"a": tmp_path / "a.mp4"}).records == (record,)


def test_metadata_take_the_form_of_json() -> None:
    (record,) = find_videos(
        [("a", "a.mp4", {"year": np.int64(2026), "score": np.float32(0.5), "tags": ("x",)})]
    ).records
    assert record.metadata == {"year": 2026, "score": 0.5, "tags": ["x"]}


def test_missing_metadata_of_many_records_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    sources = find_videos([(str(number), "a.mp4", {"score": np.nan}) for number in range(50)])
    assert {record.metadata["score"] for record in sources.records} == {None}
    assert [record.getMessage() for record in caplog.records] == [
        "metadata that is NaN or missing is stored as null, by key: score (50)"
    ]


def test_bad_records_of_an_iterator_are_listed() -> None:
    records = [
        ("a", "a.mp4"),
        ("b", "b.mp4", {"x": b"1"}),
        (None, "c.mp4"),
        ("d", "d.mp4", {"x": np.inf}),
        ("e", "e.mp4"),
    ]
    sources = find_videos(iter(records))
    assert [record.id for record in sources.records] == ["a", "e"]
    assert [(refused.id, refused.path) for refused in sources.refused] == [
        ("b", "b.mp4"),
        ("record 2", "c.mp4"),
        ("d", "d.mp4"),
    ]
    assert "the metadata of video 'b' holds b'1' under 'x'" in sources.refused[0].reason
    with pytest.raises(SettingsError, match="metadata of video 'b'"):
        find_videos(records)


@pytest.mark.parametrize("window", [(1,), (2.0, 1.0), ("0", "1"), (0.0, float("nan")), None, 5.0])
def test_windows_that_are_none(window: Any) -> None:
    if window is None:
        assert VideoRecord("a", "a.mp4", window=None).window is None
        return
    record = VideoRecord("a", "a.mp4")
    object.__setattr__(record, "window", window)  # the tests' type checks would refuse it before
    with pytest.raises(SettingsError, match=r"must be \(start, end\) in seconds with 0 <= start < end"):
        record.__post_init__()
