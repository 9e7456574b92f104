"""Subtitle files beside a video: `film.srt`, `film.en.vtt` beside `film.mp4`."""

import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath

from colbert_video.base.access import reason_of
from colbert_video.video.files import native_name, readable_name, split_member
from colbert_video.video.sources import SUBTITLE_SUFFIXES, is_video
from colbert_video.video.subtitles.subtitle_text import decode_subtitles, parse_subtitles
from colbert_video.video.subtitles.timed_line import ReadLines

MAX_BYTES = 16 * 2**20
"""Largest subtitle file that is read; that of a film has about 100 KB."""
MAX_FILES = 32
"""Subtitle files of one video; a film has one for each of its languages."""
TAG = re.compile(
    r"[a-z]{2,3}([_-][a-z0-9]{2,8})*|forced|sdh|cc|hi|default|full|original|auto|sub|subs|subtitles", re.IGNORECASE
)
"""A language by its code, or what kind of subtitles these are; "film.part2.srt" belongs to another video."""


class Sidecars:
    """Finds the subtitle files of videos; each folder is listed once, and none is read before it is asked for.

    Members of archives have no files beside them.
    """

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> list[Path]:
        """Return the subtitle files beside a video, by name."""
        native = native_name(path)
        if split_member(native)[1] is not None:
            return []
        folder, name = os.path.split(native)
        if folder not in self._folders:
            self._folders[folder] = _by_stem(folder)
        return [Path(folder, found) for found in self._folders[folder].get(_stem(name), ())]

    def stamp(self, path: str) -> str:
        """Return a digest of names, sizes and modification times of a video's subtitle files; "" if it has none."""
        found = self.find(path)
        facts = [(os.fsencode(file.name).hex(), *_size_and_time(file)) for file in found]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest() if facts else ""

    def read(self, path: str) -> ReadLines:
        """Read the lines of all subtitle files of a video; a file that cannot be read is a problem that names it."""
        found = self.find(path)
        read = [(file, _read(file)) for file in found[:MAX_FILES]]
        problems = [f"{readable_name(file.name)}: {problem}" for file, own in read for problem in own.problems]
        problems += [f"more than {MAX_FILES} subtitle files; the others are not read"] if len(found) > MAX_FILES else []
        return ReadLines(tuple(line for _, own in read for line in own.lines), tuple(problems))


def _by_stem(folder: str) -> dict[str, list[str]]:
    """Return the names of the subtitle files of a folder by the names of the videos that they belong to.

    "a.en.srt" belongs to "a.en.mp4" if there is one, else to "a.mp4".
    """
    stems: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder or "."))  # noqa: PTH208 - the names alone
    except OSError:  # the folder can be entered, not listed
        return stems
    videos = {_stem(name) for name in names if is_video(PurePosixPath(name))}
    for name in names:
        if name.lower().endswith(SUBTITLE_SUFFIXES):
            possible = _stems(name)
            for stem in [stem for stem in possible if stem in videos][:1] or possible:
                stems.setdefault(stem, []).append(name)
    return stems


def _stems(name: str) -> list[str]:
    """Return what a video may be called, without its extension, to which a subtitle file belongs."""
    stems = [name[:-4]]
    while len(stems) < 3 and TAG.fullmatch(tag := stems[-1].rpartition(".")[2]) and len(tag) < len(stems[-1]) - 1:
        stems.append(stems[-1][: -len(tag) - 1])
    return stems


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read(file: Path) -> ReadLines:
    try:
        if not file.is_file():
            return ReadLines((), ("it is no file",))
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        return ReadLines((), (f"it cannot be read: {reason_of(error)}",))
    if len(data) > MAX_BYTES:
        return ReadLines((), (f"it has more than {MAX_BYTES} bytes",))
    return parse_subtitles(decode_subtitles(data))
