"""Batches and validation figures of a run, from the splits of a manifest."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from colbert_video.base.threads import available_cores
from colbert_video.durable import checksum
from colbert_video.errors import SettingsError
from colbert_video.model.interaction import Interaction
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.digests import files_digest
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.leaks import find_leaks
from colbert_video.training.data.loader import CaptionLoader, TrainingBatch
from colbert_video.training.data.manifest import read_manifest, select_split
from colbert_video.training.evaluation.evaluate import evaluate_model
from colbert_video.training.run.distributed import processes_here
from colbert_video.training.run.training_config import DataConfig
from colbert_video.video.frames import SamplingSettings

logger = logging.getLogger(__name__)

FREE_FIELDS = ("manifest", "workers", "timeout", "cache", "cache_gigabytes")
"""Settings that may differ when a run is resumed: they say where and how fast data are read, not which."""


@runtime_checkable
class Loader(Protocol):
    """This process's part of the batches of an epoch."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""

    def iterate(self, start_batch: int = 0) -> Iterator[TrainingBatch]:
        """Yield the epoch's batches from `start_batch` on; a generator, closed when no more are wanted."""


@runtime_checkable
class TrainingData(Protocol):
    """Interface of the data that `Trainer` takes."""

    @property
    def description(self) -> dict[str, Any]:
        """Plain values that a resumed run must find unchanged."""

    def loader(self, model: VideoColBERT, *, batch_size: int, seed: int, rank: int, world_size: int) -> Loader:
        """Return the training batches."""

    def validate(self, model: VideoColBERT, interaction: Interaction) -> dict[str, float] | None:
        """Return validation metrics; None if there is nothing to validate on."""


@runtime_checkable
class DescribedData(Protocol):
    """Data that can say where they are from; an addition to `TrainingData`."""

    def provenance(self) -> dict[str, Any]:
        """Return digests and notes as plain values, for run.json."""


class ManifestData:
    """Training and validation split of a manifest.

    Args:
        config: Manifest, splits, and how videos are read.

    Raises:
        SettingsError: If the manifest cannot be read or a split is empty.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        rows = read_manifest(config.manifest_path, train_split=config.train_split)
        self.training = select_split(rows, config.train_split)
        self.validation = select_split(rows, config.validation_split) if config.validation_split else []
        self.leaks = find_leaks(rows, config.train_split)
        for leak in self.leaks:
            logger.warning("%s: %s", config.manifest, leak)
        limit = int(config.cache_gigabytes * 2**30)
        self.cache = FrameCache(config.cache, limit) if config.cache is not None else None

    @property
    def description(self) -> dict[str, Any]:
        """Settings that decide which frames are read, and a digest of the rows."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in FREE_FIELDS}
        rows = [(row.video, row.caption, row.split, row.group) for row in (*self.training, *self.validation)]
        digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        return {**settings, "cached": self.cache is not None, "rows": len(rows), "rows_sha256": digest}

    def provenance(self) -> dict[str, Any]:
        """Return digests of the manifest and of its videos, and what other splits share with the training split."""
        files = {row.video: row.path for row in (*self.training, *self.validation)}
        manifest = self.config.manifest_path
        return {
            "manifest_sha256": checksum(manifest)[1] if manifest.is_file() else None,
            "videos": files_digest(files),
            "leaks": self.leaks,
        }

    def loader(self, model: VideoColBERT, *, batch_size: int, seed: int, rank: int, world_size: int) -> Loader:
        """Return the training batches, in the picture size of the model's backbone.

        Raises:
            SettingsError: If the rows do not fill a batch or videos are missing.
        """
        return CaptionLoader(
            self.training,
            sampling=self.sampling(model),
            batch_size=batch_size,
            seed=seed,
            workers=self._workers,
            cache=self.cache,
            group_batches=self.config.group_batches,
            random_shift=self.config.random_shift,
            rank=rank,
            world_size=world_size,
            missing=self.config.missing,
        )

    def sampling(self, model: VideoColBERT) -> SamplingSettings:
        """Return how frames are taken for a model.

        Raises:
            SettingsError: If the model takes fewer frames.
        """
        try:
            return model.config.sampling(
                self.config.num_frames, decoder=self.config.decoder, timeout=self.config.timeout, snap=self.config.snap
            )
        except SettingsError as error:
            raise SettingsError(f"data.{error}") from error

    def validate(self, model: VideoColBERT, interaction: Interaction) -> dict[str, float] | None:
        """Return metrics on the validation split, scored by the interaction that is trained."""
        if not self.validation:
            return None
        evaluation = evaluate_model(
            model,
            self.validation,
            interactions=[interaction],
            missing=self.config.missing,
            num_frames=self.config.num_frames,
            snap=self.config.snap,
            cache=self.cache,
            workers=self.config.workers,
        )
        return dict(evaluation.interactions[interaction])

    @property
    def _workers(self) -> int | None:
        """Decoding processes of this training process; those of one machine share its cores."""
        if self.config.workers is not None or processes_here() == 1:
            return self.config.workers
        return max(1, available_cores() // processes_here())
