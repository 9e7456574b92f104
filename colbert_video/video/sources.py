"""From what a user names - a folder, a glob, files, archives, records - to one record per video with an id of its own."""

import itertools
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple

from colbert_video.base.access import reason_of
from colbert_video.base.checks import new_id
from colbert_video.base.json_values import parse_json, plain_metadata, warn_of_missing
from colbert_video.base.user_files import decode_text, expand_path, user_path
from colbert_video.errors import SettingsError, in_one_line, shown
from colbert_video.video.files import (
    ARCHIVE,
    Archive,
    file_identity,
    file_stamp,
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
MAX_TEXT_BYTES = 2**20
"""Largest text beside a video in an archive that is read."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
MAX_LISTED = 5
"""Unreadable texts that a warning lists."""
# fmt: off
EXTENSIONS = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv",
    ".gif", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg",
    ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut",
    ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".swf", ".ts", ".vob", ".webm", ".wmv",
    ".wtv", ".y4m",
))
# fmt: on
"""Extensions of the files in a folder that are taken for videos; a file named by itself may have any extension."""
logger = logging.getLogger(__name__)

SUBTITLE_SUFFIXES = (".srt", ".vtt")
"""Of files that may belong to a video beside them."""


@dataclass(frozen=True)
class VideoRecord:
    """One video to index.

    Raises:
        SettingsError: If the id is empty or no text, the path is none, the metadata cannot be stored as JSON, or the window
            is empty.
    """

    id: str
    """Its name in the index, unique there; a whole number or a UUID is taken as its text."""
    path: str
    r"""The file, or a member of a tar archive (ARCHIVE/MEMBER); bytes that are not UTF-8 are written as `\xNN`."""
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    """Values to store and filter by, as JSON holds them; see `json_values.plain_metadata` for what takes which form."""
    window: tuple[float, float] | None = None
    """The part to index, [start, end) in seconds; None for the whole video."""

    def __post_init__(self) -> None:
        name = new_id(self.id, f"the id of the video {shown(self.path)}")
        if not isinstance(self.path, str | os.PathLike):
            raise SettingsError(
                f"the path of video {shown(name)} is {shown(self.path)}; give a text or a pathlib.Path."
            )
        metadata = plain_metadata(self.metadata, f"the metadata of video {shown(name)}")
        values: dict[str, Any] = {"id": name, "path": os.fsdecode(self.path), "metadata": metadata}
        if self.window is not None:
            values["window"] = check_window(self.window)
        for field_name, value in values.items():
            object.__setattr__(self, field_name, value)

    def stamp(self) -> tuple[int | None, int | None]:
        """Return size in bytes and modification time in nanoseconds of its file, as `file_stamp`."""
        return file_stamp(self.path)


Videos = str | os.PathLike[str] | VideoRecord | Iterable[Any]
"""A folder, a file, a glob, a tar archive, a VideoRecord, a mapping from ids to paths, or an iterable of paths, (id, path),
(id, path, metadata) and VideoRecord."""


class RefusedRecord(NamedTuple):
    """A record that cannot be used, from an iterator."""

    id: str
    """Its id; "record 17" for the eighteenth if it has none."""
    path: str
    reason: str
    """Which value breaks which rule."""


@dataclass(frozen=True)
class Sources:
    """The videos found, how many other files there were, and what cannot be used."""

    records: tuple[VideoRecord, ...]
    ignored: int
    """Files in folders and archives that are neither videos nor subtitles by their extension."""
    refused: tuple[RefusedRecord, ...] = ()
    """Records that cannot be used, if they came from an iterator."""
    unreadable: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Texts beside videos of an archive that were left out, in words, by the ids of these videos."""


def find_videos(videos: Videos, *, keep_going: bool | None = None) -> Sources:
    """Find videos and give them ids.

    The id of a file below a folder is its path from there, with "/" between names; of a file found by a glob its path
    from the glob's fixed part; of a file named by itself its file name; of a member of an archive its name there, with
    the `.json` and `.txt` of its key as metadata. Hidden files and folders are skipped. A missing file that was named is
    no error here: it fails when it is read, as other unreadable files do, and so does the rest of a damaged archive.

    Args:
        videos: A folder (searched recursively), a file, a glob (`**` for any depth), uncompressed tar archives of
            WebDataset (a file, a glob, or a range as in "videos-{0000..0012}.tar"), a VideoRecord, a mapping from ids to
            paths, or an iterable of paths, (id, path), (id, path, metadata) and VideoRecord.
        keep_going: True to list records that cannot be used as refused, False to raise the error of the first. None lists
            those of an iterator, such as a generator, whose other records may have cost work to make.

    Returns:
        The records, those of a folder or glob sorted by id.

    Raises:
        SettingsError: If a folder or archive is missing or holds no videos, a glob matches none, an item is of another
            kind, or two videos have the same id.
    """
    if isinstance(videos, str | os.PathLike):
        sources = _from_name(os.fsdecode(videos), alone=True)
    else:
        sources = _from_items(videos, isinstance(videos, Iterator) if keep_going is None else keep_going)
    if not sources.records and not sources.refused:
        raise SettingsError("no videos were given; name a folder, a file, a glob, or a list of these.")
    return replace(sources, records=_without_repeated(sources.records))


def _without_repeated_folders(items: Iterable[Any]) -> Iterator[Any]:
    """Leave out folders that came before, also under another name: FOLDER, FOLDER/, ./FOLDER, or a link to it."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, str | os.PathLike):
            name = native_name(os.fsdecode(item))
            if Path(name).is_dir():
                real = os.path.realpath(name)
                if real in seen:
                    logger.warning("the folder %s is given twice; it counts once", readable_name(name))
                    continue
                seen.add(real)
        yield item


def _from_items(videos: Any, keep_going: bool) -> Sources:
    if isinstance(videos, VideoRecord):
        videos = [videos]
    if isinstance(videos, bytes | bytearray) or not isinstance(videos, Iterable):
        raise SettingsError(f"{shown(videos)} names no videos; give a path, or a list of paths or records.")
    missing: Counter[str] = Counter()
    parts = []
    items = _without_repeated_folders(videos.items() if isinstance(videos, Mapping) else videos)
    for number, item in enumerate(items):
        try:
            parts.append(_from_item(item, missing))
        except SettingsError as error:
            if not keep_going or not _is_record(item):
                raise
            parts.append(Sources((), 0, (_refused(item, number, error),)))
    warn_of_missing(missing)
    return _joined(parts)


def _is_record(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) in (2, 3)


def _refused(item: Sequence[Any], number: int, error: SettingsError) -> RefusedRecord:
    name = item[0] if isinstance(item[0], str) and item[0] else f"record {number}"
    path = item[1] if isinstance(item[1], str | os.PathLike) else ""
    return RefusedRecord(name, str(path), str(error))


def _from_item(item: Any, missing: Counter[str]) -> Sources:
    if isinstance(item, VideoRecord):
        path = _absolute(item.path)
        return Sources((item if path == item.path else replace(item, path=path),), 0)
    if isinstance(item, str | os.PathLike):
        return _from_name(os.fsdecode(item), alone=False)
    if not _is_record(item):
        raise SettingsError(
            f"{shown(item)} names no video; give a path, (id, path), (id, path, metadata) or VideoRecord."
        )
    name, path, metadata = item if len(item) == 3 else (*item, {})
    if not isinstance(path, str | os.PathLike) or not isinstance(metadata, Mapping):
        raise SettingsError(f"{shown(item)} is not (id, path, metadata); these must be a string, a path and a dict.")
    name = new_id(name, f"the id of the video {shown(path)}")
    plain = plain_metadata(metadata, f"the metadata of video {shown(name)}", missing)
    return Sources((VideoRecord(name, _absolute(os.fsdecode(path)), plain),), 0)


def _from_name(name: str, *, alone: bool) -> Sources:
    """Find the videos of one path, glob or range; `alone` if it is all that was given, so that it must exist."""
    path = Path(native_name(name := str(expand_path(name, "videos"))))
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and BRACES.search(name):
        return _joined(_from_name(one, alone=False) for one in expand_braces(name))
    if not path.exists() and _has_wildcard(name):
        return _matching(name)
    _check_uncompressed(path)
    if is_archive(path) and path.is_file():
        return _in_archive(path)
    if alone and not path.exists() and not is_video(path):
        raise SettingsError(f"there is no file or folder {name}; check the name and the working folder {Path.cwd()}.")
    return Sources((VideoRecord(readable_name(path.name, folder=path.parent), _absolute(path)),), 0)


def _in_folder(folder: Path) -> Sources:
    files = list(_walk(folder, set()))
    videos = [file for file in files if is_video(file)]
    if not videos:
        raise SettingsError(
            f"the folder {folder} holds no videos ({len(files)} other files); videos are known by extensions such as "
            ".mp4, .mkv or .webm. Name files one by one if they have others, and tar archives by a glob."
        )
    return Sources(_records(videos, folder), len(files) - len(videos) - _count_subtitles(files))


def _matching(pattern: str) -> Sources:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if _has_wildcard(part))
    folder, rest = Path(*parts[:fixed]), [*parts[fixed:]]
    if rest[-1] == "**":
        rest.append("*")
    matches = [
        file for file in folder.glob(str(Path(*rest))) if file.is_file() and not _is_hidden(file.relative_to(folder))
    ]
    if is_archive(pattern) and matches:
        return _joined(map(_in_archive, sorted(matches)))
    asked = Path(pattern).suffix  # "*.dat" asks for these files whatever they are, "*" does not.
    videos = matches if asked and not _has_wildcard(asked) else [file for file in matches if is_video(file)]
    if not videos:
        raise SettingsError(
            f"no video matches {pattern} ({len(matches)} other files); quote it and check the folder {folder}."
        )
    others = set(matches) - set(videos)
    return Sources(_records(videos, folder), len(others) - _count_subtitles(others))


def _count_subtitles(files: Iterable[Path]) -> int:
    return sum(file.suffix.lower() in SUBTITLE_SUFFIXES for file in files)


def _in_archive(path: Path) -> Sources:
    """Find the videos of an archive; a damaged one follows as a record of its own, which fails and says why."""
    try:
        archive = read_archive(path)
    except OSError as error:
        raise SettingsError(f"the archive {path} cannot be read: {reason_of(error)}.") from error
    if archive.repeated:
        raise SettingsError(
            f"{path} holds several members named {shown(archive.repeated[0])} ({len(archive.repeated)} names are "
            "repeated); each video needs its own key; write the archive again."
        )
    records, ignored, unreadable = _archived_videos(archive, _absolute(path))
    if archive.damage is not None:
        records.append(VideoRecord(readable_name(path.name, folder=path.parent), _absolute(path)))
    if not records:
        raise SettingsError(
            f"the archive {path} holds no videos ({ignored} other members); videos are known by extensions such as "
            ".mp4, .mkv or .webm."
        )
    return Sources(tuple(records), ignored, unreadable=unreadable)


def _archived_videos(archive: Archive, path: str) -> tuple[list[VideoRecord], int, dict[str, tuple[str, ...]]]:
    """Return the videos in the archive's order, how many members are neither videos nor beside one, and unreadable texts.

    A text that cannot be read, or is no metadata, is left out, and its videos are found without it.
    """
    records: list[VideoRecord] = []
    ignored, unreadable = archive.others, dict[str, tuple[str, ...]]()
    for names in _by_key(archive.members):
        videos = [name for name in names if is_video(PurePosixPath(name))]
        if not videos or _is_hidden(PurePosixPath(videos[0])):
            ignored += len(names)
            continue
        metadata, problems = _read_metadata(path, names)
        if problems:
            unreadable |= dict.fromkeys(videos, tuple(problems))
        records += [VideoRecord(name, f"{path}/{name}", dict(metadata)) for name in videos]
    if unreadable:
        texts = list(dict.fromkeys(text for problems in unreadable.values() for text in problems))
        listed = "; ".join(texts[:MAX_LISTED])
        logger.warning("%s: %d texts cannot be read and are left out: %s", path, len(texts), listed)
    return records, ignored, unreadable


def _by_key(members: Iterable[str]) -> Iterable[list[str]]:
    """Group members by key, as WebDataset does: folder and name up to its first dot."""
    groups: dict[str, list[str]] = {}
    for name in members:
        folder, _, last = name.rpartition("/")
        groups.setdefault(f"{folder}/{last.partition('.')[0]}", []).append(name)
    return groups.values()


def _read_metadata(archive: str, names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the `.json` and, as its "caption" if it has none, the `.txt` of a key; and what cannot be read."""
    metadata: dict[str, Any] = {}
    problems: list[str] = []
    for name in sorted(names):  # .json before .txt
        if not name.endswith((".json", ".txt")):
            continue
        try:
            text = _read_text(f"{archive}/{name}")
            found = parse_json(text) if name.endswith(".json") else {"caption": text.strip()}
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {in_one_line(error)}")
            continue
        metadata = {**found, **metadata}
    return metadata, problems


def _read_text(path: str) -> str:
    found = locate(path)
    if found.size > MAX_TEXT_BYTES:
        raise ValueError(f"{found.size} bytes, more than {MAX_TEXT_BYTES}")
    with open_range(found) as file:
        return decode_text(file.read(), "the text")


def _check_uncompressed(path: Path) -> None:
    """Refuse a compressed archive: no member can be read without all that comes before it."""
    if path.name.lower().endswith(COMPRESSED):
        raise SettingsError(
            f"{path} is compressed, so its members cannot be read from it; uncompress it to a {ARCHIVE} first. "
            "Videos do not get smaller by it."
        )


def expand_braces(name: str) -> list[str]:
    """Return all names that a name with braces stands for, in order, as WebDataset and shells do it.

    Args:
        name: Such as "shards/videos-{0000..0012}.tar".

    Raises:
        SettingsError: If there are more than `MAX_NAMES`, or a range runs backwards.
    """
    parts: list[list[str]] = []
    end = 0
    for match in BRACES.finditer(name):
        parts += [[name[end : match.start()]], _choices(match)]
        end = match.end()
    if math.prod(map(len, parts)) > MAX_NAMES:
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


def is_video(path: PurePath) -> bool:
    """Return True if a file counts as a video by its extension, in any case."""
    return path.suffix.lower() in EXTENSIONS


def _joined(parts: Iterable[Sources]) -> Sources:
    sources = [*parts]
    records = tuple(record for part in sources for record in part.records)
    refused = tuple(record for part in sources for record in part.refused)
    unreadable = {name: texts for part in sources for name, texts in part.unreadable.items()}
    return Sources(records, sum(part.ignored for part in sources), refused, unreadable)


def _records(files: Iterable[Path], folder: Path) -> tuple[VideoRecord, ...]:
    records = [
        VideoRecord(readable_name(file.relative_to(folder).as_posix(), folder=folder), _absolute(file))
        for file in files
    ]
    return tuple(sorted(records, key=lambda record: record.id))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """All files below a folder; a folder that is reached twice through links is entered once."""
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        logger.warning("cannot look into %s: %s", readable_name(str(folder)), reason_of(error))
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


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _absolute(path: str | os.PathLike[str]) -> str:
    return readable_name(str(user_path(path, "a video's path")))


def _without_repeated(records: Iterable[VideoRecord]) -> tuple[VideoRecord, ...]:
    """Leave out records that came before: of the same file, under the same id, with the same window and metadata.

    Raises:
        SettingsError: If other videos have the same id.
    """
    known: dict[str, VideoRecord] = {}
    repeated = 0
    for record in records:
        first = known.setdefault(record.id, record)
        if first is not record:
            _check_repeats(first, record)
            repeated += 1
    if repeated:
        logger.warning("%d videos are given twice; they count once", repeated)
    return tuple(known.values())


def _check_repeats(first: VideoRecord, record: VideoRecord) -> None:
    if file_identity(first.path) != file_identity(record.path):
        raise SettingsError(
            f"two videos have the id {shown(record.id)}: {first.path} and {record.path}. Give the folder above both, whose "
            "videos have ids with their folders' names, or in Python ids of their own, as (id, path)."
        )
    for name in ("window", "metadata"):
        if getattr(first, name) != getattr(record, name):
            raise SettingsError(
                f"the video {shown(record.id)}, {record.path}, is given twice, with {name} {shown(getattr(first, name))} "
                f"and {shown(getattr(record, name))}. Give it once, or with ids of their own, as (id, path, metadata)."
            )
