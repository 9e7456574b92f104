"""A checked download: found and missing files, compared with the published splits."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from colbert_video.base.once import once_property
from colbert_video.training.data.manifest import list_some
from colbert_video.training.datasets.annotations import Annotations, Published
from colbert_video.training.datasets.download_folder import AnnotationFile


@dataclass(frozen=True)
class SplitCount:
    """Size of one split."""

    videos: int
    """Videos with captions."""
    captions: int
    """Captions; each is a query or a training row."""
    found: int
    """Videos whose file was found."""
    published: Published

    @property
    def differs(self) -> bool:
        """True if a figure is not the published one."""
        return self.videos != self.published.videos or self.published.captions not in (None, self.captions)


@dataclass(frozen=True)
class Preparation:
    """A download folder, read and checked."""

    dataset: str
    """Title of the dataset."""
    protocol: str
    """Name and description of the protocol."""
    folder: Path
    """Folder of the annotation files."""
    videos: Path
    """Folder of the videos."""
    source: str
    """Download page of the videos."""
    ending: str
    """Extension of the video files from there."""
    annotations: Annotations
    published: Mapping[str, Published]
    """Published sizes by split."""
    files: Mapping[str, Path]
    """Video files that were found, by id."""
    used: Sequence[Path]
    """Annotation files that were read."""
    missing_files: Sequence[AnnotationFile]
    """Annotation files that are needed and were not found."""
    notes: Sequence[str]

    @once_property
    def counts(self) -> dict[str, SplitCount]:
        """Size of each split of the protocol."""
        return {split: self._count(split, published) for split, published in self.published.items()}

    @once_property
    def missing_videos(self) -> dict[str, list[str]]:
        """Ids of the videos whose file was not found, by split."""
        absent = {
            split: [video.id for video in videos if video.id not in self.files]
            for split, videos in self.annotations.splits.items()
        }
        return {split: ids for split, ids in absent.items() if ids}

    @once_property
    def problems(self) -> list[str]:
        """What is needed and missing; if there is anything, a manifest is written only on demand."""
        problems = [f"missing file under {self.folder}: {file}" for file in self.missing_files]
        asked = self.annotations.uncaptioned.get("test", ())
        if asked:
            problems.append(f"{len(asked)} videos of the test list have no caption: {list_some(asked)}")
        return problems + self._video_problems()

    @once_property
    def warnings(self) -> list[str]:
        """Figures that differ from the published ones, and listed videos that cannot be used."""
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
        """Return plain values for JSON."""
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "splits": {split: asdict(count) for split, count in self.counts.items()},
            "problems": self.problems,
            "warnings": self.warnings,
            "notes": list(self.notes),
            "files": [str(path) for path in self.used],
            "missing_files": [str(file) for file in self.missing_files],
            "missing_videos": self.missing_videos,
            "uncaptioned": {split: list(ids) for split, ids in self.annotations.uncaptioned.items() if ids},
        }

    def report(self) -> list[RenderableType]:
        """Return a table and sentences for people; what is missing comes last, where it is seen."""
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
