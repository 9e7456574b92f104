"""SQLite's errors in our words: which file, what is in the way, and what to do."""

import sqlite3
from pathlib import Path

from colbert_video.base.access import access_problem
from colbert_video.durable import RESTORE
from colbert_video.errors import ClosedError, ColBERTVideoError, IndexFolderError

PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR = 3, 5, 6, 7, 8, 10
CORRUPT, FULL, CANTOPEN, PROTOCOL, FORMAT, NOTADB = 11, 13, 14, 15, 24, 26
LOCKS = (BUSY, LOCKED)
MOVED = 1032
"""SQLITE_READONLY_DBMOVED: the file is no longer where it was opened."""
MESSAGES = {
    "access permission denied": PERM,
    "database is locked": BUSY,
    "database table is locked": LOCKED,
    "out of memory": NOMEM,
    "attempt to write a readonly database": READONLY,
    "disk I/O error": IOERR,
    "database disk image is malformed": CORRUPT,
    "malformed database schema": CORRUPT,
    "database or disk is full": FULL,
    "unable to open database": CANTOPEN,
    "locking protocol": PROTOCOL,
    "file is not a database": NOTADB,
}
"""Beginnings of messages, for Python 3.10, whose errors have no numbers."""
ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What Python's sqlite3 raises; the second for a message that repeats bytes of a damaged file."""
ACCESS = (PERM, READONLY, CANTOPEN)
FAILURES = {
    NOMEM: "there is not enough memory: end other programs",
    IOERR: "its disk reports an error: check the disk, and whether it is full, and try again",
    FULL: "its disk is full: free space on it, and try again",
    PROTOCOL: "its file system cannot lock files: put the index on another one",
    CORRUPT: f"it is damaged: {RESTORE}",
    FORMAT: f"it is damaged: {RESTORE}",
    NOTADB: f"it is no SQLite database, or its beginning is damaged: {RESTORE}",
}


def primary_code(error: sqlite3.Error | UnicodeDecodeError) -> int | None:
    """Return SQLite's number of an error without its details; None if the error is none of SQLite's library."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return next((number for text, number in MESSAGES.items() if str(error).startswith(text)), None)
    return int(code) & 0xFF


def explained(
    error: sqlite3.Error | UnicodeDecodeError, path: Path, *, seconds: float = 0.0, write: bool | None = None
) -> ColBERTVideoError:
    """Return an error that says what keeps a database from being used.

    Args:
        error: SQLite's.
        path: The database.
        seconds: How long was waited for a lock.
        write: True if it was to be written; None to conclude it from the error.
    """
    if isinstance(error, UnicodeDecodeError):
        return IndexFolderError(f"{path} cannot be read or written ({error}): {FAILURES[CORRUPT]}")
    code = primary_code(error)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return ClosedError(f"the index {path.parent} was closed here: open it again.")
    if code in LOCKS:
        return IndexFolderError(f"{path} stayed locked for {seconds:g} s; end other programs using it")
    if getattr(error, "sqlite_errorcode", None) == MOVED:
        return IndexFolderError(f"{path} was moved or replaced while it was open: open the index again")
    if code in ACCESS:
        return _denied(error, path, write=code == READONLY if write is None else write)
    if code in FAILURES:
        return IndexFolderError(f"{path} cannot be read or written ({error}): {FAILURES[code]}")
    return IndexFolderError(f"{path} cannot be used ({error})")


def _denied(error: sqlite3.Error, path: Path, *, write: bool) -> IndexFolderError:
    """Return an error that says who may not open a file, as far as that is found by looking."""
    problem = access_problem(path, write=write) or access_problem(path, write=True)
    what = "written" if write else "opened"
    return IndexFolderError(f"{path} cannot be {what}: {problem or f'{error}; check its folder {path.parent}'}")
