"""Which videos still have to be encoded: what is staged or indexed already is known by its file's stamp."""

from collections.abc import Sequence
from typing import Any

from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.entries import Failure, VideoEntry
from colbert_video.video.sources import VideoRecord


def changed_records(catalog: Catalog, records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """Records that are not in the index, or whose files differ from what was indexed."""
    known = {entry.id: _entry_stamp(entry) for entry in catalog.entries([record.id for record in records])}
    return [record for record in records if known.get(record.id) != stamp(record)]


def without(records: Sequence[VideoRecord], failures: Sequence[Failure]) -> list[VideoRecord]:
    """Records that did not fail."""
    failed = {failure.id for failure in failures}
    return [record for record in records if record.id not in failed]


def staged_stamps(catalog: Catalog) -> dict[str, tuple[Any, ...]]:
    """The stamp of each staged video's file, by id."""
    chunks = (catalog.staged_entries(name).values() for name in catalog.staged_chunks())
    return {entry.id: _entry_stamp(entry) for chunk in chunks for entry in chunk}


def stamp(record: VideoRecord) -> tuple[Any, ...]:
    """Path, size and modification time of a video's file now."""
    return (record.path, *record.stamp())


def _entry_stamp(entry: VideoEntry) -> tuple[Any, ...]:
    return (entry.path, entry.source_size, entry.source_mtime_ns)
