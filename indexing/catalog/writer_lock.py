"""The right to write to an index folder, which one process has at a time."""

import errno
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from colbert_video.base.access import access_problem
from colbert_video.durable import check_link
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.database import closed_on_error
from colbert_video.indexing.catalog.sqlite_errors import ERRORS, LOCKS, primary_code

LOCK_NAME = "writer.lock"


class WriterLock:
    """Holds the right to write to an index folder until `release`.

    Two locks, of which each makes up for what the other lacks. `flock` on the folder needs no file that this user may
    write, and stays when the process opens and closes the folder's files, as a copy of the folder does. An empty SQLite
    database in an exclusive transaction works on every system, and excludes releases that know this lock alone. Both
    notice other writers in this process too, neither is inherited by forked children, and both need a file system with
    working locks.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            IndexFolderError: If another writer holds it, or the folder cannot be written.
        """
        path = folder / LOCK_NAME
        check_link(path)
        self._folder = _lock_folder(folder)
        try:
            self._connection = _lock_file(path, alone=self._folder is None)
        except BaseException:
            self._unlock_folder()
            raise
        _held.add(self)

    def release(self) -> None:
        """Let other writers in; a second call does nothing."""
        self._connection.close()
        self._unlock_folder()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the lock if the block raises."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def __del__(self) -> None:
        """Let other writers in, as SQLite does when a connection is forgotten."""
        if getattr(self, "_folder", None) is not None:
            self._unlock_folder()

    def _unlock_folder(self) -> None:
        if self._folder is not None:
            fcntl.flock(self._folder, fcntl.LOCK_UN)  # a child in the middle of a fork may have it open still
            os.close(self._folder)
            self._folder = None

    def _forget_in_child(self) -> None:
        if self._folder is not None:
            os.close(self._folder)  # the parent keeps its lock, and this process does not keep it any longer
            self._folder = None


_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()
"""Locks of this process, which forked children must not prolong."""


def _forget_locks() -> None:
    for lock in list(_held):
        lock._forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _lock_folder(folder: Path) -> int | None:
    """Lock the folder itself; return its descriptor, or None where there is no such lock.

    Raises:
        IndexFolderError: If another writer holds it.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no permission to list it; whether it is there, the other lock says
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _being_written(folder) from error
        return None  # a file system without it, such as some network ones
    if not _is_open(folder, descriptor):
        os.close(descriptor)
        raise _being_written(folder)  # another process has removed the folder, and perhaps made it again
    return descriptor


def _is_open(folder: Path, descriptor: int) -> bool:
    """Return whether a descriptor is that of a folder as it is now."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:  # removed meanwhile
        return False


def _lock_file(path: Path, *, alone: bool) -> sqlite3.Connection:
    """Begin the exclusive transaction.

    Args:
        path: The database.
        alone: True if no other lock excludes other writers: then a file that this user cannot write is refused, since
            SQLite locks it for no one.
    """
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        with closed_on_error(connection):
            connection.execute("BEGIN EXCLUSIVE")
            if alone and not os.access(path, os.W_OK):
                raise IndexFolderError(
                    f"{path} is read-only, so it would keep no other writer out; make it writable for all who write to "
                    "the index."
                )
    except ERRORS as error:
        if primary_code(error) in LOCKS:
            raise _being_written(path.parent) from error
        problem = access_problem(path, write=True) or "check its disk, and whether it is full, and try again"
        raise IndexFolderError(f"{path} cannot be locked ({error}): {problem}") from error
    return connection


def _being_written(folder: Path) -> IndexFolderError:
    return IndexFolderError(f"another process is writing to {folder}; wait for it to end, or end it, and try again")
