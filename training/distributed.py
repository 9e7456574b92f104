"""Negatives across processes: each process encodes its part of the batch, all of them score against the whole.

`gather_rows` is differentiable, and its backward is an all-reduce followed by the process's own slice. Together with
the mean over processes that DistributedDataParallel takes of gradients, a loss that every process computes on the
whole score matrix then has exactly the gradients that one process would compute. The gradient is made contiguous
first: gloo reads memory as it lies, and what einsum passes back lies otherwise; `torch.distributed.nn.all_gather` does
not care for that and silently returns wrong gradients there.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from colbert_video.errors import DependencyError, SettingsError
from colbert_video.tokens import TokenBags

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other, while the first one validates, for instance."""
PLAIN = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU")
"""accelerate's ways of running in which every process holds the whole model."""


def build_accelerator(device: str | None = None) -> Any:
    """Join the processes that were launched together, and find this one's device.

    Args:
        device: "cpu", or None for this process's GPU, else the CPU.

    Raises:
        SettingsError: If another device is named, or the launcher asks for sharded models.
        DependencyError: If accelerate is not installed.
    """
    if device not in (None, "cpu"):
        raise SettingsError(
            f"device={device!r}: training takes 'cpu' or, by default, every visible GPU; limit these by CUDA_VISIBLE_DEVICES."
        )
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise DependencyError("training needs accelerate: pip install 'colbert_video[train]'.") from error
    accelerator = Accelerator(
        cpu=device == "cpu" or not torch.accelerator.is_available(),
        mixed_precision="no",  # autocast is opened where it belongs, in the encoders
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),  # none of them changes in training
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )
    kind = accelerator.distributed_type.value
    if kind not in PLAIN:
        raise SettingsError(
            f"the launcher asks for {kind}; training needs the whole model in each process (plain DDP)."
        )
    return accelerator


def leave_processes() -> None:
    """Part from the other processes when the work is done; does nothing in a single one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes that train together; 1 where none were launched."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(tensor: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """Every process's rows, in the order of processes; with gradients.

    Args:
        tensor: This process's rows; their number may differ between processes, the other dimensions may not.
    """
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor)


def gather_bags(bags: TokenBags) -> TokenBags:
    """Every process's bags, padded to the longest of all; with gradients."""
    if world_size() == 1:
        return bags
    longest = int(_gather_equal(torch.tensor([bags.shape[1]], device=bags.tokens.device)).max())
    missing = longest - bags.shape[1]
    tokens = torch.nn.functional.pad(bags.tokens, (0, 0, 0, missing))  # (bags, longest, dim)
    mask = torch.nn.functional.pad(bags.mask, (0, missing))  # (bags, longest)
    return TokenBags(gather_rows(tokens), gather_rows(mask))


def gather_strings(values: Sequence[str]) -> list[str]:
    """Every process's strings, in the order of processes."""
    if world_size() == 1:
        return list(values)
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        counts = _gather_equal(torch.tensor([len(tensor)], device=tensor.device)).tolist()
        ctx.start, ctx.rows = sum(counts[: rank()]), len(tensor)
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = _gather_equal(padded).split(max(counts))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()  # gloo reads raw memory; the clone spares the caller's gradient
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.rows]


def _gather_equal(tensor: Tensor) -> Tensor:
    """Gather tensors of one shape, without gradients."""
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
