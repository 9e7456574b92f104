"""Files that survive a power cut: nothing counts as written before the disk says so.

A new file is durable when its content is synced and then the folder that names it. Windows cannot sync folders;
there the folder calls do nothing, and a file's name may be lost in a power cut (not in a crash of the process).
"""

import hashlib
import os
import shutil
from pathlib import Path

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


def checksum(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file, in hexadecimal."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def write_bytes_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves either the old content or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    fsync_file(temporary)
    temporary.replace(path)
    fsync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a new file `target` the same file as `source`, or a copy where the file system has no hard links.

    Raises:
        FileExistsError: There is a `target` already.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
