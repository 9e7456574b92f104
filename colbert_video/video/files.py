r"""From the path of a video to its bytes: a file, or a member of a tar archive (ARCHIVE/MEMBER).

Linux allows any bytes in a file name. Python reads bytes that are not UTF-8 as lone surrogates, which can be opened but
neither printed nor put into JSON or SQLite. Here they are written as `\xNN`, and found again from that. Where another file
is really called so, they are written as `\XNN`, and so each file has a name of its own.
"""

import io
import os
import posixpath
import re
import stat
import tarfile
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")
"""A byte that is not UTF-8, as names show it."""
EXACT_ESCAPE = re.compile(rb"\\X(5c|[89a-f][0-9a-f])")
"""Such a byte, or a backslash, in a name that the other way of writing would not tell from another's."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
ARCHIVE = ".tar"
"""Extension of an archive."""
MAX_ARCHIVES = 1024
"""Archives whose members are remembered, so that training, which reads them in any order, lists each once."""
BLOCK_BYTES = 512
"""Archives are made of blocks of this size."""
MAX_HEADER_BYTES = 2**20
"""Largest long name or pax header of a member."""
MAX_LISTING_SECONDS = 60.0
"""Time for listing one archive; a million members take about 20 seconds."""
BAD_ARCHIVE = (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError)
"""What `tarfile` raises for damaged headers: pax numbers that are none, blocks that are missing, endless headers."""
HEADER_TYPES = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)
"""Members that describe the next one; `tarfile` reads them whole."""


def readable_name(path: str, *, folder: str | os.PathLike[str] = "", others: Container[str] | None = None) -> str:
    r"""Return a path of the operating system as valid Unicode: each byte that is not UTF-8 becomes `\xNN`.

    Where that is the name of another file, or stands for another, bytes become `\XNN` and backslashes `\X5c`.

    Args:
        path: A path, or a part of one below `folder`.
        folder: Where the others lie.
        others: The names of the others, of members of an archive; None to look at the disk.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    if text == path:
        return text
    taken = os.path.lexists(Path(folder, text)) if others is None else text in others
    return _exact_name(path) if taken or _unescaped(text, ESCAPE) != path else text


def native_name(path: str) -> str:
    """Return a name that can be opened: `path` itself, unless only a file with the escaped bytes exists."""
    if "\\x" not in path.lower() or os.path.lexists(path):
        return path
    names = (_unescaped(path, escape) for escape in (ESCAPE, EXACT_ESCAPE))
    return next((name for name in names if os.path.lexists(name)), path)


def _unescaped(text: str, escape: re.Pattern[bytes]) -> str:
    return os.fsdecode(escape.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text)))


def _exact_name(path: str) -> str:
    data = os.fsencode(path)
    if os.sep != "\\":
        data = data.replace(b"\\", rb"\X5c")
    return data.decode("utf-8", "backslashreplace").replace("\\x", "\\X")


@dataclass(frozen=True)
class FileRange:
    """The bytes of a video: a whole file, or a member of an archive."""

    path: str
    """The file, as the operating system names it."""
    start: int
    """First byte of the video in the file."""
    size: int
    """Bytes of the video."""
    modified_ns: int
    """Modification time of the file, nanoseconds since 1970."""
    archived: bool
    """True for a member of an archive."""

    @property
    def url(self) -> str:
        """The address under which FFmpeg opens it."""
        # The prefix keeps a file named "10:30.mp4" from being read as a protocol named "10".
        whole = f"file:{self.path}"
        return f"subfile,,start,{self.start},end,{self.start + self.size},,:{whole}" if self.archived else whole

    @property
    def protocols(self) -> str:
        """The protocols that FFmpeg needs for `url`, and no others."""
        return "file,subfile" if self.archived else "file"


@dataclass(frozen=True)
class Archive:
    """The members of a tar archive, and its damage."""

    members: dict[str, tuple[int, int]]
    """First byte and size of each regular file by its name; of files that share a name, the last one."""
    repeated: tuple[str, ...]
    """Names that several files have."""
    others: int
    """Number of links, devices and sparse files; folders are not counted."""
    damage: str | None
    """The damage in words; None for an archive that is whole."""


def locate(path: str | os.PathLike[str]) -> FileRange:
    """Find the bytes of a file or a member of an archive.

    Raises:
        OSError: If there is no such file or member.
        ValueError: If the name holds a zero byte.
    """
    native = native_name(str(path))
    try:
        status = os.stat(native)  # noqa: PTH116 - the name may be no text
    except OSError as error:
        return _locate_member(str(path), missing=error)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(0, "not a file", native)
    return FileRange(str(Path(native).absolute()), 0, status.st_size, status.st_mtime_ns, archived=False)


def file_stamp(path: str | os.PathLike[str]) -> tuple[int | None, int | None]:
    """Return a video's size in bytes and modification time in nanoseconds; (None, None) without a file."""
    try:
        found = locate(path)
    except (OSError, ValueError):
        return None, None
    return found.size, found.modified_ns


def exists(path: str | os.PathLike[str]) -> bool:
    """Return True if a path leads to a file or a member of an archive."""
    try:
        locate(path)
    except (OSError, ValueError):
        return False
    return True


def file_identity(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    """Return what two paths have in common if and only if they lead to one file, or to one member of one archive.

    Device and inode decide, so links, hard links and all spellings of a path are the same file. Of a missing file the
    resolved path decides, and an address such as "https://..." is itself.
    """
    text = str(path)
    if ADDRESS.match(text):
        return (text,)
    try:
        return (*_inode(native_name(text)), "")
    except (OSError, ValueError):
        pass
    archive, member = split_member(text)
    try:
        return (*_inode(archive), posixpath.normpath(member)) if member is not None else (os.path.realpath(text),)
    except (OSError, ValueError):
        return (os.path.normpath(text),)


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - the name may be no text
    return status.st_dev, status.st_ino


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return True if a path has the extension of an archive."""
    return Path(path).suffix.lower() == ARCHIVE


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """List the members of an archive; the list is remembered until the file changes.

    Raises:
        OSError: If the file cannot be read.
    """
    status = Path(path).stat()
    return _listed(str(Path(path).absolute()), status.st_size, status.st_mtime_ns)


def open_range(found: FileRange) -> io.BufferedIOBase:
    """Open a video's bytes for reading."""
    file = open(found.path, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed by the reader
    return io.BufferedReader(RangeReader(file, found.start, found.size))


class RangeReader(io.RawIOBase):
    """Part of an open file as a file of its own; closing it closes the file.

    Args:
        file: The whole file.
        start: First byte of the part.
        size: Bytes of the part.
    """

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase, start: int, size: int) -> None:
        self._file, self._start, self.size, self._offset = file, start, size, 0

    def readable(self) -> bool:
        """Return True, for `io.BufferedReader`."""
        return True

    def seekable(self) -> bool:
        """Return True, for `io.BufferedReader`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of the part, counted from its start, the current one or its end; return its number."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no byte {base + offset}")
        self._offset = base + offset
        return self._offset

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read into a buffer, not past the end of the part; return the number of bytes."""
        wanted = max(min(len(buffer), self.size - self._offset), 0)
        self._file.seek(self._start + self._offset)
        data = self._file.read(wanted) or b""
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def close(self) -> None:
        """Close the whole file."""
        if not self.closed:
            self._file.close()
        super().close()


def split_member(path: str) -> tuple[str, str | None]:
    """Split ARCHIVE/MEMBER without looking into the archive; any other path comes back with None."""
    if ARCHIVE not in path.lower():
        return path, None
    absolute = Path(path).absolute()
    for parent in absolute.parents:
        archive = native_name(str(parent))
        if is_archive(archive) and Path(archive).is_file():
            return archive, absolute.relative_to(parent).as_posix()
    return path, None


def input_of(path: str) -> tuple[str, str]:
    """Return a video's `FileRange.url` and `protocols`, of a missing file too: FFmpeg then says what is wrong."""
    try:
        found = locate(path)
    except (OSError, ValueError):
        return f"file:{path}", "file"
    return found.url, found.protocols


def _locate_member(path: str, missing: OSError) -> FileRange:
    archive, name = split_member(path)
    if name is None:
        raise missing
    status, member = Path(archive).stat(), read_archive(archive).members.get(name)
    if member is None:
        raise FileNotFoundError(0, f"the archive {Path(archive).name} has no such member", path)
    start, size = member
    if start + size > status.st_size:
        raise FileNotFoundError(0, f"the archive {Path(archive).name} ends before this member does", path)
    return FileRange(archive, start, size, status.st_mtime_ns, archived=True)


class CheckedHeader(tarfile.TarInfo):
    """A member's header whose size is plausible: `tarfile` follows negative ones backwards, without end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> "CheckedHeader":
        """Read a header.

        Raises:
            tarfile.HeaderError: If it is damaged.
        """
        header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if header.size < 0 or (header.type in HEADER_TYPES and header.size > MAX_HEADER_BYTES):
            raise ImplausibleSizeError(f"a header names a size of {header.size} bytes")
        return header


class ImplausibleSizeError(tarfile.HeaderError):
    """A member's header names a size that no member has."""


@lru_cache(maxsize=MAX_ARCHIVES)
def _listed(path: str, size: int, modified_ns: int) -> Archive:
    """List an archive; size and modification time are the rest of the cache's key."""
    found: dict[str, tuple[int, int]] = {}
    repeated: list[str] = []
    others = 0
    try:
        with tarfile.open(path, "r:", errorlevel=0, tarinfo=CheckedHeader) as tar:
            for member in checked_members(tar):
                name = member.name.removeprefix("./")
                if not member.isreg() or member.issparse():
                    others += not member.isdir()
                    continue
                if name in found:
                    repeated.append(readable_name(name, others=()))
                found[name] = (member.offset_data, member.size)
            damage = _damage_at(path, tar.offset, size)
    except BAD_ARCHIVE as error:
        damage = f"no tar archive that can be read ({error}); compressed ones must be uncompressed first"
        if found:
            last = readable_name([*found][-1], others=())
            damage = f"damaged after {last} ({error}); what follows is lost"
    members: dict[str, tuple[int, int]] = {}
    for native, bytes_of in found.items():
        if members.setdefault(name := readable_name(native, others=found), bytes_of) is not bytes_of:
            repeated.append(name)
    return Archive(members, tuple(repeated), others, damage)


def checked_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, each behind the one before it.

    Raises:
        tarfile.TarError: If a member lies before the one before it, or listing takes longer than `MAX_LISTING_SECONDS`.
    """
    end = time.monotonic() + MAX_LISTING_SECONDS
    for member in tar:
        if member.size < 0 or tar.offset <= member.offset:  # sizes of pax headers too
            raise ImplausibleSizeError(f"{readable_name(member.name)[:200]} names a size of {member.size} bytes")
        if time.monotonic() > end:
            raise tarfile.ReadError(f"listing its members takes more than {MAX_LISTING_SECONDS:g} seconds")
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # `tarfile` would keep every header


def _damage_at(path: str, end: int, size: int) -> str | None:
    """Return the damage if `tarfile` stopped at byte `end` before the block of zeros or the end of a whole archive."""
    if end > size:
        return f"it ends {end - size} bytes before its last member does"
    with open(path, "rb") as file:  # noqa: PTH123 - the name may be no text
        file.seek(end)
        block = file.read(BLOCK_BYTES)
    if any(block):
        return f"damaged at byte {end}; what follows is lost"
    return None
