"""Weights of models: what a file of safetensors holds, before any memory is taken for it, and a digest of what was loaded."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from colbert_video.base.access import read_problem
from colbert_video.errors import ModelError, in_one_line

WEIGHTS_FILE = "model.safetensors"


def weight_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each weight, from the file's header.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    if not path.exists():
        raise ModelError(f"{path} is missing. Save or download the checkpoint again.")
    if (problem := read_problem(path)) is not None:  # before it is opened: a named pipe would be waited for
        raise ModelError(f"{path} cannot be read: {problem}.")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise unfit(path, error) from error


def unfit(weights: Path, error: Exception) -> ModelError:
    """Return the error that says that weights are damaged or belong to another model."""
    return ModelError(
        f"{weights} is damaged, or does not fit its configuration: {in_one_line(error)}. Save or download the "
        "checkpoint again."
    )


def check_no_larger(outline: nn.Module, shapes: Mapping[str, Sequence[int]], name: str, *, spare: int = 0) -> None:
    """Check that an architecture is no larger than its weights, before it takes memory.

    Args:
        outline: It, on the device "meta".
        shapes: Shape of each weight.
        name: What it is called, for the error.
        spare: Numbers that the weights may lack.

    Raises:
        ModelError: If it is.
    """
    wanted = sum(parameter.numel() for parameter in outline.parameters())
    if wanted > sum(math.prod(shape) for shape in shapes.values()) + spare:
        raise larger_than_weights(name)


def larger_than_weights(name: str) -> ModelError:
    """Return the error for an architecture that would take more memory than its weights, or any."""
    return ModelError(f"{name}: it describes a larger model than its weights are; download it again.")


def weights_digest(facts: object, weights: Mapping[str, Tensor]) -> str:
    """Return a hex digest of weights by name, and of facts whose `repr` says all of them."""
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
