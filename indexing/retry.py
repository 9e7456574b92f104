"""Windows that could not be read before are tried again, as refused videos are, although their files have not changed.

All windows of a video are committed together, so one that can be read now has its video encoded anew. Until then no
more than the failed windows is decoded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.changes import Changes, renewed
from colbert_video.indexing.encoding import failure_of
from colbert_video.indexing.entries import Failure
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.pool import FramePool, FrameRequest
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import parse_window_id


def try_windows_again(
    catalog: Catalog,
    records: Sequence[VideoRecord],
    changes: Changes,
    *,
    sampling: SamplingSettings,
    workers: int | None,
) -> tuple[Changes, list[Failure]]:
    """Read the failed windows of unchanged videos once more.

    Args:
        catalog: The catalog of an index with windows.
        records: The videos of this run.
        changes: What is to be done with them.
        sampling: How frames are read.
        workers: Decoding processes; None for one a core.

    Returns:
        What is to be done now, and the windows that failed again.
    """
    settled = {record.id: record for record in records}
    for record in changes.changed:
        del settled[record.id]
    requests = list(_requests(catalog.failures(), settled))
    if not requests:
        return changes, []
    readable: set[str] = set()
    failures: dict[str, list[Failure]] = {}
    with FramePool(sampling, workers=workers) as pool:
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


def _with_videos(
    catalog: Catalog, records: Sequence[VideoRecord], changes: Changes, ids: set[str]
) -> Changes:
    """Changes with some more videos to encode, in the order of the records."""
    stored = catalog.rows_of(sorted(ids))
    changed = {record.id: record for record in changes.changed}
    changed |= {record.id: renewed(record, stored[record.id]) for record in records if record.id in ids}
    return replace(
        changes,
        changed=[changed[record.id] for record in records if record.id in changed],
        updated=[entry for entry in changes.updated if entry.video not in ids],
    )
