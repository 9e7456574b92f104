"""Manifests: both formats, groups and pairs, and an error with a line number for every way to get them wrong."""

import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from colbert_video.errors import SettingsError
from colbert_video.training import DataConfig
from colbert_video.training.data.manifest import ManifestRow, list_some, missing_videos, read_manifest, select_split
from colbert_video.training.run.source import ManifestData
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
    with pytest.raises(SettingsError, match=r"captions.txt is neither .jsonl nor .csv"):
        read_manifest(tmp_path / "captions.txt")
    with pytest.raises(SettingsError, match=r"none.csv cannot be read: No such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("video,caption,split\na.mp4,ä,train\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin.csv is not UTF-8 at byte 26"):
        read_manifest(tmp_path / "latin.csv")


SPELLINGS = {
    "dot": "./a.mp4",
    "parent": "../{folder}/a.mp4",
    "absolute": "{root}/a.mp4",
    "slashes": "clips//..//a.mp4",
    "link": "link.mp4",
    "hard link": "hard.mp4",
    "linked folder": "linked/a.mp4",
    "same": "a.mp4",
}


@pytest.fixture
def spelled(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "b.mp4").write_bytes(b"video")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "a.mp4")
    (tmp_path / "linked").symlink_to(tmp_path)
    return tmp_path


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val"), ("mine", "train"), ("test", "train")])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_file_is_in_one_split_however_it_is_spelled(spelled: Path, spelling: str, splits: tuple[str, str]) -> None:
    other = SPELLINGS[spelling].format(root=spelled, folder=spelled.name)
    rows = ({**GOOD, "split": splits[0]}, {"video": other, "caption": "another", "split": splits[1]})
    message = (
        f"line 2: video '.*' is in split '{splits[1]}' and, on line 1.*, in '{splits[0]}'; a video of the training"
    )
    with pytest.raises(SettingsError, match=message):
        read_manifest(write_jsonl(spelled, *rows))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_split_that_is_trained_on_may_have_any_name(spelled: Path, spelling: str) -> None:
    other = SPELLINGS[spelling].format(root=spelled, folder=spelled.name)
    rows = ({**GOOD, "split": "mine"}, {"video": other, "caption": "another", "split": "val"})
    manifest = write_jsonl(spelled, *rows)
    with pytest.raises(SettingsError, match=r"is in split 'val' and, on line 1.*, in 'mine'; a video of the training"):
        read_manifest(manifest, train_split="mine")
    with pytest.raises(SettingsError, match=r"is in split 'val' and, on line 1.*, in 'mine'; a video of the training"):
        ManifestData(DataConfig(str(manifest), train_split="mine"))
    both = write_jsonl(spelled, {**GOOD, "split": "val"}, *rows[1:], {**GOOD, "split": "mine"})
    with pytest.raises(SettingsError, match=r"line 3: video 'a.mp4' is in split 'mine' and, on line 1, in 'val'"):
        read_manifest(both, train_split="mine")


def test_validation_by_test_videos_is_a_warning(spelled: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The 9k split of MSR-VTT has no validation videos; the field's habit is to choose by those of the test."""
    train = {**GOOD, "video": "c.mp4"}
    shared = [{**GOOD, "video": video, "split": split} for split in ("val", "test") for video in ("a.mp4", "b.mp4")]
    rows = read_manifest(write_jsonl(spelled, train, *shared))
    assert [(row.video, row.split) for row in rows[1:]] == [
        ("a.mp4", "val"), ("b.mp4", "val"), ("a.mp4", "test"), ("b.mp4", "test")
    ]  # fmt: skip
    assert "line 4: video 'a.mp4' is in split 'test' and, on line 2, in 'val', and so are 1 other videos" in caplog.text
    assert "hold videos of 'train' out" in caplog.text
    caplog.clear()
    read_manifest(write_jsonl(spelled, train, *shared[1:3]))
    assert not caplog.records


def test_parts_of_a_file_are_one_video(spelled: Path) -> None:
    rows = ({**GOOD, "start": 0, "end": 5}, {**GOOD, "start": 5, "end": 9, "split": "test", "caption": "another"})
    with pytest.raises(SettingsError, match=r"video 'a.mp4' is in split 'test'"):
        read_manifest(write_jsonl(spelled, *rows))


def test_files_of_the_same_content_are_different_videos(spelled: Path) -> None:
    rows = read_manifest(write_jsonl(spelled, GOOD, {**GOOD, "video": "b.mp4", "split": "test"}))
    assert [row.video for row in rows] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spellings_of_a_file_are_one_video(spelled: Path, spelling: str) -> None:
    other = SPELLINGS[spelling].format(root=spelled, folder=spelled.name)
    rows = read_manifest(write_jsonl(spelled, GOOD, {"video": other, "caption": "another", "split": "train"}))
    assert [(row.video, row.path) for row in rows] == [("a.mp4", spelled / "a.mp4")] * 2
    with pytest.raises(SettingsError, match=r"line 2: repeats line 1 .*'a.mp4', caption 'a cat'"):
        read_manifest(write_jsonl(spelled, GOOD, {**GOOD, "video": other}))


def test_missing_files_are_compared_by_their_paths(tmp_path: Path) -> None:
    for other in ("./a.mp4", "x/../a.mp4", f"{tmp_path}/a.mp4"):
        with pytest.raises(SettingsError, match="a video of the training split must not be in another"):
            read_manifest(write_jsonl(tmp_path, GOOD, {**GOOD, "video": other, "split": "val", "caption": "b"}))


def test_members_of_archives_are_compared(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    for name in ("v.tar", "w.tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            for member in ("a.mp4", "b.mp4"):
                tar.add(tmp_path / "one", member)
    (tmp_path / "link.tar").symlink_to("v.tar")

    def rows(*videos: str) -> Path:
        pairs = zip(videos, ("train", "test"), strict=True)
        return write_jsonl(tmp_path, *({"video": video, "caption": "c", "split": split} for video, split in pairs))

    for other in ("./v.tar/a.mp4", "link.tar/a.mp4", f"{tmp_path}/v.tar/a.mp4"):
        with pytest.raises(SettingsError, match="a video of the training split must not be in another"):
            read_manifest(rows("v.tar/a.mp4", other))
    for other in ("v.tar/b.mp4", "w.tar/a.mp4"):
        assert len(read_manifest(rows("v.tar/a.mp4", other))) == 2


def test_addresses_are_compared_as_they_are(tmp_path: Path) -> None:
    one, two = "https://x.org/a//b.mp4", "https://x.org/a/b.mp4"
    rows = read_manifest(write_jsonl(tmp_path, {**GOOD, "video": one}, {**GOOD, "video": two, "split": "test"}))
    assert [row.video for row in rows] == [one, two]
    with pytest.raises(SettingsError, match="a video of the training split must not be in another"):
        read_manifest(write_jsonl(tmp_path, {**GOOD, "video": one}, {**GOOD, "video": one, "split": "test"}))


FORMS = {
    "captions.jsonl": '{"video": "a.mp4", "caption": "a cat, \\"x\\"", "split": "train", "n": "1"}\n'
    '{"video": "b.mp4", "caption": "a dog", "split": "test", "n": "2"}\n',
    "captions.csv": 'video,caption,split,n\na.mp4,"a cat, ""x""",train,1\nb.mp4,a dog,test,2\n',
    "captions.tsv": 'video\tcaption\tsplit\tn\na.mp4\ta cat, "x"\ttrain\t1\nb.mp4\ta dog\ttest\t2\n',
    "list.json": '[{"video": "a.mp4", "caption": "a cat, \\"x\\"", "split": "train", "n": "1"},\n'
    ' {"video": "b.mp4", "caption": "a dog", "split": "test", "n": "2"}]',
    "columns.JSON": '{"video": ["a.mp4", "b.mp4"], "caption": ["a cat, \\"x\\"", "a dog"], "split": ["train", "test"], '
    '"n": ["1", "2"]}',
    "pandas.json": '{"video": {"0": "a.mp4", "1": "b.mp4"}, "caption": {"0": "a cat, \\"x\\"", "1": "a dog"}, '
    '"split": {"0": "train", "1": "test"}, "n": {"0": "1", "1": "2"}}',
}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", FORMS)
def test_all_forms_give_the_same_rows(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    path.write_bytes((mark + FORMS[name].replace("\n", "\r\n")).encode())
    assert read_manifest(path) == [
        ManifestRow("a.mp4", tmp_path / "a.mp4", 'a cat, "x"', "train", metadata={"n": "1"}),
        ManifestRow("b.mp4", tmp_path / "b.mp4", "a dog", "test", metadata={"n": "2"}),
    ]


@pytest.mark.parametrize("key", ["captions", "caption"])
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_row_of_several_captions(tmp_path: Path, ending: str, key: str) -> None:
    row = {"video": "a.mp4", key: ["a cat", "a cat", " a pet "], "split": "train", "lang": "en"}
    path = tmp_path / f"m.{ending}"
    path.write_text(json.dumps([row] if ending == "json" else row))
    rows = read_manifest(path)
    assert [row.caption for row in rows] == ["a cat", "a cat", "a pet"]
    assert [row.metadata for row in rows] == [{"lang": "en", "caption_id": number} for number in range(3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.mp4": "a cat"}', "neither a list of rows nor an object of columns"),
        ("7", "neither a list of rows nor an object of columns"),
        ('{"video": ["a"], "caption": [], "split": ["x"]}', "the columns must be lists of one length"),
        ('["a"]', "record 1: 'a' is not a JSON object"),
        ('[\n{"video": }]', "m.json: not JSON: Expecting value at line 2, column 11"),
        ("[" * 200_000, "m.json: not JSON: it is nested more than 100 deep"),
        ('[{"video": "a", "caption": "b", "split": "train", "split": "test"}]', "the key 'split' comes twice"),
        ('{"video": ["a"], "caption": ["b"], "split": ["train"], "split": ["test"]}', "the key 'split' comes twice"),
        ('[{"video": "a", "caption": "b", "split": "train", "length": NaN}]', "NaN is not JSON; use null"),
        ("[]", "holds no rows"),
        (
            '[{"video": "a", "captions": [], "split": "x"}]',
            r"record 1: captions is \[\]; give a list of at least one text",
        ),
        ('[{"video": "a", "captions": "b", "split": "x"}]', "record 1: captions is 'b'; give a list"),
        ('[{"video": "a", "captions": ["b", 3], "split": "x"}]', "record 1: caption is 3; give a text"),
        ('[{"video": "a", "captions": ["b"], "caption": "c", "split": "x"}]', "record 1: both caption and captions"),
        (
            '[{"video": "a\\u0000", "caption": "c", "split": "x"}]',
            "record 1: video is 'a.x00': a path cannot hold a zero",
        ),
    ],
)
def test_wrong_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_manifest(tmp_path / "m.json")


def test_line_separators_in_captions_stay(tmp_path: Path) -> None:
    caption = "a\u2028b\x85c\x0cd\x1ce"
    for name in ("m.jsonl", "m.csv"):
        row = json.dumps({**GOOD, "caption": caption}, ensure_ascii=False)
        (tmp_path / name).write_text(row if name == "m.jsonl" else f"video,caption,split\na.mp4,{caption},train\n")
        assert [row.caption for row in read_manifest(tmp_path / name)] == [caption]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has several columns 'caption'"):
        read_manifest(write_csv(tmp_path, "video,caption,split,caption\na.mp4,a,train,b\n"))


PIPED_ROWS = [
    {"video": "a.mp4", "caption": "one, two", "split": "train"},
    {"video": "b.mp4", "caption": "three", "split": "test"},
]
PIPED = {
    "jsonl": "".join(json.dumps(row) + "\n" for row in PIPED_ROWS),
    "one row": json.dumps(PIPED_ROWS[0]),
    "json": json.dumps(PIPED_ROWS, indent=1),
    "json columns": json.dumps({name: [row[name] for row in PIPED_ROWS] for name in PIPED_ROWS[0]}),
    "json columns, indented": json.dumps({name: [row[name] for row in PIPED_ROWS] for name in PIPED_ROWS[0]}, indent=1),
    "pandas": json.dumps({name: {str(n): row[name] for n, row in enumerate(PIPED_ROWS)} for name in PIPED_ROWS[0]}),
    "csv": 'video,caption,split\na.mp4,"one, two",train\nb.mp4,three,test\n',
    "tsv": "video\tcaption\tsplit\na.mp4\tone, two\ttrain\nb.mp4\tthree\ttest\n",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("form", PIPED)
def test_a_manifest_comes_through_a_pipe(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.write(write, PIPED[form].encode())
    os.close(write)
    rows = read_manifest(f"/dev/fd/{read}")
    os.close(read)
    wanted = PIPED_ROWS[:1] if form == "one row" else PIPED_ROWS
    assert [(row.video, row.caption, row.split) for row in rows] == [tuple(row.values()) for row in wanted]
    assert [row.path for row in rows] == [tmp_path / row["video"] for row in wanted]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(("name", "form"), [("pipe", "tsv"), ("pipe.jsonl", "jsonl")])
def test_a_manifest_comes_through_a_named_pipe(name: str, form: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / name).write_text, args=(PIPED[form],))
    writer.start()
    assert len(read_manifest(tmp_path / name)) == 2
    writer.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no rows"), ("{broken", "line 1: not JSON"), ("a,b\n1,2\n", "line 2: column 'video' is missing")],
)
def test_errors_of_a_manifest_from_a_pipe_name_it(text: str, message: str) -> None:
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    with pytest.raises(SettingsError, match=f"/dev/fd/{read}.*{message}"):
        read_manifest(f"/dev/fd/{read}")
    os.close(read)
