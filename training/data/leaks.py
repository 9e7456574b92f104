"""Signs that a test is easier than it seems: what the training split shares with the others beside its files.

One file in two splits is refused by `read_manifest`. What is found here is not always a mistake, so it is said, not refused:
copies of a file under other names, clips that were cut from one source, and captions that are the same word for word.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from colbert_video.durable import checksum
from colbert_video.errors import shown
from colbert_video.training.data.manifest import ManifestRow

CUT_CLIP = re.compile(r"(?P<source>.+?)_\d+(?:\.\d+)?_\d+(?:\.\d+)?")
"""A clip's name by source, start and end, as MSVD and VATEX write it."""
SOURCE_COLUMNS = ("video_id", "source", "youtube_id", "url")
"""Columns that name what a clip was cut from."""
LEAST_CAPTIONS = 0.01
"""Share of a split's captions, from which on captions that are trained on too are worth a word."""


def find_leaks(rows: Sequence[ManifestRow], train_split: str = "train") -> list[str]:
    """Return what other splits share with the training split, one sentence for each sign and split.

    Args:
        rows: All rows of a manifest.
        train_split: The split that models are trained on.
    """
    trained = [row for row in rows if row.split == train_split]
    splits = dict.fromkeys(row.split for row in rows if row.split != train_split)
    found = []
    for split in splits if trained else ():
        others = [row for row in rows if row.split == split]
        found += [*copied_files(trained, others), *_shared_sources(trained, others), *_shared_captions(trained, others)]
    return found


def copied_files(trained: Iterable[ManifestRow], others: Iterable[ManifestRow]) -> list[str]:
    """Return a sentence on files of one split whose content a file of the training split has, or nothing."""
    theirs = {row.path: row for row in trained}
    ours = {row.path: row for row in others}
    sizes = _by_size(theirs)
    pairs = [
        (ours[path], theirs[twin])
        for size, paths in _by_size(ours).items()
        if size and size in sizes
        for path, twin in _twins(paths, sizes[size])
    ]
    if not pairs:
        return []
    one, other = pairs[0]
    return [
        (
            f"{len(pairs)} videos of the split {shown(one.split)} are copies of videos of {shown(other.split)}, such as "
            f"{shown(one.video)} and {shown(other.video)}: figures on them are those of training data."
        )
    ]


def _by_size(paths: Iterable[Path]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in paths:
        try:
            found.setdefault(os.stat(path).st_size, []).append(path)  # noqa: PTH116 - the name may be no text
        except (OSError, ValueError):
            continue
    return found


def _twins(paths: Sequence[Path], candidates: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each path with the first candidate of the same content; all have one size."""
    known = {digest: path for path in reversed(candidates) if (digest := _digest(path)) is not None}
    for path in paths:
        twin = known.get(_digest(path) or "")
        if twin is not None:
            yield path, twin


def _digest(path: Path) -> str | None:
    try:
        return checksum(path)[1]
    except OSError:
        return None


def _shared_sources(trained: Iterable[ManifestRow], others: Sequence[ManifestRow]) -> list[str]:
    sources = {source for row in trained if (source := _source(row)) is not None}
    shared = list(dict.fromkeys(row.video for row in others if _source(row) in sources))
    if not shared:
        return []
    return [
        (
            f"{len(shared)} videos of the split {shown(others[0].split)} were cut from a source that videos of the training split "
            f"were cut from too, such as {shown(shared[0])}: they may show what was trained on."
        )
    ]


def _source(row: ManifestRow) -> str | None:
    """Return what a video was cut from, as a column or its name says; None if nothing says so."""
    for column in SOURCE_COLUMNS:
        if row.metadata.get(column):
            return str(row.metadata[column])
    match = CUT_CLIP.fullmatch(row.path.stem)
    return None if match is None else match["source"]


def _shared_captions(trained: Iterable[ManifestRow], others: Sequence[ManifestRow]) -> list[str]:
    said = {_plain(row.caption) for row in trained}
    shared = [row for row in others if _plain(row.caption) in said]
    if len(shared) < max(1, LEAST_CAPTIONS * len(others)):
        return []
    return [
        (
            f"{len(shared)} of {len(others)} captions of the split {shown(others[0].split)} are captions of the training split word "
            f"for word, such as {shown(shared[0].caption)}: a model may know them by heart."
        )
    ]


def _plain(caption: str) -> str:
    return " ".join(caption.casefold().split()).rstrip(".")
