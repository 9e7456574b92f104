"""Encoding an index's videos again from their files, where these are still what was indexed.

Videos whose files are missing or have changed keep the tokens that are stored.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from colbert_video.errors import FailureKind
from colbert_video.indexing.build.changes import entry_stamp, stamp, without
from colbert_video.indexing.build.index_run import Helpers
from colbert_video.indexing.build.ingest import prepare_staging, stage_videos
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.index.staging import StagedSource
from colbert_video.indexing.upkeep.stored import StoredSegment, StoredSource
from colbert_video.video.sources import VideoRecord

CHANGED = "changed"
"""Kind of a video whose file is another one than was indexed."""
NO_PATH = "no_path"
"""Kind of a video of which the index knows no file."""


@dataclass(frozen=True)
class Reencoded:
    """What was encoded again and waits in staging, and what was not."""

    ids: tuple[str, ...]
    """Videos that were, in their order."""
    kept: tuple[Failure, ...]
    """Videos that keep their stored tokens, each with the reason."""


def encode_again(catalog: Catalog, settings: IndexSettings, helpers: Helpers) -> Reencoded:
    """Encode and stage all live videos whose files are as they were, with the model that made the index.

    A run that was interrupted goes on.
    """
    entries = catalog.entries()
    records, kept = _still_there(entries)
    prepare_staging(catalog, settings)
    failures = stage_videos(catalog, records, helpers).failures
    kept += [failure for failure in failures if failure.id in {record.id for record in records}]
    live, staged = _parts(entries), _parts(_staged(catalog))
    ids = []
    for record in without(records, failures):
        if staged[record.id] == live[record.id]:
            ids.append(record.id)
        else:
            kept.append(Failure(record.id, record.path, CHANGED, "other windows of it were indexed; add it again"))
    return Reencoded(tuple(ids), tuple(kept))


def _staged(catalog: Catalog) -> Iterator[VideoEntry]:
    for chunk in catalog.staged_chunks():
        yield from catalog.staged_entries(chunk).values()


def _parts(entries: Iterable[VideoEntry]) -> defaultdict[str, set[str]]:
    """Return the ids of each video's windows, or its own."""
    parts: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        parts[entry.video].add(entry.id)
    return parts


def _still_there(entries: Sequence[VideoEntry]) -> tuple[list[VideoRecord], list[Failure]]:
    """Return the videos that can be encoded again, in their order, and why the others cannot."""
    records: list[VideoRecord] = []
    kept: list[Failure] = []
    for entry in {entry.video: entry for entry in entries}.values():  # any window of each
        if entry.path is None:
            kept.append(Failure(entry.video, "", NO_PATH, "the index knows no file of it"))
            continue
        record = VideoRecord(entry.video, entry.path, dict(entry.metadata), _window(entry))
        now = stamp(record)
        if now == entry_stamp(entry):
            records.append(record)
        elif now[1] is None:
            kept.append(Failure(record.id, record.path, FailureKind.MISSING.value, "there is no such file now"))
        else:
            kept.append(Failure(record.id, record.path, CHANGED, "the file has changed; add it again"))
    return records, kept


def _window(entry: VideoEntry) -> tuple[float, float] | None:
    """Return the part of a file that was indexed by itself; None for all of it, and for one of many windows."""
    if entry.parent is not None or entry.start is None or entry.end is None:
        return None
    return None if (entry.start, entry.end) == (0.0, entry.duration) else (entry.start, entry.end)


class MixedSource:
    """The tokens of an index: staged ones of the videos `ids`, encoded again, and stored ones of the others."""

    def __init__(self, catalog: Catalog, segments: Sequence[StoredSegment], ids: Sequence[str]) -> None:
        self._staged = StagedSource(catalog, ids=ids)
        rest = [_without(catalog, segment, set(ids)) for segment in segments]
        self._stored = StoredSource(catalog, rest)

    def __len__(self) -> int:
        return len(self._staged) + len(self._stored)

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in each bag."""
        staged, stored = self._staged.counts(), self._stored.counts()
        return {bag: staged.get(bag, 0) + count for bag, count in stored.items()}

    def __iter__(self) -> Iterator[TokenChunk]:
        yield from self._staged
        yield from self._stored


def _without(catalog: Catalog, segment: StoredSegment, ids: set[str]) -> StoredSegment:
    """Return a segment as if some of its videos were removed."""
    entries = catalog.entries_at(segment.row.name, segment.live.tolist())
    rest = [row for row in segment.live.tolist() if entries[row].video not in ids]
    return replace(segment, live=torch.tensor(rest, dtype=torch.int64, device="cpu"))
