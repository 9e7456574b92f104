"""A checked download: what is there, what is missing, and how that compares with the published splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from colbert_video.training.data.manifest import list_some
from colbert_video.training.datasets.annotations import Annotations, Published
from colbert_video.training.datasets.download_folder import AnnotationFile


@dataclass(frozen=True)
class SplitCount:
    """What one split holds."""

    videos: int
    """Videos with captions."""
    captions: int
    """Captions; each is a query or a training row."""
    found: int
    """Videos whose file is there."""
    published: Published
    """What the published split holds."""

    @property
    def differs(self) -> bool:
        """Whether a figure is not the published one."""
        return self.videos != self.published.videos or self.published.captions not in (None, self.captions)


@dataclass(frozen=True)
class Preparation:
    """A download folder, read and checked."""

    dataset: str
    """The dataset's name."""
    protocol: str
    """The name of the split, and what it is."""
    folder: Path
    """Where the annotation files are."""
    videos: Path
    """Where the videos are looked for."""
    source: str
    """Where the field gets the videos."""
    ending: str
    """What their files end in there."""
    annotations: Annotations
    """Captioned videos by split."""
    published: Mapping[str, Published]
    """What each split should hold."""
    files: Mapping[str, Path]
    """Video files by id, those that were found."""
    used: Sequence[Path]
    """Annotation files that were read."""
    missing_files: Sequence[AnnotationFile]
    """Annotation files that are needed and are not there."""
    notes: Sequence[str]
    """What else is worth knowing."""

    @cached_property
    def counts(self) -> dict[str, SplitCount]:
        """What each split holds."""
        return {split: self._count(split, published) for split, published in self.published.items()}

    @cached_property
    def missing_videos(self) -> dict[str, list[str]]:
        """By split, ids whose file was not found."""
        absent = {
            split: [video.id for video in videos if video.id not in self.files]
            for split, videos in self.annotations.splits.items()
        }
        return {split: ids for split, ids in absent.items() if ids}

    @cached_property
    def problems(self) -> list[str]:
        """What has to be there and is not; with any of it, a manifest is written only on demand."""
        problems = [f"missing file under {self.folder}: {file}" for file in self.missing_files]
        asked = self.annotations.uncaptioned.get("test", ())
        if asked:
            problems.append(f"{len(asked)} videos of the test list have no caption: {list_some(asked)}")
        return problems + self._video_problems()

    @cached_property
    def warnings(self) -> list[str]:
        """Figures that are not the published ones, and listed videos that cannot be used."""
        warnings = [
            f"{split} has {_figures(count.videos, count.captions)}; published: "
            f"{_figures(count.published.videos, count.published.captions)}"
            for split, count in self.counts.items()
            if count.differs
        ]
        return warnings + [
            f"{len(ids)} videos of the {split} list have no caption and are left out: {list_some(ids)}"
            for split, ids in self.annotations.uncaptioned.items()
            if ids and split != "test"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "splits": {split: _count_values(count) for split, count in self.counts.items()},
            "problems": self.problems,
            "warnings": self.warnings,
            "notes": list(self.notes),
            "files": [str(path) for path in self.used],
            "missing_files": [str(file) for file in self.missing_files],
            "missing_videos": self.missing_videos,
            "uncaptioned": {split: list(ids) for split, ids in self.annotations.uncaptioned.items() if ids},
        }

    def report(self) -> list[RenderableType]:
        """The result for people, a table and sentences; what is missing comes last, where it is seen."""
        table = Table(title=self.dataset, title_justify="left")
        for name in ("split", "videos", "published", "captions", "published", "files found"):
            table.add_column(name, justify="left" if name == "split" else "right")
        for split, count in self.counts.items():
            table.add_row(split, *_cells(count), style="yellow" if count.differs else None)
        return [
            table,
            f"split: {self.protocol}",
            f"read: {', '.join(map(str, self.used)) or 'nothing'}",
            *(f"note: {note}" for note in self.notes),
            *(f"warning: {warning}" for warning in self.warnings),
            *self.problems,
        ]

    def _count(self, split: str, published: Published) -> SplitCount:
        videos = self.annotations.splits.get(split, ())
        return SplitCount(
            videos=len(videos),
            captions=sum(len(video.captions) for video in videos),
            found=sum(video.id in self.files for video in videos),
            published=published,
        )

    def _video_problems(self) -> list[str]:
        if not self.missing_videos:
            return []
        if not self.files:
            return [
                f"no video of the dataset is under {self.videos}; name their folder (--videos). They are from {self.source}"
            ]
        return [
            f"{len(ids)} of {self.counts[split].videos} videos of {split} have no file under {self.videos}: {list_some(ids)}"
            for split, ids in self.missing_videos.items()
        ]


def _cells(count: SplitCount) -> list[str]:
    published = count.published
    return [
        f"{count.videos:,}",
        f"{published.videos:,}",
        f"{count.captions:,}",
        "-" if published.captions is None else f"{published.captions:,}",
        f"{count.found:,}",
    ]


def _figures(videos: int, captions: int | None) -> str:
    return f"{videos:,} videos" + ("" if captions is None else f", {captions:,} captions")


def _count_values(count: SplitCount) -> dict[str, Any]:
    return {
        "videos": count.videos,
        "captions": count.captions,
        "found": count.found,
        "published": {"videos": count.published.videos, "captions": count.published.captions},
    }
