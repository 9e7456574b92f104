"""Annotation files: plain pickles and hostile ones, JSON, tables and lists with their errors, files found by name."""

import collections
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import SettingsError
from colbert_video.training.data.text_files import read_csv
from colbert_video.training.datasets import plain_pickle
from colbert_video.training.datasets.annotation_files import field, items, mapping, read_ids, read_json, spans
from colbert_video.training.datasets.annotations import clip_duration, one_line, paragraph, pick_videos
from colbert_video.training.datasets.download_folder import AnnotationFile, DownloadFolder, VideoFiles
from colbert_video.training.datasets.plain_pickle import read_plain_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hostile",)


def pickled(folder: Path, data: bytes) -> Path:
    path = folder / "captions.pkl"
    path.write_bytes(data)
    return path


@given(value=PLAIN, protocol=st.sampled_from([2, 3, 4, 5]))
def test_plain_values_survive(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    if protocol == 2:  # it has no opcode for bytes and calls a codec instead
        value = json.loads(json.dumps(value, default=lambda data: data.hex()))
    folder = tmp_path_factory.mktemp("pickles")
    path = pickled(folder, pickle.dumps(value, protocol))
    if protocol > 2 and _has_bytes(value):
        with pytest.raises(SettingsError, match=r"BYTES"):
            read_plain_pickle(path)
    else:
        assert read_plain_pickle(path) == value


def _has_bytes(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_bytes, value.values()))
    return isinstance(value, bytes) or (isinstance(value, list | tuple) and any(map(_has_bytes, value)))


@pytest.mark.parametrize("protocol", range(6))
def test_captions_are_read_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    captions = {"-4wsuPCjDBc_5_15": [["a", "squirrel"], ["ein", "Eichhörnchen"]], "other": []}
    path = pickled(tmp_path, pickle.dumps(captions, protocol))
    assert read_plain_pickle(path) == captions


def test_strings_of_python_2_are_read(tmp_path: Path) -> None:
    # What Python 2 wrote for {"v": [["cafe"]]} with protocol 0, and for {"v": [["caf\xc3\xa9"]]} with protocol 2.
    text = b"(dp0\nS'v'\np1\n(lp2\n(lp3\nS'cafe'\np4\naas."
    binary = b"\x80\x02}q\x01U\x01vq\x02]q\x03]q\x04U\x05caf\xc3\xa9q\x05aas."
    assert read_plain_pickle(pickled(tmp_path, text)) == {"v": [["cafe"]]}
    assert read_plain_pickle(pickled(tmp_path, binary)) == {"v": [["café"]]}


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_pickles_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = pickled(tmp_path, pickle.dumps({"v": [["a"], Hostile()]}, protocol))
    with pytest.raises(SettingsError, match=r"captions.pkl is refused: at byte \d+, .*GLOBAL.*Do not open"):
        read_plain_pickle(path)
    assert not (tmp_path / "hostile").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "hostile").exists()  # so the file was hostile


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02cos\nsystem\nU\x04true\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02\x82\x01.",
        b"Pname\n.",
        b"U\x01aQ.",
    ],
)
def test_every_way_to_call_something_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SettingsError, match=r"is refused: at byte"):
        read_plain_pickle(pickled(tmp_path, data))


@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), collections.Counter("a"), 1j, Path("a")])
def test_objects_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(SettingsError, match="only strings, numbers and containers"):
        read_plain_pickle(pickled(tmp_path, pickle.dumps(value)))


def test_a_memo_of_gigabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="asks for memory"):
        read_plain_pickle(pickled(tmp_path, b"\x80\x02}r\xff\xff\xff\x7f."))


@pytest.mark.parametrize(
    "data",
    [b"", b"not a pickle", b"\x80\x04}", b"}.", b"]]s.", b"U\xff", b"}]K\x01s.", b"h\x05.", b"a.", b"U\x01\xff."],
)
def test_damaged_pickles_are_refused_or_plain(tmp_path: Path, data: bytes) -> None:
    path = pickled(tmp_path, data)
    if data == b"}.":
        assert read_plain_pickle(path) == {}
        return
    with pytest.raises(SettingsError, match=r"captions.pkl is (not a pickle|a damaged pickle|refused)"):
        read_plain_pickle(path)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_settings_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """What is accepted is what pickle itself reads; everything else is refused with the file's name."""
    path = pickled(tmp_path_factory.mktemp("bytes"), data)
    try:
        value = read_plain_pickle(path)
    except SettingsError as error:
        message = str(error)
    else:
        message = ""
        assert repr(value) == repr(pickle.loads(data, encoding="utf-8"))
    assert not message or message.startswith(f"{path} is ")


def test_large_and_absent_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 3)
    with pytest.raises(SettingsError, match="has 4 bytes; captions have at most 3"):
        read_plain_pickle(pickled(tmp_path, b"abcd"))
    with pytest.raises(SettingsError, match=r"none.pkl cannot be read: No such file"):
        read_plain_pickle(tmp_path / "none.pkl")


def test_lists_of_ids_in_three_forms(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\r\n two \nthree".encode())  # no final newline, as MSVD's
    (tmp_path / "a.csv").write_text("key,video_id\n1,one\n2,two\n3,three\n")
    (tmp_path / "a.json").write_text('["one", "two", "three"]')
    for name in ("a.txt", "a.csv", "a.json"):
        assert read_ids(tmp_path / name) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", " \n", "lists no video"),
        ("a.txt", "one\ntwo\none\n", "lists 'one' twice"),
        ("a.csv", "key\n1\n", "has none of the columns video_id"),
        ("a.csv", "video_id\n1,2\n", "line 2: the header has 1 columns and the row another number"),
        ("a.csv", "video_id\n", "lists no video"),
        ("a.json", '{"a": 1}', "the file is an object, not a list"),
        ("a.json", "[1]", "the list holds a number where a text belongs"),
        ("a.json", "<!DOCTYPE html>", "line 1: not JSON: .* it is a web page, so the download failed"),
        ("a.json", "[" * 200_000, "nested too deeply|not JSON"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_ids(tmp_path / name)


def test_tables_keep_unicode_line_ends_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('video_id,sentence\r\na,"one,\u2028two"\r\n'.encode())
    assert list(read_csv(path, ("video_id", "sentence"))) == [(2, {"video_id": "a", "sentence": "one,\u2028two"})]
    with pytest.raises(SettingsError, match=r"a.csv has no column 'text'; its header is 'video_id, sentence'"):
        list(read_csv(path, ("text",)))
    path.write_bytes(b'video_id\n"a\n')
    with pytest.raises(SettingsError, match="not CSV: unexpected end"):
        list(read_csv(path, ("video_id",)))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.json cannot be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'"\xe4"')
    with pytest.raises(SettingsError, match=r"latin.json is not UTF-8 at byte 1"):
        read_json(tmp_path / "latin.json")


def test_forms_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(SettingsError, match="x is a list, not an object"):
        mapping([], path, "x")
    with pytest.raises(SettingsError, match="x is an object, not an object with names"):
        mapping({1: 2}, path, "x")
    with pytest.raises(SettingsError, match="x is a text, not a list"):
        items("words", path, "x")
    with pytest.raises(SettingsError, match="x has no 'b' but 'a'"):
        field({"a": 1}, "b", path, "x")
    with pytest.raises(SettingsError, match=r"x holds \[1\] where a pair"):
        spans([[1, 2], [1]], path, "x")
    with pytest.raises(SettingsError, match="where a pair"):
        spans([["0", "1"]], path, "x")


def test_files_are_found_by_any_of_their_names_nearest_first(tmp_path: Path) -> None:
    wanted = AnnotationFile(("one.json", "uno.json"), "captions", "https://example.org")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "uno.json").touch()
    assert DownloadFolder(tmp_path).find(wanted) == tmp_path / "deep" / "uno.json"
    (tmp_path / "deep" / "er" / "one.json").touch()
    assert DownloadFolder(tmp_path).find(wanted) == tmp_path / "deep" / "er" / "one.json"
    (tmp_path / "one.json").touch()
    folder = DownloadFolder(tmp_path)
    assert folder.find_required(wanted) == tmp_path / "one.json"
    assert (folder.used, folder.missing) == ([tmp_path / "one.json"], [])
    absent = AnnotationFile(("two.json",), "lists", "https://example.org/two")
    assert folder.find_required(absent) is folder.find_required(absent) is None
    assert folder.missing == [absent]
    assert str(wanted) == "one.json (or uno.json): captions; from https://example.org"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("msvd", "vatex"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_list.txt").touch()
    with pytest.raises(SettingsError, match=r"msvd.test_list.txt and .*vatex.test_list.txt have one name"):
        DownloadFolder(tmp_path).find(AnnotationFile(("test_list.txt",), "", ""))
    with pytest.raises(SettingsError, match="is not a folder"):
        DownloadFolder(tmp_path / "none")


def test_videos_are_found_under_any_ending(tmp_path: Path) -> None:
    names = ("a.avi", "a.webm", "b.mov.mp4", "c.", "d.null", "e.mp4", "e.avi", "deep/xyz.mkv", "f.json", ".g.mp4")
    (tmp_path / "deep").mkdir()
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    files = VideoFiles(tmp_path)
    assert files.find("a") == tmp_path / "a.avi"
    assert files.find("a.webm") == tmp_path / "a.webm"
    assert files.find("b.mov") == tmp_path / "b.mov.mp4"
    assert files.find("c.") == tmp_path / "c."
    assert files.find("d.mov") == tmp_path / "d.null"
    assert files.find("e") == tmp_path / "e.mp4"
    assert files.find("v_xyz") == tmp_path / "deep" / "xyz.mkv"
    assert files.find("f") is None
    assert files.find("g") is None
    assert files.ambiguous(["a", "b.mov", "e", "v_xyz", "f"]) == ["a", "e"]


def test_each_listed_video_gets_its_captions() -> None:
    found = pick_videos(
        {"train": ["a", "b", "c"], "val": ["c", "d"], "test": ["d", "e"]},
        {"a": ["one", " one", "", "t\u00a0wo\n"], "c": ["c"], "d": ["d"], "e": ["  "], "f": ["f"]},
        lambda name: {"duration": 1.0} if name == "a" else {},
    )
    assert list(found.splits) == ["train", "val", "test"]
    assert [(video.id, list(video.captions)) for video in found.splits["train"]] == [("a", ["one", "one", "t wo"])]
    assert found.splits["train"][0].metadata == {"duration": 1.0}
    assert [video.id for video in found.splits["val"]] == ["c"]
    assert [video.id for video in found.splits["test"]] == ["d"]
    assert found.uncaptioned == {"test": ["e"], "val": [], "train": ["b"]}
    assert found.notes == [
        "1 empty captions of test are left out.",
        "1 videos of the val list are in test too and left out of val: d.",
        "1 videos of the train list are in val too and left out of train: c.",
        "1 empty captions of train are left out.",
        "1 videos with captions are in none of these splits.",
    ]


def test_paragraphs_have_one_space_between_words() -> None:
    assert paragraph(["A man walks. ", "  He  sits.\n"]) == "A man walks. He sits."
    assert one_line("\u3000ä\t b ") == "ä b"


def test_ids_of_youtube_clips_are_read_from_the_right() -> None:
    assert clip_duration("_a_b-1_2_c__000006_000016") == {"duration": 10.0}
    assert clip_duration("-4wsuPCjDBc_5_15") == {"duration": 10.0}
    assert clip_duration("video7010") == {}
