"""The device of tensors, and the precision of what must be exact."""

import os
from pathlib import Path

import torch

from colbert_video.errors import SettingsError, shown

Device = str | int | torch.device
"""A device by its name ("cpu", "cuda:1", "auto"), the number of a GPU, or torch's own object."""


def resolve_device(device: Device | None = None) -> torch.device:
    """Return the device that a name or number stands for; None and "auto" for the first GPU, or the CPU without one.

    Raises:
        SettingsError: If torch does not know the device, it is not there, or this process was forked and cannot use it.
    """
    if device is None or device == "auto":
        found = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        check_not_forked(found)
        return found
    found = _known(device)
    if found.type == "cpu":
        return torch.device("cpu")  # there is one, whatever its number
    _check_there(found, device)
    return found


def _known(device: Device) -> torch.device:
    try:
        if isinstance(device, bool):
            raise TypeError("a truth value")
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise SettingsError(
            f"{_named(device)} is not a device that torch knows; use 'cpu' or 'cuda:0', or None to let it be chosen."
        ) from error


def _named(device: Device) -> str:
    return f"device={shown(device if isinstance(device, int) else str(device))}"


def _check_there(found: torch.device, device: Device) -> None:
    if found.type != "cuda":
        _check_computes(found, device)
        return
    count = torch.cuda.device_count()
    if not 0 <= (found.index or 0) < count:
        seen = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        raise SettingsError(f"{_named(device)}, but torch sees {seen} here; use one that is there or 'cpu'.")
    check_not_forked(found)


def _check_computes(found: torch.device, device: Device) -> None:
    """Check a device of another kind: each is missing, or cannot compute, in its own way."""
    try:
        torch.zeros(1, dtype=torch.float32, device=found).tolist()
    except Exception as error:
        raise SettingsError(
            f"{_named(device)}, but torch cannot compute on a device of the kind {shown(found.type)} here; use 'cpu', or "
            "one that torch.accelerator names."
        ) from error


def check_not_forked(device: torch.device) -> None:
    """Check that this process may use a device: CUDA does not follow into forked processes.

    Raises:
        SettingsError: If it may not.
    """
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise SettingsError(
            f"device={shown(str(device))}: this process was forked from one that uses the GPU, and CUDA does not follow. "
            "Start processes with multiprocessing.get_context('spawn'), or use device='cpu'."
        )


class _ForkedThreads:
    """Lets torch compute in a forked process: OpenMP of GNU waits there for threads that did not follow, without end.

    Only where the process that forks has threads: in others nothing changes. The forked process computes on one
    thread, as the workers of torch's `DataLoader` do.
    """

    def __init__(self) -> None:
        self._started = False

    def look(self) -> None:
        """Before the fork, see whether this process has threads, of OpenMP or others."""
        try:
            self._started = len([*Path("/proc/self/task").iterdir()]) > 1
        except OSError:  # of a system whose OpenMP survives forks
            self._started = False

    def settle(self) -> None:
        """In the forked process, compute on one thread."""
        if self._started:
            torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    _threads = _ForkedThreads()
    os.register_at_fork(before=_threads.look, after_in_child=_threads.settle)


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return a context that switches autocast off on the tensor's device: bfloat16 would change scores and codecs."""
    return torch.autocast(tensor.device.type, enabled=False)
