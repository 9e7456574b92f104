"""Files that survive a power cut: nothing counts as written before it is synced to disk.

A new file is durable when its content is synced and then the folder that names it. Windows cannot sync folders;
there the folder calls do nothing, and a file's name may be lost in a power cut (not in a crash of the process).
"""

import errno
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from colbert_video.errors import IndexFolderError

logger = logging.getLogger(__name__)

BLOCK = 2**20


def fsync_file(path: Path) -> None:
    """Wait until the content of `path` is on disk."""
    _fsync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Wait until the names in the folder `path` are on disk; does nothing on Windows."""
    if os.name != "nt":
        _fsync(path, os.O_RDONLY)


def sync_tree(folder: Path) -> None:
    """Wait until a folder with all it holds is on disk.

    Every file comes first, then every folder from the innermost out, and last the parent of `folder`, which holds
    its name.
    """
    folders = [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            folders.append(path)
        else:
            fsync_file(path)
    for inner in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        fsync_folder(inner)
    fsync_folder(folder.parent)


def make_folder_durably(folder: Path) -> None:
    """Make a folder with its parents, if missing, and wait until the folders above hold their names on disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # A folder that is there may have been made by a process that died before it synced the parent.
    for path in missing or [folder]:
        if os.access(path.parent, os.R_OK):
            fsync_folder(path.parent)


def checksum(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file, in hexadecimal."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def check_link(path: Path) -> None:
    """Check that a file or folder of an index is not a symbolic link, which may lead anywhere.

    Raises:
        IndexFolderError: If it is a link.
    """
    if path.is_symlink():
        raise IndexFolderError(f"{path} is a link, which no index holds; copy what it leads to in its place")


def file_problem(path: Path, size: int, sha256: str | None) -> str | None:
    """Return what is wrong with a file, if anything.

    Args:
        path: The file; a link counts as a problem.
        size: Bytes it must have.
        sha256: Its checksum, for which all of it is read; None to compare the size alone.

    Returns:
        The problem in words.
    """
    try:
        if path.is_symlink():
            return "it is a link"
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            return "it is missing"
        if found != size:
            return f"it has {found} bytes instead of {size}"
        if sha256 is not None and checksum(path)[1] != sha256:
            return "its content has changed (SHA-256)"
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    return None


def check_files(folder: Path, files: Mapping[str, tuple[int, str]], *, content: bool = True) -> None:
    """Check that files are there and as they were written.

    Args:
        folder: Where the paths begin.
        files: Size and SHA-256 by relative path.
        content: True to read all of every file; False to compare sizes alone.

    Raises:
        IndexFolderError: If a file is missing, damaged or a link; the message names it.
    """
    check_folders(folder, files)
    for name, (size, sha256) in files.items():
        problem = file_problem(folder / name, size, sha256 if content else None)
        if problem is not None:
            raise IndexFolderError(f"{folder / name} is damaged: {problem}; restore it or rebuild the index")


def check_folders(folder: Path, names: Iterable[str]) -> None:
    """Check that no folder below `folder` in which one of the files lies is a link.

    Raises:
        IndexFolderError: If one is a link.
    """
    inner = {parent for name in names for parent in PurePosixPath(name).parents}
    for parent in sorted(inner - {PurePosixPath(".")}):
        check_link(folder / parent)


def delete_leftover(path: Path) -> None:
    """Delete a file or folder that is no longer needed; if that fails, log it: the next writer tries again."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s is no longer needed and cannot be deleted now: %s", path, error)


def write_bytes_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves either the old content or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    fsync_file(temporary)
    temporary.replace(path)
    fsync_folder(path.parent)


def new_name() -> str:
    """Return a new name for a segment, codec or chunk: 12 random hexadecimal digits, short because each row holds one."""
    return secrets.token_hex(6)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a new file `target` the same file as `source`, or a copy where the file system has no hard links.

    Raises:
        FileExistsError: If `target` exists.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an error of writing in the block, which neither torch nor the system does."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OSError(errno.EIO, f"writing failed ({reason})", str(path)) from error


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
