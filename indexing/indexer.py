"""Indexer: videos, or tokens of any encoder, become a searchable index folder."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from colbert_video.errors import NothingIndexedError, SettingsError
from colbert_video.indexing.base_indexer import Upkeep
from colbert_video.indexing.build.arrays import ArraySource, Tokens
from colbert_video.indexing.build.changes import (
    Changes,
    find_changes,
    find_vanished,
    keep_up,
    try_windows_again,
    without,
)
from colbert_video.indexing.build.commit import Committed, commit_segment
from colbert_video.indexing.build.ingest import (
    Decoding,
    Staged,
    commit_staged,
    prepare_staging,
    sampling_for,
    stage_videos,
)
from colbert_video.indexing.build.query_direction import direction_of_tokens, typical_direction
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.helpers import hired, joined
from colbert_video.indexing.index.folder import check_finished, load_settings, writing
from colbert_video.indexing.index.index_settings import SAMPLE_BYTES, IndexSettings
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.video.sources import VideoRecord, Videos, find_videos
from colbert_video.video.windows import check_window_ids


class Indexer(Upkeep):
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
        num_frames: Frames sampled from each video or window; None for the model's own number.
        window: Cut long videos into windows of so many seconds, or "shots" for one window a shot; None keeps them
            whole. The index remembers this, and `add` cuts as `index` did.
        stride: Seconds from the start of one window to the next; None for half a window.
        pool_factor: So many frames of a video share a token on average, those that look most alike; None for no pooling.
        pool_similarity: Frames of at least this mean cosine share a token, so that still videos take least space; None
            for no pooling. The index remembers both.
        sample_bytes: Memory that the sample to train a bag's codec on may take, whatever the size of the corpus.
        snap: How far a frame may be moved to a keyframe, which saves decoding, as a share of the spacing between frames;
            0 takes exact frames, None takes exact ones of short videos and allows 0.25 in long ones. The index remembers
            this, and `add` and `compact` take frames as `index` did.
        decoder: "pyav", "decord" or "torchcodec". This, `timeout` and `workers` are matters of the machine and of one run:
            the index does not remember them.
        timeout: Seconds that one file, or one window of it, may take to decode.
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
        window: float | Literal["shots"] | None = None,
        stride: float | None = None,
        pool_factor: float | None = None,
        pool_similarity: float | None = None,
        sample_bytes: int = SAMPLE_BYTES,
        snap: float | None = None,
        decoder: Literal["pyav", "decord", "torchcodec"] = "pyav",
        timeout: float = 60.0,
        workers: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(path, model=model, decoding=Decoding(decoder, timeout, workers), device=device)
        self._dim = dim
        self._codec_settings: dict[str, Any] = {
            "nbits": nbits,
            "buckets": buckets,
            "rotate": rotate,
            "seed": seed,
            "sample_bytes": sample_bytes,
        }
        self._num_frames = num_frames
        self._window, self._stride = window, stride
        self._pool_factor, self._pool_similarity = pool_factor, pool_similarity
        self._snap = snap

    def index(self, videos: Videos, *, overwrite: bool = False, cluster: str | None = None) -> IndexReport:
        """Index videos into a new index.

        A run that was interrupted goes on where it stopped when it is repeated: finished videos are neither decoded nor
        encoded again.

        Args:
            videos: A folder (searched recursively), a file, a glob, tar archives of WebDataset ("v-{0000..0012}.tar"),
                or an iterable of paths, (id, path), (id, path, metadata) or VideoRecord.
            overwrite: Replace an existing index; it stays searchable until the new one is committed.
            cluster: Let a Ray cluster decode, encode and compress: "auto" for the running one, or one that is started
                here, or HOST:PORT of its head. The index folder and the videos must have the same path on all machines.
                None for this machine alone, without Ray.

        Returns:
            What was indexed and what failed; a file that fails never stops the run.

        Raises:
            IndexFolderError: If there is an index already, the path is something else, or it cannot be written.
            SettingsError: If no video is found, ids clash, or a setting is out of range.
            ModelError: If the model cannot be loaded.
            NothingIndexedError: If every video failed.
            ClusterError: If the cluster cannot be joined, or none of its machines can do the work.
        """
        started = time.monotonic()
        check_finished(self.path, overwrite=overwrite)
        sources = find_videos(videos)
        with joined(cluster) as session:
            model = self._load_model(None)
            settings = self._settings(model)
            _check_ids(settings, (record.id for record in sources.records))
            with writing(self.path, create=True) as catalog:
                check_finished(self.path, overwrite=overwrite)  # another run may have finished meanwhile
                prepare_staging(self.path, catalog, settings)
                staged, committed = self._ingest(catalog, session, model, settings, sources.records)
                return self._report(
                    catalog,
                    started,
                    indexed=committed.videos,
                    **vars(staged),
                    ignored=sources.ignored,
                )

    def add(
        self, videos: Videos, *, checksum: bool = False, sync: bool = False, cluster: str | None = None
    ) -> IndexReport:
        """Add videos to an existing index; a video whose id is there already takes the old one's place.

        Files that have not changed since they were indexed (same path, size and modification time) are not encoded
        again; metadata that is given with them replaces what is stored. What failed before is tried again each time,
        whether a video or some of its windows: once one of these can be read, all windows of the video are encoded again.

        Args:
            videos: As for `index`.
            checksum: Read all files and let their content decide whether they changed, so that files which were only
                moved, copied or touched are kept. Checksums are remembered from the first run with this setting on.
            sync: Remove videos whose files are gone from the given folders; otherwise they are only reported.
            cluster: As for `index`.

        Raises:
            IndexFolderError: If there is no finished index, or it was made by another model.
            NothingIndexedError: If every video failed.
            ClusterError: As for `index`.
        """
        started = time.monotonic()
        videos = videos if isinstance(videos, str | os.PathLike) else list(videos)
        sources = find_videos(videos)
        with joined(cluster) as session, writing(self.path, create=False) as catalog:
            settings = load_settings(self.path, catalog)
            _check_ids(settings, (record.id for record in sources.records))
            model = self._load_model(settings)
            changes = find_changes(catalog, sources.records, checksum=checksum)
            changes, failed = self._try_windows_again(catalog, model, settings, sources.records, changes)
            prepare_staging(self.path, catalog, settings)
            unchanged = len(sources.records) - len(changes.changed)
            staged, committed = self._ingest(
                catalog, session, model, settings, changes.changed, unchanged=unchanged
            )
            keep_up(catalog, changes)
            catalog.record_failures(failed)
            vanished = find_vanished(catalog, videos, sources.records)
            if sync and vanished:
                catalog.remove(vanished)
            return self._report(
                catalog,
                started,
                indexed=committed.videos,
                **{**vars(staged), "failures": (*failed, *staged.failures)},
                unchanged=unchanged,
                ignored=sources.ignored,
                vanished=tuple(vanished),
                removed=tuple(vanished) if sync else (),
                drift=committed.drift,
            )

    def index_tokens(
        self,
        ids: Sequence[str],
        frame_tokens: Tokens,
        video_tokens: Tokens | None = None,
        *,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        query_tokens: Tokens | None = None,
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
            query_tokens: Some dozens of queries of that encoder, whatever they ask, one bag a query. Rounding errors of
                the stored tokens then cancel along the direction that queries share, which makes scores more exact; for
                a model's own tokens `index` sees to that. Only for a new index, whose codec remembers it.
            add: Add to an existing index instead of making a new one; ids that are there already are replaced.
            overwrite: Replace an existing index.

        Raises:
            IndexFolderError: If there is an index already and neither `add` nor `overwrite` is set.
            SettingsError: If shapes, ids or lengths are wrong.
        """
        started = time.monotonic()
        if add and query_tokens is not None:
            raise SettingsError(
                "query_tokens is for a new index; what is added is stored by the codec there."
            )
        if not add:
            check_finished(self.path, overwrite=overwrite)
        bags = (
            {"frame": frame_tokens}
            if video_tokens is None
            else {"frame": frame_tokens, "video": video_tokens}
        )
        with writing(self.path, create=not add) as catalog:
            settings = load_settings(self.path, catalog) if add else self._token_settings(tuple(bags))
            if tuple(bags) != settings.bags:
                raise SettingsError(
                    f"the index stores the bags {settings.bags}, but {tuple(bags)} were given."
                )
            _check_ids(settings, ids)
            source = ArraySource(ids, bags, dim=settings.dim, metadata=metadata)
            direction = direction_of_tokens(query_tokens, settings.dim)
            committed = commit_segment(
                self.path, catalog, source, settings, replace_all=not add, query_direction=direction
            )
            return self._report(catalog, started, indexed=committed.videos, drift=committed.drift)

    def _ingest(
        self,
        catalog: Catalog,
        session: Any,
        model: VideoColBERT,
        settings: IndexSettings,
        records: Sequence[VideoRecord],
        *,
        unchanged: int | None = None,
    ) -> tuple[Staged, Committed]:
        """Encode records and commit those that can be: beside `unchanged` others, or (None) in place of all there is."""
        decoding, replace_all = self._decoding, unchanged is None
        by_name = not isinstance(self._model, VideoColBERT)
        with hired(
            session,
            self.path,
            model,
            by_name=by_name,
            settings=settings,
            decoding=decoding,
            device=self._device,
        ) as helpers:
            staged = stage_videos(
                self.path, catalog, records, model, settings=settings, decoding=decoding, helpers=helpers
            )
            good = without(records, staged.failures)
            if staged.failures and not good and not unchanged:
                raise NothingIndexedError(staged.failures)
            committed = commit_staged(
                self.path,
                catalog,
                settings,
                good,
                staged.failures,
                replace_all=replace_all,
                helpers=helpers,
                query_direction=typical_direction(model) if replace_all else None,
            )
        return staged, committed

    def _try_windows_again(
        self,
        catalog: Catalog,
        model: VideoColBERT,
        settings: IndexSettings,
        records: Sequence[VideoRecord],
        changes: Changes,
    ) -> tuple[Changes, list[Failure]]:
        """What is to be done once failed windows of unchanged videos were tried again, and those that failed."""
        if settings.cutting is None:
            return changes, []
        sampling = sampling_for(model, settings, self._decoding)
        return try_windows_again(catalog, records, changes, sampling=sampling, workers=self._decoding.workers)

    def _settings(self, model: VideoColBERT) -> IndexSettings:
        return IndexSettings(
            dim=model.dim,
            bags=model.config.bags,
            model=model.name,
            model_fingerprint=model.fingerprint(),
            num_frames=self._num_frames or model.config.num_frames,
            window=self._window,
            stride=self._stride,
            pool_factor=self._pool_factor,
            pool_similarity=self._pool_similarity,
            snap=self._snap,
            **self._codec_settings,
        )

    def _token_settings(self, bags: tuple[str, ...]) -> IndexSettings:
        if self._dim is None:
            raise SettingsError("index_tokens needs dim=, the dimensions of a token: Indexer(path, dim=512).")
        return IndexSettings(dim=self._dim, bags=bags, **self._codec_settings)

    def _report(self, catalog: Catalog, started: float, **counts: Any) -> IndexReport:
        defaults: dict[str, Any] = {"resumed": 0, "ignored": 0, "unchanged": 0, "failures": ()}
        seconds = time.monotonic() - started
        defaults |= {"videos": catalog.count_videos(), "windows": catalog.count_windows()}
        return IndexReport(path=self.path, seconds=seconds, **{**defaults, **counts})


def _check_ids(settings: IndexSettings, ids: Iterable[str]) -> None:
    if settings.cutting is not None:
        check_window_ids(ids)
