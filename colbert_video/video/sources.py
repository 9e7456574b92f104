"""From what a user names - a folder, a glob, files, archives, records - to one record per video with an id of its own."""

import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from colbert_video.errors import SettingsError
from colbert_video.video.files import (
    ARCHIVE,
    is_archive,
    locate,
    native_name,
    open_range,
    read_archive,
    readable_name,
)
from colbert_video.video.frames import check_window

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
"""A range {0000..0012} or a choice {train,test}."""
MAX_NAMES = 100_000
"""Names that braces may stand for."""
MAX_TEXT = 2**20
"""Bytes of a member that is read as text."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
LISTED = 5
"""Unreadable texts that a warning lists."""
logger = logging.getLogger(__name__)
# fmt: off
EXTENSIONS = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv",
    ".gif", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg",
    ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut",
    ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".swf", ".ts", ".vob", ".webm", ".wmv",
    ".wtv", ".y4m",
))
# fmt: on
"""What files in a folder are taken for videos; a file named by itself may have any extension."""
Videos = str | os.PathLike[str] | Iterable[Any]
"""A folder, a file, a glob, a tar archive, or an iterable of these, (id, path), (id, path, metadata) and VideoRecord."""


@dataclass(frozen=True)
class ArchivedVideo:
    """One video of an archive, with what lies beside it."""

    name: str
    """Its name in the archive, which is its id."""
    path: str
    """Where it is read from; see `colbert_video.video.files`."""
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
    """What is wrong with the archive; None if it is whole."""
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
        if count > MAX_NAMES:
            raise SettingsError(f"{name} stands for more than {MAX_NAMES} names; give them in several parts.")
    return ["".join(chosen) for chosen in itertools.product(*parts, [name[end:]])]


def _choices(match: re.Match[str]) -> list[str]:
    first, last, choice = match.groups()
    if choice is not None:
        return choice.split(",")
    if int(last) < int(first):
        raise SettingsError(f"the range {match[0]} runs backwards; write the smaller number first.")
    if int(last) - int(first) >= MAX_NAMES:
        raise SettingsError(f"the range {match[0]} is longer than {MAX_NAMES}; give it in several parts.")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def check_compressed(path: Path) -> None:
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
            "each video needs a key of its own, write the archive again."
        )
    videos: list[ArchivedVideo] = []
    unread: dict[str, str] = {}
    ignored = archive.others
    absolute = readable_name(str(path.absolute()))
    for files in _samples(archive.members):
        shown = [name for name in files if PurePosixPath(name).suffix.lower() in extensions]
        texts = [name for name in files if name not in shown]
        if not shown or _is_hidden_member(shown[0]):
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


def _is_hidden_member(name: str) -> bool:
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
    if found.size > MAX_TEXT:
        raise ValueError(f"{found.size} bytes, more than {MAX_TEXT}")
    with open_range(found) as file:
        return file.read().decode("utf-8-sig")


@dataclass(frozen=True)
class VideoRecord:
    """One video to index.

    Raises:
        SettingsError: If the id is empty, the metadata is no JSON object, or the window holds no moment.
    """

    id: str
    """Its name in the index, unique there."""
    path: str
    """The file, or a member of a tar archive (ARCHIVE/MEMBER); bytes of its name that are not UTF-8 are written as
    \\\\xNN."""
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    """What to store and filter by; anything that JSON can hold."""
    window: tuple[float, float] | None = None
    """The part to index, [start, end) in seconds; None for all of it."""

    def __post_init__(self) -> None:
        if not self.id:
            raise SettingsError(f"the video {self.path} has an empty id; give it a name.")
        try:
            json.dumps(self.metadata)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"the metadata of {self.id!r} cannot be stored as JSON: {error}.") from error
        if self.window is not None:
            check_window(self.window)

    def stamp(self) -> tuple[int | None, int | None]:
        """Size in bytes and modification time in nanoseconds, to notice changes; (None, None) if there is no file."""
        try:
            found = locate(self.path)
        except (OSError, ValueError):
            return None, None
        return found.size, found.modified_ns


@dataclass(frozen=True)
class Sources:
    """Videos that were found."""

    records: tuple[VideoRecord, ...]
    """One for each video."""
    ignored: int
    """Files in folders and archives that are no videos by their extension."""


def find_videos(videos: Videos) -> Sources:
    """Find videos and give them ids.

    A file below a folder is called by its path from there, with "/" between names; a file found by a glob by its path
    from the glob's fixed part; a file named by itself by its file name; a member of an archive by its name there, with
    the `.json` and `.txt` of its key as metadata. Hidden files and folders are passed over. A missing file that was named
    is no error here: it fails when it is read, as other unreadable files do, and so does the rest of a damaged archive.

    Args:
        videos: A folder (searched recursively), a file, a glob (`**` for any depth), uncompressed tar archives of
            WebDataset (a file, a glob, or a range as in "videos-{0000..0012}.tar"), or an iterable of these, (id, path),
            (id, path, metadata) and VideoRecord.

    Returns:
        The records, those of a folder or glob sorted by id.

    Raises:
        SettingsError: If a folder or archive is missing or holds no videos, a glob matches none, an item is none of
            these, or two videos have the same id.
    """
    if isinstance(videos, str | os.PathLike):
        found = [_named(os.fspath(videos), alone=True)]
    else:
        found = [_item(item) for item in videos]
    sources = _joined(found)
    if not sources.records:
        raise SettingsError("no videos were given; name a folder, a file, a glob, or a list of these.")
    _check_ids(sources.records)
    return sources


def _item(item: Any) -> Sources:
    if isinstance(item, VideoRecord):
        return Sources((item,), 0)
    if isinstance(item, str | os.PathLike):
        return _named(os.fspath(item), alone=False)
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise SettingsError(
            f"{item!r} names no video; give a path, (id, path), (id, path, metadata) or VideoRecord."
        )
    name, path, *rest = item
    metadata = rest[0] if rest else {}
    if (
        not isinstance(name, str)
        or not isinstance(path, str | os.PathLike)
        or not isinstance(metadata, Mapping)
    ):
        raise SettingsError(
            f"{item!r} is no (id, path, metadata); these must be a string, a path and a dict."
        )
    return Sources((VideoRecord(name, _absolute(path), dict(metadata)),), 0)


def _named(name: str, *, alone: bool) -> Sources:
    path = Path(native_name(name))
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and BRACES.search(name):
        return _joined([_named(one, alone=False) for one in expand_braces(name)])
    if not path.exists() and _has_wildcard(name):
        return _matching(name)
    check_compressed(path)
    if is_archive(path) and path.is_file():
        return _in_archive(path)
    if alone and not path.exists() and not is_video(path):
        raise SettingsError(
            f"there is no file or folder {name}; check the name and the working folder {Path.cwd()}."
        )
    return Sources((VideoRecord(readable_name(path.name), _absolute(path)),), 0)


def _in_folder(folder: Path) -> Sources:
    files = list(_walk(folder, set()))
    videos = [file for file in files if is_video(file)]
    if not videos:
        raise SettingsError(
            f"the folder {folder} holds no videos ({len(files)} other files); videos are known by extensions such as .mp4, "
            ".mkv or .webm. Name files one by one if they have others, and tar archives by a glob."
        )
    return Sources(_records(videos, folder), len(files) - len(videos))


def _matching(pattern: str) -> Sources:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if _has_wildcard(part))
    folder, rest = Path(*parts[:fixed]), [*parts[fixed:]]
    if rest[-1] == "**":
        rest.append("*")
    matches = [
        file for file in folder.glob(str(Path(*rest))) if file.is_file() and not _is_hidden(file, folder)
    ]
    if is_archive(pattern) and matches:
        return _joined([_in_archive(path) for path in sorted(matches)])
    asked = Path(pattern).suffix  # "*.dat" asks for these files whatever they are, "*" does not.
    videos = matches if asked and not _has_wildcard(asked) else [file for file in matches if is_video(file)]
    if not videos:
        raise SettingsError(
            f"no video matches {pattern} ({len(matches)} other files); quote it and check the folder {folder}."
        )
    return Sources(_records(videos, folder), len(matches) - len(videos))


def _in_archive(path: Path) -> Sources:
    """The videos of an archive; a damaged one comes after them as a record of its own, which fails and says why."""
    try:
        found = videos_in(path, EXTENSIONS)
    except OSError as error:
        raise SettingsError(f"the archive {path} cannot be read: {error.strerror}.") from error
    records = [VideoRecord(video.name, video.path, video.metadata) for video in found.videos]
    if found.damage is not None:
        records.append(VideoRecord(readable_name(path.name), _absolute(path)))
    if not records:
        raise SettingsError(
            f"the archive {path} holds no videos ({found.ignored} other members); videos are known by extensions such as "
            ".mp4, .mkv or .webm."
        )
    return Sources(tuple(records), found.ignored)


def _joined(parts: Sequence[Sources]) -> Sources:
    records = tuple(record for sources in parts for record in sources.records)
    return Sources(records, sum(sources.ignored for sources in parts))


def is_video(path: Path) -> bool:
    """Whether a file counts as a video by its extension, in any case."""
    return path.suffix.lower() in EXTENSIONS


def _records(files: Iterable[Path], folder: Path) -> tuple[VideoRecord, ...]:
    records = [
        VideoRecord(readable_name(file.relative_to(folder).as_posix()), _absolute(file)) for file in files
    ]
    return tuple(sorted(records, key=lambda record: record.id))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """All files below a folder; a folder that is reached twice through links is entered once."""
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        logger.warning("cannot look into %s: %s", readable_name(str(folder)), error.strerror)
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(entry, seen)
        else:
            yield entry


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # No permission to look: it is reported when it is read.
        return False


def _has_wildcard(name: str) -> bool:
    return any(character in name for character in "*?[")


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _absolute(path: str | os.PathLike[str]) -> str:
    return readable_name(str(Path(path).absolute()))


def _check_ids(records: Iterable[VideoRecord]) -> None:
    paths: dict[str, str] = {}
    for record in records:
        if record.id in paths:
            raise SettingsError(
                f"two videos have the id {record.id!r}: {paths[record.id]} and {record.path}. Give them ids of their own, as "
                "(id, path)."
            )
        paths[record.id] = record.path
