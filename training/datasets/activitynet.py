"""ActivityNet Captions (Krishna et al., ICCV 2017): a video's sentences joined to a paragraph, its one query.

The gallery is `val_1`, as in Zhang et al. (ECCV 2018) and their successors. Sentences are joined in the order of the
file, which is that of their starts but for some 130 videos of val_1.
"""

from pathlib import Path
from typing import Any

from colbert_video.errors import SettingsError, shown
from colbert_video.training.datasets.annotation_files import field, items, mapping, read_ids, read_json, spans, text
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

OFFICIAL = "https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip"
FILES = {
    "train": AnnotationFile(("train.json",), "the training videos with their sentences", OFFICIAL),
    "test": AnnotationFile(("val_1.json",), "the test videos with their sentences", OFFICIAL),
}
LISTS = {
    "train": AnnotationFile(("train_ids.json",), "ids of the training videos", OFFICIAL),
    "test": AnnotationFile(("val_ids.json",), "ids of the test videos", OFFICIAL),
}
"""Not needed: they also have ids without sentences, which no loader can use."""
PROTOCOL = Protocol("paragraph retrieval on val_1", {"train": Published(10_009, 10_009), "test": Published(4917, 4917)})


def read_activitynet(folder: DownloadFolder, protocol: str) -> Annotations:
    """Read ActivityNet Captions by its only protocol, "val_1": one paragraph per video.

    Metadata are `duration` in seconds, and `sentences` with their `timestamps`, [start, end) in seconds.

    Raises:
        SettingsError: If a file has the wrong content.
    """
    records: dict[str, dict[str, Any]] = {}
    lists: dict[str, list[str]] = {}
    notes: list[str] = []
    for split, file in FILES.items():
        path = folder.find_required(file)
        found = _read_records(path) if path else {}
        lists[split] = list(found)
        records |= found
        listed = folder.find(LISTS[split])
        if path and listed:
            notes += _compare(listed, read_ids(listed), found)
    captions = {name: [paragraph(record["sentences"])] for name, record in records.items()}
    picked = pick_videos(lists, captions, lambda name: records[name])
    return Annotations(picked.splits, picked.uncaptioned, [*picked.notes, *notes])


def _read_records(path: Path) -> dict[str, dict[str, Any]]:
    content = mapping(read_json(path), path, "the file")
    return {name: _read_record(record, path, name) for name, record in content.items()}


def _read_record(record: Any, path: Path, name: str) -> dict[str, Any]:
    duration = field(record, "duration", path, name)
    if not isinstance(duration, int | float) or not duration > 0:
        raise SettingsError(f"{path}: the duration of {name} is {shown(duration)}; it is a positive number of seconds.")
    said = items(field(record, "sentences", path, name), path, name)
    times = spans(field(record, "timestamps", path, name), path, name)
    if len(said) != len(times):
        raise SettingsError(f"{path}: {name} has {len(said)} sentences and {len(times)} timestamps.")
    sentences = [one_line(text(sentence, path, name)) for sentence in said]
    return {"duration": float(duration), "sentences": sentences, "timestamps": times}


def _compare(path: Path, ids: list[str], records: dict[str, Any]) -> list[str]:
    without = len(set(ids) - records.keys())
    unlisted = len(records.keys() - set(ids))
    notes = [f"{without} ids of {path.name} have no sentences and are in no split."] if without else []
    return notes + ([f"{unlisted} videos with sentences are not in {path.name}."] if unlisted else [])


ACTIVITYNET = Dataset(
    "ActivityNet Captions",
    {"val_1": PROTOCOL},
    read_activitynet,
    videos="http://activity-net.org/download.html",
    ending=".mp4",
)
