"""MSVD (Chen and Dolan, ACL 2011): 1,970 clips of YouTube videos with about 40 captions each, every one a query."""

from pathlib import Path
from typing import Any

from colbert_video.training.datasets.annotation_files import items, mapping, read_ids, read_json, text
from colbert_video.training.datasets.annotations import (
    Annotations,
    Dataset,
    Protocol,
    Published,
    clip_duration,
    pick_videos,
)
from colbert_video.training.datasets.download_folder import AnnotationFile, DownloadFolder
from colbert_video.training.datasets.plain_pickle import read_plain_pickle

CLIP4CLIP = "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msvd_data.zip"
CAPTIONS = AnnotationFile(
    ("raw-captions.pkl", "captions_msvd.json"),
    "all captions",
    f"{CLIP4CLIP}, as JSON in https://github.com/layer6ai-labs/xpool (data/MSVD)",
)
LISTS = {
    split: AnnotationFile((f"{split}_list.txt",), f"the {split} videos", CLIP4CLIP)
    for split in ("train", "val", "test")
}
PROTOCOL = Protocol(
    "the split of Venugopalan et al.; every caption a query",
    {"train": Published(1200, 48_774), "val": Published(100, 4290), "test": Published(670, 27_763)},
)


def read_msvd(folder: DownloadFolder, protocol: str) -> Annotations:
    """Read MSVD by its only protocol, "standard"; SettingsError if a file has the wrong content."""
    captions = folder.find_required(CAPTIONS)
    paths = {split: folder.find_required(file) for split, file in LISTS.items()}
    return pick_videos(
        {split: read_ids(path) if path else [] for split, path in paths.items()},
        _read_captions(captions) if captions else {},
        clip_duration,
    )


def _read_captions(path: Path) -> dict[str, list[str]]:
    content = read_plain_pickle(path) if path.suffix == ".pkl" else read_json(path)
    return {
        name: [_sentence(caption, path, name) for caption in items(said, path, name)]
        for name, said in mapping(content, path, "the file").items()
    }


def _sentence(caption: Any, path: Path, name: str) -> str:
    """A caption is a text in the JSON file and a list of words in the pickle."""
    if isinstance(caption, str):
        return caption
    return " ".join(text(word, path, name) for word in items(caption, path, name))


MSVD = Dataset(
    "MSVD",
    {"standard": PROTOCOL},
    read_msvd,
    videos="https://www.cs.utexas.edu/users/ml/clamp/videoDescription/",
    ending=".avi",
)
