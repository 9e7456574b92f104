"""DiDeMo (Hendricks et al., ICCV 2017): Flickr videos, all descriptions of one joined to a paragraph, its one query.

Descriptions are joined in the order of the annotation file, as in CLIP4Clip and its successors. The annotations have some
videos under two endings; like theirs, a paragraph has the descriptions under the listed one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colbert_video.errors import SettingsError, shown
from colbert_video.training.datasets.annotation_files import field as value_of
from colbert_video.training.datasets.annotation_files import items, read_ids, read_json, spans, text
from colbert_video.training.datasets.annotations import (
    Annotations,
    Dataset,
    Protocol,
    Published,
    one_line,
    paragraph,
    pick_videos,
)
from colbert_video.training.datasets.download_folder import AnnotationFile, DownloadFolder

CHUNK_SECONDS = 5.0
"""Annotators marked moments in chunks of this length, six at most."""
ORIGINAL = "https://github.com/LisaAnne/LocalizingMoments (data)"
EXPERTS = "https://github.com/albanie/collaborative-experts (misc/datasets/didemo)"
SPLITS = ("train", "val", "test")
DATA = {
    split: AnnotationFile((f"{split}_data.json",), f"descriptions of the {split} videos", ORIGINAL) for split in SPLITS
}
LISTS = {split: AnnotationFile((f"{split}_list.txt",), f"the {split} videos", EXPERTS) for split in SPLITS}
PROTOCOL = Protocol(
    "paragraph retrieval; the lists of Collaborative Experts, whose training list lacks 3 of the original 8,395 videos",
    {"train": Published(8392, 8392), "val": Published(1065, 1065), "test": Published(1004, 1004)},
)


@dataclass
class _Descriptions:
    sentences: list[str] = field(default_factory=list)
    timestamps: list[tuple[float, float]] = field(default_factory=list)


def read_didemo(folder: DownloadFolder, protocol: str) -> Annotations:
    """Read DiDeMo by its only protocol, "paragraph": one paragraph per video.

    `timestamps` has [start, end) of each sentence in seconds, averaged over annotators.

    Raises:
        SettingsError: If a file has the wrong content.
    """
    lists: dict[str, Sequence[str]] = {}
    said: dict[str, _Descriptions] = {}
    notes: list[str] = []
    for split in SPLITS:
        data, listed = folder.find_required(DATA[split]), folder.find_required(LISTS[split])
        lists[split] = read_ids(listed) if data and listed else []
        if data and listed:
            chosen, left_out = _choose(lists[split], _read_descriptions(data))
            said |= chosen
            notes += [_left_out(split, left_out)] if left_out else []
    found = pick_videos(
        lists, {name: [paragraph(entry.sentences)] for name, entry in said.items()}, lambda name: _metadata(said[name])
    )
    return Annotations(found.splits, found.uncaptioned, [*found.notes, *notes])


def _read_descriptions(path: Path) -> dict[str, _Descriptions]:
    said: dict[str, _Descriptions] = {}
    for record in items(read_json(path), path, "the file"):
        name = text(value_of(record, "video", path, "a record"), path, "video")
        sentence = one_line(text(value_of(record, "description", path, name), path, name))
        if sentence:
            entry = said.setdefault(name, _Descriptions())
            entry.sentences.append(sentence)
            entry.timestamps.append(_moment(spans(value_of(record, "times", path, name), path, name), path, name))
    return said


def _moment(chunks: Sequence[tuple[float, float]], path: Path, name: str) -> tuple[float, float]:
    if not chunks:
        raise SettingsError(f"{path}: {name} has a description without times; download the file again.")
    start = sum(first for first, _ in chunks) / len(chunks)
    end = sum(last for _, last in chunks) / len(chunks) + 1  # chunks are counted with the last one
    return round(CHUNK_SECONDS * start, 3), round(CHUNK_SECONDS * end, 3)


def _choose(ids: Sequence[str], said: Mapping[str, _Descriptions]) -> tuple[dict[str, _Descriptions], list[str]]:
    """Return the descriptions of each listed id, or of the same id with another extension; and the ids left out."""
    stems: dict[str, list[str]] = {}
    for name in said:
        stems.setdefault(_stem(name), []).append(name)
    sources = {name: name if name in said else next(iter(stems.get(_stem(name), ())), None) for name in ids}
    chosen = {name: said[source] for name, source in sources.items() if source}
    listed = {_stem(name) for name in ids}
    used = set(sources.values())
    return chosen, [name for name in said if name not in used and _stem(name) in listed]


def _stem(identifier: str) -> str:
    return identifier.partition(".")[0]


def _left_out(split: str, ids: Sequence[str]) -> str:
    return (
        f"{len(ids)} videos of {split} have descriptions under a second ending ({shown(ids[0])}), "
        "which are not in their paragraphs, as in the field's loaders."
    )


def _metadata(entry: _Descriptions) -> dict[str, Any]:
    return {"sentences": entry.sentences, "timestamps": entry.timestamps}


DIDEMO = Dataset("DiDeMo", {"paragraph": PROTOCOL}, read_didemo, videos=ORIGINAL, ending=".mp4")
