"""Reading the lines of text beside the picture, while videos are indexed: from subtitles, or by a caller's function."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from colbert_video.base.threads import spread_in_order
from colbert_video.errors import SettingsError, VideoError, in_one_line, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.spoken_lines import VideoLines, fts5_is_there
from colbert_video.progress import progress_bar
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.subtitles.sidecars import Sidecars
from colbert_video.video.subtitles.timed_line import ReadLines, usable_lines
from colbert_video.video.workers.pool import FramePool

logger = logging.getLogger(__name__)

Subtitles = Literal["auto", "off"]
LineMaker = Callable[[str], Iterable[tuple[float, float, str]]]
"""Makes the lines of a video by its path: (start, end, text), in seconds. Speech or text recognition, for example."""
SUBTITLES, CALLER = "subtitles", "caller"
"""Sources of lines. Each replaces its own lines alone."""
VIDEOS_PER_COMMIT = 256
SECONDS_PER_COMMIT = 30.0
"""Work that a killed process can lose at most, as of encoded videos, but for the video that is being read."""
AHEAD = 2
"""Videos for each process that are read or wait."""
MADE = "made"
"""Stamp of lines that a caller's function made; they are made again only when the video changes."""
Note = dict[str, tuple[str, ...]]
"""Problems by video, in words."""


@dataclass(frozen=True)
class LineSettings:
    """Where the lines of a run come from; the index does not remember it.

    Raises:
        SettingsError: If a value is not valid.
    """

    subtitles: Subtitles = "auto"
    lines: LineMaker | None = None

    def __post_init__(self) -> None:
        check_sources(self.subtitles, self.lines)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources to read; none where this Python's SQLite cannot index lines."""
        wanted = [*([SUBTITLES] if self.subtitles == "auto" else []), *([CALLER] if self.lines is not None else [])]
        if wanted and not fts5_is_there():
            logger.warning("the SQLite of this Python has no FTS5: subtitles and other lines of text are not read")
            return ()
        return tuple(wanted)


def check_sources(subtitles: Any, lines: Any) -> None:
    """Check the fields of `LineSettings`.

    Raises:
        SettingsError: If one is not valid.
    """
    if subtitles not in ("auto", "off"):
        raise SettingsError(f"subtitles={shown(subtitles)} must be 'auto' or 'off'.")
    if lines is not None and not callable(lines):
        raise SettingsError(
            f"lines={shown(lines)} must be a function that takes the path of a video and gives (start, end, text)."
        )


class LineReader:
    """Reads the lines of videos, text streams in decoding processes; use it as a context manager.

    Args:
        settings: What to read.
        sampling: Time limit and memory of a decoding process.
        workers: Number of processes; None for one per core.
    """

    def __init__(self, settings: LineSettings, sampling: SamplingSettings, workers: int | None) -> None:
        self._make = settings.lines
        self.sources = settings.sources
        self._sidecars = Sidecars()
        self._sampling, self._workers = sampling, workers
        self._pool: FramePool | None = None

    def __enter__(self) -> "LineReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close()

    def stage(self, catalog: Catalog, records: Sequence[VideoRecord], texts: Collection[str]) -> Note:
        """Read the lines of videos that wait in staging, and keep them there; those of an interrupted run are kept.

        Args:
            catalog: The index's catalog.
            records: The videos.
            texts: Ids of those with streams that may hold text.

        Returns:
            What could not be read.
        """
        known: dict[tuple[str, str], VideoLines] = {}
        for begin in range(0, len(records), VIDEOS_PER_COMMIT):
            ids = [record.id for record in records[begin : begin + VIDEOS_PER_COMMIT]]
            known |= {(one.video, one.source): replace(one, lines=()) for one in catalog.staged_lines(ids)}
        return self._read(records, known, catalog.stage_lines, texts)

    def renew(self, catalog: Catalog, records: Sequence[VideoRecord]) -> Note:
        """Read again the lines of unchanged videos whose subtitle files changed, and those that were never looked at.

        Returns:
            What could not be read.
        """
        ids = [record.id for record in records]
        known = {
            (video, source): VideoLines(video, source, stamp)
            for source in self.sources
            for video, stamp in catalog.line_stamps(source, ids).items()
        }
        return self._read(records, known, catalog.set_lines, ids)

    def _read(
        self,
        records: Sequence[VideoRecord],
        known: dict[tuple[str, str], VideoLines],
        commit: Callable[[Iterable[VideoLines]], None],
        texts: Collection[str],
    ) -> Note:
        """Read what is not known, and commit it part by part."""
        waiting: list[VideoLines] = []
        since = time.monotonic()
        missing = [
            (record, source, stamp)
            for record in records
            for source in self.sources
            if (stamp := self._stamp(record, source)) != getattr(known.get((record.id, source)), "stamp", None)
        ]
        again = {(record.id, source) for record, source, _ in missing}
        problems: Note = {}
        for key, one in known.items():
            if one.problems and key not in again:
                problems[one.video] = (*problems.get(one.video, ()), *one.problems)
        if not missing:
            return problems
        try:
            with progress_bar("reading lines of text", total=len(missing)) as bar:
                for one in self._each(missing, set(texts)):
                    waiting.append(one)
                    if one.problems:
                        problems[one.video] = (*problems.get(one.video, ()), *one.problems)
                    if len(waiting) >= VIDEOS_PER_COMMIT or time.monotonic() - since > SECONDS_PER_COMMIT:
                        commit(waiting)
                        waiting, since = [], time.monotonic()
                    bar.advance()
        finally:
            if waiting:
                commit(waiting)  # also of a run that is interrupted
        return problems

    def _stamp(self, record: VideoRecord, source: str) -> str:
        return f"streams {self._sidecars.stamp(record.path)}" if source == SUBTITLES else MADE

    def _each(self, missing: Sequence[tuple[VideoRecord, str, str]], texts: set[str]) -> Iterator[VideoLines]:
        """Read subtitles in all processes at once, then make lines by the caller's function, one after the other."""
        subtitles = [(record, stamp, record.id in texts) for record, source, stamp in missing if source == SUBTITLES]
        if self._pool is None and any(has_texts for *_, has_texts in subtitles):
            self._pool = FramePool(self._sampling, workers=self._workers)  # a run without text streams needs none
        threads = 1 if self._pool is None else self._pool.workers
        yield from spread_in_order(lambda one: self._subtitles(*one), subtitles, threads=threads, ahead=AHEAD)
        for record, source, stamp in missing:
            if source == CALLER:
                made = self._made(record.path)
                yield VideoLines(record.id, source, stamp, made.lines, made.problems)

    def _subtitles(self, record: VideoRecord, stamp: str, has_texts: bool) -> VideoLines:
        beside, inside = self._sidecars.read(record.path), self._streams(record.path) if has_texts else ReadLines()
        lines = dict.fromkeys((*beside.lines, *inside.lines))  # a file beside the video may be one of its streams
        return VideoLines(record.id, SUBTITLES, stamp, tuple(lines), (*beside.problems, *inside.problems))

    def _streams(self, path: str) -> ReadLines:
        if self._pool is None:
            return ReadLines()
        try:
            return self._pool.read_texts(path)
        except VideoError as error:
            return ReadLines((), (f"its subtitles: {error.detail}",))

    def _made(self, path: str) -> ReadLines:
        """Return what the caller's function makes; whatever it raises costs this video its lines, not the run."""
        if self._make is None:
            return ReadLines()
        try:
            return usable_lines(_checked(one) for one in self._make(path))
        except Exception as error:
            return ReadLines((), (f"its lines could not be made: {in_one_line(error)}",))


def _checked(given: Any) -> tuple[float, float, str]:
    start, end, text = given
    if not isinstance(text, str):
        raise TypeError(f"the text of a line is {shown(text)}")
    return float(start), float(end), text
