"""What a dataset's annotation files say: the captioned videos of each split, and what did not fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colbert_video.training.data.manifest import list_some
from colbert_video.training.datasets.download_folder import DownloadFolder

ORDER = ("test", "val", "train")
"""A video that is in two splits stays in the one that comes first here: no gallery loses videos."""


@dataclass(frozen=True)
class CaptionedVideo:
    """One video and what is said of it."""

    id: str
    """The dataset's id."""
    captions: Sequence[str]
    """In the order of the annotation file; a caption that is there twice is here twice."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the manifest, such as duration in seconds."""


@dataclass(frozen=True)
class Annotations:
    """The videos of a dataset."""

    splits: Mapping[str, Sequence[CaptionedVideo]]
    """Videos with captions, by split, in the order of the split's list."""
    uncaptioned: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Ids of a split's list that have no caption."""
    notes: Sequence[str] = ()
    """What else is worth knowing."""


@dataclass(frozen=True)
class Published:
    """What a published split holds; None for a figure that is not published."""

    videos: int
    """Videos."""
    captions: int | None = None
    """Captions, paragraphs counted as one."""


@dataclass(frozen=True)
class Protocol:
    """One way in which the field splits a dataset."""

    about: str
    """Where the splits come from and what is particular about them."""
    published: Mapping[str, Published]
    """By split; the splits that this protocol has."""


@dataclass(frozen=True)
class Dataset:
    """How one dataset is read."""

    title: str
    """Its name as papers write it."""
    protocols: Mapping[str, Protocol]
    """By the name that users choose it with; the first is the default."""
    read: Callable[[DownloadFolder, str], Annotations]
    """Reads the annotation files of a folder for the named protocol."""
    videos: str
    """Where the field gets the videos."""
    ending: str
    """What the files of that download end in."""


def one_line(text: str) -> str:
    """The text with every run of white space as one space, as tokenizers read it."""
    return " ".join(text.split())


def paragraph(sentences: Sequence[str]) -> str:
    """The sentences in their order, each trimmed, joined with one space: paragraph retrieval's one query a video."""
    return one_line(" ".join(sentences))


def pick_videos(
    lists: Mapping[str, Sequence[str]],
    captions: Mapping[str, Sequence[str]],
    metadata: Callable[[str], Mapping[str, Any]] = lambda _: {},
) -> Annotations:
    """Give each listed video its captions.

    Args:
        lists: Ids by split.
        captions: Captions by id.
        metadata: Further columns of a video, by its id.

    Returns:
        The videos of each split. Captions that are empty are left out. A video of two splits stays in the test split, or
        in the validation split if it is not in that. Notes say how many there were of either.
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
    return [
        f"{len(both)} videos of the {split} list are in {others} too and left out of {split}: {list_some(both)}."
    ]


def _empty_notes(split: str, empty: int) -> list[str]:
    return [f"{empty} empty captions of {split} are left out."] if empty else []
