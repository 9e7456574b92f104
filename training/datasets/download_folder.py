"""A download folder: finds annotation files by their names, and the video file of an id whatever it ends in."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colbert_video.errors import SettingsError
from colbert_video.video.sources import EXTENSIONS

BARE = frozenset(("", ".", ".null"))
"""Endings of DiDeMo's files whose kind Flickr did not know."""


@dataclass(frozen=True)
class AnnotationFile:
    """A file that a dataset's loaders read."""

    names: Sequence[str]
    """The names it goes by; the first that is found is read."""
    holds: str
    """What it says."""
    source: str
    """Where the field gets it."""

    def __str__(self) -> str:
        others = f" (or {', '.join(self.names[1:])})" if len(self.names) > 1 else ""
        return f"{self.names[0]}{others}: {self.holds}; from {self.source}"


class DownloadFolder:
    """Annotation files under a folder, at any depth.

    Args:
        path: The folder; links to folders are followed.

    Attributes:
        used: Files that were found and are read.
        missing: Files that a reader needs and did not find.

    Raises:
        SettingsError: If there is no such folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.used: list[Path] = []
        self.missing: list[AnnotationFile] = []
        self._places: dict[str, list[Path]] = {}
        for file in walk_files(self.path):
            self._places.setdefault(file.name, []).append(file)

    def find(self, file: AnnotationFile) -> Path | None:
        """The file, the one nearest to the top if there are several; None if there is none.

        Raises:
            SettingsError: If two are equally near: they may differ, and nothing says which one is meant.
        """
        for name in file.names:
            places = sorted(self._places.get(name, ()), key=lambda place: (len(place.parts), str(place)))
            if not places:
                continue
            if len(places) > 1 and len(places[0].parts) == len(places[1].parts):
                raise SettingsError(
                    f"{places[0]} and {places[1]} have one name; name the folder of one dataset."
                )
            if places[0] not in self.used:
                self.used.append(places[0])
            return places[0]
        return None

    def require(self, file: AnnotationFile) -> Path | None:
        """As `find`; a file that is not there is noted in `missing`."""
        path = self.find(file)
        if path is None and file not in self.missing:
            self.missing.append(file)
        return path


class VideoFiles:
    """Video files by id.

    Ids are compared up to the first dot, so a file is found under any ending, two of them included, and ids that differ
    in their ending alone name one video. A leading "v_", as ActivityNet's ids have it, may be there or not.

    Args:
        folder: Where the videos are, at any depth.

    Raises:
        SettingsError: If there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files: dict[str, list[Path]] = {}
        for file in walk_files(self.folder):
            stem, dot, ending = file.name.partition(".")
            if stem and ((Path(file.name).suffix.lower() in EXTENSIONS) or dot + ending in BARE):
                self._files.setdefault(stem, []).append(file)

    def find(self, identifier: str) -> Path | None:
        """The file of a video: the one named exactly so, else an .mp4, else the first by name."""
        stem = identifier.partition(".")[0]
        for name in (stem, stem.removeprefix("v_")):
            files = self._files.get(name)
            if files:
                return min(
                    files, key=lambda file: (file.name != identifier, file.suffix != ".mp4", str(file))
                )
        return None

    def several(self, identifiers: Sequence[str]) -> list[str]:
        """Those of the ids that more than one file could be."""
        stems = {name: name.partition(".")[0] for name in identifiers}
        return [
            name
            for name, stem in stems.items()
            if len(self._files.get(stem, self._files.get(stem.removeprefix("v_"), ()))) > 1
        ]


def walk_files(folder: Path) -> Iterator[Path]:
    """The files under a folder, each folder once even if links lead into it again.

    Raises:
        SettingsError: If there is no such folder.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; name the one that the dataset was downloaded to.")
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))
