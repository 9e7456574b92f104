"""What keeps a file from being opened, in words and with a remedy; and files that are no plain files."""

import errno
import io
import os
import stat
from pathlib import Path

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a link"),
)
NOT_PLAIN = errno.EINVAL
"""Error number of an `OSError` about a file that is no plain file."""
REMEDIES = {
    errno.ENOSPC: "the disk is full: free space on it, or choose another",
    errno.EDQUOT: "your quota of the disk is used up: free space, or choose another disk",
    errno.EFBIG: "the file is larger than the disk or `ulimit -f` allows",
    errno.EROFS: "the disk is mounted read-only: choose another path",
    errno.EIO: "the disk reports an error: check it, or choose another",
    errno.EMFILE: "this process has too many files open: close some, or raise `ulimit -n`",
    errno.ENFILE: "the system has too many files open: end other programs",
    errno.ENAMETOOLONG: "the name is too long for the disk: choose a shorter one",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder: check the path",
    errno.EISDIR: "it is a folder, not a file",
    errno.ELOOP: "its links lead in a circle: correct them",
    errno.EXDEV: "it lies on another disk",
}
ABOUT_PATHS = frozenset((errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST))
"""Errors whose cause is found by looking at a path; others, such as a full disk, say themselves what it is."""


def kind_of(mode: int) -> str:
    """Return the kind of a file in words, from its mode: "a folder", "a named pipe"."""
    return next((words for is_kind, words in KINDS if is_kind(mode)), "a file")


def user_name() -> str:
    """Return the name of the user that this process acts for, or its number where it has none."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except ImportError:  # Windows
        return os.environ.get("USERNAME", "this user")
    except KeyError:
        return str(os.geteuid())


def os_problem(error: OSError) -> str:
    """Return the reason of a system's error, and a remedy where one is known."""
    if isinstance(error, PermissionError):
        return f"the user {user_name()} has no permission: ask for it, or run as another user"
    return REMEDIES.get(error.errno or 0) or error.strerror or str(error)


def reason_of(error: OSError) -> str:
    """Return a system's error in its own words, with a remedy where one is known."""
    if isinstance(error, PermissionError):
        return f"{error.strerror or error}; ask for the permission, or run as another user"
    remedy = REMEDIES.get(error.errno or 0, "").partition(": ")[2]
    return f"{error.strerror or error}" + (f"; {remedy}" if remedy else "")


def problem_of(error: OSError, path: Path, *, write: bool = False) -> str:
    """Return why a file could not be opened or made, with a remedy; arguments as for `access_problem`."""
    found = access_problem(path, write=write) if error.errno in ABOUT_PATHS else None
    return found or os_problem(error)


def access_problem(path: Path, *, write: bool = False) -> str | None:
    """Return what keeps a file from being opened, found by looking at it and the folders above; None if nothing does.

    Args:
        path: The file; it need not exist.
        write: True to ask for writing, of the file and of its folder, in which SQLite makes side files.
    """
    path = path.absolute()
    for folder in reversed(path.parents):
        if folder.exists() and not folder.is_dir():
            return f"{folder} is a file, not a folder: check the path"
        if not _may(folder, os.X_OK):
            return _denied("enter the folder", folder)
        if not os.path.lexists(folder):
            return f"there is no folder {folder}: check the path, or make it"
    return _file_problem(path, write=write)


def _file_problem(path: Path, *, write: bool) -> str | None:
    if path.is_dir():
        return f"{path} is a folder, not a file"
    if path.exists() and not _may(path, os.R_OK):
        return _denied("read", path)
    if not write:
        return None
    for target in (path.parent, path):
        if os.path.lexists(target) and not _may(target, os.W_OK):
            if _is_read_only(target):
                return "the disk is mounted read-only: choose another path, or mount it for writing"
            return _denied("write to", target)
    return None


def _may(path: Path, mode: int) -> bool:
    """Return whether the user that this process acts for may do something; True where the path is missing."""
    effective = os.access in os.supports_effective_ids
    return not os.path.lexists(path) or os.access(path, mode, effective_ids=effective)


def _denied(what: str, path: Path) -> str:
    try:
        owner = path.owner()
    except (KeyError, OSError, NotImplementedError):  # unknown, or Windows
        owner = "another user"
    return f"the user {user_name()} may not {what} {path} of {owner}: change its permissions, or run as another user"


def _is_read_only(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def read_problem(path: Path) -> str | None:
    """Return why a file cannot be opened for reading, found by trying; None if it can."""
    try:
        open_plain(path).close()
    except OSError as error:
        if error.errno == NOT_PLAIN:
            return error.strerror
        return problem_of(error, path)
    return None


def open_plain(path: Path) -> io.BufferedReader:
    """Open a plain file for reading; a named pipe, which would be waited for, a folder or a device is refused.

    Raises:
        OSError: If it cannot be opened; with the number `NOT_PLAIN` if it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(NOT_PLAIN, f"it is {kind_of(mode)}, not a plain file", str(path))
        return io.BufferedReader(io.FileIO(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise
