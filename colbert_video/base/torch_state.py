"""What a program has set in torch for itself, kept away from models, indexes and training."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from colbert_video.device import check_not_forked

CASTING = ("cpu", "cuda")
"""Devices on which a program may have switched autocast on."""


@contextmanager
def own_torch() -> Iterator[None]:
    """Compute in the block without the caller's autocast and default device, which would change tokens and codecs."""
    with ExitStack() as stack:
        for kind in CASTING:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu" or _watched():
            # A default device is a mode that sees each call, for which torch also gives up its faster attention.
            stack.enter_context(torch._C.DisableTorchFunction())
        yield


def _watched() -> bool:
    return bool(torch._C._len_torch_function_stack())


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Build models in the block on the device "meta", where they take no memory, also inside of `own_torch`."""
    with own_device("meta"):
        yield


@contextmanager
def own_device(device: str) -> Iterator[None]:
    """Make tensors in the block on a device, and let libraries choose others by a mode of torch, also inside of `own_torch`.

    Hugging Face transformers does so while it loads weights.
    """
    with torch._C._EnableTorchFunction(), torch.device(device):
        yield


@contextmanager
def encoding_on(device: torch.device) -> Iterator[None]:
    """Compute tokens in the block: without gradients, autocast and default device, whatever the caller has chosen.

    Raises:
        SettingsError: If this process was forked and cannot use the device.
    """
    check_not_forked(device)
    with own_torch(), torch.inference_mode():
        yield


@contextmanager
def plain_torch() -> Iterator[None]:
    """Build and train models in the block as torch does by itself, whatever the caller has set: float32, on the CPU.

    The default type is the process's: other threads that make tensors meanwhile get float32 too, if the caller has set
    another type.
    """
    chosen = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(own_torch())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if chosen != torch.float32:
            stack.callback(torch.set_default_dtype, chosen)
            torch.set_default_dtype(torch.float32)
        yield
