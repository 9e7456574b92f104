"""WebDataset archives: tar files whose members of one key belong together.

The key of a member is its name up to the first dot after the last "/": `000012.mp4` with `000012.json` and `000012.txt`
(Aizman, Maltby & Breuel, "High Performance I/O for Large Scale Deep Learning", IEEE Big Data 2019).
"""

import itertools
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from colbert_video.errors import SettingsError
from colbert_video.video.members import ARCHIVE, locate, open_range, read_archive
from colbert_video.video.names import readable_name

logger = logging.getLogger(__name__)

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
"""A range {0000..0012} or a choice {train,test}."""
MOST_NAMES = 100_000
"""Names that braces may stand for."""
MOST_TEXT = 2**20
"""Bytes of a member that is read as text."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
LISTED = 5
"""Unreadable texts that a warning lists."""


@dataclass(frozen=True)
class ArchivedVideo:
    """One video of an archive, with what lies beside it."""

    name: str
    """Its name in the archive, which is its id."""
    path: str
    """Where it is read from; see `colbert_video.video.members`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The `.json` of its key, if that is an object, and the `.txt` as "caption" where the former has none."""


@dataclass(frozen=True)
class ArchivedVideos:
    """The videos of one archive."""

    videos: tuple[ArchivedVideo, ...]
    """In the order of the archive."""
    ignored: int
    """Members that neither are videos nor lie beside one."""
    damage: str | None
    """What is amiss with the archive; None if it is whole."""
    unread: dict[str, str]
    """Texts beside videos that cannot be read, by name, with the reason."""


def expand_braces(name: str) -> list[str]:
    """All names that a name with braces stands for, in order, as WebDataset and shells do it.

    Args:
        name: Such as "shards/videos-{0000..0012}.tar".

    Raises:
        SettingsError: If there are too many, or a range runs backwards.
    """
    parts: list[list[str]] = []
    end = 0
    for match in BRACES.finditer(name):
        parts += [[name[end : match.start()]], _choices(match)]
        end = match.end()
    count = 1
    for part in parts:
        count *= len(part)
        if count > MOST_NAMES:
            raise SettingsError(
                f"{name} stands for more than {MOST_NAMES} names; give them in several parts."
            )
    return ["".join(chosen) for chosen in itertools.product(*parts, [name[end:]])]


def _choices(match: re.Match[str]) -> list[str]:
    first, last, choice = match.groups()
    if choice is not None:
        return choice.split(",")
    if int(last) < int(first):
        raise SettingsError(f"the range {match[0]} runs backwards; write the smaller number first.")
    if int(last) - int(first) >= MOST_NAMES:
        raise SettingsError(f"the range {match[0]} is longer than {MOST_NAMES}; give it in several parts.")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def refuse_compressed(path: Path) -> None:
    """Refuse an archive of which no member can be read without reading all that comes before it.

    Raises:
        SettingsError: If it is called as a compressed archive is.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise SettingsError(
            f"{path} is compressed, so its members cannot be read where they lie; uncompress it to a {ARCHIVE} first. "
            "Videos do not get smaller by it."
        )


def videos_in(path: Path, extensions: frozenset[str]) -> ArchivedVideos:
    """Find the videos of an archive.

    Args:
        path: The archive.
        extensions: How the names of videos end.

    Raises:
        SettingsError: If two members have the same name.
        OSError: If the file cannot be read.
    """
    archive = read_archive(path)
    if archive.repeated:
        raise SettingsError(
            f"{path} holds several members named {archive.repeated[0]!r} ({len(archive.repeated)} names are repeated); "
            "each video needs a key of its own, write the archive anew."
        )
    videos: list[ArchivedVideo] = []
    unread: dict[str, str] = {}
    ignored = archive.others
    absolute = readable_name(str(path.absolute()))
    for files in _samples(archive.members):
        shown = [name for name in files if PurePosixPath(name).suffix.lower() in extensions]
        texts = [name for name in files if name not in shown]
        if not shown or _is_hidden(shown[0]):
            ignored += len(files)
            continue
        metadata, wrong = _metadata(absolute, texts)
        videos += [ArchivedVideo(name, f"{absolute}/{name}", dict(metadata)) for name in shown]
        unread.update(wrong)
    if unread:
        listed = "; ".join(f"{name}: {reason}" for name, reason in itertools.islice(unread.items(), LISTED))
        logger.warning("%s: %d texts cannot be read and are left out: %s", path, len(unread), listed)
    return ArchivedVideos(tuple(videos), ignored, archive.damage, unread)


def _samples(members: dict[str, tuple[int, int]]) -> list[list[str]]:
    """Members by key."""
    samples: dict[str, list[str]] = {}
    for name in members:
        folder, _, last = name.rpartition("/")
        samples.setdefault(f"{folder}/{last.partition('.')[0]}", []).append(name)
    return list(samples.values())


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _metadata(archive: str, names: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the `.json` and the `.txt` among some members say, and which of them cannot be read."""
    metadata: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name in sorted(names):  # .json before .txt
        if not name.endswith((".json", ".txt")):
            continue
        try:
            text = _read_text(f"{archive}/{name}")
            found = json.loads(text) if name.endswith(".json") else {"caption": text.strip()}
        except (OSError, ValueError) as error:
            wrong[name] = str(error)
            continue
        if not isinstance(found, dict):
            wrong[name] = "no JSON object"
            continue
        metadata = {**found, **metadata}
    return metadata, wrong


def _read_text(path: str) -> str:
    found = locate(path)
    if found.size > MOST_TEXT:
        raise ValueError(f"{found.size} bytes, more than {MOST_TEXT}")
    with open_range(found) as file:
        return file.read().decode("utf-8-sig")
