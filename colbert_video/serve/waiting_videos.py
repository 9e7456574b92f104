"""A file beside an index that lists the added videos which wait to be indexed, so that a service that ends forgets none."""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from colbert_video.video.sources import VideoRecord

logger = logging.getLogger(__name__)
TABLE = """CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path BLOB NOT NULL, uploaded INTEGER NOT NULL, tries INTEGER NOT NULL
)"""
Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class WaitingVideo:
    """A video that an earlier run of the service took and did not finish."""

    record: VideoRecord
    uploaded: bool
    tries: int
    """How often indexing it was begun."""


def _if_possible(method: Method) -> Method:
    """Make a method that only logs that its file cannot be used: videos are indexed all the same."""

    @wraps(method)
    def tried(self: "WaitingVideos", *arguments: Any, **options: Any) -> Any:
        try:
            with self.lock:
                return method(self, *arguments, **options)
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("%s cannot be used, so videos that wait are forgotten at the end: %s", self.path, error)
            return []

    return tried  # type: ignore[return-value]


class WaitingVideos:
    """The list of one index; the file is there while something waits.

    Args:
        index: The index folder; the file lies beside it.
    """

    def __init__(self, index: Path) -> None:
        self.path = index.resolve().parent / f".{index.resolve().name}.waiting"
        self.lock = threading.Lock()

    @_if_possible
    def read(self) -> list[WaitingVideo]:
        """Return what waits, in the order in which it was added."""
        if not self.path.is_file():
            return []
        with self._opened() as file:
            rows = file.execute("SELECT id, path, uploaded, tries FROM waiting ORDER BY number").fetchall()
        return [
            WaitingVideo(VideoRecord(name, os.fsdecode(path)), bool(sent), tries) for name, path, sent, tries in rows
        ]

    @_if_possible
    def add(self, records: Sequence[VideoRecord], *, uploaded: bool) -> None:
        """List videos that begin to wait."""
        rows = [(record.id, os.fsencode(record.path), uploaded) for record in records]
        with self._opened() as file:
            file.executemany("INSERT OR REPLACE INTO waiting (id, path, uploaded, tries) VALUES (?, ?, ?, 0)", rows)

    @_if_possible
    def begin(self, ids: Iterable[str]) -> None:
        """Count that indexing some of them is begun."""
        with self._opened() as file:
            file.executemany("UPDATE waiting SET tries = tries + 1 WHERE id = ?", [(name,) for name in ids])

    @_if_possible
    def finish(self, ids: Iterable[str]) -> None:
        """Take videos off the list; the last one takes the file with it."""
        with self._opened() as file:
            file.executemany("DELETE FROM waiting WHERE id = ?", [(name,) for name in ids])
            (left,) = file.execute("SELECT count(*) FROM waiting").fetchone()
        if not left:
            self.path.unlink()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as file, file:
            file.execute(TABLE)
            yield file
