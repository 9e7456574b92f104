"""Writing files that survive a power cut, and checking those of an index.

A new file is durable when its content is synced and then the folder that names it. Windows cannot sync folders;
there the folder calls do nothing, and a file's name may be lost in a power cut (not in a crash of the process).
"""

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from colbert_video.base.access import kind_of, open_plain, os_problem, read_problem
from colbert_video.base.user_files import encode_text
from colbert_video.errors import IndexFolderError, SettingsError

logger = logging.getLogger(__name__)

BLOCK = 2**20
RESTORE = "restore it from a copy, or delete the index folder and index again"
"""The remedy for damage of an index."""
MISSING = "it is missing"
LINKED = "it is a link"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Flags that open a file which is not there yet."""
OWN_DESCRIPTOR = re.compile(r"/dev/(?:(stdout|stderr)|fd/(\d{1,9}))|/proc/self/fd/(\d{1,9})")
"""Names of this process's open files, such as a pipe to another program."""


def write_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8, as `write_bytes_durably`.

    Raises:
        SettingsError: If it cannot be written; then an older file stays as it is.
    """
    data = encode_text(text, path)
    try:
        write_bytes_durably(path, data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}; choose another place.") from error


def check_file_writable(path: Path) -> None:
    """Check before long work that its result can be written to `path`.

    Raises:
        SettingsError: If `path` is a folder, its folder is missing, or no file can be written there.
    """
    try:
        if (number := _descriptor(path)) is not None:
            os.fstat(number)  # fails where nothing is open
            return
        if _is_special(path):
            return
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        target = _followed(path)
        _check_replaceable(target)
        _probe(target.parent)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}; choose another place.") from error


def is_stream(path: Path) -> bool:
    """Return whether a path names no file of its own: /dev/stdin, a pipe, or what a shell makes of `<(command)`."""
    return str(path) == "/dev/stdin" or _descriptor(path) is not None or _is_special(path)


def is_standard_output(path: Path) -> bool:
    """Return whether a path names this process's standard output, which then holds the file and nothing else."""
    return _descriptor(path) == 1


def check_folder_writable(folder: Path) -> None:
    """Check before long work that files can be written into `folder`, which may be missing yet.

    Raises:
        SettingsError: If a file stands in its place, or it cannot be made or written.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        if nearest != folder:
            _probe(nearest)
        elif not os.access(folder, os.W_OK | os.X_OK):  # no probe: another process may look whether it is empty
            raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}; choose another folder.") from error


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
    """Return the size in bytes and the SHA-256 of a plain file, in hexadecimal."""
    digest, size = hashlib.sha256(), 0
    with open_plain(path) as file:
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
        raise IndexFolderError(f"{path} is a link, which an index cannot contain; replace it by a copy of its target")


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
            return LINKED
        if not path.exists():
            return MISSING
        status = path.stat()
        found = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return f"it is {kind_of(status.st_mode)}, not a plain file"
        if found != size:
            return f"it has {found} bytes instead of {size}"
        if sha256 is not None and checksum(path)[1] != sha256:
            return "its content has changed (SHA-256)"
    except OSError as error:
        return f"it cannot be read ({os_problem(error)})"
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
            unreadable = None if problem in (MISSING, LINKED) else read_problem(folder / name)  # a link is not followed
            if unreadable is not None:
                raise IndexFolderError(f"{folder / name} cannot be read: {unreadable}")
            raise IndexFolderError(f"{folder / name} is damaged: {problem}; {RESTORE}")


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
    """Replace `path` by `data` so that a crash leaves either the old content or the new one, never a part.

    A link is followed, and a file keeps its permissions. Devices, pipes and this process's open files, such as
    /dev/stdout, are written as they are.
    """
    if (number := _descriptor(path)) is not None:
        for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
            if stream is not None:
                stream.flush()
        with os.fdopen(os.dup(number), "wb") as file:
            file.write(data)
    elif _is_special(path):
        with path.open("wb") as file:
            file.write(data)
    else:
        _replace(_followed(path), data)


def _replace(target: Path, data: bytes) -> None:
    mode = _check_replaceable(target)
    temporary = _beside(target.parent)  # of its own name: two writers of one file must not share it
    try:
        with naming(target), os.fdopen(os.open(temporary, NEW_FILE, 0o666), "wb") as file:
            file.write(data)
        if mode is not None:
            temporary.chmod(mode)
        fsync_file(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_folder(target.parent)


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file of this process that `path` names; None if it names none."""
    match = OWN_DESCRIPTOR.fullmatch(str(path))
    if match is None:
        return None
    return {"stdout": 1, "stderr": 2}.get(match[1]) or int(match[2] or match[3])


def _is_special(path: Path) -> bool:
    """Return whether a path leads to a device or a pipe, which nothing may replace."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _followed(path: Path) -> Path:
    """Return the file that a link leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _check_replaceable(target: Path) -> int | None:
    """Return the permissions of the file that is replaced, None if there is none.

    Raises:
        OSError: If it is read-only.
    """
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))
    return mode


def _beside(folder: Path) -> Path:
    return folder / f".{new_name()}.tmp"


def _probe(folder: Path) -> None:
    """Make a file in a folder and delete it; raises OSError if that fails. Permissions alone do not say it."""
    temporary = _beside(folder)
    os.close(os.open(temporary, NEW_FILE, 0o600))
    temporary.unlink()


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
