"""The device of tensors, and the precision of what must be exact."""

import torch

from colbert_video.errors import SettingsError, shown


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Return `device`, or the first GPU where there is one, or the CPU.

    Raises:
        SettingsError: If torch does not know the device, or the GPU is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(
            f"device={shown(str(device))} is not a device that torch knows; use 'cpu' or 'cuda:0'."
        ) from error
    count = torch.cuda.device_count()
    if resolved.type == "cuda" and (resolved.index or 0) >= count:
        seen = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        raise SettingsError(f"device={shown(str(device))}, but torch sees {seen} here; use one that is there or 'cpu'.")
    return resolved


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return a context that switches autocast off on the tensor's device: bfloat16 would change scores and codecs."""
    return torch.autocast(tensor.device.type, enabled=False)
