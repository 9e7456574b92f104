"""Training Video-ColBERT (Reddy et al., CVPR 2025, sections 3.3 and 5.2) on one device or many.

Launch several processes with `torchrun` or `accelerate launch`; each then encodes its part of a batch and scores it
against everyone's videos. Losses and gradients are those of one process with the whole batch.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from colbert_video.base.checks import check_flags
from colbert_video.base.torch_state import plain_torch
from colbert_video.device import Device
from colbert_video.errors import SettingsError, shown
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.progress import Bar, progress_bar
from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.data.provenance import changed_versions, versions
from colbert_video.training.data.sending import sent_ahead
from colbert_video.training.run.distributed import build_accelerator, check_processes_agree, from_first, gather_rows
from colbert_video.training.run.gradcache import random_state, set_random_state
from colbert_video.training.run.learner import Learner
from colbert_video.training.run.optimizer import learning_rate_factor
from colbert_video.training.run.run_display import RunDisplay, describe_run
from colbert_video.training.run.run_folder import RunFolder, RunState
from colbert_video.training.run.run_log import RunLog, Trackers, checked_trackers, plot_run, read_log
from colbert_video.training.run.source import DescribedData, TrainingData
from colbert_video.training.run.training_config import FREELY_CHANGED, TrainingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Models and figures of a finished run."""

    model: Path
    """Folder of the final model."""
    best_model: Path | None
    """Folder of the model with the best validation metric; None without validation."""
    steps: int
    loss: float
    """Loss of the last step."""
    metric: str
    """Name of the validation metric."""
    best: float | None
    """Best value of the metric."""
    best_epoch: int | None
    """Epoch after which it was measured, from 1."""
    seconds: float
    """Duration; a resumed run counts from its resumption."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


class Trainer:
    """Trains a model and keeps a folder from which the run can be resumed.

    On the CPU, a resumed run gives the digits of an uninterrupted one where processor, library versions, threads and
    variables that choose kernels (such as ATEN_CPU_CAPABILITY) are the same; elsewhere sums are rounded in another order.

    Args:
        model: Trained in place, and moved to the device of the run.
        config: Settings of the training.
        data: Batches and validation, such as `ManifestData`.
        output: The run's folder, new or empty unless a run is resumed; several processes share it.
        resume: True to continue the run in `output`, if there is one.
        device: "cpu", or None for a GPU for each process, else the CPU. A single process may name its GPU, "cuda:1".
        trackers: Where the log goes too, by the names that accelerate has for them: "wandb", "mlflow", "trackio" and others.

    Raises:
        SettingsError: If the folder is in use, data and configuration do not fit together, or there is no such tracker.
        TrainingError: If the run in `output` had another model, configuration or data.
        DependencyError: If accelerate or the package of a tracker is not installed.
    """

    def __init__(
        self,
        model: VideoColBERT,
        config: TrainingConfig,
        data: TrainingData,
        *,
        output: str | Path,
        resume: bool = False,
        device: Device | None = None,
        trackers: Sequence[str] = (),
    ) -> None:
        check_flags(resume=resume)
        self.trackers = checked_trackers(trackers)
        model.check_full_precision("training")
        self.model, self.config, self.data = model, config, data
        self.folder = RunFolder(output)
        self.folder.check_usable(resume=resume)
        if self.folder.started:
            self.folder.check_same(self._description(), ignored=FREELY_CHANGED)
        self.accelerator = build_accelerator(device)
        self.learner = Learner(model, config, self.accelerator)
        self.state = RunState()
        self.loader = data.loader(
            model,
            batch_size=config.batch_size,
            seed=config.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        if len(self.loader) == 0:
            raise SettingsError(f"the data do not fill one batch of {config.batch_size}; use a smaller batch.")

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, at most `max_steps`."""
        steps = self.config.epochs * len(self.loader)
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)

    def train(self) -> TrainingResult:
        """Train to the end, from the beginning or from the newest checkpoint.

        Returns:
            Folders of the models, and the figures of the run.

        Raises:
            SettingsError: If the configuration does not fit the model or the validation, or processes see different
                folders or data.
            TrainingError: If loss or gradient stop being finite numbers; the text names the batch.
        """
        with plain_torch():
            return self._train()

    def _train(self) -> TrainingResult:
        started = time.monotonic()
        check_processes_agree("output folder and data", self._view)
        if self.folder.finished:
            self.folder.load_final(self.model)
            return self._shared_result(time.monotonic() - started)
        epochs = math.ceil(self.total_steps / len(self.loader))
        with self.learner.prepared():
            self._begin_or_restore()
            with self._log() as log, self._display() as display:
                for epoch in range(self.state.epoch, epochs):
                    self._train_epoch(epoch, log, display)
                    self._save()  # before validation, so that an error there costs no training
                    if (epoch + 1) % self.config.evaluate_every == 0 or epoch + 1 == epochs:
                        self._validate(log, display)
                    display.end_epoch(epoch + 1, self.state.step)
                    self.state.epoch, self.state.batch = epoch + 1, 0
        self._finish()
        return self._shared_result(time.monotonic() - started)

    def _train_epoch(self, epoch: int, log: RunLog | None, display: RunDisplay) -> None:
        self.loader.set_epoch(epoch)
        clock = time.monotonic()
        read: Any = self.loader.iterate(start_batch=self.state.batch)
        batches = sent_ahead(read, self.accelerator.device)
        with closing(batches):
            for batch in islice(batches, self.total_steps - self.state.step):
                values = self._step(batch)
                now = time.monotonic()
                if log is not None:
                    values["samples_per_second"] = self.config.batch_size / (now - clock)
                    log.step(self.state.step, epoch + 1, values)
                clock = now
                display.step(values, self.config.batch_size)
                if self._checkpoint_due:
                    self._save()
        display.end_steps()

    def _step(self, batch: TrainingBatch) -> dict[str, float]:
        state, config = self.state, self.config
        factor = learning_rate_factor(state.step, self.total_steps, warmup=config.warmup, schedule=config.schedule)
        where = f"step {state.step + 1} (epoch {state.epoch + 1}, batch {state.batch + 1})"
        report = self.learner.step(batch, learning_rate_factor=factor, where=where)
        state.step, state.batch = state.step + 1, state.batch + 1
        values = {
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "learning_rate": factor * config.learning_rate,
        }
        return values if report.decision_point is None else {**values, "decision_point": report.decision_point}

    @property
    def _checkpoint_due(self) -> bool:
        """True in the middle of an epoch only; its end has a checkpoint anyway."""
        every = self.config.checkpoint_every
        return every is not None and self.state.step % every == 0 and self.state.batch < len(self.loader)

    def _begin_or_restore(self) -> None:
        restored = None
        if self.folder.started:
            restored = self.folder.load(self.model, self.learner.loss, self.learner.optimizer)
        self.accelerator.wait_for_everyone()  # no process may look for a run after the first one has begun it
        if restored is not None:
            self.state, states = restored
            self._restore_random(states)
            logger.info("resuming %s after step %d", self.folder.path, self.state.step)
            self._warn_of_changes()
        elif self.accelerator.is_main_process:
            self.folder.begin(self._description(), self._provenance())

    def _warn_of_changes(self) -> None:
        changed = changed_versions(self.folder.provenance().get("versions"), versions())
        if changed and self.accelerator.is_main_process:
            logger.warning("the run was started with other versions, and continues with %s", ", ".join(changed))

    def _restore_random(self, states: Tensor) -> None:
        sizes = [len(state) for state in random_state()]
        if states.shape == (self.accelerator.num_processes, sum(sizes)):
            set_random_state(list(states[self.accelerator.process_index].split(sizes)))
        else:
            logger.warning("resumed on other devices than before: losses will differ in their last digits")

    def _save(self) -> None:
        states = gather_rows(torch.cat(random_state())[None].to(self.accelerator.device))  # (processes, bytes)
        if self.accelerator.is_main_process:
            loss, optimizer = self.learner.loss, self.learner.optimizer
            keep = self.config.keep_checkpoints
            self.folder.save(self.state, self.model, loss, optimizer, states, keep=keep)
        self.accelerator.wait_for_everyone()

    def _validate(self, log: RunLog | None, display: RunDisplay) -> None:
        """Measure the model and keep it if it is the best so far; the first process does, the others wait."""
        if log is not None:
            metrics = self.data.validate(self.model, self.config.interaction)
            self.learner.train_mode()
            if metrics is not None:
                log.validation(self.state.step, self.state.epoch + 1, metrics)
                self._keep_best(metrics)
                display.validated(metrics, self.state.best)
        self.accelerator.wait_for_everyone()

    def _keep_best(self, metrics: dict[str, float]) -> None:
        name, epoch = self.config.metric, self.state.epoch + 1
        value = metrics.get(name, math.nan)
        if not math.isfinite(value):
            raise SettingsError(
                f"metric={shown(name)} is not a number after epoch {epoch}; validation gave {metrics}: choose one of "
                "these."
            )
        logger.info("epoch %d: %s %.4f", epoch, name, value)
        if self.state.best is None or value > self.state.best:
            self.state.best = value
            self.model.save_pretrained(self.folder.best)

    def _finish(self) -> None:
        if self.accelerator.is_main_process:
            plot_run(read_log(self.folder.log), self.folder.curves, metric=self.config.metric)
            self.model.save_pretrained(self.folder.final)
            self.model.name = str(self.folder.final.resolve())  # an index of this model finds it there
            self.folder.clear_checkpoints()
        self.accelerator.wait_for_everyone()

    def _shared_result(self, seconds: float) -> TrainingResult:
        """Return the first process's result; it alone is sure to see the log."""
        result: TrainingResult = from_first(self._result(seconds) if self.accelerator.is_main_process else None)
        return result

    def _result(self, seconds: float) -> TrainingResult:
        entries = read_log(self.folder.log)
        last = [entry for entry in entries if "loss" in entry][-1]
        validations = [entry for entry in entries if "metrics" in entry]
        metric = self.config.metric
        best = max(validations, key=lambda entry: entry["metrics"][metric], default=None)
        return TrainingResult(
            model=self.folder.final,
            best_model=self.folder.best if best else None,
            steps=last["step"],
            loss=last["loss"],
            metric=metric,
            best=best["metrics"][metric] if best else None,
            best_epoch=best["epoch"] if best else None,
            seconds=seconds,
        )

    @contextmanager
    def _log(self) -> Iterator[RunLog | None]:
        if not self.accelerator.is_main_process:
            yield None
            return
        trackers = Trackers(self.accelerator, self.trackers, self.folder.path, self._description())
        with closing(RunLog(self.folder.log, self.folder.tensorboard, step=self.state.step, trackers=trackers)) as log:
            yield log

    @contextmanager
    def _display(self) -> Iterator[RunDisplay]:
        """Show the progress of the run; the first process does."""
        if not self.accelerator.is_main_process:
            yield RunDisplay(Bar(), self.config.metric)
            return
        steps, done = self.total_steps, self.state.step
        with progress_bar("training", (steps - done) * self.config.batch_size, unit="samples") as bar:
            display = RunDisplay(bar, self.config.metric)
            batches = len(self.loader)
            display.begin(
                describe_run(self.model, self.config, self.accelerator, batches=batches, steps=steps, done=done)
            )
            yield display

    @property
    def _view(self) -> str:
        """Progress, data and settings that this process sees."""
        description = json.dumps(self._description(), sort_keys=True)
        return f"{self.folder.progress}, data and settings {hashlib.sha256(description.encode()).hexdigest()[:8]}"

    def _provenance(self) -> dict[str, Any]:
        """Versions, device, and digests of the weights that training starts from and of the data."""
        device = self.accelerator.device
        return {
            "versions": versions(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "processes": self.accelerator.num_processes,
            "weights_sha256": self.model.fingerprint(),
            "data": self.data.provenance() if isinstance(self.data, DescribedData) else None,
        }

    def _description(self) -> dict[str, Any]:
        settings = self.model.config.to_dict()
        return {
            "training": self.config.to_dict(),
            "data": self.data.description,
            "model": {name: settings[name] for name in settings if name not in ("trained", "interaction")},
            "architecture": self.model.backbone.architecture,
        }
