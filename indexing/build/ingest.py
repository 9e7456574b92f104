"""One run of indexing: videos are encoded and staged, then compressed into a segment that one commit makes visible."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import IndexFolderError, NothingIndexedError, VideoError
from colbert_video.indexing.build.changes import is_staged, staged_rows, without
from colbert_video.indexing.build.commit import Committed, commit_segment
from colbert_video.indexing.build.encoding import Gathering, Stopwatch, encode_items, failure_of, items_from_record
from colbert_video.indexing.build.index_run import Helpers, Staged, Work
from colbert_video.indexing.build.line_reading import LineReader
from colbert_video.indexing.build.segment_builder import CompressedChunk, compress
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.folder import PENDING_KEY, sweep
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.index.staging import EncodedVideo, StagedSource, StagingWriter, staged_notes
from colbert_video.model.encoder import VideoEncoder
from colbert_video.progress import Bar, progress_bar
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import Span, cut_videos
from colbert_video.video.workers.pool import FramePool

logger = logging.getLogger(__name__)


def ingest(
    catalog: Catalog,
    records: Sequence[VideoRecord],
    settings: IndexSettings,
    helpers: Helpers,
    lines: LineReader,
    *,
    unchanged: int | None,
    refused: Sequence[Failure] = (),
    query_direction: Float[Tensor, "dim"] | None = None,
) -> tuple[Staged, Committed]:
    """Encode records and commit those that can be encoded.

    Args:
        catalog: The index's catalog, open for writing; `prepare_staging` went before.
        records: The videos.
        settings: The index's settings.
        helpers: Those who encode and compress.
        lines: Reads the lines of text of what was encoded, which are committed with it.
        unchanged: Other videos that stay beside these; None to replace all that the index holds.
        refused: Records that could not be used, to be remembered with the videos that fail.
        query_direction: Unit vector along which a new codec's rounding errors cancel; None for plain rounding.

    Raises:
        NothingIndexedError: If every video failed.
    """
    staged = stage_videos(catalog, records, helpers)
    good = without(records, staged.failures)
    unread = lines.stage(catalog, good, staged.texts)
    damaged = {name: (*staged.damaged.get(name, ()), *unread.get(name, ())) for name in (*staged.damaged, *unread)}
    staged = replace(staged, failures=(*refused, *staged.failures), damaged=damaged)
    if staged.failures and not good and not unchanged:
        raise NothingIndexedError(staged.failures)
    source = StagedSource(catalog, ids=[record.id for record in good])
    committed = Committed(0, None)
    if len(source):
        committed = commit_segment(
            catalog,
            source,
            settings,
            replace_all=unchanged is None,
            failures=staged.failures,
            compress=helpers.compress,
            query_direction=query_direction,
        )
    else:
        catalog.record_failures(staged.failures)
    catalog.drop_staged()  # what an interrupted run of other videos left
    sweep(catalog)
    return staged, committed


def prepare_staging(catalog: Catalog, settings: IndexSettings) -> None:
    """Keep what an interrupted run staged if it was made the same way and can be read; otherwise start again."""
    staged = catalog.staged_ids()
    reason = _why_useless(catalog, settings, staged) if staged else None
    if reason is not None:
        logger.warning("%s: %d videos of the interrupted run are encoded again", reason, len(staged))
        catalog.drop_staged()
        sweep(catalog)
    catalog.set_settings(**{PENDING_KEY: settings.to_dict()})


def _why_useless(catalog: Catalog, settings: IndexSettings, staged: set[str]) -> str | None:
    """Return why staged videos cannot be used; None if they can."""
    pending = catalog.settings().get(PENDING_KEY)
    if not isinstance(pending, Mapping) or _lasting(pending) != _lasting(settings.to_dict()):
        return "settings changed"
    try:
        StagedSource(catalog, ids=sorted(staged)).counts()
        staged_notes(catalog, staged)
    except IndexFolderError as error:
        return str(error)
    return None


def _lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the precision, in which another machine may continue."""
    return {name: value for name, value in settings.items() if name != "precision"}


def stage_videos(catalog: Catalog, records: Sequence[VideoRecord], helpers: Helpers) -> Staged:
    """Encode and stage all records that an interrupted run has not staged.

    The windows of a video are staged together, so that what is staged of it is all of it. What that run noted of them,
    damage and windows that could not be read, is reported again.
    """
    staged = staged_rows(catalog)
    missing = [record for record in records if not is_staged(record, staged.get(record.id, []))]
    stale = [record.id for record in missing if record.id in staged]
    if stale:
        catalog.forget_staged(stale)
    waiting = {record.id for record in records} - {record.id for record in missing}
    noted = staged_notes(catalog, waiting)
    done = helpers.stage(catalog, missing)
    return Staged(
        resumed=len(waiting),
        failures=(*(failure for note in noted.values() for failure in note.failures), *done.failures),
        damaged={name: note.damage for name, note in noted.items() if note.damage} | dict(done.damaged),
        waited=done.waited,
        texts=done.texts | {name for name, note in noted.items() if note.texts},
    )


class LocalHelpers:
    """This process and its decoding processes as `Helpers` of a run."""

    def __init__(self, work: Work, model: VideoEncoder) -> None:
        self._work, self._model = work, model

    def stage(self, catalog: Catalog, records: Sequence[VideoRecord]) -> Staged:
        """Encode records and stage them, chunk by chunk."""
        sampling, workers = self._work.sampling(self._model), self._work.decoding.workers
        items, failures = cut_into_items(records, self._work.settings, sampling, workers)
        gathering, watch = Gathering(items, failures), Stopwatch()
        with (
            StagingWriter(catalog) as staging,
            FramePool(sampling, workers=workers) as processes,
            progress_bar("encoding videos", len(items)) as bar,
        ):
            for result in encode_items(items, self._model, processes, watch=watch, pooling=self._work.settings.pooling):
                _note(bar, result)
                staging.add(*gathering.add(result))
                bar.advance()
        logger.debug("the model worked %.1f s and waited %.1f s for frames", watch.encoding, watch.waiting)
        return gathering.staged(watch.waiting)

    def compress(self, source: TokenSource, codecs: Mapping[str, ResidualCodec]) -> Iterable[CompressedChunk]:
        """Compress what was staged, in its order."""
        return compress(source, codecs)


def cut_into_items(
    records: Sequence[VideoRecord], settings: IndexSettings, sampling: SamplingSettings, workers: int | None
) -> tuple[list[VideoEntry], list[Failure]]:
    """Return the items to encode, in the order of the records, and the files that cannot be cut."""
    spans: dict[str, Sequence[Span]] = {}
    failures: list[Failure] = []
    if settings.cutting is None:
        return [item for record in records for item in items_from_record(record)], failures
    with progress_bar("cutting videos", len(records)) as bar:
        for record, found in cut_videos(records, settings.cutting, sampling=sampling, workers=workers):
            if isinstance(found, VideoError):
                failures.append(failure_of(record.id, record.path, found))
                _note(bar, failures[-1])
            else:
                spans[record.id] = found
            bar.advance()
    cut = (record for record in records if record.id in spans)
    return [item for record in cut for item in items_from_record(record, spans[record.id])], failures


def _note(bar: Bar, result: EncodedVideo | Failure) -> None:
    if isinstance(result, Failure):
        bar.note(refusal(result))
    elif result.note.damage:
        bar.note(f"damaged {result.entry.id}: {'; '.join(result.note.damage)}")


def refusal(failure: Failure) -> str:
    """Return one line about a refused video."""
    return f"refused {failure.id}: {failure.kind}: {failure.detail}"
