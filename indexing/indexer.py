"""Indexer: videos, or tokens of any encoder, become a searchable index folder."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from colbert_video.errors import IndexFolderError, NothingIndexedError, SettingsError
from colbert_video.indexing.arrays import ArraySource, Tokens
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.encoding import encode_videos
from colbert_video.indexing.entries import Failure
from colbert_video.indexing.folder import (
    PENDING_KEY,
    commit_segment,
    is_index,
    stored_settings,
    sweep,
    writing,
)
from colbert_video.indexing.report import IndexReport
from colbert_video.indexing.resume import changed_records, staged_stamps, stamp, without
from colbert_video.indexing.settings import IndexSettings, check_model
from colbert_video.indexing.staging import StagedSource, StagingWriter
from colbert_video.model import VideoColBERT
from colbert_video.progress import progress_bar
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord, Videos, find_videos

logger = logging.getLogger(__name__)


class Indexer:
    """Builds and extends an index.

    Args:
        path: The index folder.
        model: The model that encodes videos, or a name for `VideoColBERT.from_pretrained`; an existing index knows its
            own.
        dim: Dimensions of tokens, needed only for `index_tokens` without a model.
        nbits: Bits kept of each residual dimension: 1, 2, 4 or 8.
        buckets: How residual buckets are chosen: "lloyd_max", or stock ColBERT's "quantile".
        rotate: Whether tokens are turned by a random rotation before compression.
        seed: Makes rotation, sample and centroids reproducible.
        num_frames: Frames sampled from each video; None for the model's own number.
        decoder: "pyav" or "decord".
        timeout: Seconds that one file may take to decode.
        workers: Decoding processes; None for one a core.
        device: Where a model given by name runs; None for the first GPU, else the CPU.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        dim: int | None = None,
        nbits: int = 4,
        buckets: Literal["lloyd_max", "quantile"] = "lloyd_max",
        rotate: bool = True,
        seed: int = 0,
        num_frames: int | None = None,
        decoder: Literal["pyav", "decord"] = "pyav",
        timeout: float = 60.0,
        workers: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.path = Path(path)
        self._model = model
        self._dim = dim
        self._codec_settings: dict[str, Any] = {
            "nbits": nbits,
            "buckets": buckets,
            "rotate": rotate,
            "seed": seed,
        }
        self._num_frames = num_frames
        self._decoder = decoder
        self._timeout = timeout
        self._workers = workers
        self._device = device

    def index(self, videos: Videos, *, overwrite: bool = False) -> IndexReport:
        """Index videos into a new index.

        A run that was interrupted goes on where it stopped when it is repeated: finished videos are neither decoded nor
        encoded again.

        Args:
            videos: A folder (searched recursively), a file, a glob, or an iterable of paths, (id, path),
                (id, path, metadata) or VideoRecord.
            overwrite: Replace an existing index; it stays searchable until the new one is committed.

        Returns:
            What was indexed and what failed; a file that fails never stops the run.

        Raises:
            IndexFolderError: If there is an index already, the path is something else, or it cannot be written.
            SettingsError: If no video is found, ids clash, or a setting is out of range.
            ModelError: If the model cannot be loaded.
            NothingIndexedError: If every video failed.
        """
        started = time.monotonic()
        self._refuse_finished(overwrite)
        sources = find_videos(videos)
        model = self._load_model(None)
        settings = self._settings(model)
        with writing(self.path, create=True) as catalog:
            self._prepare_staging(catalog, settings)
            resumed, failures = self._encode(catalog, model, settings, sources.records)
            good = without(sources.records, failures)
            indexed = self._commit(catalog, settings, good, failures, replace_all=True)
            return self._report(
                catalog, started, indexed=indexed, resumed=resumed, ignored=sources.ignored, failures=failures
            )

    def add(self, videos: Videos) -> IndexReport:
        """Add videos to an existing index; a video whose id is there already takes the old one's place.

        Files that have not changed since they were indexed (same size and modification time) are skipped.

        Args:
            videos: As for `index`.

        Raises:
            IndexFolderError: If there is no finished index, or it was made by another model.
            NothingIndexedError: If every video failed.
        """
        started = time.monotonic()
        sources = find_videos(videos)
        with writing(self.path, create=False) as catalog:
            settings = self._require_settings(catalog)
            model = self._load_model(settings)
            changed = changed_records(catalog, sources.records)
            self._prepare_staging(catalog, settings)
            resumed, failures = self._encode(catalog, model, settings, changed)
            unchanged = len(sources.records) - len(changed)
            if failures and len(failures) == len(sources.records):
                raise NothingIndexedError(failures)
            indexed = self._commit(catalog, settings, without(changed, failures), failures, replace_all=False)
            return self._report(
                catalog,
                started,
                indexed=indexed,
                resumed=resumed,
                unchanged=unchanged,
                ignored=sources.ignored,
                failures=failures,
            )

    def remove(self, ids: str | Iterable[str]) -> list[str]:
        """Remove videos by id; their space is freed when the index is compacted.

        Args:
            ids: One id or several.

        Returns:
            The ids that were removed.

        Raises:
            SettingsError: If an id is not in the index; then nothing is removed.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        with writing(self.path, create=False) as catalog:
            known = {entry.id for entry in catalog.entries(wanted)}
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise SettingsError(f"id {unknown[0]!r} is not in {self.path}; nothing was removed.")
            return catalog.tombstone(wanted)

    def index_tokens(
        self,
        ids: Sequence[str],
        frame_tokens: Tokens,
        video_tokens: Tokens | None = None,
        *,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        add: bool = False,
        overwrite: bool = False,
    ) -> IndexReport:
        """Index tokens that are already computed, by any encoder.

        Args:
            ids: One id a video.
            frame_tokens: Unit vectors, one bag a video: a list of (tokens, dim), or (videos, tokens, dim); memory maps
                are read chunk by chunk.
            video_tokens: The second bag, or None for an index of frame tokens alone.
            metadata: JSON values of each video.
            add: Add to an existing index instead of making a new one; ids that are there already are replaced.
            overwrite: Replace an existing index.

        Raises:
            IndexFolderError: If there is an index already and neither `add` nor `overwrite` is set.
            SettingsError: If shapes, ids or lengths are wrong.
        """
        started = time.monotonic()
        if not add:
            self._refuse_finished(overwrite)
        bags = (
            {"frame": frame_tokens}
            if video_tokens is None
            else {"frame": frame_tokens, "video": video_tokens}
        )
        with writing(self.path, create=not add) as catalog:
            settings = self._require_settings(catalog) if add else self._token_settings(tuple(bags))
            if tuple(bags) != settings.bags:
                raise SettingsError(
                    f"the index stores the bags {settings.bags}, but {tuple(bags)} were given."
                )
            source = ArraySource(ids, bags, dim=settings.dim, metadata=metadata)
            count = commit_segment(self.path, catalog, source, settings, replace_all=not add)
            return self._report(catalog, started, indexed=count)

    def _refuse_finished(self, overwrite: bool) -> None:
        if overwrite or not is_index(self.path):
            return
        with Catalog.open(self.path) as catalog:
            finished = catalog.live_segments()
        if finished:
            raise IndexFolderError(
                f"{self.path} is an index already; add to it with `colbert-video add` or Indexer.add, or replace it "
                "with overwrite=True (--overwrite)."
            )

    def _require_settings(self, catalog: Catalog) -> IndexSettings:
        settings = stored_settings(catalog)
        if settings is None:
            raise IndexFolderError(
                f"{self.path} is not finished; repeat the index run that was interrupted first."
            )
        return settings

    def _load_model(self, settings: IndexSettings | None) -> VideoColBERT:
        """The given model, or the one that the index names; refuses one that did not make the index."""
        source = self._model if self._model is not None or settings is None else settings.model
        if source is None:
            raise SettingsError(
                "no model: pass model=, for instance model='toy' or model='PE-Core-B-16:meta'"
                + (
                    "."
                    if settings is None
                    else "; this index was made from precomputed tokens, use index_tokens."
                )
            )
        model = (
            source
            if isinstance(source, VideoColBERT)
            else VideoColBERT.from_pretrained(source, device=self._device)
        )
        if settings is not None:
            check_model(model, settings, self.path)
        return model

    def _settings(self, model: VideoColBERT) -> IndexSettings:
        return IndexSettings(
            dim=model.dim,
            bags=model.config.bags,
            model=model.name,
            model_fingerprint=model.fingerprint(),
            num_frames=self._num_frames or model.config.num_frames,
            **self._codec_settings,
        )

    def _token_settings(self, bags: tuple[str, ...]) -> IndexSettings:
        if self._dim is None:
            raise SettingsError("index_tokens needs dim=, the dimensions of a token: Indexer(path, dim=512).")
        return IndexSettings(dim=self._dim, bags=bags, **self._codec_settings)

    def _prepare_staging(self, catalog: Catalog, settings: IndexSettings) -> None:
        """Keep what an interrupted run staged if it was made the same way; otherwise start afresh."""
        if catalog.staged_ids() and catalog.settings().get(PENDING_KEY) != settings.to_dict():
            logger.info(
                "settings changed since the interrupted run: %d encoded videos are dropped",
                len(catalog.staged_ids()),
            )
            catalog.drop_staged()
            sweep(self.path, catalog)
        catalog.set_settings(**{PENDING_KEY: settings.to_dict()})

    def _encode(
        self,
        catalog: Catalog,
        model: VideoColBERT,
        settings: IndexSettings,
        records: Sequence[VideoRecord],
    ) -> tuple[int, tuple[Failure, ...]]:
        """Stage the tokens of all records; return how many were staged before, and what failed now."""
        staged = staged_stamps(catalog)
        missing = [record for record in records if staged.get(record.id) != stamp(record)]
        failures: list[Failure] = []
        sampling = self._sampling(model, settings)
        with (
            StagingWriter(self.path, catalog) as staging,
            progress_bar("encoding videos", len(missing)) as bar,
        ):
            for result in encode_videos(missing, model, sampling=sampling, workers=self._workers):
                if isinstance(result, Failure):
                    failures.append(result)
                    bar.note(f"refused {result.id}: {result.kind}: {result.detail}")
                else:
                    staging.add(result)
                bar.advance()
        return len(records) - len(missing), tuple(failures)

    def _sampling(self, model: VideoColBERT, settings: IndexSettings) -> SamplingSettings:
        preprocess = model.config.preprocess
        return SamplingSettings(
            num_frames=settings.num_frames or model.config.num_frames,
            height=preprocess.height,
            width=preprocess.width,
            interpolation=preprocess.interpolation,
            decoder=self._decoder,
            timeout=self._timeout,
        )

    def _commit(
        self,
        catalog: Catalog,
        settings: IndexSettings,
        records: Sequence[VideoRecord],
        failures: Sequence[Failure],
        *,
        replace_all: bool,
    ) -> int:
        """Turn the staged videos of this run into a segment; return how many there are."""
        source = StagedSource(self.path, catalog, ids={record.id for record in records})
        indexed = 0
        if len(source):
            indexed = commit_segment(self.path, catalog, source, settings, replace_all=replace_all)
        elif replace_all:
            raise NothingIndexedError(failures)
        catalog.drop_staged()  # what an interrupted run of other videos left
        sweep(self.path, catalog)
        catalog.record_failures(failures)
        return indexed

    def _report(self, catalog: Catalog, started: float, **counts: Any) -> IndexReport:
        defaults: dict[str, Any] = {"resumed": 0, "ignored": 0, "unchanged": 0, "failures": ()}
        seconds = time.monotonic() - started
        return IndexReport(path=self.path, videos=catalog.count(), seconds=seconds, **{**defaults, **counts})
