"""Negatives across processes: each process encodes its part of the batch, all of them score against the whole.

`gather_rows` is differentiable, and its backward is an all-reduce followed by the process's own slice. Together with
the mean over processes that DistributedDataParallel takes of gradients, a loss that every process computes on the
whole score matrix then has exactly the gradients that one process would compute. The gradient is made contiguous
first: gloo reads memory as it lies, and what einsum passes back lies otherwise; `torch.distributed.nn.all_gather` does
not do that and silently returns wrong gradients there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from colbert_video.device import Device, resolve_device
from colbert_video.errors import DependencyError, SettingsError, shown
from colbert_video.model.tokens import TokenBags

TIMEOUT = timedelta(hours=6)
"""Longest wait of processes for each other, for instance while the first one validates."""
PLAIN = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU")
"""accelerate's distributed types in which every process holds the whole model."""


def build_accelerator(device: Device | None = None) -> Any:
    """Join the processes that were launched together, and find this one's device.

    Args:
        device: "cpu", or None for this process's GPU, else the CPU. A single process may name its GPU, "cuda:1".

    Raises:
        SettingsError: If the device is not there, one of several processes names its GPU, this process trains on
            another device already, the launcher asks for sharded models, or it restarted processes so that they cannot
            find each other.
        DependencyError: If accelerate is not installed.
    """
    wanted = _single_device(device)
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise DependencyError("training needs accelerate: pip install 'colbert_video[train]'.") from error
    cpu = wanted == torch.device("cpu") or not torch.accelerator.is_available()
    _join_after_restart(cpu=cpu)
    with _chosen_device(None if cpu else wanted):
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision="no",  # autocast is opened where it belongs, in the encoders
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),  # none of them changes in training
                InitProcessGroupKwargs(timeout=TIMEOUT),
            ],
        )
    if wanted is not None and accelerator.device != wanted:
        raise SettingsError(
            f"device={shown(str(wanted))}, but this process trains on {accelerator.device} already; start a new one."
        )
    kind = accelerator.distributed_type.value
    if kind not in PLAIN:
        raise SettingsError(
            f"the launcher asks for {kind}; training needs the whole model in each process (plain DDP)."
        )
    return accelerator


def _single_device(device: Device | None) -> torch.device | None:
    """Return the device that was named; None to let each process have its own GPU."""
    if device is None or device == "auto":
        return None
    wanted = resolve_device(device)
    if wanted.type == "cuda" and wanted.index is None:
        return None
    if wanted.type != "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            f"device={shown(str(device))}: several processes train together, and each takes its own GPU; leave "
            "the device out, and limit GPUs by CUDA_VISIBLE_DEVICES."
        )
    return wanted


@contextmanager
def _chosen_device(device: torch.device | None) -> Iterator[None]:
    """Let accelerate choose a device in the block; it takes one by this variable alone."""
    if device is None:
        yield
        return
    from accelerate.utils import patch_environment

    if device.type == "cuda":
        torch.cuda.set_device(device)  # random numbers are drawn there
    with patch_environment(ACCELERATE_TORCH_DEVICE=device):
        yield


def _join_after_restart(*, cpu: bool) -> None:
    """Join the other processes of a restart under a prefix of the store that the killed ones did not use.

    torchrun keeps one store for all of its restarts. What dead processes wrote there about themselves stays, and the
    new ones would wait at their addresses. The number of the restart separates them on one machine; the launchers
    of several machines count each for itself.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if restart == "0" or not kept or dist.is_initialized():
        return
    processes = int(os.environ["WORLD_SIZE"])
    if processes != processes_here():
        raise SettingsError(
            "torchrun has restarted this process, and on several machines restarted processes find only traces of those "
            "before them; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every machine and start torchrun again."
        )
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=TIMEOUT)
    device = None if cpu else torch.accelerator.current_accelerator()
    dist.init_process_group(
        dist.get_default_backend_for_device(device or "cpu"),
        store=dist.PrefixStore(f"restart-{restart}", store),
        rank=int(os.environ["RANK"]),
        world_size=processes,
        timeout=TIMEOUT,
    )


def leave_processes() -> None:
    """Leave the process group when the work is done; does nothing in a single process."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes that train together; 1 where none were launched."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def processes_here() -> int:
    """Return the number of them on this machine, as the launcher says; they share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def gather_rows(tensor: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """Gather every process's rows, in the order of processes; differentiable. The number of rows may differ."""
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor)


def gather_bags(bags: TokenBags) -> TokenBags:
    """Gather every process's bags, padded to the longest of all; differentiable."""
    if world_size() == 1:
        return bags
    longest = int(_gather_equal(torch.tensor([bags.shape[1]], device=bags.tokens.device)).max())
    missing = longest - bags.shape[1]
    tokens = torch.nn.functional.pad(bags.tokens, (0, 0, 0, missing))  # (bags, longest, dim)
    mask = torch.nn.functional.pad(bags.mask, (0, missing))  # (bags, longest)
    return TokenBags(gather_rows(tokens), gather_rows(mask))


def gather_strings(values: Sequence[str]) -> list[str]:
    """Gather every process's strings, in the order of processes."""
    if world_size() == 1:
        return list(values)
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def check_processes_agree(what: str, value: str) -> None:
    """Check that all processes see the same value of `what`; otherwise they would wait for each other endlessly.

    Raises:
        SettingsError: In all processes, if one of them has another value.
    """
    seen = gather_strings([value])
    if len(set(seen)) > 1:
        different = next(number for number, other in enumerate(seen) if other != seen[0])
        raise SettingsError(
            f"{what} differ between processes: process 0 sees {seen[0]}, process {different} sees {seen[different]}. All "
            "machines must see the same output folder and manifest; put them on a file system that they share."
        )


def from_first(value: Any) -> Any:
    """Return the first process's value in all processes; those of the others are ignored."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


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
