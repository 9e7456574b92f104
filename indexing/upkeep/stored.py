"""Live tokens of an index read back from its segments: as they are stored, or decoded."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Int, Int64
from torch import Tensor

from colbert_video.durable import RESTORE
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build.segment_builder import CompressedChunk
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME
from colbert_video.indexing.catalog.entries import SegmentRow, VideoEntry
from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
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
    bags: Mapping[str, StoredBag]
    """Stored tokens by bag name."""
    codecs: Mapping[str, ResidualCodec]
    """The codec of each bag."""
    live: Int64[Tensor, "videos"]
    """Rows of live videos, ascending."""

    def runs(self) -> Sequence[Int64[Tensor, "_"]]:
        """Return the live rows in runs of bounded length."""
        return self.live.split(VIDEOS_PER_CHUNK) if len(self.live) else ()

    def stored(self, rows: Int[Tensor, "videos"]) -> CompressedChunk:
        """Return some videos as they are stored, without their entries."""
        tokens, doclens = {}, {}
        for name, bag in self.bags.items():
            of_tokens, doclens[name] = bag.token_rows(rows)  # (tokens,), (videos,)
            tokens[name] = EncodedTokens(bag.codes[of_tokens], bag.residuals[of_tokens])
        return CompressedChunk((), tokens, doclens)

    def decoded(self, rows: Int[Tensor, "videos"], entries: Sequence[VideoEntry] = ()) -> TokenChunk:
        """Return some videos with tokens as the model gave them, not rotated, but for what compression lost."""
        chunk = self.stored(rows)
        tokens = {
            bag: codec.decode(chunk.tokens[bag].codes, chunk.tokens[bag].residuals) @ codec.rotation.T
            for bag, codec in self.codecs.items()
        }
        return TokenChunk(entries, tokens, chunk.doclens)


def open_segments(catalog: Catalog, settings: IndexSettings) -> list[StoredSegment]:
    """Open all segments of an index, oldest first.

    Raises:
        IndexFolderError: If a file is missing or damaged, or the catalog contradicts itself.
    """
    folder, view = catalog.folder, catalog.view()
    placed: defaultdict[str, list[int]] = defaultdict(list)
    for name, number, _ in catalog.live_rows():
        placed[name].append(number)
    codecs = {name: load_codecs(folder, name, settings) for name in {row.codec for row in view.segments}}
    opened = []
    for row in view.segments:
        own, removed = codecs[row.codec], view.removed.get(row.name, [])
        segment = Segment.open(folder / SEGMENTS / row.name, own, videos=row.count, removed=removed)
        if segment.eligible().tolist() != placed[row.name]:  # tokens would go to other videos
            path = folder / CATALOG_NAME
            raise IndexFolderError(f"{path} is damaged: its videos are not the live rows of {row.name}; {RESTORE}")
        opened.append(StoredSegment(row, segment.bags, own, segment.eligible()))
    return opened


class StoredSource:
    """The decoded live tokens of an index as a `TokenSource`."""

    def __init__(self, catalog: Catalog, segments: Sequence[StoredSegment]) -> None:
        self._catalog = catalog
        self._segments = segments

    def __len__(self) -> int:
        return sum(len(segment.live) for segment in self._segments)

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in each bag."""
        counts: dict[str, int] = {}
        for segment in self._segments:
            for bag, stored in segment.bags.items():
                counts[bag] = counts.get(bag, 0) + int(stored.doclens[segment.live].sum())
        return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        for segment in self._segments:
            for rows in segment.runs():
                entries = self._catalog.entries_at(segment.row.name, rows.tolist())
                yield segment.decoded(rows, [entries[row] for row in rows.tolist()])
