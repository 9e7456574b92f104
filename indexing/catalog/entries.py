"""The rows of the catalog as values, checked both ways: nothing unusable goes in, nothing crafted comes out."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from colbert_video.base.json_values import plain_metadata
from colbert_video.durable import RESTORE
from colbert_video.errors import IndexFolderError, SettingsError, shown

VIDEO_COLUMNS = (
    "id", "path", "parent", "start", "end", "duration", "frame_times", "metadata", "source_size", "source_mtime_ns",
)  # fmt: skip
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class VideoEntry:
    """One video, or one window of a long video."""

    id: str
    """The caller's name for it, any Unicode text but the empty one."""
    path: str | None = None
    parent: str | None = None
    """Id of the video of which this is a window."""
    start: float | None = None
    """Start of the window in seconds."""
    end: float | None = None
    """End of the window in seconds, exclusive."""
    duration: float | None = None
    """Length of the file in seconds."""
    frame_times: tuple[float, ...] = ()
    """Time of each sampled frame, in seconds from the start of the file."""
    frame_tokens: tuple[int, ...] = ()
    """Which token of a bag stands for each sampled frame, where frames were pooled; empty if each has its own."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Whatever the caller wants back with a hit: JSON values under text keys."""
    source_size: int | None = None
    """Size of the file in bytes when it was encoded."""
    source_mtime_ns: int | None = None
    """Modification time of the file when it was encoded, nanoseconds since 1970."""
    segment: str | None = None
    """Segment that holds its tokens; set by the catalog."""
    row: int | None = None
    """Its row in the segment; set by the catalog."""

    @property
    def video(self) -> str:
        """Id of the whole video: its parent's if this is a window, otherwise its own."""
        return self.id if self.parent is None else self.parent

    def __post_init__(self) -> None:
        """Check that SQLite and JSON would not silently change a value, and that every frame has a token.

        Raises:
            SettingsError: If one of these is not so.
        """
        if self.frame_tokens and not _has_token_per_frame(self.frame_tokens, len(self.frame_times)):
            raise SettingsError(
                f"video {shown(self.id)} has {len(self.frame_times)} frames and the frame tokens "
                f"{shown(self.frame_tokens)}; each frame needs one of the tokens 0, 1, ..., and each of these a frame"
            )
        if not self.id:
            raise SettingsError("a video id is empty; give each video an id of at least one character")
        for name in ("id", "path", "parent"):
            _check_surrogates(name, getattr(self, name))
        for value in (self.start, self.end, self.duration, *self.frame_times):
            if value is not None and not math.isfinite(value):
                raise SettingsError(f"video {shown(self.id)} has the time {value}; times must be finite seconds")


@dataclass(frozen=True)
class NewSegment:
    """A written and synced segment that is to become visible."""

    name: str
    """Its folder's name, from `new_name`."""
    codec: str
    """Name of the codec that encoded it."""
    entries: Iterable[VideoEntry]
    """The videos in order."""
    files: Mapping[str, tuple[int, str]]
    """Size and SHA-256 of each file, by path relative to the index folder; those of a new codec too."""


@dataclass(frozen=True)
class SegmentRow:
    """A live segment."""

    name: str
    """Its folder's name."""
    codec: str
    """Name of the codec that encoded it."""
    count: int
    """How many videos it stores, removed ones included."""
    created: float
    """When it was committed, seconds since 1970."""


@dataclass(frozen=True)
class Failure:
    """A video that could not be indexed."""

    id: str
    path: str
    kind: str
    """The reason, one of `FailureKind`'s values."""
    detail: str
    """The reason in words."""
    at: float = 0.0
    """When it failed, seconds since 1970; set by the catalog when 0."""


@dataclass(frozen=True)
class IndexView:
    """Everything a searcher needs, as of one commit."""

    version: int
    """Number of the commit."""
    settings: Mapping[str, Any]
    codec: str | None
    """Name of the newest codec; None in an empty index."""
    segments: tuple[SegmentRow, ...]
    """Live segments, oldest first."""
    removed: Mapping[str, list[Any]]
    """Rows whose videos were removed, ascending, of each live segment that has any."""
    count: int
    """Live videos, each window counted."""
    videos: int
    """Live videos, all windows of one counted once."""
    windows: int
    """Live windows of long videos."""

    def check_contradictions(self, path: Path) -> None:
        """Check that segments, tombstones and the number of live videos of the catalog at `path` fit each other.

        Raises:
            IndexFolderError: If they do not.
        """
        stored = {segment.name: segment.count for segment in self.segments}
        for name, rows in self.removed.items():
            whole = all(isinstance(row, int) for row in rows)
            if name not in stored or not whole or rows[0] < 0 or rows[-1] >= stored[name]:
                raise IndexFolderError(f"{path} is damaged: tombstones outside segment {shown(name)}; {RESTORE}")
        expected = sum(stored.values()) - sum(len(rows) for rows in self.removed.values())
        if self.count != expected:
            raise IndexFolderError(
                f"{path} is damaged: {self.count} live videos, its segments hold {expected}; {RESTORE}"
            )


def video_values(entry: VideoEntry) -> tuple[Any, ...]:
    """Return the values of `VIDEO_COLUMNS` for `entry`.

    Raises:
        SettingsError: If its metadata is not JSON.
    """
    return (
        entry.id, entry.path, entry.parent, entry.start, entry.end, entry.duration,
        _packed_frames(entry), _metadata_text(entry),
        entry.source_size, entry.source_mtime_ns,
    )  # fmt: skip


def video_entry(values: tuple[Any, ...], segment: str | None = None, row: int | None = None) -> VideoEntry:
    """Return the entry that the values of `VIDEO_COLUMNS` stand for.

    Raises:
        IndexFolderError: If they are damaged.
    """
    try:
        identity, path, parent, start, end, duration, times, text, size, mtime = values
        seconds, tokens = _unpacked_frames(times)
        metadata = METADATA_DECODER.decode(text)
        if not isinstance(metadata, dict):
            raise TypeError(f"its metadata is {type(metadata).__name__} instead of names and values")
        span = (start, end, duration)
        return VideoEntry(identity, path, parent, *span, seconds, tokens, metadata, size, mtime, segment, row)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise IndexFolderError(f"the catalog's row of video {shown(values[0])} is damaged: {error}") from error


def live_entry(values: tuple[Any, ...]) -> VideoEntry:
    """Return the entry that segment, row and the values of `VIDEO_COLUMNS` stand for.

    Raises:
        IndexFolderError: If they are damaged.
    """
    return video_entry(values[2:], check_stored_text(check_name, values[0]), values[1])


def segment_row(row: tuple[Any, ...]) -> SegmentRow:
    """Return the segment that name, codec, count and time of creation stand for.

    Raises:
        IndexFolderError: If the row is damaged.
    """
    name, codec, count, created = row
    if not isinstance(count, int) or count < 1:
        raise IndexFolderError(f"the catalog's row of segment {shown(name)} is damaged: count {shown(count)}")
    return SegmentRow(check_stored_text(check_name, name), check_stored_text(check_name, codec), count, created)


def file_row(row: tuple[Any, ...]) -> tuple[str, tuple[int, str]]:
    """Return the path of a file, and the size and SHA-256 that stand for its content.

    Raises:
        IndexFolderError: If the row is damaged.
    """
    path, size, sha256 = row
    if type(size) is not int or size < 0 or not isinstance(sha256, str):
        stored = f"size {shown(size)} and SHA-256 {shown(sha256)}"
        raise IndexFolderError(f"the catalog's row of file {shown(path)} is damaged: {stored}")
    return check_stored_text(check_relative, path), (size, sha256)


def check_stored_text(check: Callable[[object], str], text: object) -> str:
    """Run a check on text that comes from the file rather than from the caller.

    Raises:
        IndexFolderError: If it fails.
    """
    try:
        return check(text)
    except SettingsError as error:
        raise IndexFolderError(f"the catalog is damaged or was tampered with: {error}") from error


def check_name(name: object) -> str:
    """Return a segment's or codec's name, if it can only name a folder right where it is looked for.

    Raises:
        SettingsError: If it could lead elsewhere.
    """
    if not isinstance(name, str) or not SAFE_NAME.fullmatch(name):
        raise SettingsError(f"name {shown(name)} may hold letters, digits, '-', '_' and inner '.' only")
    return name


def check_relative(path: object) -> str:
    """Return a file's path, if it is relative, POSIX, and stays inside the index folder.

    Raises:
        SettingsError: If it could lead elsewhere.
    """
    text = path if isinstance(path, str) else ""
    odd = any(part in ("", ".", "..") for part in text.split("/"))
    if odd or "\\" in text or "\0" in text or PureWindowsPath(text).drive:
        raise SettingsError(f"path {shown(path)} must be relative to the index folder, with '/' and without '..'")
    return text


def _packed_frames(entry: VideoEntry) -> bytes:
    """Pack the times of the frames, and where frames were pooled one NaN and the token of each."""
    numbers = [*entry.frame_times, *((math.nan, *entry.frame_tokens) if entry.frame_tokens else ())]
    return np.asarray(numbers, dtype="<f8").tobytes()


def _unpacked_frames(packed: bytes) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Undo `_packed_frames`."""
    numbers = np.frombuffer(packed, dtype="<f8").tolist()
    split = next((index for index, number in enumerate(numbers) if math.isnan(number)), None)
    if split is None:
        return tuple(numbers), ()
    tokens = numbers[split + 1 :]
    if not tokens or not all(number.is_integer() for number in tokens):
        raise ValueError(f"its frame tokens are {tokens}")
    return tuple(numbers[:split]), tuple(map(int, tokens))


def _has_token_per_frame(tokens: tuple[int, ...], frames: int) -> bool:
    """Return whether there is a token for each frame, and tokens are numbered without gaps."""
    used = set(tokens)
    return len(tokens) == frames and used == set(range(len(used)))


def _check_constant(name: str) -> None:
    raise ValueError(f"its metadata holds {name}, which is not JSON")


METADATA_DECODER = json.JSONDecoder(parse_constant=_check_constant)


def _metadata_text(entry: VideoEntry) -> str:
    return json.dumps(plain_metadata(entry.metadata, f"the metadata of video {shown(entry.id)}"), allow_nan=False)


def _check_surrogates(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{name} {shown(text)} is not valid Unicode (the file's name is not UTF-8?); rename the file or give "
            f"another {name}"
        ) from error
