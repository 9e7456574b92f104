"""Manifests: both formats, groups and pairs, and an error with a line number for every way to get them wrong."""

import json
from pathlib import Path

import pytest

from colbert_video.errors import SettingsError
from colbert_video.training.data.manifest import ManifestRow, list_some, missing_videos, read_manifest, select_split
from colbert_video.training.world import write_world

GOOD = {"video": "a.mp4", "caption": "a cat", "split": "train"}


def write_jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def write_csv(folder: Path, text: str) -> Path:
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    jsonl = write_jsonl(
        tmp_path,
        {"video": "clips/a.mp4", "caption": "a cat, asleep", "split": "train", "lang": "en"},
        "",
        {"video": "b.mp4", "caption": "an “ä”", "split": "test", "lang": "de"},
    )
    table = write_csv(
        tmp_path, '\ufeffvideo,caption,split,lang\nclips/a.mp4,"a cat, asleep",train,en\nb.mp4,an “ä”,test,de\n'
    )
    rows = read_manifest(jsonl)
    assert rows == read_manifest(table)
    assert rows == [
        ManifestRow(
            video="clips/a.mp4",
            path=tmp_path / "clips" / "a.mp4",
            caption="a cat, asleep",
            split="train",
            metadata={"lang": "en"},
        ),
        ManifestRow(video="b.mp4", path=tmp_path / "b.mp4", caption="an “ä”", split="test", metadata={"lang": "de"}),
    ]


def test_two_people_may_say_the_same_of_a_video(tmp_path: Path) -> None:
    rows = read_manifest(
        write_jsonl(tmp_path, {**GOOD, "caption_id": 0}, {**GOOD, "caption_id": 1}, {**GOOD, "caption_id": [2]})
    )
    assert [row.caption for row in rows] == ["a cat"] * 3
    with pytest.raises(SettingsError, match="line 2: repeats line 1"):
        read_manifest(write_jsonl(tmp_path, {**GOOD, "caption_id": 1}, {**GOOD, "caption_id": 1}))


def test_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    rows = read_manifest(write_jsonl(tmp_path, {**GOOD, "video": "/videos/a.mp4"}))
    assert rows[0].path == Path("/videos/a.mp4")


def test_partners_share_a_group_whichever_is_written_first(tmp_path: Path) -> None:
    rows = read_manifest(
        write_jsonl(
            tmp_path,
            {"video": "b.mp4", "caption": "one", "split": "train", "pair": "a"},
            {"video": "a.mp4", "caption": "two", "split": "train", "pair": "b"},
            {"video": "c.mp4", "caption": "three", "split": "train", "pair": None},
            {"video": "d.mp4", "caption": "four", "split": "train", "group": "dogs", "pair": "a"},
        )
    )
    assert [row.group for row in rows] == ["a b", "a b", None, "dogs"]
    assert all(row.metadata == {} for row in rows)


def test_a_written_world_is_a_manifest(tmp_path: Path) -> None:
    clips = write_world(tmp_path, count=4, seed=0, size=16, frames=2, paired_fraction=1.0)
    rows = read_manifest(tmp_path / "captions.jsonl")
    assert [(row.path, row.caption, row.split) for row in rows] == [(c.path, c.caption, c.split) for c in clips]
    assert rows[0].group == rows[1].group != rows[2].group == rows[3].group
    assert rows[0].metadata == {"motion": clips[0].scene.motion_class}
    assert missing_videos(rows) == []


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    rows = read_manifest(write_jsonl(tmp_path, GOOD, {"video": "b.mp4", "caption": "a dog", "split": "test"}))
    assert select_split(rows, "test") == rows[1:]
    with pytest.raises(SettingsError, match="split 'val' has no rows; the manifest has 'test', 'train'"):
        select_split(rows, "val")


def test_missing_videos_come_once_each(tmp_path: Path) -> None:
    (tmp_path / "here.mp4").touch()
    rows = read_manifest(
        write_jsonl(
            tmp_path,
            {**GOOD, "video": "gone.mp4"},
            {**GOOD, "video": "here.mp4"},
            {**GOOD, "video": "gone.mp4", "caption": "again"},
        )
    )
    assert missing_videos(rows) == ["gone.mp4"]


def test_long_lists_are_cut() -> None:
    assert list_some(["a", "b"]) == "a, b"
    assert list_some([str(number) for number in range(8)]) == "0, 1, 2, 3, 4 and 3 more"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rows; write one row per caption, with 'video', 'caption', 'split'"),
        ([GOOD, {"video": "b.mp4", "split": "train"}], "line 2: column 'caption' is missing"),
        ([GOOD, "", {**GOOD, "caption": "  "}], "line 3: caption is '  '; give a text"),
        ([{**GOOD, "caption": 7}], "line 1: caption is 7; give a text"),
        ([{**GOOD, "split": ""}], "line 1: split is ''"),
        ([GOOD, '{"video": '], "line 2: not JSON: Expecting value at column"),
        (["[1, 2]"], r"line 1: '\[1, 2\]' is not a JSON object"),
        ([GOOD, {**GOOD, "video": "b.mp4"}, GOOD], "line 3: repeats line 1 .*'a.mp4', caption 'a cat'"),
        (
            [GOOD, {**GOOD, "caption": "another", "split": "test"}],
            "line 2: video 'a.mp4' is in split 'test' and, on line 1, in 'train'",
        ),
    ],
)
def test_wrong_jsonl_is_refused_with_its_line(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_manifest(write_jsonl(tmp_path, *rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption\na.mp4,a cat\n", "line 2: column 'split' is missing"),
        ("video,caption,split\na.mp4,a cat, asleep,train\n", "line 2: the header has 3 columns and the row another"),
        ("video,caption,split\na.mp4,a cat\n", "line 2: the header has 3 columns"),
        ('video,caption,split\na.mp4,"a\ncat",train\nb.mp4,,train\n', "line 4: caption is ''"),
        ('video,caption,split\na.mp4,"a cat,train\n', "line 2: not CSV: unexpected end of data"),
    ],
)
def test_wrong_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_manifest(write_csv(tmp_path, text))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"captions.json is neither .jsonl nor .csv"):
        read_manifest(tmp_path / "captions.json")
    with pytest.raises(SettingsError, match=r"none.csv cannot be read: No such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("video,caption,split\na.mp4,ä,train\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin.csv is not UTF-8 at byte 26"):
        read_manifest(tmp_path / "latin.csv")
