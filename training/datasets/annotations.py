"""Captioned videos of each split of a dataset, from its annotation files, and notes on what was left out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colbert_video.training.data.manifest import list_some
from colbert_video.training.datasets.download_folder import DownloadFolder

ORDER = ("test", "val", "train")
"""Priority of splits: a video of two splits stays in the first of them, so that no gallery loses videos."""
CLIP = re.compile(r".+_(\d+)_(\d+)")
"""Read from the right: YouTube's own ids may hold "_" and "-"."""


@dataclass(frozen=True)
class CaptionedVideo:
    """One video with its captions."""

    id: str
    """The dataset's id."""
    captions: Sequence[str]
    """In the order of the annotation file, repeated ones included."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the manifest, such as duration in seconds."""


@dataclass(frozen=True)
class Annotations:
    """Captioned videos of a dataset."""

    splits: Mapping[str, Sequence[CaptionedVideo]]
    """Videos with captions, by split, in the order of the split's list."""
    uncaptioned: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Ids of a split's list that have no caption."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Published:
    """Size of a published split; None for a figure that is not published."""

    videos: int
    captions: int | None = None
    """Captions; a paragraph counts as one."""


@dataclass(frozen=True)
class Protocol:
    """One of the splits of a dataset in use."""

    about: str
    """Origin of the splits and their particularities."""
    published: Mapping[str, Published]
    """Published sizes by split."""


@dataclass(frozen=True)
class Dataset:
    """Reader of one dataset, with its protocols and sources."""

    title: str
    """Its name as papers write it."""
    protocols: Mapping[str, Protocol]
    """Protocols by the name that users choose them with; the first is the default."""
    read: Callable[[DownloadFolder, str], Annotations]
    """Reads the annotation files of a folder for the named protocol."""
    videos: str
    """Download page of the videos."""
    ending: str
    """Extension of the video files from there."""


def one_line(text: str) -> str:
    """Replace every run of white space by one space, as tokenizers do."""
    return " ".join(text.split())


def paragraph(sentences: Sequence[str]) -> str:
    """Join sentences with spaces: the one query of a video in paragraph retrieval."""
    return one_line(" ".join(sentences))


def pick_videos(
    lists: Mapping[str, Sequence[str]],
    captions: Mapping[str, Sequence[str]],
    metadata: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> Annotations:
    """Assign captions and metadata, both by id, to the listed ids of each split.

    Empty captions are left out. A video of two splits stays in the first of them by `ORDER`. Notes count both.
    """
    splits, uncaptioned, notes = {}, {}, []
    taken: dict[str, str] = {}
    for split in sorted(lists, key=ORDER.index):
        ids = [identifier for identifier in lists[split] if identifier not in taken]
        notes += _overlap_notes(split, lists[split], taken)
        said = {identifier: _worded(captions.get(identifier, ())) for identifier in ids}
        splits[split] = [CaptionedVideo(name, said[name], metadata(name)) for name in ids if said[name]]
        uncaptioned[split] = [name for name in ids if not said[name]]
        notes += _empty_notes(split, sum(len(captions.get(name, ())) - len(said[name]) for name in ids))
        taken |= dict.fromkeys(ids, split)
    unlisted = [name for name in captions if name not in taken]
    if unlisted:
        notes.append(f"{len(unlisted)} videos with captions are in none of these splits.")
    return Annotations({split: splits[split] for split in lists}, uncaptioned, notes)


def _worded(captions: Sequence[str]) -> list[str]:
    return [line for line in map(one_line, captions) if line]


def _overlap_notes(split: str, ids: Sequence[str], taken: Mapping[str, str]) -> list[str]:
    both = [name for name in ids if name in taken]
    if not both:
        return []
    others = " and ".join(sorted({taken[name] for name in both}))
    return [f"{len(both)} videos of the {split} list are in {others} too and left out of {split}: {list_some(both)}."]


def _empty_notes(split: str, empty: int) -> list[str]:
    return [f"{empty} empty captions of {split} are left out."] if empty else []


def clip_duration(identifier: str) -> dict[str, float]:
    """Return the length of a clip in seconds as metadata; nothing for an id without start and end."""
    match = CLIP.fullmatch(identifier)
    return {"duration": float(int(match[2]) - int(match[1]))} if match else {}
