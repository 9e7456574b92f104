"""The real annotation files, where they are at hand: exact counts, and the traps that are known to be in them."""

import json
import shutil
from pathlib import Path

import pytest

from colbert_video.training.data.manifest import read_manifest
from colbert_video.training.datasets.annotation_files import read_ids, read_json
from colbert_video.training.datasets.preparation import Preparation
from colbert_video.training.datasets.prepare import check_dataset, write_manifest

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "annotations"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder of real annotation files")


def videos(preparation: Preparation) -> dict[str, int]:
    return {split: count.videos for split, count in preparation.counts.items()}


def with_captions(dataset: str, folder: Path, name: str, content: object) -> Path:
    """The real lists beside captions of our own."""
    shutil.copytree(FOLDER / dataset, folder, dirs_exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_msrvtt_lists(tmp_path: Path) -> None:
    sentences = [{"video_id": f"video{number}", "caption": "a clip"} for number in range(10_000)]
    folder = with_captions("msrvtt", tmp_path, "MSRVTT_data.json", {"sentences": sentences})
    assert videos(check_dataset("msrvtt", folder)) == {"train": 9000, "test": 1000}
    assert videos(check_dataset("msrvtt", folder, split_name="7k")) == {"train": 7010, "test": 1000}
    assert videos(check_dataset("msrvtt", folder, split_name="full")) == {"train": 6513, "val": 497, "test": 2990}


def test_msrvtt_test_captions(tmp_path: Path) -> None:
    preparation = check_dataset("msrvtt", FOLDER / "msrvtt", split_name="1k-a")
    assert preparation.warnings == []
    assert [problem[:28] for problem in preparation.problems] == ["no video of the dataset is u"]
    assert write_manifest(preparation, tmp_path / "captions.jsonl", allow_missing=True) == 1000
    rows = read_manifest(tmp_path / "captions.jsonl")
    assert rows[0].caption == "a person is connecting something to system"
    assert rows[0].metadata["id"] == "video9770"
    assert len({row.caption for row in rows}) == 995  # four sentences are said of 9 videos


@pytest.mark.parametrize(
    ("dataset", "lists"),
    [("msvd", {"train": 1200, "val": 100, "test": 670}), ("vatex", {"train": 25_991, "val": 1500, "test": 1500})],
)
def test_lists_without_captions_are_reported(dataset: str, lists: dict[str, int]) -> None:
    preparation = check_dataset(dataset, FOLDER / dataset)
    assert {split: len(ids) for split, ids in preparation.annotations.uncaptioned.items()} == lists
    assert len(preparation.missing_files) == 1


def test_both_lists_of_vatex(tmp_path: Path) -> None:
    ids = {name for path in (FOLDER / "vatex").glob("*_list.txt") for name in read_ids(path)}
    folder = with_captions("vatex", tmp_path, "ref_captions.json", {name: ["a clip"] for name in ids})
    first = check_dataset("vatex", folder)
    assert videos(first) == {"train": 25_991, "val": 1500, "test": 1500}
    second = check_dataset("vatex", folder, split_name="test1k5_sec_list")
    assert videos(second) == {"train": 25_991, "val": 724, "test": 1500}
    assert second.notes[0].startswith("776 videos of the val list are in test too")
    common = {video.id for video in first.annotations.splits["test"]} & {
        video.id for video in second.annotations.splits["test"]
    }
    assert len(common) == 724


def test_didemo() -> None:
    preparation = check_dataset("didemo", FOLDER / "didemo")
    found = {split: (count.videos, count.captions) for split, count in preparation.counts.items()}
    assert found == {"train": (0, 0), "val": (1065, 1065), "test": (1004, 1004)}
    assert [file.names[0] for file in preparation.missing_files] == ["train_data.json"]
    assert preparation.annotations.uncaptioned["test"] == []
    listed = set(read_ids(FOLDER / "didemo" / "test_list.txt"))
    said: dict[str, list[str]] = {}
    for record in json.loads((FOLDER / "didemo" / "test_data.json").read_text()):
        if record["video"] in listed:
            said.setdefault(record["video"], []).append(record["description"])
    assert {video.id: video.captions[0].split() for video in preparation.annotations.splits["test"]} == {
        name: " ".join(sentences).split() for name, sentences in said.items()
    }
    assert [note[:43] for note in preparation.notes if "second ending" in note] == [
        "29 videos of val have descriptions under a ",
        "33 videos of test have descriptions under a",
    ]


def test_activitynet(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "activitynet", tmp_path, dirs_exist_ok=True)
    (tmp_path / "train.first2000.json").rename(tmp_path / "train.json")
    preparation = check_dataset("activitynet", tmp_path)
    assert videos(preparation) == {"train": 2000, "test": 4917}
    assert "9 ids of val_ids.json have no sentences and are in no split." in preparation.notes
    test = preparation.annotations.splits["test"]
    assert sum(len(video.metadata["sentences"]) for video in test) == 17_505
    said = {name: record["sentences"] for name, record in read_json(tmp_path / "val_1.json").items()}
    assert {video.id: video.captions[0] for video in test} == {
        name: " ".join(" ".join(sentences).split()) for name, sentences in said.items()
    }
    starts = [[start for start, _ in video.metadata["timestamps"]] for video in test]
    assert sum(times != sorted(times) for times in starts) == 131
