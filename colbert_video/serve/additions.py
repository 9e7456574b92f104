"""Videos that clients add, indexed a few at a time in a thread while the index is searched."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from colbert_video.errors import ColBERTVideoError, IndexFolderError, NothingIndexedError
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.indexer import Indexer
from colbert_video.serve.http_errors import ServiceError, busy
from colbert_video.serve.indexes import ServedIndex
from colbert_video.serve.media.added_files import ELSEWHERE
from colbert_video.serve.waiting_videos import WaitingVideos
from colbert_video.video.sources import VideoRecord

logger = logging.getLogger(__name__)

AdditionState = Literal["waiting", "indexing", "done", "failed"]
BATCH = 4
"""Videos of one commit: few, so that those that are done can be found soon."""
MAX_REMEMBERED = 2000
"""Finished additions that are still listed."""
RETRY_SECONDS = 2.0
RETRIES = 30
"""How often an index is tried that another process is writing to."""
LOADING_SECONDS = 0.2
"""How often it is looked whether the model that videos wait for is loaded."""
MAX_STARTS = 3
"""How often a video is begun over the ends of the service before it is given up."""
MOST_RETRAINED = 500
"""Videos of the largest index whose codec is trained again by itself where added ones do not suit it."""
REASONS = {
    "missing": "the file is gone",
    "empty": "the file is empty",
    "unreadable": "it is not a video file that can be read",
    "no_video": "it has no pictures, only sound",
    "undecodable": "its pictures cannot be decoded",
    "encrypted": "it is protected (DRM)",
    "too_large": "its pictures are too large",
    "timeout": "decoding took too long",
    "crashed": "its decoder crashed",
    "unsupported": "its format is not supported",
}


STOPPED = f"the service ended {MAX_STARTS} times while it was being indexed"


@dataclass
class Addition:
    """A video on its way into an index."""

    number: int
    index: ServedIndex
    record: VideoRecord
    uploaded: bool = False
    """True if the file was sent, and goes again if it cannot be indexed."""
    state: AdditionState = "waiting"
    reason: str | None = None
    """Why it failed, in words."""
    at: float = field(default_factory=time.time)


class Additions:
    """The queue of added videos of all indexes; safe to share between threads.

    Args:
        most_waiting: Most videos that wait.
    """

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._known: OrderedDict[int, Addition] = OrderedDict()
        self._lists: dict[str, WaitingVideos] = {}
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, index: ServedIndex, records: Sequence[VideoRecord], *, uploaded: bool = False) -> list[Addition]:
        """Queue videos for an index; one that is waiting already is not queued again.

        Raises:
            ServiceError: 503 if too many are waiting, 422 if the index takes none.
        """
        check_takes_videos(index)
        with self._changed:
            waiting = {(one.index.name, one.record.id): one for one in self._known.values() if one.state == "waiting"}
            if len(waiting) + len(records) > self._most_waiting:
                raise busy("added videos", seconds=30)
            new = [record for record in records if (index.name, record.id) not in waiting]
            self._list(index).add(new, uploaded=uploaded)
            added = [
                waiting.get((index.name, record.id))
                or self._noted(Addition(next(self._numbers), index, record, uploaded))
                for record in records
            ]
            self._start()
            self._changed.notify_all()
        return added

    def resume(self, index: ServedIndex, is_allowed: Callable[[str], bool]) -> None:
        """Queue again what waited when the service ended, however it did.

        Args:
            index: The index.
            is_allowed: Whether videos may be added from a path now.
        """
        if index.is_corpus:
            return
        for video in self._list(index).read():
            reason = ELSEWHERE if not is_allowed(video.record.path) else STOPPED if video.tries >= MAX_STARTS else None
            with self._changed:
                addition = self._noted(Addition(next(self._numbers), index, video.record, video.uploaded))
            if reason is not None:
                self._finish([addition], {}, reason)
        with self._changed:
            self._start()
            self._changed.notify_all()

    def _list(self, index: ServedIndex) -> WaitingVideos:
        return self._lists.setdefault(index.name, WaitingVideos(index.path))

    def refuse(self, index: ServedIndex, ids: Iterable[str]) -> list[Addition]:
        """List videos that are not added because they lie elsewhere."""
        with self._changed:
            return [
                self._noted(
                    Addition(next(self._numbers), index, VideoRecord(name, name), state="failed", reason=ELSEWHERE)
                )
                for name in ids
            ]

    def of(self, index: ServedIndex) -> list[Addition]:
        """Return the additions to an index, those first that were asked for last."""
        with self._changed:
            return [one for one in reversed(self._known.values()) if one.index is index]

    def close(self, seconds: float) -> None:
        """Stop after the batch that is being indexed; what is not done within the time is finished by a later run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _noted(self, addition: Addition) -> Addition:
        self._known[addition.number] = addition
        finished = [number for number, one in self._known.items() if one.state in ("done", "failed")]
        for number in finished[: max(len(self._known) - MAX_REMEMBERED, 0)]:
            del self._known[number]
        return addition

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="serve-additions", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._index(batch)
            except Exception as error:  # whatever it is, the next videos are tried
                logger.exception("videos could not be added", exc_info=error)
                self._finish(batch, {}, "the service failed; its log says why")

    def _next_batch(self) -> list[Addition] | None:
        """Wait for videos; return some of one index, or None at the end."""
        with self._changed:
            while not self._closed:
                waiting = [one for one in self._known.values() if one.state == "waiting"]
                ready = [one for one in waiting if one.index.state != "loading"]
                if ready:
                    batch = [one for one in ready if one.index is ready[0].index][:BATCH]
                    for one in batch:
                        one.state = "indexing"
                    return batch
                self._changed.wait(LOADING_SECONDS if waiting else None)
        return None

    def _index(self, batch: list[Addition]) -> None:
        index = batch[0].index
        records = {one.record.id: one.record for one in batch}
        self._list(index).begin(records)
        for tried in range(RETRIES + 1):
            try:
                report = Indexer(index.path, model=index.query_model()).add(list(records.values()))
                index.refresh()  # what is done can be found
            except NothingIndexedError as error:
                self._finish(batch, _reasons(error.failures))
                return
            except (
                IndexFolderError,
                ServiceError,
            ) as error:  # another process is writing, or the model is being loaded
                if self._closed:  # a later run of the service finds them on the list
                    return
                if tried == RETRIES:
                    logger.warning("videos could not be added to %s: %s", index.name, error)
                    self._finish(batch, {}, "the index cannot be written just now; try again later")
                    return
                self._pause()
            except ColBERTVideoError as error:
                logger.warning("videos could not be added to %s: %s", index.name, error)
                self._finish(batch, {}, "the index does not take it; the service's log says why")
                return
            else:
                self._finish(batch, _reasons(report.failures))
                if report.drift is not None and report.drift.drifted and report.videos <= MOST_RETRAINED:
                    _retrain(index)
                return

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, RETRY_SECONDS)

    def _finish(self, batch: list[Addition], reasons: dict[str, str], every: str | None = None) -> None:
        for one in batch:
            reason = reasons.get(one.record.id, every)
            if reason is not None and one.uploaded:
                Path(one.record.path).unlink(missing_ok=True)
            with self._changed:
                one.state, one.reason = ("done", None) if reason is None else ("failed", reason)
        self._list(batch[0].index).finish([one.record.id for one in batch])


def check_takes_videos(index: ServedIndex) -> None:
    """Check that videos can be added to an index.

    Raises:
        ServiceError: 422 if it is a sharded corpus, or has no model.
    """
    if index.is_corpus:
        message, remedy = "this index is sharded.", "Add to one that is not, and shard it again."
        raise ServiceError(422, "takes_no_videos", message, remedy)
    if not index.takes_text:
        message = "this index has no model that could encode videos."
        raise ServiceError(422, "takes_no_videos", message, "Start the service with --model.")


def _retrain(index: ServedIndex) -> None:
    """Train the codec of an index on all its videos: one that a few first videos made stores others badly."""
    try:
        Indexer(index.path, model=index.query_model()).compact(retrain="paths")
        index.refresh()
    except (ColBERTVideoError, ServiceError) as error:  # the next addition tries again
        logger.warning("the codec of %s is not trained again: %s", index.name, error)


def _reasons(failures: Iterable[Failure]) -> dict[str, str]:
    """Return why videos failed, in words that say nothing of where files are; windows fail with their video."""
    found: dict[str, str] = {}
    for failure in failures:
        logger.info("%s: %s: %s", failure.path, failure.kind, failure.detail)
        found[failure.id] = REASONS.get(failure.kind, "it cannot be indexed")
    return found
