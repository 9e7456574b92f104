"""MSR-VTT (Xu et al., CVPR 2016): 10,000 clips with 20 captions each.

The 1K-A split (Yu et al., ECCV 2018, "JSFusion") tests on 1,000 videos with one fixed caption each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_video.errors import SettingsError, shown
from colbert_video.training.data.text_files import read_csv
from colbert_video.training.datasets.annotation_files import field, items, mapping, read_ids, read_json, text
from colbert_video.training.datasets.annotations import Annotations, Dataset, Protocol, Published, pick_videos
from colbert_video.training.datasets.download_folder import AnnotationFile, DownloadFolder
from colbert_video.training.datasets.plain_pickle import read_plain_pickle

CLIP4CLIP = "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msrvtt_data.zip"
FROZEN = "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip"
EMCL = "https://github.com/jpthu17/EMCL (video_retrieval/As_an_inference_module/data/msrvtt_data)"

CAPTIONS = AnnotationFile(
    ("MSRVTT_data.json", "MSR_VTT.json", "train_val_videodatainfo.json"), "all captions", f"{CLIP4CLIP} or {FROZEN}"
)
OFFICIAL_TEST = AnnotationFile(
    ("test_videodatainfo.json",), "captions of the official test videos", "the official download"
)
TEST_1KA = AnnotationFile(("MSRVTT_JSFUSION_test.csv",), "the 1K-A test videos and captions", CLIP4CLIP)
TEST_1KA_IDS = AnnotationFile(("val_list_jsfusion.txt",), "the 1K-A test videos", FROZEN)
TEST_1KA_CHOICE = AnnotationFile(("jsfusion_val_caption_idx.pkl",), "which caption each 1K-A video is asked by", FROZEN)
TRAIN_9K = AnnotationFile(
    ("MSRVTT_train.9k.csv", "train_list_jsfusion.txt", "train_list_9k.txt"), "9,000 training videos", CLIP4CLIP
)
TRAIN_7K = AnnotationFile(
    ("MSRVTT_train.7k.csv", "train_list_7k.txt"), "7,010 training and validation videos", CLIP4CLIP
)
FULL_LISTS = {
    "train": AnnotationFile(
        ("MSRVTT_train.full.csv", "train_list_full.txt", *TRAIN_7K.names), "6,513 training videos", CLIP4CLIP
    ),
    "val": AnnotationFile(("MSRVTT_val.full.csv", "val_list_full.txt"), "497 validation videos", EMCL),
    "test": AnnotationFile(("MSRVTT_test.full.csv", "test_list_full.txt"), "2,990 test videos", EMCL),
}
OFFICIAL_NAMES = {"train": "train", "validate": "val", "test": "test"}
"""Our names of splits by those of the official file."""

Captions = dict[str, list[str]]
"""Captions by video id."""

TEST = Published(1000, 1000)
PROTOCOLS = {
    "9k": Protocol("1K-A with 9,000 training videos, as the paper", {"train": Published(9000, 180_000), "test": TEST}),
    "7k": Protocol("1K-A with 7,010 training videos", {"train": Published(7010, 140_200), "test": TEST}),
    "1k-a": Protocol("the 1K-A test videos alone", {"test": TEST}),
    "full": Protocol(
        "the official split; every caption a query",
        {"train": Published(6513, 130_260), "val": Published(497, 9940), "test": Published(2990, 59_800)},
    ),
}


def read_msrvtt(folder: DownloadFolder, protocol: str) -> Annotations:
    """Read MSR-VTT by the protocol "9k", "7k", "1k-a" or "full"; SettingsError if a file has the wrong content."""
    if protocol == "full":
        return _read_full(folder)
    asked = _read_1ka(folder)
    if protocol == "1k-a":
        return pick_videos({"test": list(asked)}, asked)
    train_list = folder.find_required(TRAIN_9K if protocol == "9k" else TRAIN_7K)
    captions, videos = _read_captions(folder)
    train = read_ids(train_list) if train_list else []
    return pick_videos(
        {"train": train, "test": list(asked)}, {**captions, **asked}, lambda name: _duration(videos.get(name, {}))
    )


def _read_full(folder: DownloadFolder) -> Annotations:
    captions, videos = _read_captions(folder)
    lists: dict[str, Sequence[str]] = {}
    official = _official_lists(videos)
    for split, file in FULL_LISTS.items():
        path = folder.find(file)
        if path is None and split in official:
            lists[split] = official[split]
        else:
            path = path or folder.find_required(file)
            lists[split] = read_ids(path) if path else []
    return pick_videos(lists, captions, lambda name: _duration(videos.get(name, {})))


def _official_lists(videos: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, record in videos.items():
        split = OFFICIAL_NAMES.get(str(record.get("split")))
        if split:
            lists.setdefault(split, []).append(name)
    return lists


def _read_1ka(folder: DownloadFolder) -> Captions:
    """Read the one caption of each test video, from the table, or from all captions and a choice of one."""
    path = folder.find(TEST_1KA)
    if path:
        return _read_table(path)
    ids, choice = folder.find(TEST_1KA_IDS), folder.find(TEST_1KA_CHOICE)
    if not ids and not choice:
        folder.find_required(TEST_1KA)
        return {}
    ids, choice = folder.find_required(TEST_1KA_IDS), folder.find_required(TEST_1KA_CHOICE)
    captions, _ = _read_captions(folder)
    if not ids or not choice or not captions:
        return {}
    chosen = mapping(read_plain_pickle(choice), choice, "the pickle")
    return {name: [_chosen(captions, chosen, name, choice)] for name in read_ids(ids)}


def _read_table(path: Path) -> Captions:
    rows = [row for _, row in read_csv(path, ("video_id", "sentence"))]
    captions = {row["video_id"]: [row["sentence"]] for row in rows}
    if len(captions) < len(rows):
        raise SettingsError(f"{path} has a video twice; the 1K-A table has one caption per video.")
    return captions


def _chosen(captions: Captions, chosen: Mapping[str, Any], name: str, path: Path) -> str:
    number, said = chosen.get(name), captions.get(name, [])
    if not isinstance(number, int) or not 0 <= number < len(said):
        raise SettingsError(f"{path} chooses caption {shown(number)} of {shown(name)}, which has {len(said)}.")
    return said[number]


def _read_captions(folder: DownloadFolder) -> tuple[Captions, dict[str, Mapping[str, Any]]]:
    """Read captions and records of all videos from the file found; its name does not decide its form."""
    captions: Captions = {}
    videos: dict[str, Mapping[str, Any]] = {}
    for path in (folder.find_required(CAPTIONS), folder.find(OFFICIAL_TEST)):
        if path:
            content = mapping(read_json(path), path, "the file")
            _add_captions(path, content, captions)
            for record in content.get("videos", ()):
                videos[text(field(record, "video_id", path, "a video"), path, "video_id")] = record
    return captions, videos


def _add_captions(path: Path, content: Mapping[str, Any], captions: Captions) -> None:
    """Add the sentences of the official form, or the annotations of the form in Frozen in Time's archive."""
    name, key = ("sentences", "video_id") if "sentences" in content else ("annotations", "image_id")
    before = set(captions)
    for record in items(field(content, name, path, "the file"), path, name):
        video = text(field(record, key, path, name), path, key)
        if video not in before:  # MSRVTT_data.json holds the official test captions already
            captions.setdefault(video, []).append(text(field(record, "caption", path, name), path, "caption"))


def _duration(record: Mapping[str, Any]) -> dict[str, float]:
    start, end = record.get("start time"), record.get("end time")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return {}
    return {"duration": round(end - start, 3)}


MSRVTT = Dataset("MSR-VTT", PROTOCOLS, read_msrvtt, videos=FROZEN, ending=".mp4")
