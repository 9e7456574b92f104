"""From RGB frames to the numbers a backbone expects."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.model.backbone import Preprocess


def to_pixels(
    frames: UInt8[np.ndarray, "frames _ _ 3"] | UInt8[Tensor, "frames _ _ 3"],
    preprocess: Preprocess,
    device: torch.device,
) -> Float[Tensor, "frames 3 height width"]:
    """Scale to [0, 1], resize straight to the backbone's size if need be, and normalise the channels.

    Args:
        frames: RGB, values 0 to 255.
        preprocess: Size, filter, mean and std.
        device: Where the result is wanted; bytes travel there, not floats.

    Raises:
        SettingsError: If the frames are not uint8 RGB, or have no pixels.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(frames)) if isinstance(frames, np.ndarray) else frames
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise SettingsError(
            f"frames are {tensor.dtype} of shape {tuple(tensor.shape)}; give RGB bytes, torch.uint8 or numpy.uint8 of "
            "shape (frames, height, width, 3), with at least one pixel."
        )
    pixels = tensor.to(device).permute(0, 3, 1, 2).float() / 255  # (frames, 3, height, width)
    if pixels.shape[2:] != (preprocess.height, preprocess.width):
        pixels = torch.nn.functional.interpolate(
            pixels, (preprocess.height, preprocess.width), mode=preprocess.interpolation, antialias=True
        ).clamp(0, 1)
    mean = torch.tensor(preprocess.mean, device=device)[:, None, None]
    std = torch.tensor(preprocess.std, device=device)[:, None, None]
    return (pixels - mean) / std
