"""Live tokens of an index read back from its segments: as they are stored, or decoded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int, Int32, Int64, UInt8
from torch import Tensor

from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import SegmentRow
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.indexing.index.folder import SEGMENTS, load_codecs
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import StoredBag

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
        rows, doclens = stored.token_rows(ordinals)  # (tokens,), (videos,)
        return stored.codes[rows], stored.residuals[rows], doclens

    def decoded(
        self, bag: str, ordinals: Int[Tensor, "videos"]
    ) -> tuple[Float[Tensor, "tokens dim"], Int64[Tensor, "videos"]]:
        """Decode some videos: tokens as the model gave them (not rotated) but for what compression lost, and doclens."""
        codes, residuals, doclens = self.encoded(bag, ordinals)
        codec = self.codecs[bag]
        return codec.decode(codes, residuals) @ codec.rotation.T, doclens


def open_segments(catalog: Catalog, settings: IndexSettings) -> list[StoredSegment]:
    """Open all segments of an index, oldest first.

    Raises:
        IndexFolderError: If a file is missing or damaged.
    """
    folder, rows = catalog.folder, catalog.live_segments()
    codecs = {name: load_codecs(folder, name, settings) for name in {row.codec for row in rows}}
    opened = []
    for row in rows:
        own, removed = codecs[row.codec], catalog.removed_rows(row.name)
        segment = Segment.open(folder / SEGMENTS / row.name, own, videos=row.count, removed=removed)
        opened.append(StoredSegment(row, segment.bags, own, segment.eligible()))
    return opened


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
                yield TokenChunk(
                    [entries[ordinal] for ordinal in ordinals.tolist()],
                    {bag: tokens for bag, (tokens, _) in bags.items()},
                    {bag: doclens for bag, (_, doclens) in bags.items()},
                )
