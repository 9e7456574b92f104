"""One run of indexing: videos are encoded and staged, then compressed into a segment that one commit makes visible."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import IndexFolderError, NothingIndexedError
from colbert_video.indexing.build.changes import is_staged, staged_rows
from colbert_video.indexing.build.commit import Committed, commit_segment
from colbert_video.indexing.build.encoding import Stopwatch, encode_parts, failure_of
from colbert_video.indexing.build.parts import Gathering, Part, parts_of
from colbert_video.indexing.build.segment_builder import CompressedChunk, compress
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.folder import PENDING_KEY, sweep
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.index.staging import EncodedVideo, StagedSource, StagingWriter, staged_notes
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.progress import progress_bar
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import CutVideo, cut_videos

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """How video files are read here and now; which frames are taken is the index's matter.

    Raises:
        SettingsError: If a value is out of range.
    """

    decoder: Literal["pyav", "decord", "torchcodec"]
    """Who decodes."""
    timeout: float
    """Seconds that one file, or one window of it, may take."""
    workers: int | None
    """Decoding processes; None for one a core."""

    def __post_init__(self) -> None:
        self.sampling()

    def sampling(self, **picture: Any) -> SamplingSettings:
        """These settings with others of the frames."""
        return SamplingSettings(decoder=self.decoder, timeout=self.timeout, **picture)


@dataclass(frozen=True)
class Staged:
    """What became of the videos of a run until they wait in staging."""

    resumed: int
    """Videos that an interrupted run had staged before."""
    failures: tuple[Failure, ...]
    """What failed, also of the resumed videos."""
    damaged: Mapping[str, tuple[str, ...]]
    """Videos of which something was damaged, by id, with what that was."""
    waited: float
    """Seconds in which the model waited for frames."""


@runtime_checkable
class Helpers(Protocol):
    """Other machines that do the work of a run; the catalog is written by this process alone."""

    def stage(self, catalog: Catalog, records: Sequence[VideoRecord]) -> Staged:
        """Encode records and stage them."""
        ...

    def compress(self, source: TokenSource, codecs: Mapping[str, ResidualCodec]) -> Iterable[CompressedChunk]:
        """Compress what was staged, in its order."""
        ...


def prepare_staging(folder: Path, catalog: Catalog, settings: IndexSettings) -> None:
    """Keep what an interrupted run staged if it was made the same way and can be read; otherwise start again."""
    staged = catalog.staged_ids()
    reason = _why_useless(folder, catalog, settings, staged) if staged else None
    if reason is not None:
        logger.warning("%s: %d videos of the interrupted run are encoded again", reason, len(staged))
        catalog.drop_staged()
        sweep(folder, catalog)
    catalog.set_settings(**{PENDING_KEY: settings.to_dict()})


def _why_useless(folder: Path, catalog: Catalog, settings: IndexSettings, staged: set[str]) -> str | None:
    """Why staged videos cannot be used; None if they can."""
    if catalog.settings().get(PENDING_KEY) != settings.to_dict():
        return "settings changed"
    try:
        StagedSource(folder, catalog, ids=sorted(staged)).counts()
        staged_notes(folder, catalog, staged)
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
    helpers: Helpers | None = None,
) -> Staged:
    """Encode and stage all records that an interrupted run has not staged.

    The windows of a video are staged together, so that what is staged of it is all of it. What that run noted of them,
    damage and windows that could not be read, is told again.

    Args:
        folder: The index folder.
        catalog: Its catalog, open for writing.
        records: The videos.
        model: Encodes them here.
        settings: The index's settings.
        decoding: How video files are read.
        helpers: Who encodes them elsewhere; None to do it here.
    """
    staged = staged_rows(catalog)
    missing = [record for record in records if not is_staged(record, staged.get(record.id, []))]
    stale = [record.id for record in missing if record.id in staged]
    if stale:
        catalog.forget_staged(stale)
    waiting = {record.id for record in records} - {record.id for record in missing}
    noted = staged_notes(folder, catalog, waiting)
    if helpers is not None:
        done = helpers.stage(catalog, missing)
    else:
        done = _stage_here(folder, catalog, missing, model, settings, decoding)
    return Staged(
        resumed=len(waiting),
        failures=(*(failure for note in noted.values() for failure in note.failures), *done.failures),
        damaged={name: note.damage for name, note in noted.items() if note.damage} | dict(done.damaged),
        waited=done.waited,
    )


def _stage_here(
    folder: Path,
    catalog: Catalog,
    records: Sequence[VideoRecord],
    model: VideoColBERT,
    settings: IndexSettings,
    decoding: Decoding,
) -> Staged:
    sampling = sampling_for(model, settings, decoding)
    parts, failures = cut_into_parts(records, settings, sampling, decoding.workers)
    gathering, watch = Gathering(parts), Stopwatch()
    damaged: dict[str, tuple[str, ...]] = {}
    with (
        StagingWriter(folder, catalog) as staging,
        progress_bar("encoding videos", len(parts)) as bar,
    ):
        encoded = encode_parts(
            parts, model, sampling=sampling, workers=decoding.workers, watch=watch, pooling=settings.pooling
        )
        for result in encoded:
            if isinstance(result, Failure):
                bar.note(refusal(result))
            elif result.damage:
                bar.note(f"damaged {result.entry.id}: {'; '.join(result.damage)}")
                note_damage(damaged, result)
            whole = gathering.add(result)
            if whole is not None:
                staging.add(*whole.encoded)
                failures += whole.failures
            bar.advance()
    return Staged(0, tuple(failures), damaged, watch.waiting)


def note_damage(damaged: dict[str, tuple[str, ...]], part: EncodedVideo) -> None:
    """Add what is damaged of a part to what is known of its video."""
    known = damaged.get(part.entry.video, ())
    damaged[part.entry.video] = tuple(dict.fromkeys([*known, *part.damage]))


def cut_into_parts(
    records: Sequence[VideoRecord], settings: IndexSettings, sampling: SamplingSettings, workers: int | None
) -> tuple[list[Part], list[Failure]]:
    """What there is to encode, and files that cannot be cut."""
    cutting = settings.cutting
    if cutting is None:
        return [part for record in records for part in parts_of(CutVideo(record))], []
    cut: dict[str, CutVideo] = {}
    failures: list[Failure] = []
    with progress_bar("cutting videos", len(records)) as bar:
        for video in cut_videos(records, cutting, sampling=sampling, workers=workers):
            if video.error is None:
                cut[video.record.id] = video
            else:
                failures.append(failure_of(video.record.id, video.record.path, video.error))
                bar.note(refusal(failures[-1]))
            bar.advance()
    in_order = (cut[record.id] for record in records if record.id in cut)
    return [part for video in in_order for part in parts_of(video)], failures


def refusal(failure: Failure) -> str:
    """One line about a refused video."""
    return f"refused {failure.id}: {failure.kind}: {failure.detail}"


def sampling_for(model: VideoColBERT, settings: IndexSettings, decoding: Decoding) -> SamplingSettings:
    """Which frames the model wants of each video, and how they are read."""
    preprocess = model.config.preprocess
    return decoding.sampling(
        num_frames=settings.num_frames or model.config.num_frames,
        snap=settings.snap,
        height=preprocess.height,
        width=preprocess.width,
        interpolation=preprocess.interpolation,
    )


def commit_staged(
    folder: Path,
    catalog: Catalog,
    settings: IndexSettings,
    records: Sequence[VideoRecord],
    failures: Sequence[Failure],
    *,
    replace_all: bool,
    helpers: Helpers | None = None,
    query_direction: Float[Tensor, "dim"] | None = None,
) -> Committed:
    """Turn the staged videos of this run into a segment.

    Args:
        folder: The index folder.
        catalog: Its catalog, open for writing.
        settings: The index's settings.
        records: The videos of this run that did not fail.
        failures: Those that did, to be remembered.
        replace_all: Whether the segment replaces all others.
        helpers: Who compresses them elsewhere; None to do it here.
        query_direction: As for `commit_segment`.

    Raises:
        NothingIndexedError: If nothing is staged to replace everything with.
    """
    source = StagedSource(folder, catalog, ids=[record.id for record in records])
    committed = Committed(0, None)
    if len(source):
        by = compress if helpers is None else helpers.compress
        committed = commit_segment(
            folder,
            catalog,
            source,
            settings,
            replace_all=replace_all,
            failures=failures,
            compress=by,
            query_direction=query_direction,
        )
    elif replace_all:
        raise NothingIndexedError(failures)
    else:
        catalog.record_failures(failures)
    catalog.drop_staged()  # what an interrupted run of other videos left
    sweep(folder, catalog)
    return committed
