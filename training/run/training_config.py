"""The settings of a training run; the defaults are the paper's for CLIP ViT-B/32 (Reddy et al., CVPR 2025, Table 9)."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from colbert_video.base.checks import check_fields, real_number
from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError, shown
from colbert_video.model.interaction import Interaction
from colbert_video.training.run.losses import (
    BIAS,
    INFONCE_SCALE,
    LOG_SCALE,
    CombinedInfoNCELoss,
    CombinedSigmoidLoss,
    DualInfoNCELoss,
    DualSigmoidLoss,
    PairLoss,
)
from colbert_video.training.run.optimizer import Schedule
from colbert_video.video.frames import MAX_SNAP

LossName = Literal["dual_sigmoid", "combined_sigmoid", "dual_infonce", "combined_infonce"]
"""The losses of Table 4."""
LOSSES: dict[LossName, type[PairLoss]] = {
    "dual_sigmoid": DualSigmoidLoss,
    "combined_sigmoid": CombinedSigmoidLoss,
    "dual_infonce": DualInfoNCELoss,
    "combined_infonce": CombinedInfoNCELoss,
}
ONE_LEVEL = ("mms_f", "mms_v", "mp_f", "mp_v")
"""Interactions that read one bag alone."""
RANK_METRICS = ("MdR", "MnR")
"""Metrics that are better when they are smaller; no best model can be chosen by them."""
LOSS_LEARNING_RATE = 0.01
FREELY_CHANGED = ("checkpoint_every", "keep_checkpoints", "compile")
"""Fields that a resumed run may change: they affect the last digits of the result at most."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training: losses, optimizer, schedule, checkpoints."""

    interaction: Interaction = "mms_fv"
    """Scores that the model is trained for; the loss sees the levels that it reads (`rrf` trains both)."""
    loss: LossName = "dual_sigmoid"
    loss_scale: float | None = None
    """Factor on scores in the loss; None for exp(4.77) with sigmoid losses and 100 with InfoNCE."""
    loss_bias: float | Literal["calibrate"] | None = None
    """What sigmoid losses add to the scaled score; None for -12.93, "calibrate" for what suits the first batch's scores."""
    learnable_loss: bool = False
    """True to train scale and bias; the paper fixes them."""
    loss_learning_rate: float | None = None
    """Peak learning rate of a learnable bias and logarithm of the scale; None for 0.01. They have far to go, and a step of
    Adam moves each by about this much."""
    lambda_frame: float = 1.0
    """Weight of the frame level in dual losses."""
    lambda_video: float = 1.0
    """Weight of the video level in dual losses."""
    nested_dims: tuple[int, ...] | None = None
    """How many of the first dimensions of tokens the model learns to be searched with alone, (16, 64) for example: the loss is
    the mean over these and all dimensions, each cut and normalised again. None for all dimensions alone, as in the paper."""
    labels: Literal["video", "diagonal"] = "video"
    """Pairs that belong together: all captions and videos of one id, or row i and video i alone."""
    epochs: int = 5
    """Passes over the captions."""
    max_steps: int | None = None
    """Limit of optimizer steps; None for all of the epochs."""
    batch_size: int = 256
    """Caption-video pairs per step, over all processes."""
    chunk_size: int | None = None
    """Pairs that each process encodes at once (GradCache); None for its whole part of the batch."""
    learning_rate: float = 1e-4
    """Peak learning rate of new parameters: temporal transformer, frame positions, expansion tokens."""
    pretrained_learning_rate: float = 1e-7
    """Peak learning rate of the backbone."""
    schedule: Schedule = "linear"
    """Course of the learning rate after warm-up: linear or cosine to zero, or constant."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises, in [0, 1)."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's averaging of gradients and of their squares."""
    eps: float = 1e-6
    """AdamW's floor under the root of squared gradients."""
    clip: float | None = 1.0
    """Largest norm of the whole gradient; None for no clipping."""
    freeze: tuple[str, ...] = ("token_embedding", "text_positions", "vision_positions", "patch_embedding")
    """Frozen parameters: keys of `optimizer.FAMILIES`, or patterns of parameter names."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the encoders; weights, scores and losses are float32 in both."""
    compile: bool = False
    """True to compile towers, temporal transformer, scores and loss with `torch.compile`, which takes a minute or more at the
    first step and pays off in long runs. Checkpoints are those of a model that is not compiled."""
    grad_checkpointing: bool = False
    """True to compute activations twice instead of keeping them."""
    metric: str = "R@1"
    """The validation metric by which the best model is chosen; larger is better."""
    evaluate_every: int = 1
    """Epochs between validations; the last epoch always has one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None for one at the end of each epoch."""
    keep_checkpoints: int = 1
    """Number of checkpoints kept; older ones are deleted."""
    seed: int = 0
    """Seed of the order of captions and of the sampled frames."""

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_ranges()
        self._check_loss()

    def _check_ranges(self) -> None:
        counts = ("epochs", "max_steps", "chunk_size", "evaluate_every", "checkpoint_every", "keep_checkpoints")
        _check_at_least(self, 1, *counts)
        rates = ("learning_rate", "pretrained_learning_rate", "loss_learning_rate", "weight_decay")
        _check_at_least(self, 0, *rates, "lambda_frame", "lambda_video", "seed")
        _check_positive(self, "eps", "clip", "loss_scale")
        if self.metric in RANK_METRICS:
            raise SettingsError(
                f"metric={shown(self.metric)} is better when it is smaller; choose one that grows, such as R@1 or "
                "nDCG@10."
            )
        if self.batch_size < 2:
            raise SettingsError(
                f"batch_size={self.batch_size}: a contrastive loss needs negatives, so at least 2 pairs a batch."
            )
        if self.chunk_size is not None and self.chunk_size > self.batch_size:
            raise SettingsError(
                f"chunk_size={self.chunk_size} exceeds batch_size={self.batch_size}; use a smaller chunk, or none."
            )
        if self.nested_dims is not None and not _are_sizes(self.nested_dims):
            raise SettingsError(
                f"nested_dims={shown(self.nested_dims)} must be different numbers of dimensions, 1 or more each; None for none."
            )
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup={self.warmup} is a part of all steps; it must be in [0, 1).")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise SettingsError(f"betas={self.betas} must be two numbers in [0, 1).")

    def _check_loss(self) -> None:
        combined = self.loss.startswith("combined")
        if combined and self.interaction in ONE_LEVEL:
            raise SettingsError(
                f"loss={shown(self.loss)} combines two levels, but interaction={shown(self.interaction)} has one; use "
                "the dual loss, which then uses only that level."
            )
        if combined and (self.lambda_frame, self.lambda_video) != (1.0, 1.0):
            raise SettingsError(
                f"lambda_frame and lambda_video weigh the levels of dual losses; loss={shown(self.loss)} has none to "
                "weigh."
            )
        weights = {"mms_f": self.lambda_frame, "mp_f": self.lambda_frame}
        weights |= {"mms_v": self.lambda_video, "mp_v": self.lambda_video}
        if weights.get(self.interaction, self.lambda_frame + self.lambda_video) == 0:
            raise SettingsError(
                f"the lambdas give every level that interaction={shown(self.interaction)} reads the weight 0; raise "
                "one."
            )
        if self.loss.endswith("infonce") and self.loss_bias is not None:
            raise SettingsError(f"loss_bias={shown(self.loss_bias)} has no effect on {shown(self.loss)}; leave it out.")

    @property
    def peak_loss_learning_rate(self) -> float:
        """Peak learning rate of the loss's own parameters."""
        return LOSS_LEARNING_RATE if self.loss_learning_rate is None else self.loss_learning_rate

    def build_loss(self) -> PairLoss:
        """Return the configured loss with its scale, bias and weights."""
        settings: dict[str, Any] = {"learnable": self.learnable_loss}
        if self.loss.startswith("dual"):
            settings |= {"lambda_frame": self.lambda_frame, "lambda_video": self.lambda_video}
        if self.loss.endswith("sigmoid"):
            settings["log_scale"] = LOG_SCALE if self.loss_scale is None else math.log(self.loss_scale)
            bias = math.nan if self.loss_bias == "calibrate" else self.loss_bias
            settings["bias"] = BIAS if bias is None else bias
        else:
            settings["scale"] = INFONCE_SCALE if self.loss_scale is None else self.loss_scale
        return LOSSES[self.loss](**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and YAML."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class DataConfig:
    """Captions and videos that a model is trained on, and how they are read."""

    manifest: str
    """JSONL or CSV file of captions with the columns video, caption and split; seen from the working folder."""
    train_split: str = "train"
    validation_split: str | None = "val"
    """Split that the best model is chosen on, never the test split; None for no validation."""
    num_frames: int | None = None
    """Frames sampled from each video; None for the model's own number."""
    snap: float | None = None
    """How far a frame of a long video may be moved to a keyframe, which saves decoding, as a share of the spacing between
    frames; 0 for the exact frames, None for the usual rule."""
    group_batches: bool = False
    """True to put rows of one `group` in one batch, as hard negatives of each other."""
    random_shift: int = 0
    """Largest shift of a training clip's frames in pixels, drawn again in every epoch."""
    missing: Literal["refuse", "report"] = "refuse"
    """Videos that do not exist: stop the run, or leave them out and report them."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    timeout: float = 60.0
    """Seconds that decoding one file may take."""
    workers: int | None = None
    """Decoding processes of each training process; None shares the machine's cores among its training processes."""
    cache: str | None = None
    """Folder that keeps decoded frames, so that later epochs do not decode again; None decodes every time. Training then draws
    from 3 frames of each segment instead of all; evaluation has the same frames."""
    cache_gigabytes: float = 50.0
    """Largest size of the cache in GiB."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not str(self.manifest).strip():
            raise SettingsError("data.manifest is empty; give the path of a JSONL, JSON, CSV or TSV file.")
        if self.cache is not None and not self.cache.strip():
            raise SettingsError("data.cache is empty; give a folder, or null for no cache.")
        for split in (self.validation_split, self.train_split):
            if split is not None and is_test_split(split):
                raise SettingsError(
                    f"split {shown(split)} is for the final figures alone: training on it or choosing a model by it "
                    "would inflate them. Use a held-out part of the training data."
                )
        if self.train_split == self.validation_split:
            raise SettingsError(
                f"train_split and validation_split are both {shown(self.train_split)}; hold some videos out for "
                "validation."
            )
        _check_at_least(self, 1, "num_frames")
        _check_at_least(self, 0, "workers", "random_shift")
        _check_positive(self, "timeout", "cache_gigabytes")
        if self.snap is not None:
            real_number("data.snap", self.snap, least=0, most=MAX_SNAP)

    @property
    def manifest_path(self) -> Path:
        """Absolute path of the manifest, with "~" replaced by the home folder."""
        return user_path(self.manifest, "data.manifest")


def is_test_split(name: str) -> bool:
    """Return True for names of test splits, such as "test", "test1k" and "TEST"."""
    return name.strip().lower().startswith("test")


def _are_sizes(values: tuple[int, ...]) -> bool:
    return bool(values) and min(values) >= 1 and len(set(values)) == len(values)


def _check_at_least(settings: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= least:  # in this form nan is refused too
            raise SettingsError(f"{name}={value} must be at least {least}.")


def _check_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise SettingsError(f"{name}={value} must be above 0.")
