"""Archives of an index: tar, plain or compressed, and zip; written from plain files, read without trust.

A reader takes regular files alone, and bounds what an archive may claim to hold before anything of it is unpacked.
"""

import bz2
import errno
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from colbert_video.base.access import open_plain, os_problem
from colbert_video.durable import BLOCK
from colbert_video.errors import IndexFolderError, in_one_line, shown
from colbert_video.video.files import CheckedHeader, checked_members

Format = Literal["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]
SUFFIXES: dict[str, Format] = {
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
    ".zip": "zip",
}
OTHER_ARCHIVES = (".zst", ".tzst", ".gz", ".bz2", ".xz", ".lz4", ".7z", ".rar")
"""Endings of archives that are not written; a folder of such a name would surprise."""
OTHER_CONTENTS = {
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: uncompress it with `zstd -d` first",
    b"\x04\x22\x4d\x18": "is compressed with lz4: uncompress it with `lz4 -d` first",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it and give the folder",
    b"Rar!": "is a RAR archive: unpack it and give the folder",
    b"SQLite format 3": "is a database, perhaps an index's catalog: give the index folder around it",
}
"""What files of other kinds begin with, and what to do with them."""
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
UNPACKERS: dict[bytes, Callable[[Any], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 - the caller closes it
}
"""What compressed files begin with."""
MAX_EXPANSION = 100
"""An archive may unpack to so many times its size; codes and residuals hardly shrink, catalogs a few times."""
MIN_EXPANDED = 2**26
"""Bytes to which even a tiny archive may unpack."""
MAX_READ = 2**24
"""Bytes read at once; a tar header that asks for more is crafted."""
UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
)
"""What readers of damaged archives raise; RuntimeError for encrypted and exotic zip files."""
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Error numbers that say nothing of an archive, but of the disk to which it is unpacked."""


@runtime_checkable
class Readable(Protocol):
    """A file's content."""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""
        ...


Put = Callable[[str, Readable, int], None]
"""Takes a file's name in the index, its content and its size in bytes."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    """As it is packed, with "/" between names."""
    size: int
    """Bytes, as the archive says."""
    kind: Literal["file", "folder", "other"]
    """Links, devices and sparse files are "other"."""
    entry: Any
    """The archive's own entry."""


@runtime_checkable
class Archive(Protocol):
    """An opened archive."""

    members: list[Member]

    def open(self, member: Member) -> io.BufferedIOBase:
        """Open a file of the archive."""
        ...


def archive_format(path: Path) -> Format | None:
    """Return the format of the archive that a name asks for; None for a folder.

    Raises:
        IndexFolderError: If the name is that of an archive which is not written.
    """
    name = path.name.lower()
    found = next((form for suffix, form in SUFFIXES.items() if name.endswith(suffix)), None)
    if found is None and name.endswith(OTHER_ARCHIVES):
        raise IndexFolderError(
            f"{path}: archives of this kind are not written; end the name in .tar, .tar.gz, .tar.bz2, .tar.xz or .zip, "
            "or give a folder without such an ending."
        )
    return found


def root_name(path: Path) -> str:
    """Return the name of the folder in an archive: that of the archive without its ending."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)] or "index"


@contextmanager
def writing_archive(path: Path, form: Format, root: str) -> Iterator[Put]:
    """Write a new archive; the same files make the same bytes on every machine."""
    with path.open("xb") as file, ExitStack() as stack:
        if form == "zip":
            yield _into_zip(stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)), root)
            return
        packed: Any = file
        if form == "tar.gz":
            packed = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
        elif form == "tar.bz2":
            packed = stack.enter_context(bz2.BZ2File(file, "wb"))
        elif form == "tar.xz":
            packed = stack.enter_context(lzma.LZMAFile(file, "wb"))
        tar = tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - the stack closes it
        yield _into_tar(stack.enter_context(tar), root)


def _into_tar(tar: tarfile.TarFile, root: str) -> Put:
    def put(name: str, content: Readable, size: int) -> None:
        info = tarfile.TarInfo(f"{root}/{name}")  # owner, time and mode are the same on every machine
        info.size, info.mode = size, 0o644
        tar.addfile(info, content)

    return put


def _into_zip(archive: zipfile.ZipFile, root: str) -> Put:
    def put(name: str, content: Readable, size: int) -> None:
        info = zipfile.ZipInfo(f"{root}/{name}")
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
        with archive.open(info, "w", force_zip64=True) as file:
            while block := content.read(BLOCK):
                file.write(block)

    return put


@contextmanager
def reading_archive(path: Path) -> Iterator[Archive]:
    """Open an archive, whose kind its content says, whatever its name.

    Raises:
        IndexFolderError: If it is missing, no plain file, no archive, damaged, or claims to hold too much.
    """
    try:
        with open_plain(path) as file, ExitStack() as stack:
            yield _opened(path, file, stack)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in NOT_WRITTEN:
            raise
        reason = os_problem(error) if isinstance(error, OSError) and error.errno else in_one_line(error)
        raise IndexFolderError(
            f"{path} cannot be unpacked: {reason}. Give what `colbert-video export` wrote: a folder, or a .tar, "
            ".tar.gz, .tar.bz2, .tar.xz or .zip."
        ) from error


def _opened(path: Path, file: io.BufferedIOBase, stack: ExitStack) -> Archive:
    head = file.read(16)
    file.seek(0)
    for beginning, words in OTHER_CONTENTS.items():
        if head.startswith(beginning):
            raise IndexFolderError(f"{path} {words}.")
    packed = path.stat().st_size
    limit = max(MIN_EXPANDED, MAX_EXPANSION * packed)
    if head.startswith(ZIP):  # a tar file may end in a file that is one
        return _ZipArchive(stack.enter_context(zipfile.ZipFile(file)), path, limit)
    unpack = next((unpack for beginning, unpack in UNPACKERS.items() if head.startswith(beginning)), None)
    content = file if unpack is None else stack.enter_context(unpack(file))
    bounded: Any = _Bounded(content, path, packed if unpack is None else limit)
    return _TarArchive(stack.enter_context(tarfile.open(fileobj=bounded, mode="r:", tarinfo=CheckedHeader)))


class _Bounded:
    """An unpacked file that refuses to be read, or skipped, beyond a limit, and in pieces that are too large."""

    def __init__(self, file: io.BufferedIOBase, path: Path, limit: int) -> None:
        self._file, self._path, self._limit = file, path, limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise IndexFolderError(f"{self._path} has a header of {size} bytes, which no index needs; it is refused.")
        block = self._file.read(size)
        self._check(self._file.tell())
        return block

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, offset: int) -> None:
        if offset > self._limit:
            raise IndexFolderError(
                f"{self._path} holds or promises more than {self._limit} bytes, far more than an archive of its size; "
                "it is refused. If it is an index that you trust, unpack it yourself and import the folder."
            )


class _TarArchive:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members = [self._member(info) for info in checked_members(tar)]

    @staticmethod
    def _member(info: tarfile.TarInfo) -> Member:
        plain = info.isreg() and not info.issparse()
        return Member(info.name, info.size, "file" if plain else "folder" if info.isdir() else "other", info)

    def open(self, member: Member) -> io.BufferedIOBase:
        found: Any = self._tar.extractfile(member.entry)
        if found is None:
            raise ValueError(f"{shown(member.name)} has no content")
        content: io.BufferedIOBase = found
        return content


class _ZipArchive:
    def __init__(self, archive: zipfile.ZipFile, path: Path, limit: int) -> None:
        self._zip = archive
        self.members = [self._member(info) for info in archive.infolist()]
        promised = sum(member.size for member in self.members)
        if promised > limit:
            raise IndexFolderError(
                f"{path} promises {promised} bytes, far more than an archive of its size; it is refused. If it is an "
                "index that you trust, unpack it yourself and import the folder."
            )

    @staticmethod
    def _member(info: zipfile.ZipInfo) -> Member:
        mode = info.external_attr >> 16  # 0 from systems without modes
        plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
        is_folder = info.filename.endswith("/")  # `is_dir` fails for an empty name
        return Member(info.filename, info.file_size, "folder" if is_folder else "file" if plain else "other", info)

    def open(self, member: Member) -> io.BufferedIOBase:
        content: Any = self._zip.open(member.entry)
        opened: io.BufferedIOBase = content
        return opened
