"""Indexer: videos, or tokens of any encoder, become a searchable index folder."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from colbert_video.base.checks import check_flags, id_list, typed_field
from colbert_video.base.notebook_facts import facts_html
from colbert_video.base.torch_state import own_torch
from colbert_video.base.user_files import user_path
from colbert_video.device import Device
from colbert_video.errors import ColBERTVideoError, FailureKind, IndexFolderError, SettingsError, callers_code, shown
from colbert_video.hub import HubRepository
from colbert_video.indexing.build.arrays import ArraySource, Tokens
from colbert_video.indexing.build.changes import (
    find_changes,
    find_checksums,
    find_missing,
    keep_up,
    remember_checksums,
    try_windows_again,
    without,
)
from colbert_video.indexing.build.commit import commit_segment
from colbert_video.indexing.build.index_run import Cluster, Decoding, Helpers, Staged, Work, find_cluster
from colbert_video.indexing.build.ingest import LocalHelpers, ingest, prepare_staging
from colbert_video.indexing.build.line_reading import LineMaker, LineReader, LineSettings, Subtitles
from colbert_video.indexing.build.query_direction import direction_of_tokens, typical_direction
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.index.folder import check_can_begin, check_not_finished, is_finished, load_settings, writing
from colbert_video.indexing.index.index_settings import CODEC_SETTINGS, IndexSettings, find_mismatch
from colbert_video.indexing.upkeep.compact import CompactReport, compact_index
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.export import ExportReport, export_index
from colbert_video.indexing.upkeep.index_hub import push_index
from colbert_video.indexing.upkeep.reencode import encode_again
from colbert_video.indexing.upkeep.verify import VerifyReport, verify_index
from colbert_video.model.bags import check_bags
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.encoders.first_dims import fitted_encoder, with_first_dims
from colbert_video.model.loading import Model, ModelChoice
from colbert_video.model.precision import Precision
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import Sources, Videos, find_videos
from colbert_video.video.windows import check_window_ids


class Indexer:
    """Builds, extends and maintains an index.

    An existing index knows its settings: leave them out to add to it. One that is given and contradicts the index is an
    error, not ignored.

    Args:
        path: The index folder.
        model: The encoder of the videos, or a name for `load_encoder`; an existing index knows its own.
        dim: Dimensions of tokens. Without a model, those of the tokens for `index_tokens`; with one, how many of the first
            ones of its tokens to keep, for models that were trained for it (`TrainingConfig.nested_dims`): queries are
            then cut alike. None for all of the model's.
        nbits: Bits kept of each residual dimension: 1, 2, 4 or 8. None for 4.
        buckets: How residual buckets are chosen: "lloyd_max", or stock ColBERT's "quantile". None for "lloyd_max".
        rotate: Rotate tokens at random before compression. None for True.
        seed: Makes rotation, sample and centroids reproducible. None for 0.
        num_frames: Frames sampled from each video or window; None for the model's own number.
        window: Cut long videos into windows of so many seconds, or "shots" for one window per shot; None keeps them
            whole. The index remembers this, and `add` cuts as `index` did.
        stride: Seconds from the start of one window to the next; None for half a window.
        pool_factor: So many frames of a video share a token on average, those that look most alike; None for no
            pooling.
        pool_similarity: Frames of at least this mean cosine share a token, so that still videos take least space; None
            for no pooling. The index remembers both.
        sample_bytes: Memory that the sample to train a bag's codec on may take, whatever the size of the corpus. None
            for 1 GiB.
        snap: How far a frame may be moved to a keyframe, which saves decoding, as a share of the spacing between
            frames; 0 takes exact frames, None takes exact ones of short videos and allows 0.25 in long ones. The index
            remembers this, and `add` and `compact` take frames as `index` did.
        video_stream: Which video stream of each file to read, counted from 0; None for the one that players choose. The
            index remembers this; pictures and copies of videos show the same stream.
        decoder: "pyav", "decord" or "torchcodec". This and the four that follow belong to the machine and to one run:
            the index does not remember them.
        timeout: Seconds that one file, or one window of it, may take to decode. All windows of a file together may take
            as long for each minute of windows.
        workers: Decoding processes; None for one per core.
        max_pixels: Largest picture to decode, width times height; a file with larger ones is refused.
        max_memory: Bytes of memory that a decoding process may take; a file that needs more is refused.
        device: Where a model given by name runs; None for the first GPU, else the CPU.
        precision: Precision in which the model computes: "fp32", "bf16", "fp16" or "auto" for the fastest that the device
            multiplies in hardware. None for "auto", and for that of a model in memory. The index notes it; a model of
            another precision may search it.
        compile: True to compile the model with `torch.compile`, for long runs: it takes a minute or more when it first
            encodes.
        bag_weights: How much the MeanMaxSim of each bag counts in a score, {"frame": 1.0, "video": 0.5} for example; a bag
            that is not named counts once. The index remembers this as the default of searches, which may choose others.
        subtitles: "auto" to read subtitle files beside the videos (film.srt, film.en.vtt) and text streams inside them, for
            `Searcher.search(..., text="speech")`; "off" to read none. This and `lines` belong to one run too.
        lines: A function that makes lines of text of a video, called with its path: (start, end, text) in seconds. Speech
            or text recognition, for example; it is called once for each video, in this process. None for none.

    Raises:
        DependencyError: If `compile` lacks a compiler.
        SettingsError: If a setting is of the wrong type, or `decoder`, `timeout` or `workers` is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: Model | None = None,
        dim: int | None = None,
        nbits: int | None = None,
        buckets: Literal["lloyd_max", "quantile"] | None = None,
        rotate: bool | None = None,
        seed: int | None = None,
        num_frames: int | None = None,
        window: float | Literal["shots"] | None = None,
        stride: float | None = None,
        pool_factor: float | None = None,
        pool_similarity: float | None = None,
        sample_bytes: int | None = None,
        snap: float | None = None,
        decoder: Literal["pyav", "decord", "torchcodec"] = "pyav",
        timeout: float = 60.0,
        workers: int | None = None,
        max_pixels: int = SamplingSettings.max_pixels,
        max_memory: int = SamplingSettings.max_memory,
        video_stream: int | None = None,
        device: Device | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        bag_weights: Mapping[str, float] | None = None,
        subtitles: Subtitles = "auto",
        lines: LineMaker | None = None,
    ) -> None:
        self.path = user_path(path, "the index")
        self._model = ModelChoice.from_given(model, device, precision, compile)
        self._decoding = Decoding(decoder, timeout, workers, max_pixels, max_memory)
        self._lines = LineSettings(subtitles, lines)
        given: dict[str, Any] = {
            "dim": dim,
            "nbits": nbits,
            "buckets": buckets,
            "rotate": rotate,
            "seed": seed,
            "num_frames": num_frames,
            "window": window,
            "stride": stride,
            "pool_factor": pool_factor,
            "pool_similarity": pool_similarity,
            "sample_bytes": sample_bytes,
            "snap": snap,
            "video_stream": video_stream,
            "bag_weights": bag_weights,
        }
        self._given = {
            name: typed_field(IndexSettings, name, value) for name, value in given.items() if value is not None
        }

    def __repr__(self) -> str:
        """Return the call that makes an indexer of these settings."""
        given = "".join(f", {name}={shown(value)}" for name, value in self._chosen().items())
        return f"Indexer({shown(str(self.path))}{given})"

    def _chosen(self) -> dict[str, Any]:
        """Return the settings that were given, and the model's name."""
        model = self._model.given
        name = model if model is None or isinstance(model, str) else model.name or type(model).__name__
        return self._given if name is None else {"model": name, **self._given}

    def _repr_html_(self) -> str:
        """Return what notebooks show: the settings that were given, and what the index holds."""
        return facts_html("Indexer", {"index": self.path, "holds": self._contents(), **self._chosen()})

    def _contents(self) -> str:
        try:
            if not is_finished(self.path):
                return "nothing yet"
            found = describe_index(self.path)
        except ColBERTVideoError as error:
            return str(error)
        return f"{found['videos']:,} videos, {found['bytes'] / 1e6:,.1f} MB"

    def index(self, videos: Videos, *, overwrite: bool = False, cluster: Cluster | str | None = None) -> IndexReport:
        """Index videos into a new index.

        A run that was interrupted goes on where it stopped when it is repeated: finished videos are neither decoded nor
        encoded again.

        Args:
            videos: A folder (searched recursively), a file, a glob, tar archives of WebDataset ("v-{0000..0012}.tar"),
                a VideoRecord, a mapping from ids to paths, or an iterable of paths, (id, path), (id, path, metadata) or
                VideoRecord. Metadata are checked before the work: a record of a list that cannot be stored is an error,
                one of an iterator (a generator) is listed among the failures.
            overwrite: Replace an existing index; it stays searchable until the new one is committed.
            cluster: Let a cluster decode, encode and compress: a `colbert_video.cluster.RayCluster`, or the address of
                one: "auto" for the running one, or one that is started here, or HOST:PORT of its head. The index folder
                and the videos must have the same path on all machines. None for this machine alone, without Ray.

        Returns:
            What was indexed and what failed; a file that fails never stops the run.

        Raises:
            IndexFolderError: If there is an index already, the path is something else, or it cannot be written.
            SettingsError: If no video is found, ids clash, or a setting is out of range.
            ModelError: If the model cannot be loaded.
            NothingIndexedError: If every video failed.
            ClusterError: If the cluster cannot be joined, or none of its machines can do the work.
        """
        check_flags(overwrite=overwrite)
        return self._index(videos, overwrite=overwrite, checksum=False, cluster=cluster)

    @own_torch()
    def add(
        self, videos: Videos, *, checksum: bool = False, sync: bool = False, cluster: Cluster | str | None = None
    ) -> IndexReport:
        """Add videos to an index; a video whose id is there already replaces the old one.

        Where there is no finished index yet and a model is given, this is `index`: the first videos train the codec.

        Files that have not changed since they were indexed (same path, size and modification time) are not encoded
        again; metadata that is given with them replaces what is stored. What failed before is tried again each time,
        whether a video or some of its windows: once one of these can be read, all windows of the video are encoded
        again. Subtitles that are new or changed are read, also those of unchanged videos.

        Args:
            videos: As for `index`.
            checksum: Read all files and let their content decide whether they changed, so that files which were only
                moved, copied or touched are kept. Checksums are remembered from the first run with this setting on.
            sync: Remove videos whose files are missing from the given folders; otherwise they are only reported.
            cluster: As for `index`.

        Raises:
            IndexFolderError: If there is no finished index, and no model to make one.
            SettingsError: If the model or a setting that was given is not that of the index.
            NothingIndexedError: If every video failed.
            ClusterError: As for `index`.
        """
        check_flags(checksum=checksum, sync=sync)
        if self._model.given is not None and not is_finished(self.path):
            return self._index(videos, overwrite=False, checksum=checksum, cluster=cluster)
        started = time.monotonic()
        one_by_one = isinstance(videos, Iterator)
        videos = list(videos) if isinstance(videos, Iterator) else videos
        sources = find_videos(videos, keep_going=one_by_one)
        with find_cluster(cluster) as joined, writing(self.path, create=False) as catalog:
            settings = self._stored_settings(catalog)
            _check_ids(settings, (record.id for record in sources.records))
            model = self._load_model(settings)
            work = self._work(settings)
            changes = find_changes(catalog, sources.records, checksum=checksum)
            changes, failed = try_windows_again(catalog, sources.records, changes, work, model)
            unchanged = len(sources.records) - len(changes.changed)
            prepare_staging(catalog, settings)
            with self._helpers(joined, work, model) as helpers, self._line_reader(work, model) as lines:
                refused = _failures(sources)
                staged, committed = ingest(
                    catalog, changes.changed, settings, helpers, lines, unchanged=unchanged, refused=refused
                )
                keep_up(catalog, changes)
                catalog.record_failures(failed)
                unread = lines.renew(catalog, without(sources.records, (*failed, *staged.failures)))
            missing = find_missing(catalog, videos, sources.records)
            if sync and missing:
                catalog.remove(missing)
            return self._report(
                catalog,
                started,
                indexed=committed.videos,
                **{**_reported(staged, sources, unread), "failures": (*failed, *staged.failures)},
                unchanged=unchanged,
                ignored=sources.ignored,
                vanished=tuple(missing),
                removed=tuple(missing) if sync else (),
                drift=committed.drift,
            )

    def sync(self, videos: Videos, *, checksum: bool = False, cluster: Cluster | str | None = None) -> IndexReport:
        """Bring the index in line with videos, whatever it holds now.

        Without a finished index this is `index`, also of a run that was interrupted. Otherwise it is `add`: videos that
        are new or changed are encoded, and those whose files are missing from the given folders are removed. Videos
        of other folders stay, and a folder without any video is an error: it may be a disk that is not mounted.

        Args:
            videos: As for `index`.
            checksum: As for `add`.
            cluster: As for `index`.

        Returns:
            What was indexed, what is unchanged, what was removed, and what failed.

        Raises:
            IndexFolderError: If the path is something else than an index, or it cannot be written.
            SettingsError: If no video is found, ids clash, or a setting that was given is not that of the index.
            ModelError: If the model cannot be loaded.
            NothingIndexedError: If every video failed.
            ClusterError: As for `index`.
        """
        check_flags(checksum=checksum)
        if is_finished(self.path):
            return self.add(videos, checksum=checksum, sync=True, cluster=cluster)
        return self._index(videos, overwrite=False, checksum=checksum, cluster=cluster)

    @own_torch()
    def index_tokens(
        self,
        ids: Sequence[str],
        frame_tokens: Tokens | Mapping[str, Tokens],
        video_tokens: Tokens | None = None,
        *,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        query_tokens: Tokens | None = None,
        add: bool = False,
        overwrite: bool = False,
    ) -> IndexReport:
        """Index tokens that are already computed, by any encoder.

        If the indexer has a model, it is the encoder: the index remembers it, to encode queries.

        Args:
            ids: One id per video, as text; whole numbers and UUIDs are taken as their text.
            frame_tokens: Unit vectors, one bag per video: a list of (tokens, dim), or (videos, tokens, dim); memory
                maps are read chunk by chunk. Or such tokens by the name of their bag, {"frame": ..., "speech": ...}: one
                to four bags, scored in this order; a name is a lower-case letter, then letters, digits or "_".
            video_tokens: The bag "video", or None for an index of frame tokens alone.
            metadata: Values of each video, as JSON holds them; checked before the work.
            query_tokens: A few dozen queries of that encoder, whatever they ask, one bag per query. Rounding errors of
                the stored tokens then cancel along the direction that queries share, which makes scores more exact; for
                a model's own tokens `index` does this by itself. Only for a new index, whose codec remembers it.
            add: Add to an existing index instead of making a new one; ids that are there already are replaced.
            overwrite: Replace an existing index.

        Raises:
            IndexFolderError: If there is an index already and neither `add` nor `overwrite` is set.
            SettingsError: If shapes, ids or lengths are wrong, or with `add` the model or a setting that was given is
                not that of the index.
        """
        check_flags(add=add, overwrite=overwrite)
        started = time.monotonic()
        if add and query_tokens is not None:
            raise SettingsError("query_tokens is for a new index; what is added is stored by the codec there.")
        if not (add or overwrite):
            check_not_finished(self.path)
        bags = _named_bags(frame_tokens, video_tokens)
        with writing(self.path, create=not add) as catalog:
            settings = self._stored_settings(catalog) if add else self._token_settings(tuple(bags))
            if add and self._model.given is not None and settings.model_fingerprint is not None:
                self._load_model(settings)
            if set(bags) != set(settings.bags):
                raise SettingsError(f"the index stores the bags {settings.bags}, but {tuple(bags)} were given.")
            ordered = {bag: bags[bag] for bag in settings.bags}
            source = ArraySource(ids, ordered, dim=settings.dim, metadata=metadata)
            _check_ids(settings, source.ids)
            direction = direction_of_tokens(query_tokens, settings.dim)
            committed = commit_segment(catalog, source, settings, replace_all=not add, query_direction=direction)
            return self._report(catalog, started, indexed=committed.videos, drift=committed.drift)

    def remove(self, ids: str | Iterable[str]) -> list[str]:
        """Remove videos by id, with all their windows; their space is freed when the index is compacted.

        Args:
            ids: One id or several, of videos or of single windows.

        Returns:
            The ids that were removed.

        Raises:
            SettingsError: If an id is not in the index; then nothing is removed.
        """
        wanted = id_list("ids", ids)
        with writing(self.path, create=False) as catalog:
            known = catalog.rows_of(wanted)
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise SettingsError(f"id {shown(unknown[0])} is not in {self.path}; nothing was removed.")
            catalog.remove(wanted)
            return list(dict.fromkeys(wanted))

    @own_torch()
    def compact(self, *, retrain: Literal["stored", "paths"] | None = None) -> CompactReport:
        """Rewrite all videos into one segment, which frees the space of removed and replaced ones.

        Nothing is decoded from video files unless retrain="paths": compressed tokens are copied. Afterwards
        `segments/<name>/frame` and `video` are ColBERT indexes of the whole corpus.

        Args:
            retrain: Also train a new codec for the corpus as it is now. "stored" compresses the stored tokens again,
                which lose some precision twice. "paths" encodes every video again from its file, with the model that
                made the index; where the file is missing or has changed, the stored tokens are used, and the report
                says so. If that is interrupted, the same call goes on where it stopped.

        Returns:
            What was done; `compacted` is False if there was nothing to do.

        Raises:
            IndexFolderError: If there is no finished index, or a file of it is damaged; then nothing is changed.
            SettingsError: If there is no such way to retrain, or no model for it.
            ModelError: If the model cannot be loaded.
        """
        if retrain not in (None, "stored", "paths"):
            raise SettingsError(f"retrain={shown(retrain)} must be None, 'stored' or 'paths'.")
        with writing(self.path, create=False) as catalog:
            settings, reencoded, direction = load_settings(catalog), None, None
            if retrain == "paths":
                model = self._load_model(settings)
                work = self._work(settings)
                reencoded = encode_again(catalog, settings, LocalHelpers(work, model))
                direction = typical_direction(model)
            return compact_index(
                catalog, settings, retrain=retrain is not None, reencoded=reencoded, query_direction=direction
            )

    def verify(self) -> VerifyReport:
        """Read the whole index and compare every file with the catalog; nothing is changed.

        Returns:
            What is damaged, by file, and which files belong to nothing.

        Raises:
            IndexFolderError: If there is no index.
        """
        return verify_index(self.path)

    def export(self, target: str | Path, *, keep_paths: bool = True) -> ExportReport:
        """Copy the index into a new folder, or an archive if the name ends so, that opens anywhere.

        Args:
            target: Where to; it must not exist. An archive if its name ends in .tar, .tar.gz, .tar.bz2, .tar.xz or
                .zip.
            keep_paths: Keep the paths of video files in the copy.

        Raises:
            IndexFolderError: If there is no finished index, it is damaged, or the target exists or cannot be written.
        """
        check_flags(keep_paths=keep_paths)
        return export_index(self.path, user_path(target, "target"), keep_paths=keep_paths)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        keep_paths: bool = False,
        revision: str | None = None,
        message: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Push the index to a dataset repository of the Hugging Face Hub, in one commit; `Searcher.from_hub` opens it.

        Args:
            repository: "user/name"; made if it is missing.
            private: Make a new repository private; one that exists stays as it is.
            keep_paths: Keep the paths of video files in what is pushed; ids, metadata and lines of text always go along.
            revision: Branch, made if it is missing; None for the main branch.
            message: The commit's message.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            endpoint: Address of another Hub than huggingface.co.

        Returns:
            The address of the commit.

        Raises:
            IndexFolderError: If there is no finished index, or it is damaged.
            HubError: If the Hub cannot be reached or refuses.
        """
        check_flags(private=private, keep_paths=keep_paths)
        where = HubRepository(repository, "dataset", revision, token, endpoint)
        return push_index(self.path, where, private=private, message=message, keep_paths=keep_paths)

    @own_torch()
    def _index(self, videos: Videos, *, overwrite: bool, checksum: bool, cluster: Cluster | str | None) -> IndexReport:
        started = time.monotonic()
        if not overwrite:
            check_not_finished(self.path)
        check_can_begin(self.path)
        sources = find_videos(videos)
        with find_cluster(cluster) as joined:
            model = self._load_model(None)
            settings = self._new_settings(model)
            _check_ids(settings, (record.id for record in sources.records))
            with writing(self.path, create=True) as catalog:
                if not overwrite:
                    check_not_finished(self.path)  # another run may have finished meanwhile
                checksums = find_checksums(sources.records) if checksum else {}
                prepare_staging(catalog, settings)
                work = self._work(settings)
                with self._helpers(joined, work, model) as helpers, self._line_reader(work, model) as lines:
                    staged, committed = ingest(
                        catalog,
                        sources.records,
                        settings,
                        helpers,
                        lines,
                        unchanged=None,
                        refused=_failures(sources),
                        query_direction=typical_direction(model),
                    )
                remember_checksums(catalog, checksums)
                return self._report(
                    catalog, started, indexed=committed.videos, **_reported(staged, sources), ignored=sources.ignored
                )

    def _work(self, settings: IndexSettings) -> Work:
        return Work(self.path, settings, self._decoding, self._model.precision, self._model.compile)

    def _helpers(self, cluster: Cluster | None, work: Work, model: VideoEncoder) -> AbstractContextManager[Helpers]:
        """Return who encodes and compresses, as a context manager: the cluster's machines, or this process."""
        if cluster is None:
            return nullcontext(LocalHelpers(work, model))
        return cluster.helpers(work, model, by_name=self._model.by_name, device=self._model.device)

    def _line_reader(self, work: Work, model: VideoEncoder) -> LineReader:
        return LineReader(self._lines, work.sampling(model), self._decoding.workers)

    def _load_model(self, settings: IndexSettings | None) -> VideoEncoder:
        """Load the model that was given, or the one that an existing index names."""
        model = self._model.load(None if settings is None else settings.model)
        if model is None:
            this_index = "; this index was made from precomputed tokens, use index_tokens" if settings else ""
            raise SettingsError(
                f"no model: pass model=, for instance model='toy' or model='PE-Core-B-16:meta'{this_index}."
            )
        if settings is None:
            return with_first_dims(model, self._given.get("dim"))
        model = fitted_encoder(model, settings.dim, settings.model_fingerprint)
        mismatch = find_mismatch(model, settings, self.path)
        if mismatch is not None:
            raise IndexFolderError(mismatch) if self._model.given is None else SettingsError(mismatch)
        return model

    def _stored_settings(self, catalog: Catalog) -> IndexSettings:
        """Load the settings of the index, which what was given must not contradict."""
        settings = load_settings(catalog)
        settings.check_given(self._given, self.path)
        return settings

    def _new_settings(self, model: VideoEncoder) -> IndexSettings:
        model.sampling(self._given.get("num_frames"))  # raises here, before anything is decoded
        defaults = {"num_frames": model.sampling().num_frames, "bags": model.bags}
        return IndexSettings(**{**defaults, **self._given, **self._made_by(model)})

    def _made_by(self, model: VideoEncoder) -> dict[str, Any]:
        """Return what an index stores of the model that makes its tokens."""
        return {
            "dim": model.dim,
            "model": model.name,
            "model_fingerprint": model.fingerprint(),
            "precision": model.precision,
        }

    def _token_settings(self, bags: tuple[str, ...]) -> IndexSettings:
        made_by = {} if self._model.given is None else self._made_by(self._load_model(None))
        dim = self._given.get("dim", made_by.get("dim"))
        if dim is None:
            raise SettingsError("dim is missing: Indexer(path, dim=512) for tokens of 512 dimensions.")
        given = {name: self._given[name] for name in CODEC_SETTINGS if name in self._given}
        return IndexSettings(bags=bags, **{**given, **made_by, "dim": dim})

    def _report(self, catalog: Catalog, started: float, **counts: Any) -> IndexReport:
        defaults: dict[str, Any] = {"resumed": 0, "ignored": 0, "unchanged": 0, "failures": ()}
        seconds = time.monotonic() - started
        defaults |= {"videos": catalog.count_videos(), "windows": catalog.count_windows()}
        return IndexReport(path=self.path, seconds=seconds, **{**defaults, **counts})


def _named_bags(frame_tokens: Tokens | Mapping[str, Tokens], video_tokens: Tokens | None) -> dict[str, Tokens]:
    """Return the tokens of `index_tokens` by bag.

    Raises:
        SettingsError: If a name cannot be a bag's, there are too many, or bags are given in both ways.
    """
    if not isinstance(frame_tokens, Mapping):
        given = {"frame": frame_tokens, "video": video_tokens}
        return {bag: tokens for bag, tokens in given.items() if tokens is not None}
    if video_tokens is not None:
        raise SettingsError("tokens by bag and video_tokens were both given: name the bag 'video' with the others.")
    with callers_code():
        bags = dict(frame_tokens)
    check_bags(list(bags))
    return bags


def _failures(sources: Sources) -> list[Failure]:
    """Return the records that cannot be used as failures of the run."""
    kind = FailureKind.BAD_RECORD.value
    return [Failure(record.id, record.path, kind, record.reason) for record in sources.refused]


def _reported(staged: Staged, sources: Sources, unread: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Any]:
    """Return what the report says of the videos, with the texts beside them that were left out."""
    failed = {failure.id for failure in staged.failures}
    damaged = dict(staged.damaged)
    for texts in (sources.unreadable, unread or {}):
        damaged |= {name: (*damaged.get(name, ()), *own) for name, own in texts.items() if name not in failed}
    return {"resumed": staged.resumed, "failures": staged.failures, "damaged": damaged, "waited": staged.waited}


def _check_ids(settings: IndexSettings, ids: Iterable[str]) -> None:
    if settings.cutting is not None:
        check_window_ids(ids)
