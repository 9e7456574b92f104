"""Frozen families of parameters, the paper's parameter groups, AdamW, and the learning rate schedule.

Reddy et al., CVPR 2025, section 5.2 and Tables 9 and 10: pretrained weights learn at 1e-7, new ones (temporal
transformer, frame positions, expansion tokens) at 1e-4, both linearly down to nothing after 10 % of warm-up.
"""

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from colbert_video.errors import SettingsError, shown
from colbert_video.model.video_colbert import VideoColBERT

Schedule = Literal["linear", "cosine", "constant"]
"""Course of the learning rate after warm-up: linear or cosine to zero, or constant."""

BACKBONE, LOSS = "backbone.", "loss."
"""Prefixes of the names of pretrained parameters, and of the loss's own."""
TOWERS = ("backbone.clip.", "backbone.towers.")
"""Prefixes of the names in models of open_clip and of Hugging Face transformers."""
FAMILIES = {
    "token_embedding": (
        "token_embedding.*",
        "text.token_embedding.*",
        "text_model.embeddings.token_embedding.*",
        "text_model.embeddings.word_embeddings.*",
    ),
    "text_positions": (
        "positional_embedding",
        "text.positional_embedding",
        "text_model.embeddings.position_embedding*",
    ),
    "vision_positions": (
        "visual.positional_embedding",
        "visual.trunk.pos_embed",
        "vision_model.embeddings.position_embedding*",
    ),
    "patch_embedding": ("visual.conv1.*", "visual.trunk.patch_embed.*", "vision_model.embeddings.patch_embed*"),
    "class_token": (
        "visual.class_embedding",
        "visual.trunk.cls_token",
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.cls_token",
    ),
    "vision_tower": ("visual.*", "vision_model.*", "visual_projection.*"),
    "text_tower": (
        "token_embedding.*",
        "positional_embedding",
        "transformer.*",
        "ln_final.*",
        "text_projection*",
        "text.*",
        "text_model.*",
    ),
}
"""Families that can be frozen, and patterns of names in models of open_clip and of Hugging Face transformers."""


def freeze(model: VideoColBERT, names: Iterable[str]) -> None:
    """Turn off `requires_grad` of parameters by keys of `FAMILIES` or patterns of names such as "temporal.blocks.0.*".

    Raises:
        SettingsError: If a name matches no parameter of the model.
    """
    parameters = dict(model.named_parameters())
    for name in names:
        patterns = [tower + pattern for tower in TOWERS for pattern in FAMILIES[name]] if name in FAMILIES else [name]
        matched = [full for full in parameters if any(fnmatchcase(full, pattern) for pattern in patterns)]
        if not matched:
            raise SettingsError(
                f"freeze names {shown(name)}, which matches no parameter of {model.config.backbone}; leave it out, or "
                f"use one of {', '.join(FAMILIES)} or a pattern of parameter names such as 'temporal.blocks.0.*'."
            )
        for full in matched:
            parameters[full].requires_grad_(False)


def parameter_groups(
    model: VideoColBERT,
    loss: nn.Module,
    *,
    learning_rate: float,
    pretrained_learning_rate: float,
    loss_learning_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay.

    Args:
        model: Its backbone is pretrained, everything else is new.
        loss: Its scale and bias, if they are learnable, have a learning rate of their own.
        learning_rate: Peak learning rate of new parameters.
        pretrained_learning_rate: Peak learning rate of the backbone.
        loss_learning_rate: Peak learning rate of the loss.
        weight_decay: Decay of matrices; vectors and scalars (biases, norms) have none.

    Returns:
        Groups with `params`, `names`, `lr`, `peak` (the peak learning rate) and `weight_decay`; empty ones are left
        out.

    Raises:
        SettingsError: If every parameter is frozen.
    """
    named = [*model.named_parameters(), *((LOSS + name, value) for name, value in loss.named_parameters())]
    peaks = {BACKBONE: pretrained_learning_rate, LOSS: loss_learning_rate}
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        if parameter.requires_grad and parameter.numel():
            peak = next((own for prefix, own in peaks.items() if name.startswith(prefix)), learning_rate)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((peak, decay), []).append((name, parameter))
    if not groups:
        raise SettingsError("every parameter is frozen, so there is nothing to train; freeze less.")
    return [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "lr": peak,
            "peak": peak,
            "weight_decay": decay,
        }
        for (peak, decay), members in groups.items()
    ]


def build_optimizer(groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float) -> torch.optim.AdamW:
    """Build AdamW, with a fused kernel where the device has one."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=devices <= {"cpu", "cuda", "xpu", "mps"})


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak"]


def learning_rate_factor(step: int, total: int, *, warmup: float, schedule: Schedule) -> float:
    """Return a step's factor on the peak learning rate; `step` counts from 0, `warmup` is a share of the `total` steps.

    The rate rises linearly in the warm-up, where no step has the rate 0; then it follows the schedule.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)  # in [0, 1)
    if schedule == "linear":
        return 1 - progress
    return (1 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else 1.0


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep batch statistics as pretrained: chunks and processes would each measure their own."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def trainable(groups: Sequence[dict[str, Any]]) -> list[nn.Parameter]:
    """Return all parameters of the groups."""
    return [parameter for group in groups for parameter in group["params"]]
