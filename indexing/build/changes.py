"""What an index run has to do: which videos are new or changed, which only moved, and which files are missing."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colbert_video.base.user_files import user_path
from colbert_video.durable import checksum as checksum_of
from colbert_video.indexing.build.encoding import failure_of
from colbert_video.indexing.build.index_run import Work
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.model.encoder import VideoEncoder
from colbert_video.progress import progress_bar
from colbert_video.video.files import exists, native_name, readable_name
from colbert_video.video.sources import VideoRecord, Videos
from colbert_video.video.windows import parse_window_id
from colbert_video.video.workers.pool import FramePool, FrameRequest


@dataclass(frozen=True)
class Changes:
    """Records compared with an index."""

    changed: list[VideoRecord]
    """Videos to encode: they are not in the index, or their content is not what was encoded."""
    updated: list[VideoEntry] = field(default_factory=list)
    """Rows of videos to keep that need a new path, stamp or metadata."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files as they are now, by id, if they were read."""


def find_changes(catalog: Catalog, records: Sequence[VideoRecord], *, checksum: bool) -> Changes:
    """Compare videos with an index.

    A file has changed if its path, size or modification time has. With `checksum`, the content decides: all files are
    read, and one that was moved, copied or touched is kept. Where the index knows no checksum yet, size and time decide
    once more, and the checksum is remembered. A video is encoded again too if it is to be cut differently. Metadata
    that is given replaces what is stored, without encoding anything.
    """
    ids = [record.id for record in records]
    known = catalog.rows_of(ids)
    now = find_checksums(records) if checksum else {}
    before = catalog.checksums(ids) if checksum else {}
    changes = Changes([], [], now)
    for record in records:
        rows = known.get(record.id, [])
        if not _same_cut(record, rows) or not _same_content(record, rows, now.get(record.id), before.get(record.id)):
            changes.changed.append(renewed(record, rows))
            continue
        path, size, mtime_ns = stamp(record)
        for entry in rows:
            metadata = record.metadata or entry.metadata
            kept = replace(entry, path=path, source_size=size, source_mtime_ns=mtime_ns, metadata=metadata)
            if kept != entry:
                changes.updated.append(kept)
    return changes


def renewed(record: VideoRecord, rows: Sequence[VideoEntry]) -> VideoRecord:
    """Return a record to encode again; where no metadata is given, it keeps what is stored."""
    return replace(record, metadata=record.metadata or dict(rows[0].metadata if rows else {}))


def _same_cut(record: VideoRecord, rows: Sequence[VideoEntry]) -> bool:
    """Return whether a video would be cut as it was; an index cuts all its videos alike."""
    if not rows or rows[0].parent is not None:
        return bool(rows) and record.window is None
    entry = rows[0]
    start, end = record.window or (0.0, entry.duration)
    cut = None if end is None or entry.duration is None else min(end, entry.duration)
    return (entry.start, entry.end) == (start, cut)


def _same_content(record: VideoRecord, rows: Sequence[VideoEntry], now: str | None, before: str | None) -> bool:
    if now is None or before is None:
        return {entry_stamp(entry) for entry in rows} == {stamp(record)}
    return now == before


def find_checksums(records: Sequence[VideoRecord]) -> dict[str, str]:
    """Return the SHA-256 of the records' files, by id; missing files have none, they fail when they are read."""
    known: dict[str, str | None] = {}  # by path: parts of a video may share a file
    with progress_bar("hashing files", total=len(records)) as bar:
        for record in records:
            if record.path not in known:
                known[record.path] = _checksum(record.path)
            bar.advance()
    found = {record.id: known[record.path] for record in records}
    return {name: sha for name, sha in found.items() if sha is not None}


def _checksum(path: str) -> str | None:
    try:
        return checksum_of(Path(native_name(path)))[1]
    except (OSError, ValueError):
        return None


def keep_up(catalog: Catalog, changes: Changes) -> None:
    """Bring the rows of unchanged videos up to date, and remember what the files' content is now."""
    if changes.updated:
        catalog.update(changes.updated)
    remember_checksums(catalog, changes.checksums)


def remember_checksums(catalog: Catalog, checksums: Mapping[str, str]) -> None:
    """Remember the SHA-256 of files, by the ids of their videos, of those videos that were indexed whole."""
    if checksums:
        indexed = catalog.rows_of(checksums).keys() - {failure.id for failure in catalog.failures()}
        catalog.set_checksums({name: sha for name, sha in checksums.items() if name in indexed})


def find_missing(catalog: Catalog, videos: Videos, records: Sequence[VideoRecord]) -> list[str]:
    """Find videos of an index whose files are missing from the folders that are being indexed.

    Args:
        catalog: The index's catalog.
        videos: What was named; files below folders among it are looked for, others are left alone.
        records: What was found there.
    """
    found = {record.id for record in records}
    missing = set()
    for folder in _folders(videos):
        for identity, path in catalog.ids_below(os.path.join(folder, "")).items():  # noqa: PTH118 - with a separator
            if identity not in found and not exists(path):
                missing.add(identity)
    return sorted(missing)


def _folders(videos: Videos) -> list[str]:
    named: Iterable[Any] = [videos] if isinstance(videos, str | os.PathLike | VideoRecord) else videos
    paths = [
        user_path(native_name(os.fsdecode(item)), "videos") for item in named if isinstance(item, str | os.PathLike)
    ]
    return [readable_name(str(path)) for path in paths if path.is_dir()]


def without(records: Sequence[VideoRecord], failures: Sequence[Failure]) -> list[VideoRecord]:
    """Return the records that did not fail; of a video that failed in part, only the failed windows have failures."""
    failed = {failure.id for failure in failures}
    return [record for record in records if record.id not in failed]


def staged_rows(catalog: Catalog) -> dict[str, list[VideoEntry]]:
    """Return the rows of each staged video, by id."""
    rows: dict[str, list[VideoEntry]] = {}
    for name in catalog.staged_chunks():
        for entry in catalog.staged_entries(name).values():
            rows.setdefault(entry.video, []).append(entry)
    return rows


def is_staged(record: VideoRecord, rows: Sequence[VideoEntry]) -> bool:
    """Return whether staged rows are what a record becomes: of the file as it is, cut alike, with its metadata."""
    return (
        _same_cut(record, rows)
        and {entry_stamp(entry) for entry in rows} == {stamp(record)}
        and all(entry.metadata == record.metadata for entry in rows)
    )


def stamp(record: VideoRecord) -> tuple[Any, ...]:
    """Return path, size and modification time of a video's file now."""
    return (record.path, *record.stamp())


def entry_stamp(entry: VideoEntry) -> tuple[Any, ...]:
    """Return path, size and modification time of a video's file when it was encoded."""
    return (entry.path, entry.source_size, entry.source_mtime_ns)


def try_windows_again(
    catalog: Catalog, records: Sequence[VideoRecord], changes: Changes, work: Work, model: VideoEncoder
) -> tuple[Changes, list[Failure]]:
    """Read the failed windows of unchanged videos once more.

    Returns:
        What is to be done now, and the windows that failed again.
    """
    if work.settings.cutting is None:
        return changes, []
    settled = {record.id: record for record in records}
    for record in changes.changed:
        del settled[record.id]
    requests = list(_requests(catalog.failures(), settled))
    if not requests:
        return changes, []
    readable: set[str] = set()
    failures: dict[str, list[Failure]] = {}
    with FramePool(work.sampling(model), workers=work.decoding.workers) as pool:
        for result in pool.read_many(requests):
            video, window = result.request.tag
            if result.frames is not None:
                readable.add(video)
            else:
                failures.setdefault(video, []).append(failure_of(window, result.request.path, result.error))
    again = [failure for video, found in failures.items() if video not in readable for failure in found]
    return _with_videos(catalog, records, changes, readable), again


def _requests(failures: Iterable[Failure], records: dict[str, VideoRecord]) -> Iterator[FrameRequest]:
    for failure in failures:
        found = parse_window_id(failure.id)
        if found is not None and found[0] in records:
            video, span = found
            yield FrameRequest(records[video].path, window=span, tag=(video, failure.id))


def _with_videos(catalog: Catalog, records: Sequence[VideoRecord], changes: Changes, ids: set[str]) -> Changes:
    """Return the changes with some more videos to encode, in the order of the records."""
    stored = catalog.rows_of(sorted(ids))
    changed = {record.id: record for record in changes.changed}
    changed |= {record.id: renewed(record, stored[record.id]) for record in records if record.id in ids}
    return replace(
        changes,
        changed=[changed[record.id] for record in records if record.id in changed],
        updated=[entry for entry in changes.updated if entry.video not in ids],
    )
