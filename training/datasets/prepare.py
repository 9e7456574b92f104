"""`colbert-video prepare`: checks a dataset's download folder and writes its manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError, shown
from colbert_video.training.data.manifest import caption_rows, check_output, held_out, list_some, write_rows
from colbert_video.training.datasets.activitynet import ACTIVITYNET
from colbert_video.training.datasets.annotations import Annotations, CaptionedVideo, Dataset, Published
from colbert_video.training.datasets.didemo import DIDEMO
from colbert_video.training.datasets.download_folder import DownloadFolder, VideoFiles
from colbert_video.training.datasets.msrvtt import MSRVTT
from colbert_video.training.datasets.msvd import MSVD
from colbert_video.training.datasets.preparation import Preparation
from colbert_video.training.datasets.vatex import VATEX

DATASETS: Mapping[str, Dataset] = {
    "msrvtt": MSRVTT,
    "msvd": MSVD,
    "vatex": VATEX,
    "didemo": DIDEMO,
    "activitynet": ACTIVITYNET,
}
"""Datasets by the name that users choose them with."""


def check_dataset(
    name: str, folder: str | Path, *, videos: str | Path | None = None, split_name: str | None = None, hold_out: int = 0
) -> Preparation:
    """Read a dataset's download and check it against the published splits. Nothing is written.

    Args:
        name: "msrvtt", "msvd", "vatex", "didemo" or "activitynet".
        folder: Folder of the annotation files, which may lie at any depth.
        videos: Folder of the videos, likewise; None for the same folder.
        split_name: The dataset's protocol; None for the one that the paper uses.
        hold_out: Number of training videos that become the split "val", where the protocol has none; chosen by their ids.

    Raises:
        SettingsError: If a name is unknown, a folder does not exist, or a file has the wrong content. What is missing is
            not an error; it is in the result's `problems`.
    """
    dataset = _choose(name)
    protocol_name = _choose_protocol(dataset, split_name)
    protocol = dataset.protocols[protocol_name]
    download = DownloadFolder(folder)
    annotations = dataset.read(download, protocol_name)
    annotations, published = _hold_out(annotations, protocol.published, hold_out)
    files = VideoFiles(folder if videos is None else videos)
    ids = [video.id for split in annotations.splits.values() for video in split]
    found = {name: path for name in ids if (path := files.find(name))}
    return Preparation(
        dataset=dataset.title,
        protocol=f"{protocol_name}, {protocol.about}",
        folder=download.path,
        videos=files.folder,
        source=dataset.videos,
        ending=dataset.ending,
        annotations=annotations,
        published=published,
        files=found,
        used=download.used,
        missing_files=download.missing,
        notes=[*annotations.notes, *_file_notes(files, list(found)), *_validation_note(published)],
    )


def write_manifest(preparation: Preparation, output: str | Path, *, allow_missing: bool = False) -> int:
    """Write the manifest of a checked download.

    Args:
        preparation: From `check_dataset`.
        output: A .jsonl file; an older one is replaced. Paths of videos are relative to its folder.
        allow_missing: True to write it although something is missing. Videos that were not found are named as if they were
            in the folder of videos, so that training and evaluation report them.

    Returns:
        The number of rows.

    Raises:
        SettingsError: If something is missing and that is not allowed, there is no captioned video, or the file cannot be
            written.
    """
    output = user_path(output, "output")
    check_output(output)
    if preparation.problems and not allow_missing:
        raise SettingsError(
            f"{preparation.dataset} is incomplete: {'; '.join(preparation.problems)}. Get what is missing, or pass "
            "allow_missing=True (--allow-missing) to write what is there."
        )
    rows = [*_manifest_rows(preparation, output.parent)]
    if not rows:
        raise SettingsError(
            f"{preparation.folder} has no captioned videos of {preparation.dataset}: {list_some(preparation.problems)}."
        )
    write_rows(rows, output)
    return len(rows)


def _manifest_rows(preparation: Preparation, folder: Path) -> Iterator[dict[str, Any]]:
    for split, videos in preparation.annotations.splits.items():
        for video in videos:
            path = preparation.files.get(video.id, preparation.videos / _expected_name(video, preparation))
            yield from caption_rows(
                path, folder, video.captions, split=split, identifier=video.id, metadata=video.metadata
            )


def _choose(name: str) -> Dataset:
    if name not in DATASETS:
        raise SettingsError(f"{shown(name)} is not a known dataset; choose {', '.join(DATASETS)}.")
    return DATASETS[name]


def _choose_protocol(dataset: Dataset, split_name: str | None) -> str:
    if split_name is None:
        return next(iter(dataset.protocols))
    if split_name not in dataset.protocols:
        known = "; ".join(f"{name}: {protocol.about}" for name, protocol in dataset.protocols.items())
        raise SettingsError(f"{dataset.title} has no split named {shown(split_name)}; choose one of {known}.")
    return split_name


def _hold_out(
    annotations: Annotations, published: Mapping[str, Published], count: int
) -> tuple[Annotations, Mapping[str, Published]]:
    """Move some training videos to a validation split."""
    if count == 0:
        return annotations, published
    if "val" in published or "train" not in published:
        raise SettingsError(
            "there is nothing to hold out: the split has its own validation videos, or none to train on."
        )
    train = annotations.splits["train"]
    if not 0 < count < max(len(train), 1):
        raise SettingsError(f"hold_out is {count}; give 0, or fewer than the {len(train)} training videos.")
    chosen = held_out([video.id for video in train], count)
    splits = {
        "train": [video for video in train if video.id not in chosen],
        "val": [video for video in train if video.id in chosen],
    }
    left = Published(published["train"].videos - count)
    return (
        replace(annotations, splits={**annotations.splits, **splits}),
        {**published, "train": left, "val": Published(count)},
    )


def _file_notes(files: VideoFiles, ids: list[str]) -> list[str]:
    several = files.ambiguous(ids)
    if not several:
        return []
    return [f"{len(several)} videos have several files, of which one is taken: {list_some(several)}."]


def _validation_note(published: Mapping[str, Published]) -> list[str]:
    if "train" not in published or "val" in published:
        return []
    advice = "hold some of train out (--hold-out N), or train with --set data.validation_split=null"
    return [f"the split has no validation videos: {advice}."]


def _expected_name(video: CaptionedVideo, preparation: Preparation) -> str:
    return video.id if "." in video.id else video.id + preparation.ending
