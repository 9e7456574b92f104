"""One writer at a time: a lock that the operating system lets go when its process dies, however it dies."""

import sqlite3
from pathlib import Path

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.files import refuse_link

LOCK_NAME = "writer.lock"


class WriterLock:
    """Holds the right to write to an index folder until `release`.

    An empty SQLite database opened in an exclusive transaction: the same on every system, aware of other writers in
    this process too, and not inherited by forked children. As any lock of this kind it needs a file system with
    working byte-range locks.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            IndexFolderError: Another writer holds it, or the folder cannot be written.
        """
        path = folder / LOCK_NAME
        refuse_link(path)
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise IndexFolderError(f"{path} cannot be made ({error}); is {folder} writable?") from error
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._connection.close()
            if "locked" in str(error):
                raise IndexFolderError(
                    f"another process is writing to {folder}; wait for it to end, or end it, and try again"
                ) from error
            raise IndexFolderError(f"{path} cannot be locked ({error}); is {folder} writable?") from error

    def release(self) -> None:
        """Let other writers in; harmless when done already."""
        self._connection.close()
