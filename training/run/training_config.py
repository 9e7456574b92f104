"""The settings of a training run; the defaults are the paper's for CLIP ViT-B/32 (Reddy et al., CVPR 2025, Table 9)."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from colbert_video.errors import SettingsError
from colbert_video.model.interaction import INTERACTIONS, Interaction
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
from colbert_video.video.frames import DECODERS

LossName = Literal["dual_sigmoid", "combined_sigmoid", "dual_infonce", "combined_infonce"]
"""The losses of Table 4."""
ONE_LEVEL = ("mms_f", "mms_v", "mp_f", "mp_v")
"""Interactions that read one bag alone."""
RANK_METRICS = ("MdR", "MnR")
"""Metrics by which no best model can be chosen, for they fall."""
FREELY_CHANGED = ("checkpoint_every", "keep_checkpoints")
"""Fields that a resumed run may change: they do not touch the result."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    interaction: Interaction = "mms_fv"
    """What the model is trained for; its loss sees the levels that this reads (`rrf` trains both)."""
    loss: LossName = "dual_sigmoid"
    """The contrastive loss."""
    loss_scale: float | None = None
    """Factor on scores in the loss; None for exp(4.77) with sigmoid losses and 100 with InfoNCE."""
    loss_bias: float | None = None
    """What sigmoid losses add to the scaled score; None for -12.93."""
    learnable_loss: bool = False
    """Whether scale and bias are trained; the paper fixes them."""
    lambda_frame: float = 1.0
    """Weight of the frame level in dual losses."""
    lambda_video: float = 1.0
    """Weight of the video level in dual losses."""
    labels: Literal["video", "diagonal"] = "video"
    """Whether all captions and videos of one id belong together, or row i and video i alone."""
    epochs: int = 5
    """Passes over the captions."""
    max_steps: int | None = None
    """Most optimizer steps; None for all of the epochs."""
    batch_size: int = 256
    """Caption-video pairs a step, over all processes."""
    chunk_size: int | None = None
    """Pairs that each process encodes at once (GradCache); None encodes its part of the batch in one go."""
    learning_rate: float = 1e-4
    """Peak learning rate of new parameters: temporal transformer, frame positions, expansion tokens."""
    pretrained_learning_rate: float = 1e-7
    """Peak learning rate of the backbone."""
    schedule: Schedule = "linear"
    """What the learning rate does after warm-up: linear or cosine to zero, or constant."""
    warmup: float = 0.1
    """Part of the steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's averaging of gradients and of their squares."""
    eps: float = 1e-6
    """AdamW's floor under the root of squared gradients."""
    clip: float | None = 1.0
    """Largest norm of the whole gradient; None does not clip."""
    freeze: tuple[str, ...] = ("token_embedding", "text_positions", "vision_positions", "patch_embedding")
    """What is not trained: families of `training.optimizer`, or patterns of parameter names."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the encoders; weights, scores and losses are float32 in both."""
    grad_checkpointing: bool = False
    """Whether activations are computed twice instead of kept."""
    metric: str = "R@1"
    """The validation metric by which the best model is chosen; larger is better."""
    evaluate_every: int = 1
    """Epochs between validations; the last epoch always has one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None writes one at the end of each epoch alone."""
    keep_checkpoints: int = 1
    """Checkpoints that are kept; older ones are deleted."""
    seed: int = 0
    """Makes the order of captions and the sampled frames repeatable."""

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        self._check_loss()

    def _check_choices(self) -> None:
        _one_of(self, "interaction", INTERACTIONS)
        _one_of(self, "loss", get_args(LossName))
        _one_of(self, "labels", ("video", "diagonal"))
        _one_of(self, "schedule", get_args(Schedule))
        _one_of(self, "precision", ("bf16", "fp32"))

        if self.metric in RANK_METRICS:
            raise SettingsError(
                f"metric={self.metric!r} is better when it is smaller; choose one that grows, such as R@1 or nDCG@10."
            )

    def _check_ranges(self) -> None:
        _at_least(
            self,
            1,
            "epochs",
            "max_steps",
            "chunk_size",
            "evaluate_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        _at_least(
            self,
            0,
            "learning_rate",
            "pretrained_learning_rate",
            "weight_decay",
            "lambda_frame",
            "lambda_video",
        )
        _at_least(self, 0, "seed")
        _above_zero(self, "eps", "clip", "loss_scale")
        if self.batch_size < 2:
            raise SettingsError(
                f"batch_size={self.batch_size}: a contrastive loss needs negatives, so at least 2 pairs a batch."
            )
        if self.chunk_size is not None and self.chunk_size > self.batch_size:
            raise SettingsError(
                f"chunk_size={self.chunk_size} exceeds batch_size={self.batch_size}; use a smaller chunk, or none."
            )
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup={self.warmup} is a part of all steps; it must be in [0, 1).")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise SettingsError(f"betas={self.betas} must be two numbers in [0, 1).")

    def _check_loss(self) -> None:
        combined = self.loss.startswith("combined")
        if combined and self.interaction in ONE_LEVEL:
            raise SettingsError(
                f"loss={self.loss!r} combines two levels, but interaction={self.interaction!r} has one; use the dual "
                "loss, which then sees that level alone."
            )
        if combined and (self.lambda_frame, self.lambda_video) != (1.0, 1.0):
            raise SettingsError(
                f"lambda_frame and lambda_video weigh the levels of dual losses; loss={self.loss!r} has none to weigh."
            )
        weights = {"mms_f": self.lambda_frame, "mp_f": self.lambda_frame}
        weights |= {"mms_v": self.lambda_video, "mp_v": self.lambda_video}
        if weights.get(self.interaction, self.lambda_frame + self.lambda_video) == 0:
            raise SettingsError(
                f"the lambdas give every level that interaction={self.interaction!r} reads the weight 0; raise one."
            )
        if self.loss.endswith("infonce") and self.loss_bias is not None:
            raise SettingsError(f"loss_bias={self.loss_bias} has no effect on {self.loss!r}; leave it out.")

    def build_loss(self) -> PairLoss:
        """The configured loss."""
        lambdas: dict[str, Any] = {"lambda_frame": self.lambda_frame, "lambda_video": self.lambda_video}
        if self.loss.endswith("sigmoid"):
            settings: dict[str, Any] = {
                "log_scale": LOG_SCALE if self.loss_scale is None else math.log(self.loss_scale),
                "bias": BIAS if self.loss_bias is None else self.loss_bias,
                "learnable": self.learnable_loss,
            }
            return (
                DualSigmoidLoss(**settings, **lambdas)
                if self.loss == "dual_sigmoid"
                else CombinedSigmoidLoss(**settings)
            )
        scale = INFONCE_SCALE if self.loss_scale is None else self.loss_scale
        settings = {"scale": scale, "learnable": self.learnable_loss}
        return (
            DualInfoNCELoss(**settings, **lambdas)
            if self.loss == "dual_infonce"
            else CombinedInfoNCELoss(**settings)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class DataConfig:
    """What a model is trained on and how it is read."""

    manifest: str
    """JSONL or CSV file of captions with the columns video, caption and split; seen from the working folder."""
    train_split: str = "train"
    """Split that is trained on."""
    validation_split: str | None = "val"
    """Split that the best model is chosen on, which can never be the test split; None chooses none."""
    num_frames: int | None = None
    """Frames sampled from each video; None for the model's own number."""
    group_batches: bool = False
    """Whether rows of one `group` come in one batch, as hard negatives of each other."""
    random_shift: int = 0
    """Pixels by which the frames of a training clip are shifted at most, all together and again in every epoch."""
    missing: Literal["refuse", "report"] = "refuse"
    """Whether videos that do not exist stop the run, or are left out and reported."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """Who decodes."""
    timeout: float = 60.0
    """Seconds one file may take."""
    workers: int | None = None
    """Decoding processes of each training process; None shares the machine's cores among its training processes."""
    cache: str | None = None
    """Folder that keeps decoded frames, so that later epochs do not decode again; None decodes every time."""
    cache_gigabytes: float = 50.0
    """Most space the cache may take."""

    def __post_init__(self) -> None:
        if not str(self.manifest).strip():
            raise SettingsError("data.manifest is empty; give the path of a JSONL or CSV file.")
        for split in (self.validation_split, self.train_split):
            if split is not None and is_test_split(split):
                raise SettingsError(
                    f"split {split!r} is for the final figures alone: training on it or choosing a model by it would "
                    "inflate them. Use a held-out part of the training data."
                )
        if self.train_split == self.validation_split:
            raise SettingsError(
                f"train_split and validation_split are both {self.train_split!r}; hold some videos out for validation."
            )
        _one_of(self, "missing", ("refuse", "report"))
        _one_of(self, "decoder", DECODERS)
        _at_least(self, 1, "num_frames")
        _at_least(self, 0, "workers", "random_shift")
        _above_zero(self, "timeout", "cache_gigabytes")

    @property
    def manifest_path(self) -> Path:
        """The manifest as a path."""
        return Path(self.manifest).expanduser()


def is_test_split(name: str) -> bool:
    """Whether a split's name says that it is for testing: "test", "test1k", "TEST"."""
    return name.strip().lower().startswith("test")


def _one_of(settings: Any, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(settings, name) not in allowed:
        raise SettingsError(f"{name}={getattr(settings, name)!r} must be one of {', '.join(allowed)}.")


def _at_least(settings: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= least:  # in this form nan is refused too
            raise SettingsError(f"{name}={value} must be at least {least}.")


def _above_zero(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise SettingsError(f"{name}={value} must be above 0.")
