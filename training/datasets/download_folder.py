"""A download folder: finds annotation files by name, and the video file of an id with any extension."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError
from colbert_video.video.sources import EXTENSIONS

BARE = frozenset(("", ".", ".null"))
"""Extensions of DiDeMo's files whose type Flickr did not know."""


@dataclass(frozen=True)
class AnnotationFile:
    """A file that a dataset's loaders read."""

    names: Sequence[str]
    """Possible names; the first one found is read."""
    holds: str
    """Content in words."""
    source: str
    """Where to download it."""

    def __str__(self) -> str:
        others = f" (or {', '.join(self.names[1:])})" if len(self.names) > 1 else ""
        return f"{self.names[0]}{others}: {self.holds}; from {self.source}"


class DownloadFolder:
    """Annotation files under a folder, at any depth.

    Args:
        path: The folder; links to folders are followed.

    Attributes:
        used: Files that were found and are read.
        missing: Files that are needed and were not found.

    Raises:
        SettingsError: If the folder does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path, "the dataset's folder")
        self.used: list[Path] = []
        self.missing: list[AnnotationFile] = []
        self._paths: dict[str, list[Path]] = {}
        for file in walk_files(self.path):
            self._paths.setdefault(file.name, []).append(file)

    def find(self, file: AnnotationFile) -> Path | None:
        """Return the file, the one nearest to the top if there are several, or None.

        Raises:
            SettingsError: If two are equally near, because they may differ.
        """
        for name in file.names:
            paths = sorted(self._paths.get(name, ()), key=lambda path: (len(path.parts), str(path)))
            if not paths:
                continue
            if len(paths) > 1 and len(paths[0].parts) == len(paths[1].parts):
                raise SettingsError(f"{paths[0]} and {paths[1]} have one name; name the folder of one dataset.")
            if paths[0] not in self.used:
                self.used.append(paths[0])
            return paths[0]
        return None

    def find_required(self, file: AnnotationFile) -> Path | None:
        """Find a file as `find` does, and add one that is not found to `missing`."""
        path = self.find(file)
        if path is None and file not in self.missing:
            self.missing.append(file)
        return path


class VideoFiles:
    """Video files by id.

    Ids are compared up to the first dot, so a file is found with any extension, double ones included, and ids that differ
    only in their extension name one video. A leading "v_", as ActivityNet's ids have it, is optional.

    Args:
        folder: Folder of the videos, which may lie at any depth.

    Raises:
        SettingsError: If the folder does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder, "the folder of the videos")
        self._files: dict[str, list[Path]] = {}
        for file in walk_files(self.folder):
            stem, dot, ending = file.name.partition(".")
            if stem and ((Path(file.name).suffix.lower() in EXTENSIONS) or dot + ending in BARE):
                self._files.setdefault(stem, []).append(file)

    def find(self, identifier: str) -> Path | None:
        """Return the file of a video: the one of exactly this name, else an .mp4, else the first by name."""
        stem = identifier.partition(".")[0]
        for name in (stem, stem.removeprefix("v_")):
            files = self._files.get(name)
            if files:
                return min(files, key=lambda file: (file.name != identifier, file.suffix != ".mp4", str(file)))
        return None

    def ambiguous(self, identifiers: Sequence[str]) -> list[str]:
        """Return the ids that match more than one file."""
        stems = {name: name.partition(".")[0] for name in identifiers}
        return [
            name
            for name, stem in stems.items()
            if len(self._files.get(stem, self._files.get(stem.removeprefix("v_"), ()))) > 1
        ]


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder; each folder once, even if links lead to it again.

    Raises:
        SettingsError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder; name the one that the dataset was downloaded to.")
    seen: set[str] = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(current, name) for name in sorted(files) if not name.startswith("."))
