"""Features of a frozen image tower, computed once for every picture.

What a frozen tower makes of a frame is the same in every step of every run, and computing it is most of a step's time.
"""

import zlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Tower = Callable[[Float[Tensor, "frames 3 height width"]], Float[Tensor, "frames dim"]]


class FrozenFeatures:
    """Remembers what a frozen image tower makes of every picture, by the picture's two checksums.

    One object serves all runs that have the same tower.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Float[Tensor, "dim"]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def around(self, tower: Tower) -> Tower:
        """Return the tower, asked only for pictures that are new."""

        def remembered(pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
            keys = [_key(frame) for frame in pixels.detach().cpu().contiguous().numpy()]
            new = [row for row, key in enumerate(keys) if key not in self._known]
            if new:
                with torch.no_grad():
                    features = tower(pixels[new]).detach().cpu()
                self._known |= zip((keys[row] for row in new), features.unbind(), strict=True)
            return torch.stack([self._known[key] for key in keys]).to(pixels.device)

        return remembered


def _key(frame: np.ndarray) -> tuple[int, int]:
    return zlib.crc32(frame), zlib.adler32(frame)
