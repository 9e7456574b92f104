"""VATEX (Wang et al., ICCV 2019): 10 s clips with ten English captions each, every one a query.

Two lists of 1,500 test videos are in use, with 724 videos in common, so papers that name neither cannot be compared.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colbert_video.training.datasets.annotation_files import field, items, mapping, read_ids, read_json, text
from colbert_video.training.datasets.annotations import (
    Annotations,
    Dataset,
    Protocol,
    Published,
    clip_duration,
    pick_videos,
)
from colbert_video.training.datasets.download_folder import AnnotationFile, DownloadFolder

OFFICIAL = "https://eric-xw.github.io/vatex-website/download.html"
CLIP2VIDEO = "https://github.com/CryhanFang/CLIP2Video (data/vatex_data)"
EMCL = "https://github.com/jpthu17/EMCL (video_retrieval/As_an_inference_module/data/vatex_data)"

COLLECTED = AnnotationFile(
    ("vatex_data.json", "ref_captions.json", "vatex_training_v1.0.json"),
    "all captions; of the official files also vatex_validation_v1.0.json, which has the test videos",
    f"{OFFICIAL}, or as vatex_data.json from {EMCL}",
)
FURTHER = tuple(
    AnnotationFile((name,), "captions", OFFICIAL)
    for name in (
        "vatex_validation_v1.0.json",
        "vatex_public_test_english_v1.1.json",
        "vatex_public_test_english_v1.0.json",
    )
)
TRAIN = AnnotationFile(("train_list.txt",), "25,991 training videos", CLIP2VIDEO)
VAL = AnnotationFile(("val_list.txt",), "1,500 validation videos", CLIP2VIDEO)

TRAINING = Published(25_991, 259_910)
HELD_OUT = Published(1500, 15_000)
PROTOCOLS = {
    "test_list": Protocol(
        "test_list.txt, the split of HGR (Chen et al., CVPR 2020)",
        {"train": TRAINING, "val": HELD_OUT, "test": HELD_OUT},
    ),
    "test1k5_sec_list": Protocol(
        "test1k5_sec_list.txt, drawn by CLIP2Video (Fang et al., 2021) from HGR's test and validation videos",
        # 776 of its test videos are on HGR's validation list.
        {"train": TRAINING, "val": Published(724, 7240), "test": HELD_OUT},
    ),
}


def read_vatex(folder: DownloadFolder, protocol: str) -> Annotations:
    """Read VATEX in English by the protocol named as its test list; SettingsError if a file has the wrong content."""
    test = AnnotationFile((f"{protocol}.txt",), "1,500 test videos", CLIP2VIDEO)
    paths = {"train": folder.find_required(TRAIN), "val": folder.find_required(VAL), "test": folder.find_required(test)}
    return pick_videos(
        {split: read_ids(path) if path else [] for split, path in paths.items()}, _read_captions(folder), clip_duration
    )


def _read_captions(folder: DownloadFolder) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for path in (folder.find_required(COLLECTED), *map(folder.find, FURTHER)):
        if path:
            for name, said in _records(read_json(path), path):
                # There may be a collected file and the official ones.
                captions.setdefault(name, [text(caption, path, name) for caption in items(said, path, name)])
    return captions


def _records(content: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield id and English captions of each video, from any of the three forms."""
    if isinstance(content, list):
        for record in content:
            name = text(field(record, "videoID", path, "a record"), path, "videoID")
            yield name, field(record, "enCap", path, name)
        return
    for name, said in mapping(content, path, "the file").items():
        yield name, field(said, "enCap", path, name) if isinstance(said, dict) else said


VATEX = Dataset("VATEX", PROTOCOLS, read_vatex, videos=OFFICIAL, ending=".mp4")
