"""Live tokens of an index read back from its segments: as they are stored, or decoded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int, Int32, Int64, UInt8
from torch import Tensor

from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import SegmentRow
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import BagTokens, TokenChunk
from colbert_video.indexing.index.folder import SEGMENTS, load_codecs
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.segments.segment import StoredBag, check_bag, open_bag

VIDEOS_PER_CHUNK = 1024
"""Videos copied or decoded at once; bounds memory."""


@dataclass(frozen=True)
class StoredSegment:
    """A segment's bags and those of its videos that are live."""

    row: SegmentRow
    """What the catalog says of it."""
    bags: Mapping[str, StoredBag]
    """Its tokens by bag name."""
    codecs: Mapping[str, ResidualCodec]
    """The codec of each bag."""
    live: Int64[Tensor, "videos"]
    """Ordinals of live videos, ascending."""

    def chunks(self) -> Sequence[Int64[Tensor, "_"]]:
        """The live ordinals in runs of bounded length."""
        return self.live.split(VIDEOS_PER_CHUNK) if len(self.live) else ()

    def encoded(
        self, bag: str, ordinals: Int[Tensor, "videos"]
    ) -> tuple[Int32[Tensor, "tokens"], UInt8[Tensor, "tokens bytes"], Int64[Tensor, "videos"]]:
        """Codes and residuals of some videos, and how many tokens each has."""
        stored = self.bags[bag]
        doclens = stored.doclens[ordinals]
        starts = doclens.cumsum(0) - doclens  # where each video's run begins in the result
        rows = torch.arange(int(doclens.sum())) + (stored.offsets[ordinals] - starts).repeat_interleave(
            doclens
        )
        return stored.codes[rows], stored.residuals[rows], doclens

    def decoded(self, bag: str, ordinals: Int[Tensor, "videos"]) -> BagTokens:
        """Tokens of some videos as the model gave them (not rotated), but for what compression lost."""
        codes, residuals, doclens = self.encoded(bag, ordinals)
        codec = self.codecs[bag]
        return BagTokens(codec.decode(codes, residuals) @ codec.rotation.T, doclens)


def open_segments(folder: Path, catalog: Catalog, settings: IndexSettings) -> list[StoredSegment]:
    """Open all segments of an index, oldest first.

    Raises:
        IndexFolderError: If a file is missing or damaged.
    """
    rows = catalog.live_segments()
    codecs = {name: load_codecs(folder, name, settings) for name in {row.codec for row in rows}}
    return [
        StoredSegment(
            row,
            {bag: _open_bag(folder, row, bag, codec) for bag, codec in codecs[row.codec].items()},
            codecs[row.codec],
            _live_ordinals(row, catalog.removed_rows(row.name)),
        )
        for row in rows
    ]


def _open_bag(folder: Path, row: SegmentRow, bag: str, codec: ResidualCodec) -> StoredBag:
    stored = open_bag(folder / SEGMENTS / row.name / bag)
    check_bag(stored, codec, row.count)
    return stored


def _live_ordinals(row: SegmentRow, removed: list[int]) -> Int64[Tensor, "videos"]:
    live = torch.ones(row.count, dtype=torch.bool)
    live[torch.tensor(removed, dtype=torch.int64)] = False
    return live.nonzero().flatten()


class StoredSource:
    """The decoded live tokens of an index as a `TokenSource`.

    Args:
        catalog: The index's catalog.
        segments: Its opened segments.
    """

    def __init__(self, catalog: Catalog, segments: Sequence[StoredSegment]) -> None:
        self._catalog = catalog
        self._segments = segments

    def __len__(self) -> int:
        return sum(len(segment.live) for segment in self._segments)

    def counts(self) -> dict[str, int]:
        """Tokens in each bag."""
        counts: dict[str, int] = {}
        for segment in self._segments:
            for bag, stored in segment.bags.items():
                counts[bag] = counts.get(bag, 0) + int(stored.doclens[segment.live].sum())
        return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        for segment in self._segments:
            for ordinals in segment.chunks():
                entries = self._catalog.entries_at(segment.row.name, ordinals.tolist())
                bags = {bag: segment.decoded(bag, ordinals) for bag in segment.bags}
                yield TokenChunk([entries[ordinal] for ordinal in ordinals.tolist()], bags)
