"""Compaction: all live videos move into one segment, whose folders are then ColBERT indexes of the whole corpus.

Codes and residuals are copied, byte for byte; only segments of an older codec are decoded and encoded again. With
`retrain`, a new codec is fitted to the corpus as it is now. From stored tokens, what the old codec lost stays lost, and
the new one loses as much again of the rest; from the videos' files nothing is lost twice, but all must be decoded and
go through the model.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.durable import check_files, new_name
from colbert_video.indexing.build.commit import save_new_codecs, sync_and_describe, write_durably
from colbert_video.indexing.build.segment_builder import CompressedChunk, write_segment
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, NewSegment
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.drift import DRIFT_KEY
from colbert_video.indexing.index.folder import CODECS, SEGMENTS, load_codecs, sweep
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.reencode import MixedSource, Reencoded
from colbert_video.indexing.upkeep.stored import StoredSegment, StoredSource, open_segments
from colbert_video.progress import progress_bar


@dataclass(frozen=True)
class CompactReport:
    """What `Indexer.compact` did."""

    path: Path
    compacted: bool
    """False if there was nothing to do: one segment without removed videos, or no videos."""
    retrained: bool
    """True if a new codec was trained."""
    videos: int
    merged: int
    """Segments that became one."""
    dropped: int
    """Removed and replaced videos whose space was freed, each window counted."""
    bytes_before: int
    """Size of the index's files before."""
    bytes_after: int
    """Size of the index's files after; the old ones are deleted already."""
    seconds: float
    reencoded: int = 0
    """Videos that were encoded again from their files."""
    kept: tuple[Failure, ...] = ()
    """Videos that were to be encoded again, but keep their stored tokens, each with the reason."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "kept": [asdict(failure) for failure in self.kept]}


def compact_index(
    catalog: Catalog,
    settings: IndexSettings,
    *,
    retrain: bool,
    reencoded: Reencoded | None = None,
    query_direction: Float[Tensor, "dim"] | None = None,
) -> CompactReport:
    """Rewrite the live videos of an index into one segment, in their order.

    The new segment is written and synced before one transaction makes it visible, so that a crash at any moment leaves
    the index as it was or as it will be. Meanwhile both need space on disk.

    Args:
        catalog: The index's catalog, open for writing.
        settings: The index's settings.
        retrain: Train a new codec.
        reencoded: Videos that were encoded again for it; None if all stored tokens are to be used.
        query_direction: Unit vector along which its rounding errors cancel; None for that of the codec before.

    Returns:
        What was done.

    Raises:
        IndexFolderError: If a file is missing or damaged; then nothing is changed, and no damage is copied.
    """
    started = time.monotonic()
    rows, files, videos = catalog.live_segments(), catalog.files(), catalog.count()
    dropped = sum(row.count for row in rows) - videos
    needed = videos > 0 and (retrain or dropped > 0 or len(rows) > 1)
    if needed:
        check_files(catalog.folder, files)
        segments = open_segments(catalog, settings)
        if query_direction is None:
            query_direction = _known_direction(segments)
        if reencoded is not None:
            source = MixedSource(catalog, segments, reencoded.ids)
            _retrain(catalog, settings, source, query_direction, new_rows=True)
        elif retrain:
            stored = StoredSource(catalog, segments)
            _retrain(catalog, settings, stored, query_direction, new_rows=False)
        else:
            _copy_all(catalog, settings, segments)
    return CompactReport(
        path=catalog.folder,
        compacted=needed,
        retrained=needed and retrain,
        videos=catalog.count_videos(),
        merged=len(rows) if needed else 0,
        dropped=dropped if needed else 0,
        bytes_before=sum(size for size, _ in files.values()),
        bytes_after=sum(size for size, _ in catalog.files().values()),
        seconds=time.monotonic() - started,
        reencoded=len(reencoded.ids) if reencoded is not None else 0,
        kept=reencoded.kept if reencoded is not None else (),
    )


def _known_direction(segments: Sequence[StoredSegment]) -> Float[Tensor, "dim"] | None:
    """Return along which direction rounding errors cancel in the newest segment, whose codec is the newest."""
    codecs = segments[-1].codecs.values()
    return next((codec.query_direction for codec in codecs if codec.query_direction is not None), None)


def _copy_all(catalog: Catalog, settings: IndexSettings, segments: list[StoredSegment]) -> None:
    """Copy what is stored with the newest codec; encode the rest with it."""
    folder, codec_name, name = catalog.folder, catalog.codecs()[-1], new_name()
    codecs = load_codecs(folder, codec_name, settings)
    videos = sum(len(segment.live) for segment in segments)
    chunks = (_with_codecs(segment, rows, codecs) for segment in segments for rows in segment.runs())
    with progress_bar("copying videos", total=videos) as bar:
        write_segment(folder / SEGMENTS / name, chunks, codecs, codec_folder=folder / CODECS / codec_name, bar=bar)
    files = sync_and_describe(folder, [folder / CODECS / codec_name, folder / SEGMENTS / name])
    catalog.move_everything(name, codec_name, videos, files)
    sweep(catalog)


def _with_codecs(
    segment: StoredSegment, rows: Int64[Tensor, "videos"], codecs: Mapping[str, ResidualCodec]
) -> CompressedChunk:
    """Return stored videos as some codecs store them: as they are where the codec is the same."""
    chunk = segment.stored(rows)
    others = [bag for bag, codec in codecs.items() if segment.codecs[bag].fingerprint != codec.fingerprint]
    if not others:
        return chunk
    decoded = segment.decoded(rows)
    encoded = {bag: codecs[bag].encode(decoded.tokens[bag]) for bag in others}
    return replace(chunk, tokens={**chunk.tokens, **encoded})


def _retrain(
    catalog: Catalog,
    settings: IndexSettings,
    source: TokenSource,
    query_direction: Float[Tensor, "dim"] | None,
    *,
    new_rows: bool,
) -> None:
    """Train a codec and encode everything with it; new tokens need new rows, as frames may be of other times."""
    folder, name, codec_name = catalog.folder, new_name(), new_name()
    codecs, drift = save_new_codecs(folder, codec_name, source, settings, query_direction)
    entries, files = write_durably(folder, name, source, codecs, codec_name)
    values = {DRIFT_KEY: drift.to_dict()}
    if new_rows:
        checksums = catalog.checksums(sorted({entry.video for entry in entries}))
        catalog.replace_everything([NewSegment(name, codec_name, entries, files)], settings=values, keep_lines=True)
        catalog.set_checksums(checksums)  # the files have not changed
        catalog.drop_staged()
    else:
        catalog.move_everything(name, codec_name, len(entries), files, settings=values)
    sweep(catalog)
