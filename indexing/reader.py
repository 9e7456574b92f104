"""An index opened for searching: one consistent view of its segments, memory-mapped."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.entries import IndexView, SegmentRow, VideoEntry
from colbert_video.indexing.folder import SEGMENTS, load_codecs, stored_settings
from colbert_video.indexing.scan import Segment
from colbert_video.indexing.segment import StoredBag, open_bag
from colbert_video.indexing.settings import IndexSettings


class IndexReader:
    """Segments, codecs and catalog of one index as of one commit.

    Args:
        catalog: The index's catalog, open for reading; the reader closes it.
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
        self.settings = settings
        self.segments = segments
        self.count = view.count

    @classmethod
    def open(cls, path: Path) -> "IndexReader":
        """Open an index.

        Raises:
            IndexFolderError: If there is none, it is not finished, or a file is missing or damaged.
        """
        catalog = Catalog.open(path)
        try:
            return cls._open(path, catalog)
        except BaseException:
            catalog.close()
            raise

    @classmethod
    def _open(cls, path: Path, catalog: Catalog) -> "IndexReader":
        """Open the segments of a snapshot; a writer may replace them meanwhile, then the newer snapshot is opened."""
        while True:
            view = catalog.snapshot()
            settings = stored_settings(catalog)
            if settings is None:
                raise IndexFolderError(
                    f"{path} is not finished: repeat the index run that was interrupted, it goes on."
                )
            try:
                codecs = {
                    name: load_codecs(path, name, settings) for name in {row.codec for row in view.segments}
                }
                segments = [
                    _open_segment(path, row, view.tombstones.get(row.name, []), codecs[row.codec])
                    for row in view.segments
                ]
            except IndexFolderError:
                if catalog.version == view.version:
                    raise
                continue
            return cls(catalog, view, settings, codecs, segments)

    def close(self) -> None:
        """Let go of the catalog; memory maps go with the last reference."""
        self._catalog.close()

    def codecs(self, segment: Segment) -> Mapping[str, ResidualCodec]:
        """The codec of each bag of a segment."""
        return self._codecs[self._codec_of[segment.name]]

    def entries_of(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], VideoEntry]:
        """Catalog rows by (segment, ordinal).

        Raises:
            IndexFolderError: If a video was removed or replaced after this view was opened.
        """
        by_segment: dict[str, list[int]] = {}
        for segment, ordinal in places:
            by_segment.setdefault(segment, []).append(ordinal)
        found: dict[tuple[str, int], VideoEntry] = {}
        for segment, ordinals in by_segment.items():
            entries = self._catalog.entries_at(segment, ordinals)
            if len(entries) < len(set(ordinals)):
                raise IndexFolderError("the index changed since it was opened; open a new Searcher.")
            found |= {(segment, ordinal): entry for ordinal, entry in entries.items()}
        return found

    def known(self, ids: list[str]) -> list[VideoEntry]:
        """Catalog rows of some ids.

        Raises:
            SettingsError: If one is not in the index.
        """
        entries = [entry for entry in self._catalog.entries(ids) if entry.segment in self._segments]
        missing = set(ids) - {entry.id for entry in entries}
        if missing:
            raise SettingsError(f"id {min(missing)!r} is not in the index.")
        return entries

    def locate(self, video_id: str) -> tuple[Segment, int, VideoEntry]:
        """Segment, ordinal and catalog row of one video.

        Raises:
            SettingsError: If it is not in the index.
        """
        entry = self.known([video_id])[0]
        return self._segments[str(entry.segment)], int(entry.ordinal or 0), entry


def _open_segment(
    path: Path, row: SegmentRow, removed: list[int], codecs: Mapping[str, ResidualCodec]
) -> Segment:
    folder = path / SEGMENTS / row.name
    bags = {bag: _open_bag(folder / bag, row, codec) for bag, codec in codecs.items()}
    live = torch.ones(row.count, dtype=torch.bool)
    live[torch.tensor(removed, dtype=torch.int64)] = False
    return Segment(row.name, bags, live)


def _open_bag(folder: Path, row: SegmentRow, codec: ResidualCodec) -> StoredBag:
    stored = open_bag(folder)
    if len(stored.doclens) != row.count or stored.codec_fingerprint != codec.fingerprint:
        raise IndexFolderError(
            f"{folder} does not belong to its catalog: {len(stored.doclens)} videos instead of {row.count}, or another "
            "codec. Restore the index from a backup or index again."
        )
    return stored
