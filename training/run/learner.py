"""One optimizer step of Video-ColBERT, on one device or many: encode, score, loss, gradient, update."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from colbert_video.errors import TrainingError
from colbert_video.model.compiled_towers import naming_compiler_failures
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.run.batch_encoding import (
    EncodableBatch,
    batch_labels,
    batch_loss,
    level_scores,
    nested_sizes,
    reads_video_tokens,
)
from colbert_video.training.run.gradcache import cached_backward, random_state, set_random_state
from colbert_video.training.run.losses import PairLoss
from colbert_video.training.run.optimizer import (
    build_optimizer,
    freeze,
    freeze_batch_norm,
    parameter_groups,
    set_learning_rates,
    trainable,
)
from colbert_video.training.run.training_config import TrainingConfig

MAX_LISTED = 16
"""Videos of a bad batch that an error names."""


@dataclass(frozen=True)
class StepReport:
    """Loss and gradient of one step."""

    loss: float
    """Loss of the whole batch, over all processes."""
    gradient_norm: float
    """Norm before clipping."""
    decision_point: float | None = None
    """Score at which a pair was as likely a match as not in this step, of sigmoid losses."""


class Learner:
    """Model, loss and optimizer of a training, and the exchange with other processes.

    Args:
        model: Trained in place.
        config: Settings of the training.
        accelerator: accelerate's view of devices and processes.
    """

    def __init__(self, model: VideoColBERT, config: TrainingConfig, accelerator: Any) -> None:
        self.model, self.config, self.accelerator = model, config, accelerator
        self.loss: PairLoss
        self.optimizer: torch.optim.Optimizer

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Prepare for `step`; afterwards the model is as usable as before, and counts as trained.

        Raises:
            SettingsError: If a name in `config.freeze` matches nothing, nothing is left to train, or tokens have fewer
                dimensions than one of `config.nested_dims`.
        """
        requires_grad = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        compiling = self.model.compiling
        outside = random_state()
        torch.manual_seed(self.config.seed + self.accelerator.process_index)
        try:
            self._prepare()
            yield
        finally:
            set_random_state(outside)
            for parameter, required in requires_grad.items():
                parameter.requires_grad_(required)
                parameter.grad = None
            self.model.set_grad_checkpointing(False)
            self.model.compile_with(compiling)
            self.model.eval()

    def train_mode(self) -> None:
        """Go back to training after an evaluation."""
        self.model.train()
        freeze_batch_norm(self.model)

    def step(self, batch: TrainingBatch, *, learning_rate_factor: float, where: str) -> StepReport:
        """Update the weights by one batch.

        Args:
            batch: This process's part of the batch.
            learning_rate_factor: Factor on the peak learning rates.
            where: Step, epoch and batch, for errors.

        Raises:
            SettingsError: If all processes together have a single pair.
            DependencyError: If the model is compiled and the compiler fails.
            TrainingError: If loss or gradient are not finite; the weights are then unchanged.
        """
        labels, video_ids = batch_labels(batch.video_ids, self.config.labels)
        with naming_compiler_failures():
            loss = self._backward(batch, labels)
        norm = nn.utils.clip_grad_norm_(trainable(self.optimizer.param_groups), self.config.clip or math.inf)
        decision = self.loss.decision()
        known = [loss, norm] if decision is None else [loss, norm, decision]
        values: list[float] = torch.stack(known).tolist()  # the one time that a GPU is waited for
        for what, value in zip(("loss", "norm of the gradient"), values[:2], strict=True):
            _check_finite(what, value, where, video_ids)
        set_learning_rates(self.optimizer, learning_rate_factor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepReport(*values)

    def _backward(self, batch: TrainingBatch, labels: Bool[Tensor, "queries videos"]) -> Float[Tensor, ""]:
        """Leave the gradient of the whole batch in the parameters, the same one in all processes."""
        encode = EncodableBatch.from_batch(
            batch, self.model, self._exchanging, bfloat16=self.config.precision == "bf16"
        )

        def loss_of(tokens: tuple[Tensor, ...]) -> Float[Tensor, ""]:
            loss, config = self._exchanging_loss, self.config
            return batch_loss(tokens, labels, loss, config.interaction, self._score, config.nested_dims or ())

        if self.config.chunk_size is not None:
            return cached_backward(
                encode,
                loss_of,
                rows=len(encode),
                chunk_size=self.config.chunk_size,
                no_sync=lambda: self.accelerator.no_sync(self._exchanging),
            )
        loss = loss_of(encode(slice(0, len(encode))))
        loss.backward()
        return loss.detach()

    def _prepare(self) -> None:
        config, name = self.model.config, self.model.name
        try:
            self._prepare_model()
            self._prepare_optimizer()
        except Exception:
            self.model.config, self.model.name = config, name  # no step was made: the model is unchanged
            raise

    def _prepare_model(self) -> None:
        model, config = self.model.to(self.accelerator.device), self.config
        nested_sizes(config.nested_dims or (), model.dim)  # raises before anything is changed
        model.mark_trained()
        model.config = replace(model.config, interaction=config.interaction)
        model.name = None  # by its name, the model as it was would be loaded
        freeze(model, config.freeze)
        if not reads_video_tokens(config.interaction):
            model.temporal.requires_grad_(False)
        model.set_grad_checkpointing(config.grad_checkpointing)
        if config.compile:
            model.compile()
        self.train_mode()

    def _prepare_optimizer(self) -> None:
        config = self.config
        self.loss = config.build_loss().to(self.accelerator.device)
        self._score = level_scores
        if config.compile:
            self._score = torch.compile(level_scores, dynamic=False)
            self.loss.compile(dynamic=False)
        groups = parameter_groups(
            self.model,
            self.loss,
            learning_rate=config.learning_rate,
            pretrained_learning_rate=config.pretrained_learning_rate,
            loss_learning_rate=config.peak_loss_learning_rate,
            weight_decay=config.weight_decay,
        )
        self.optimizer = build_optimizer(groups, betas=config.betas, eps=config.eps)
        self._exchanging, self._exchanging_loss = self._wrapped(self.model), self._wrapped(self.loss)

    def _wrapped(self, module: nn.Module) -> nn.Module:
        learns = any(parameter.requires_grad for parameter in module.parameters())
        if self.accelerator.num_processes == 1 or not learns:
            return module
        # Newer torch has another name for the setting; older torch knows this one alone.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return self.accelerator.prepare_model(module)


def _check_finite(what: str, value: float, where: str, video_ids: list[str]) -> None:
    if math.isfinite(value):
        return
    more = f" and {len(video_ids) - MAX_LISTED} more" if len(video_ids) > MAX_LISTED else ""
    raise TrainingError(
        f"the {what} is {value} in {where}, whose videos are {', '.join(video_ids[:MAX_LISTED])}{more}. Training "
        "stops before the weights are harmed; try a lower learning rate, precision='fp32', or leave out the video at "
        "fault."
    )
