"""One run of indexing: videos are encoded and staged, then compressed into a segment that one commit makes visible."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colbert_video.errors import IndexFolderError, NothingIndexedError
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.changes import staged_stamps, stamp
from colbert_video.indexing.encoding import encode_videos
from colbert_video.indexing.entries import Failure
from colbert_video.indexing.folder import PENDING_KEY, Committed, commit_segment, sweep
from colbert_video.indexing.settings import IndexSettings
from colbert_video.indexing.staging import StagedSource, StagingWriter
from colbert_video.model import VideoColBERT
from colbert_video.progress import progress_bar
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """How video files are read."""

    decoder: str
    """"pyav" or "decord"."""
    timeout: float
    """Seconds that one file may take."""
    workers: int | None
    """Decoding processes; None for one a core."""


def prepare_staging(folder: Path, catalog: Catalog, settings: IndexSettings) -> None:
    """Keep what an interrupted run staged if it was made the same way and can be read; otherwise start afresh."""
    staged = catalog.staged_ids()
    reason = _why_useless(folder, catalog, settings) if staged else None
    if reason is not None:
        logger.warning("%s: %d videos of the interrupted run are encoded again", reason, len(staged))
        catalog.drop_staged()
        sweep(folder, catalog)
    catalog.set_settings(**{PENDING_KEY: settings.to_dict()})


def _why_useless(folder: Path, catalog: Catalog, settings: IndexSettings) -> str | None:
    """Why staged videos cannot be used; None if they can."""
    if catalog.settings().get(PENDING_KEY) != settings.to_dict():
        return "settings changed"
    try:
        StagedSource(folder, catalog, ids=catalog.staged_ids()).counts()
    except IndexFolderError as error:
        return str(error)
    return None


def stage_videos(
    folder: Path,
    catalog: Catalog,
    records: Sequence[VideoRecord],
    model: VideoColBERT,
    *,
    settings: IndexSettings,
    decoding: Decoding,
) -> tuple[int, tuple[Failure, ...]]:
    """Encode and stage all records that an interrupted run has not staged.

    Returns:
        How many were staged before, and what failed now.
    """
    staged = staged_stamps(catalog)
    missing = [record for record in records if staged.get(record.id) != stamp(record)]
    failures: list[Failure] = []
    sampling = _sampling(model, settings, decoding)
    with (
        StagingWriter(folder, catalog) as staging,
        progress_bar("encoding videos", len(missing)) as bar,
    ):
        for result in encode_videos(missing, model, sampling=sampling, workers=decoding.workers):
            if isinstance(result, Failure):
                failures.append(result)
                bar.note(f"refused {result.id}: {result.kind}: {result.detail}")
            else:
                staging.add(result)
            bar.advance()
    return len(records) - len(missing), tuple(failures)


def _sampling(model: VideoColBERT, settings: IndexSettings, decoding: Decoding) -> SamplingSettings:
    preprocess = model.config.preprocess
    return SamplingSettings(
        num_frames=settings.num_frames or model.config.num_frames,
        height=preprocess.height,
        width=preprocess.width,
        interpolation=preprocess.interpolation,
        decoder=decoding.decoder,  # type: ignore[arg-type]
        timeout=decoding.timeout,
    )


def commit_staged(
    folder: Path,
    catalog: Catalog,
    settings: IndexSettings,
    records: Sequence[VideoRecord],
    failures: Sequence[Failure],
    *,
    replace_all: bool,
) -> Committed:
    """Turn the staged videos of this run into a segment.

    Args:
        folder: The index folder.
        catalog: Its catalog, open for writing.
        settings: The index's settings.
        records: The videos of this run that did not fail.
        failures: Those that did, to be remembered.
        replace_all: Whether the segment replaces all others.

    Raises:
        NothingIndexedError: If nothing is staged to replace everything with.
    """
    source = StagedSource(folder, catalog, ids={record.id for record in records})
    committed = Committed(0, None)
    if len(source):
        committed = commit_segment(folder, catalog, source, settings, replace_all=replace_all)
    elif replace_all:
        raise NothingIndexedError(failures)
    catalog.drop_staged()  # what an interrupted run of other videos left
    sweep(folder, catalog)
    catalog.record_failures(failures)
    return committed
