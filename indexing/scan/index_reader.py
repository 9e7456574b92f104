"""An index opened for searching: one consistent view of its segments, memory-mapped."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from colbert_video.base.once import Once
from colbert_video.base.user_files import user_path
from colbert_video.durable import RESTORE, check_files
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import IndexView, VideoEntry
from colbert_video.indexing.catalog.fields import check_fields
from colbert_video.indexing.catalog.filters import Condition, compile_filter
from colbert_video.indexing.catalog.spoken_lines import FoundLine, of_items
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.folder import CODECS, SEGMENTS, load_codecs, stored_settings
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import BAG_FILES, CODEC_FILES

logger = logging.getLogger(__name__)
Masks = Mapping[str, Bool[Tensor, "_"]]
"""True for videos that may be found, by segment; segments without any are left out."""
READ_AHEAD_BYTES = 2**17
"""Bytes of one read-ahead hint: Linux cuts longer ones down to what one request to the disk may hold."""
FILTERS_KEPT = 16
"""Filters whose masks are remembered: a filter reads the whole catalog, about a second for a million videos."""
SAMPLES_KEPT = 4
"""Samples of the index whose rows are remembered: one, but for a shard of a corpus that grows."""


class IndexReader:
    """Segments, codecs and catalog of one index as of one commit.

    Args:
        catalog: The index's catalog, holding the view's commit; the reader closes it.
        view: What was live when the reader was opened.
        settings: How the index was made.
        codecs: Codecs by name and bag.
        segments: The opened segments.
    """

    def __init__(
        self,
        catalog: Catalog,
        view: IndexView,
        settings: IndexSettings,
        codecs: Mapping[str, Mapping[str, ResidualCodec]],
        segments: list[Segment],
    ) -> None:
        self._catalog = catalog
        self._codecs = codecs
        self._codec_of = {row.name: row.codec for row in view.segments}
        self._segments = {segment.name: segment for segment in segments}
        self._matching: Once[Masks] = Once(FILTERS_KEPT)
        self._checked: Once[None] = Once(FILTERS_KEPT)
        self._sampled: Once[list[tuple[Segment, Int64[Tensor, "_"]]]] = Once(SAMPLES_KEPT)
        self.settings = settings
        self.segments = segments
        self.videos, self.windows, self.items = view.videos, view.windows, view.count
        self.version = view.version
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, device: torch.device | None = None) -> "IndexReader":
        """Open an index.

        Args:
            path: The index folder.
            device: A GPU that keeps segments and codecs, in their compressed form; None to map them from disk.

        Raises:
            IndexFolderError: If there is none, it is not finished, or a file is missing or damaged.
        """
        path = user_path(path, "the index")
        catalog = Catalog.open(path)
        try:
            return catalog.read_commit(lambda view: cls._open_view(path, catalog, view, device))
        except BaseException:
            catalog.close()
            raise

    @classmethod
    def _open_view(cls, path: Path, catalog: Catalog, view: IndexView, device: torch.device | None) -> "IndexReader":
        settings = stored_settings(catalog)
        if settings is None:
            raise IndexFolderError(f"{path} is not finished: repeat the interrupted index run to continue it.")
        files = catalog.files()
        check_files(path, files, content=False)
        _check_unlisted(path, files, view, settings)
        codecs = {row.codec: load_codecs(path, row.codec, settings) for row in view.segments}
        segments = [
            Segment.open(
                path / SEGMENTS / row.name, codecs[row.codec], videos=row.count, removed=view.removed.get(row.name, [])
            )
            for row in view.segments
        ]
        if device is not None:
            segments = [segment.to(device) for segment in segments]
            codecs = {name: {bag: codec.to(device) for bag, codec in bags.items()} for name, bags in codecs.items()}
        return cls(catalog, view, settings, share_rotations(codecs), segments)

    def close(self) -> None:
        """Close the catalog and end a `preload` that another thread runs; memory maps go with the last reference."""
        self.end_preload()
        self._catalog.close()

    def end_preload(self) -> None:
        """End a `preload` that another thread runs."""
        self._closed = True

    def preload(self) -> int:
        """Ask the system to read the mapped files into its page cache, from front to back.

        Searches read codes and residuals in small pieces at thousands of places, which disks do slowly. These are hints
        (`posix_fadvise`): a system that is short of memory drops the pages again, and one that knows no such hints
        reads nothing ahead. A file that cannot be opened, for instance because a writer has just replaced it, is
        logged.

        Returns:
            Bytes asked for; 0 for an index in a GPU's memory.
        """
        asked = 0
        for path in mapped_files(self.segments) if hasattr(os, "posix_fadvise") else ():
            try:
                with path.open("rb", buffering=0) as file:
                    for start, count in _pieces(path.stat().st_size):
                        if self._closed:
                            return asked
                        os.posix_fadvise(file.fileno(), start, count, os.POSIX_FADV_WILLNEED)
                        asked += count
            except OSError as error:
                logger.warning("%s cannot be read ahead: %s", path, error)
        return asked

    def codecs(self, segment: Segment) -> Mapping[str, ResidualCodec]:
        """Return the codec of each bag of a segment."""
        return self._codecs[self._codec_of[segment.name]]

    def entries_of(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], VideoEntry]:
        """Return the catalog rows of some live videos by (segment, ordinal).

        Raises:
            IndexFolderError: If the catalog is damaged.
        """
        found: dict[tuple[str, int], VideoEntry] = {}
        for segment, ordinals in _by_segment(places).items():
            entries = self._catalog.entries_at(segment, ordinals)
            if len(entries) < len(set(ordinals)):
                raise IndexFolderError(f"the catalog has no video for some rows of segment {segment}; {RESTORE}.")
            found |= {(segment, ordinal): entry for ordinal, entry in entries.items()}
        return found

    def known(self, ids: list[str]) -> list[VideoEntry]:
        """Return the catalog rows of some ids; the id of a video cut into windows stands for all of them.

        Raises:
            SettingsError: If one is not in the index.
        """
        rows = self._catalog.rows_of(ids)
        missing = set(ids) - rows.keys()
        if missing:
            raise SettingsError(f"id {shown(min(missing))} is not in the index.")
        return [entry for entries in rows.values() for entry in entries]

    def present(self, ids: Iterable[str]) -> list[str]:
        """Return those of some ids that are in the index, as videos or windows."""
        return list(self._catalog.rows_of(ids))

    def allowed(
        self, where: Mapping[str, Any] | None, ids: Iterable[str] | None, *, any_field: bool = False
    ) -> Masks | None:
        """Return which videos pass a filter and are among some ids; None if all do.

        Args:
            where: The filter.
            ids: The ids.
            any_field: True if the filter may compare keys of the metadata that no video here has.

        Raises:
            SettingsError: If `where` is not a valid filter, or an id is not in the index.
        """
        named = None
        if ids is not None:
            named = self._masks((str(entry.segment), entry.row) for entry in self.known(list(ids)))
        if where is None:
            return named
        condition = self._checked_filter(where, any_field)
        passing = self._matching.get(condition, partial(self._read_matching, condition))
        if named is None:
            return passing
        both = {name: mask & passing[name] for name, mask in named.items() if name in passing}
        return {name: mask for name, mask in both.items() if bool(mask.any())}

    def rows_at(self, positions: tuple[int, ...]) -> list[tuple[Segment, Int64[Tensor, "_"]]]:
        """Return the rows of the live videos or windows at some positions, ascending, counted over all segments.

        Segments without any are left out.
        """
        return self._sampled.get(positions, lambda: list(self._find_rows(positions)))

    def _find_rows(self, positions: tuple[int, ...]) -> Iterator[tuple[Segment, Int64[Tensor, "_"]]]:
        begin = 0
        for segment in self.segments:
            rows = segment.eligible()  # (live videos,)
            own = [position - begin for position in positions if begin <= position < begin + len(rows)]
            begin += len(rows)
            if own:
                yield segment, rows.cpu()[own].to(rows.device)

    def allowed_but(self, video_id: str, allowed: Masks | None) -> Masks:
        """Return masks without a video and its windows, whether it is in the index or not; None stands for all."""
        every = {
            name: torch.ones(len(segment), dtype=torch.bool, device="cpu") for name, segment in self._segments.items()
        }
        masks = {name: mask.clone() for name, mask in (every if allowed is None else allowed).items()}
        for entry in self._catalog.rows_of([video_id]).get(video_id, ()):
            if str(entry.segment) in masks:
                masks[str(entry.segment)][int(entry.row or 0)] = False
        return {name: mask for name, mask in masks.items() if bool(mask.any())}

    def _read_matching(self, condition: Condition) -> Masks:
        return self._masks(self._catalog.matching(condition))

    @property
    def has_lines(self) -> bool:
        """True if videos of the index have lines of text."""
        return self._catalog.has_lines()

    def lines(
        self,
        expression: str,
        where: Mapping[str, Any] | None,
        ids: Iterable[str] | None,
        *,
        limit: int,
        any_field: bool = False,
    ) -> list[FoundLine]:
        """Return the lines of text that score best by BM25, best first; the filter and ids are those of `allowed`.

        Args:
            expression: What to look for, of `line_words.match_expression`.
            where: The filter.
            ids: Ids of videos or windows.
            limit: How many lines.
            any_field: As for `allowed`.

        Raises:
            SettingsError: As `allowed`.
        """
        conditions = [Condition("1")] if where is None else [self._checked_filter(where, any_field)]
        if ids is not None:
            wanted = list(ids)
            self.known(wanted)
            conditions.append(of_items(wanted))
        joint = Condition(
            " AND ".join(one.sql for one in conditions), tuple(value for one in conditions for value in one.values)
        )
        return self._catalog.find_lines(expression, joint, limit=limit)

    def items_by_id(self, ids: Iterable[str]) -> dict[str, VideoEntry]:
        """Return the catalog rows of some live videos or windows, by id."""
        return {entry.id: entry for entry in self._catalog.entries(ids)}

    def _checked_filter(self, where: Mapping[str, Any], any_field: bool) -> Condition:
        """Return a filter as a condition; unless `any_field`, some video has each key that it compares."""
        condition = compile_filter(where)
        if not any_field:
            self._checked.get(condition, lambda: check_fields([self._catalog], where))
        return condition

    def _masks(self, places: Iterable[tuple[str, Any]]) -> dict[str, Bool[Tensor, "_"]]:
        masks: dict[str, Bool[Tensor, "_"]] = {}
        for name, ordinals in _by_segment(places).items():
            masks[name] = torch.zeros(len(self._segments[name]), dtype=torch.bool, device="cpu")
            masks[name][torch.tensor(ordinals, device="cpu")] = True
        return masks

    def locate(self, video_id: str) -> list[tuple[Segment, int, VideoEntry]]:
        """Return segment, ordinal and catalog row of one video, or of all its windows.

        Raises:
            SettingsError: If it is not in the index.
        """
        return self.located([video_id])

    def located(self, ids: Iterable[str]) -> list[tuple[Segment, int, VideoEntry]]:
        """Return the same of several videos or windows."""
        return [(self._segments[str(entry.segment)], int(entry.row or 0), entry) for entry in self.known(list(ids))]


def mapped_files(segments: Iterable[Segment]) -> list[Path]:
    """Return the files that searches read from the disk: codes and residuals of segments in the CPU's memory."""
    return [
        bag.folder / name
        for segment in segments
        for bag in segment.bags.values()
        for name, tensor in (("0.codes.pt", bag.codes), ("0.residuals.pt", bag.residuals))
        if tensor.device.type == "cpu"
    ]


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of each piece of a file that one hint covers."""
    for start in range(0, size, READ_AHEAD_BYTES):
        yield start, min(READ_AHEAD_BYTES, size - start)


def _by_segment(places: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    ordinals: dict[str, list[int]] = {}
    for segment, ordinal in places:
        ordinals.setdefault(segment, []).append(ordinal)
    return ordinals


def _check_unlisted(path: Path, files: Mapping[str, tuple[int, str]], view: IndexView, settings: IndexSettings) -> None:
    """Check that the catalog names every file that will be read: others would not have been checked."""
    for row in view.segments:
        for bag in settings.bags:
            wanted = {f"{SEGMENTS}/{row.name}/{bag}/{name}" for name in BAG_FILES}
            wanted |= {f"{CODECS}/{row.codec}/{bag}/{name}" for name in CODEC_FILES}
            unlisted = wanted - files.keys()
            if unlisted:
                raise IndexFolderError(f"{path / min(unlisted)} is not named in the catalog; {RESTORE}.")


def share_rotations(codecs: Mapping[str, Mapping[str, ResidualCodec]]) -> dict[str, dict[str, ResidualCodec]]:
    """Let codecs of equal rotation hold one array, so that a query is rotated once for all of them."""
    rotations: list[Tensor] = []
    shared: dict[str, dict[str, ResidualCodec]] = {}
    for name, bags in codecs.items():
        shared[name] = {}
        for bag, codec in bags.items():
            rotation = next((known for known in rotations if torch.equal(known, codec.rotation)), None)
            if rotation is None:
                rotation = codec.rotation
                rotations.append(rotation)
            shared[name][bag] = replace(codec, rotation=rotation)
    return shared
