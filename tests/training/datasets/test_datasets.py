"""Each dataset in every annotation form that is in use, on small files of our own."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from colbert_video.errors import SettingsError
from colbert_video.training.datasets.annotations import Annotations
from colbert_video.training.datasets.download_folder import DownloadFolder
from colbert_video.training.datasets.prepare import DATASETS

Splits = dict[str, dict[str, list[str]]]


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write texts as they are, pickles for .pkl, and JSON for other values."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".pkl"):
            path.write_bytes(pickle.dumps(content, 2))
        else:
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
    return folder


def read(dataset: str, folder: Path, protocol: str | None = None) -> tuple[Annotations, DownloadFolder]:
    download = DownloadFolder(folder)
    return DATASETS[dataset].read(download, protocol or next(iter(DATASETS[dataset].protocols))), download


def captions(annotations: Annotations) -> Splits:
    return {split: {video.id: list(video.captions) for video in videos} for split, videos in annotations.splits.items()}


def missing(download: DownloadFolder) -> list[str]:
    return [file.names[0] for file in download.missing]


SENTENCES = {
    "videos": [
        {"video_id": "video0", "split": "train", "start time": 137.72, "end time": 149.44},
        {"video_id": "video1", "split": "validate"},
        {"video_id": "video2", "split": "test"},
    ],
    "sentences": [
        {"video_id": "video0", "caption": "a car is shown", "sen_id": 0},
        {"video_id": "video2", "caption": "a chef", "sen_id": 3},
        {"video_id": "video0", "caption": "a car is shown", "sen_id": 1},
        {"video_id": "video2", "caption": "the cook", "sen_id": 4},
        {"video_id": "video1", "caption": "señor", "sen_id": 2},
    ],
}
FROZEN = {
    "images": [],
    "annotations": [
        {"image_id": record["video_id"], "caption": record["caption"]} for record in SENTENCES["sentences"]
    ],
}
LISTS = {
    "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\nret0,msr2,video2,the one query\n",
    "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
    "MSRVTT_train.7k.csv": "video_id\nvideo1\n",
}


@pytest.mark.parametrize(
    "files",
    [
        {"MSRVTT_data.json": SENTENCES},
        {"MSRVTT_data.json": FROZEN},  # the archive's file under the name that other loaders expect
        {"annotation/MSR_VTT.json": FROZEN},
        {
            "train_val_videodatainfo.json": {
                "sentences": [s for s in SENTENCES["sentences"] if s["video_id"] != "video2"]
            },
            "test_videodatainfo.json": {"sentences": [s for s in SENTENCES["sentences"] if s["video_id"] == "video2"]},
        },
    ],
)
def test_msrvtt_1ka_in_every_form(tmp_path: Path, files: dict[str, Any]) -> None:
    write(tmp_path, {**files, **LISTS})
    found, download = read("msrvtt", tmp_path)
    test = {"video2": ["the one query"]}
    assert captions(found) == {
        "train": {"video0": ["a car is shown", "a car is shown"], "video1": ["señor"]},
        "test": test,
    }
    assert download.missing == []
    assert captions(read("msrvtt", tmp_path, "7k")[0]) == {"train": {"video1": ["señor"]}, "test": test}
    assert captions(read("msrvtt", tmp_path, "1k-a")[0]) == {"test": test}


def test_msrvtt_durations(tmp_path: Path) -> None:
    found, _ = read("msrvtt", write(tmp_path, {"MSRVTT_data.json": SENTENCES, **LISTS}))
    assert [video.metadata for video in found.splits["train"]] == [{"duration": 11.72}, {}]


def test_msrvtt_test_captions_are_not_read_twice(tmp_path: Path) -> None:
    both = {"MSRVTT_data.json": SENTENCES, "test_videodatainfo.json": {"sentences": SENTENCES["sentences"]}}
    found, _ = read("msrvtt", write(tmp_path, both), "full")
    assert captions(found)["test"] == {"video2": ["a chef", "the cook"]}


def test_msrvtt_as_frozen_in_time_has_it(tmp_path: Path) -> None:
    lists = "high-quality/structured-symlinks/"
    write(
        tmp_path,
        {
            "annotation/MSR_VTT.json": FROZEN,
            lists + "train_list_jsfusion.txt": "video0\n",
            lists + "val_list_jsfusion.txt": "video2\n",
            lists + "jsfusion_val_caption_idx.pkl": {"video2": 1},
        },
    )
    assert captions(read("msrvtt", tmp_path)[0])["test"] == {"video2": ["the cook"]}
    write(tmp_path, {lists + "jsfusion_val_caption_idx.pkl": {"video2": 2}})
    with pytest.raises(SettingsError, match="chooses caption 2 of 'video2', which has 2"):
        read("msrvtt", tmp_path)
    (tmp_path / lists / "val_list_jsfusion.txt").unlink()
    assert missing(read("msrvtt", tmp_path)[1]) == ["val_list_jsfusion.txt"]


def test_msrvtt_full_split_by_lists_or_by_the_official_file(tmp_path: Path) -> None:
    expected = {
        "train": {"video0": ["a car is shown", "a car is shown"]},
        "val": {"video1": ["señor"]},
        "test": {"video2": ["a chef", "the cook"]},
    }
    write(tmp_path, {"MSRVTT_data.json": SENTENCES})
    assert captions(read("msrvtt", tmp_path, "full")[0]) == expected
    write(
        tmp_path,
        {
            "MSRVTT_data.json": FROZEN,
            "MSRVTT_train.7k.csv": "video_id\nvideo0\nvideo1\n",  # training and validation videos in one
            "MSRVTT_val.full.csv": "video_id\nvideo1\n",
            "MSRVTT_test.full.csv": "video_id\nvideo2\n",
        },
    )
    assert captions(read("msrvtt", tmp_path, "full")[0]) == expected


def test_msrvtt_says_what_is_missing(tmp_path: Path) -> None:
    assert missing(read("msrvtt", tmp_path)[1]) == [
        "MSRVTT_JSFUSION_test.csv",
        "MSRVTT_train.9k.csv",
        "MSRVTT_data.json",
    ]
    assert missing(read("msrvtt", tmp_path, "1k-a")[1]) == ["MSRVTT_JSFUSION_test.csv"]
    assert missing(read("msrvtt", tmp_path, "full")[1]) == [
        "MSRVTT_data.json",
        "MSRVTT_train.full.csv",
        "MSRVTT_val.full.csv",
        "MSRVTT_test.full.csv",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "the file is a list, not an object"),
        ({"videos": []}, "the file has no 'annotations' but 'videos'"),
        ({"sentences": [{"video_id": "a"}]}, "sentences has no 'caption'"),
        ({"sentences": [{"video_id": 7, "caption": "a"}]}, "video_id holds a number where a text belongs"),
    ],
)
def test_wrong_msrvtt_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    write(tmp_path, {**LISTS, "MSRVTT_data.json": content})
    with pytest.raises(SettingsError, match=message):
        read("msrvtt", tmp_path)


def test_a_video_twice_in_the_1ka_table_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"MSRVTT_JSFUSION_test.csv": "video_id,sentence\na,one\na,two\n"})
    with pytest.raises(SettingsError, match="has a video twice"):
        read("msrvtt", tmp_path, "1k-a")


MSVD_LISTS = {"train_list.txt": "a_b_5_15", "val_list.txt": "c_0_1\n", "test_list.txt": "d_2_9\ne_1_2\n"}


@pytest.mark.parametrize(
    "files",
    [
        {"raw-captions.pkl": {"a_b_5_15": [["a", "cat"], ["a", "cat"]], "c_0_1": [["ein", "Bär"]], "d_2_9": [["d"]]}},
        {"captions_msvd.json": {"a_b_5_15": ["a cat", "a cat"], "c_0_1": ["ein Bär"], "d_2_9": ["d"]}},
    ],
)
def test_msvd_in_both_forms(tmp_path: Path, files: dict[str, Any]) -> None:
    found, download = read("msvd", write(tmp_path, {**files, **MSVD_LISTS}))
    assert captions(found) == {
        "train": {"a_b_5_15": ["a cat", "a cat"]},
        "val": {"c_0_1": ["ein Bär"]},
        "test": {"d_2_9": ["d"]},
    }
    assert found.uncaptioned["test"] == ["e_1_2"]
    assert found.splits["test"][0].metadata == {"duration": 7.0}
    assert download.missing == []


def test_msvd_says_what_is_missing_and_wrong(tmp_path: Path) -> None:
    assert missing(read("msvd", tmp_path)[1]) == ["raw-captions.pkl", "train_list.txt", "val_list.txt", "test_list.txt"]
    write(tmp_path, {**MSVD_LISTS, "raw-captions.pkl": {"d_2_9": [[1]]}})
    with pytest.raises(SettingsError, match="d_2_9 holds a number where a text belongs"):
        read("msvd", tmp_path)


A, B, C, D = (f"{letter}_-_000006_000016" for letter in "abcd")
VATEX_LISTS = {
    "train_list.txt": A,
    "val_list.txt": f"{B}\n{C}\n",
    "test_list.txt": D,
    "test1k5_sec_list.txt": f"{D}\n{C}\n",
}


def official(*names: str) -> list[dict[str, Any]]:
    return [{"videoID": name, "enCap": [name[0], "é"], "chCap": ["中"]} for name in names]


@pytest.mark.parametrize(
    "files",
    [
        {"vatex_training_v1.0.json": official(A), "vatex_validation_v1.0.json": official(B, C, D)},
        {"vatex_data.json": {name: {"enCap": [name[0], "é"]} for name in (A, B, C, D)}},
        {"RET/ref_captions.json": {name: [name[0], "é"] for name in (A, B, C, D)}},
        {
            "vatex_data.json": {A: {"enCap": ["a", "é"]}},
            "vatex_validation_v1.0.json": official(A, B, C),
            "vatex_public_test_english_v1.1.json": official(D),
        },
    ],
)
def test_vatex_in_every_form_and_by_either_list(tmp_path: Path, files: dict[str, Any]) -> None:
    write(tmp_path, {**files, **VATEX_LISTS})
    found, download = read("vatex", tmp_path)
    assert captions(found) == {"train": {A: ["a", "é"]}, "val": {B: ["b", "é"], C: ["c", "é"]}, "test": {D: ["d", "é"]}}
    assert found.splits["test"][0].metadata == {"duration": 10.0}
    assert download.missing == []
    other, _ = read("vatex", tmp_path, "test1k5_sec_list")
    assert captions(other)["test"] == {D: ["d", "é"], C: ["c", "é"]}
    assert captions(other)["val"] == {B: ["b", "é"]}
    assert other.notes[0].startswith("1 videos of the val list are in test too and left out of val: c_-_")


def test_vatex_says_what_is_missing_and_wrong(tmp_path: Path) -> None:
    _, download = read("vatex", tmp_path, "test1k5_sec_list")
    assert missing(download) == ["train_list.txt", "val_list.txt", "test1k5_sec_list.txt", "vatex_data.json"]
    write(tmp_path, {"vatex_data.json": {A: {"chCap": []}}, **VATEX_LISTS})
    with pytest.raises(SettingsError, match="has no 'enCap' but 'chCap'"):
        read("vatex", tmp_path)


def moment(video: str, text: str, *times: tuple[int, int]) -> dict[str, Any]:
    return {"video": video, "description": text, "times": times or [(0, 0)], "annotation_id": 1, "num_segments": 6}


def test_didemo_joins_descriptions_in_the_order_of_the_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "test_list.txt": "1@N0_a.mov\n2@N0_b.\n3@N0_c.avi\n",
            "test_data.json": [
                moment("1@N0_a.mp4", "under another ending"),
                moment("1@N0_a.mov", "the second ", (1, 2), (2, 2), (0, 2)),
                moment("2@N0_b.", "one"),
                moment("1@N0_a.mov", " the  first"),
                moment("1@N0_a.mov", "the second"),
                moment("3@N0_c.mp4", "under another ending alone"),
                moment("4@N0_d.mp4", "not listed"),
                moment("2@N0_b.", "  "),
            ],
        },
    )
    found, download = read("didemo", tmp_path)
    assert captions(found)["test"] == {
        "1@N0_a.mov": ["the second the first the second"],
        "2@N0_b.": ["one"],
        "3@N0_c.avi": ["under another ending alone"],
    }
    assert found.splits["test"][0].metadata == {
        "sentences": ["the second", "the first", "the second"],
        "timestamps": [(5.0, 15.0), (0.0, 5.0), (0.0, 5.0)],
    }
    (note,) = found.notes
    assert note.startswith("1 videos of test have descriptions under a second ending ('1@N0_a.mp4'), which are not in")
    assert missing(download) == ["train_data.json", "train_list.txt", "val_data.json", "val_list.txt"]


def test_wrong_didemo_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test_list.txt": "a.mov", "test_data.json": [{**moment("a.mov", "a"), "times": []}]})
    with pytest.raises(SettingsError, match=r"a.mov has a description without times"):
        read("didemo", tmp_path)
    write(tmp_path, {"test_data.json": [{"video": "a.mov"}]})
    with pytest.raises(SettingsError, match=r"a.mov has no 'description'"):
        read("didemo", tmp_path)


def event(*sentences: str, duration: float = 60) -> dict[str, Any]:
    times = [[10 * number, 20 * number + 1] for number in reversed(range(len(sentences)))]
    return {"duration": duration, "sentences": list(sentences), "timestamps": times}


def test_activitynet_joins_sentences_in_the_order_of_the_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.json": {"v_a": event("A  café.", " B.")},
            "val_1.json": {"v_b": event("Second. ", " First."), "v_c": event("C.", duration=5.5)},
            "val_ids.json": ["v_b", "v_x", "v_y"],
        },
    )
    found, download = read("activitynet", tmp_path)
    assert captions(found) == {"train": {"v_a": ["A café. B."]}, "test": {"v_b": ["Second. First."], "v_c": ["C."]}}
    assert found.splits["test"][0].metadata == {
        "duration": 60.0,
        "sentences": ["Second.", "First."],
        "timestamps": [(10.0, 21.0), (0.0, 1.0)],
    }
    assert found.notes == [
        "2 ids of val_ids.json have no sentences and are in no split.",
        "1 videos with sentences are not in val_ids.json.",
    ]
    assert missing(download) == []
    assert missing(read("activitynet", write(tmp_path / "none", {"a.txt": ""}))[1]) == ["train.json", "val_1.json"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**event("a"), "duration": 0}, "the duration of v_a is 0"),
        ({**event("a"), "timestamps": []}, "v_a has 1 sentences and 0 timestamps"),
        ({**event("a"), "sentences": "a"}, "v_a is a text, not a list"),
        ({"duration": 1}, "v_a has no 'sentences'"),
    ],
)
def test_wrong_activitynet_files_are_refused(tmp_path: Path, record: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read("activitynet", write(tmp_path, {"val_1.json": {"v_a": record}}))
