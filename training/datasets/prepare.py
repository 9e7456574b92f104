"""`colbert-video prepare`: checks a dataset's download folder and writes its manifest."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from colbert_video.errors import SettingsError
from colbert_video.training.data.manifest import list_some
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
"""By the name that users choose them with."""


def check_dataset(
    name: str,
    folder: str | Path,
    *,
    videos: str | Path | None = None,
    split_name: str | None = None,
    hold_out: int = 0,
) -> Preparation:
    """Read a dataset's download and check it against the published splits. Nothing is written.

    Args:
        name: "msrvtt", "msvd", "vatex", "didemo" or "activitynet".
        folder: Where the annotation files are, at any depth.
        videos: Where the videos are, at any depth; None for the same folder.
        split_name: Which of the dataset's protocols; None for the one that the paper uses.
        hold_out: Training videos that become the split "val", where the protocol has none. Which ones depends on their
            ids alone.

    Raises:
        SettingsError: If a name is unknown, a folder does not exist, or a file is not what it should be. What is missing is
            no error here but in the result's `problems`.
    """
    dataset = _choose(name)
    protocol_name = _choose_protocol(dataset, split_name)
    protocol = dataset.protocols[protocol_name]
    download = DownloadFolder(folder)
    annotations = dataset.read(download, protocol_name)
    annotations, published = _hold_out(annotations, protocol.published, hold_out)
    places = VideoFiles(folder if videos is None else videos)
    found = {
        video.id: path
        for split in annotations.splits.values()
        for video in split
        if (path := places.find(video.id))
    }
    return Preparation(
        dataset=dataset.title,
        protocol=f"{protocol_name}, {protocol.about}",
        folder=download.path,
        videos=places.folder,
        source=dataset.videos,
        ending=dataset.ending,
        annotations=annotations,
        published=published,
        files=found,
        used=download.used,
        missing_files=download.missing,
        notes=[*annotations.notes, *_file_notes(places, list(found)), *_validation_note(published)],
    )


def write_manifest(preparation: Preparation, output: str | Path, *, allow_missing: bool = False) -> int:
    """Write the manifest of a checked download.

    Args:
        preparation: From `check_dataset`.
        output: A .jsonl file; one that is there is replaced. Paths of videos are relative to its folder.
        allow_missing: Write it although something is missing. Videos that were not found are named as if they were in the
            folder of videos, so that training and evaluation report them.

    Returns:
        The number of rows.

    Raises:
        SettingsError: If something is missing and that is not allowed, nothing is there at all, or the file cannot be
            written.
    """
    output = Path(output)
    check_output(output)
    if preparation.problems and not allow_missing:
        raise SettingsError(
            f"{preparation.dataset} is incomplete: {'; '.join(preparation.problems)}. Get what is missing, or pass "
            "allow_missing=True (--allow-missing) to write what is there."
        )
    rows = [*manifest_rows(preparation, output.parent)]
    if not rows:
        raise SettingsError(
            f"{preparation.folder} has no captioned videos of {preparation.dataset}: {list_some(preparation.problems)}."
        )
    write_rows(rows, output)
    return len(rows)


def check_output(output: Path) -> None:
    """Refuse a manifest that is not called as one.

    Raises:
        SettingsError: If its name does not end in .jsonl.
    """
    if output.suffix.lower() != ".jsonl":
        raise SettingsError(f"{output} does not end in .jsonl, as the manifest does.")


def write_rows(rows: Iterable[Mapping[str, Any]], output: Path) -> None:
    """Write the rows of a manifest; a manifest that is there is replaced once the new one is whole.

    Raises:
        SettingsError: If the file cannot be written.
    """
    partial = output.with_name(output.name + ".partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}.") from error


def manifest_rows(preparation: Preparation, folder: str | Path) -> Iterator[dict[str, Any]]:
    """The manifest's rows, as `read_manifest` reads them.

    Args:
        preparation: From `check_dataset`.
        folder: Where the manifest will be.

    Yields:
        `video`, `caption` and `split`; the dataset's `id`; `caption_id`, which counts the captions of a video from 0; and
        what the dataset knows more.
    """
    for split, videos in preparation.annotations.splits.items():
        for video in videos:
            path = preparation.files.get(
                video.id, preparation.videos / _expected_name(video, preparation.ending)
            )
            shown = relative_path(path, Path(folder))
            for number, caption in enumerate(video.captions):
                yield {
                    "video": shown,
                    "caption": caption,
                    "split": split,
                    "id": video.id,
                    "caption_id": number,
                    **video.metadata,
                }


def _choose(name: str) -> Dataset:
    if name not in DATASETS:
        raise SettingsError(f"{name!r} is no known dataset; choose {', '.join(DATASETS)}.")
    return DATASETS[name]


def _choose_protocol(dataset: Dataset, split_name: str | None) -> str:
    if split_name is None:
        return next(iter(dataset.protocols))
    if split_name not in dataset.protocols:
        known = "; ".join(f"{name}: {protocol.about}" for name, protocol in dataset.protocols.items())
        raise SettingsError(f"{dataset.title} has no split named {split_name!r}; choose one of {known}.")
    return split_name


def _hold_out(
    annotations: Annotations, published: Mapping[str, Published], count: int
) -> tuple[Annotations, Mapping[str, Published]]:
    """Make the videos whose ids hash lowest a validation split."""
    if count == 0:
        return annotations, published
    if "val" in published or "train" not in published:
        raise SettingsError(
            "there is nothing to hold out: the split has its own validation videos, or none to train on."
        )
    train = annotations.splits["train"]
    if not 0 < count < max(len(train), 1):
        raise SettingsError(f"hold_out is {count}; give 0, or fewer than the {len(train)} training videos.")
    chosen = {video.id for video in sorted(train, key=_draw)[:count]}
    splits = {
        "train": [video for video in train if video.id not in chosen],
        "val": [video for video in train if video.id in chosen],
    }
    left = Published(published["train"].videos - count)
    return (
        replace(annotations, splits={**annotations.splits, **splits}),
        {**published, "train": left, "val": Published(count)},
    )


def _draw(video: CaptionedVideo) -> bytes:
    return hashlib.sha256(video.id.encode()).digest()


def _file_notes(places: VideoFiles, ids: list[str]) -> list[str]:
    several = places.several(ids)
    if not several:
        return []
    return [f"{len(several)} videos have several files, of which one is taken: {list_some(several)}."]


def _validation_note(published: Mapping[str, Published]) -> list[str]:
    if "train" not in published or "val" in published:
        return []
    advice = "hold some of train out (--hold-out N), or train with --set data.validation_split=null"
    return [f"the split has no validation videos: {advice}."]


def _expected_name(video: CaptionedVideo, ending: str) -> str:
    return video.id if "." in video.id else video.id + ending


def relative_path(path: Path, folder: Path) -> str:
    """A path as a manifest in a folder names it."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows: another drive
        return path.absolute().as_posix()
