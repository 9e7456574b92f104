"""Token pooling: frames that look alike share one token, so that a video takes fewer bytes.

Hierarchical clustering of a bag's tokens, as Clavié, Chaffin and Adams pool the tokens of texts ("Reducing the footprint
of multi-vector retrieval with minimal performance impact via token pooling", 2024). Here the frames of a video are
clustered, by the average similarity of their tokens in all bags, and both bags are pooled by the same groups, so that each
frame still has one token in each bag. Expansion tokens stand for no frame and stay as they are.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from colbert_video.base.checks import check_fields
from colbert_video.errors import SettingsError


@dataclass(frozen=True)
class Pooling:
    """Rules of pooling, at least one; with both, frames are merged as long as either rule asks for it."""

    factor: float | None = None
    """Frames per token on average: 12 frames pooled by 3 become 4 tokens."""
    similarity: float | None = None
    """Least mean cosine at which two groups of frames are merged; videos without motion shrink most."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.factor is None and self.similarity is None:
            raise SettingsError("pooling needs a factor or a similarity; without pooling, give none.")
        if self.factor is not None and not (math.isfinite(self.factor) and self.factor >= 1):
            raise SettingsError(f"factor={self.factor} must be at least 1: frames that share a token.")
        if self.similarity is not None and not -1 <= self.similarity <= 1:
            raise SettingsError(f"similarity={self.similarity} is a cosine: -1 to 1.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def group(self, bags: Mapping[str, Float[Tensor, "_ dim"]], frames: int) -> Int64[Tensor, "frames"]:
        """Group the frames of a video.

        Args:
            bags: Its unit tokens by bag; in each bag the first `frames` tokens stand for the frames in order.
            frames: How many frames there are.

        Returns:
            The group of each frame; groups are numbered in the order of their first frames.
        """
        similarity = torch.zeros(frames, frames, dtype=torch.float64, device="cpu")
        for tokens in bags.values():
            unit = tokens[:frames].detach().cpu().double()
            similarity += unit @ unit.T / len(bags)
        groups = [[frame] for frame in range(frames)]
        while len(groups) > 1:
            first, second, best = _closest(similarity)
            if not self._merges(len(groups), frames, best):
                break
            similarity = _merged(similarity, first, second, len(groups[first]), len(groups[second]))
            groups[first] += groups.pop(second)
        return _numbered(groups, frames)

    def _merges(self, groups: int, frames: int, best: float) -> bool:
        too_many = self.factor is not None and groups > math.ceil(frames / self.factor)
        alike = self.similarity is not None and best >= self.similarity
        return too_many or alike


def pool(tokens: Float[Tensor, "tokens dim"], groups: Int64[Tensor, "frames"]) -> Float[Tensor, "pooled dim"]:
    """Replace the tokens of each group of frames by their normalised mean.

    Args:
        tokens: A bag: one unit token per frame, then tokens that stand for no frame.
        groups: The group of each frame, as `Pooling.group` gives it.

    Returns:
        One unit token per group, then the other tokens unchanged.
    """
    frames = len(groups)
    count = int(groups.max()) + 1
    sums = torch.zeros(count, tokens.shape[1], device=tokens.device, dtype=torch.float32)
    sums.index_add_(0, groups.to(tokens.device), tokens[:frames].float())
    pooled = functional.normalize(sums, dim=1).to(tokens.dtype)  # (groups, dim)
    return torch.cat([pooled, tokens[frames:]])


def _closest(similarity: Float[Tensor, "groups groups"]) -> tuple[int, int, float]:
    """Return the two groups of largest similarity, the first of equals, and that similarity."""
    count = len(similarity)
    pairs = similarity.masked_fill(torch.ones(count, count, dtype=torch.bool, device="cpu").tril(), -torch.inf)
    best = int(pairs.argmax())
    return best // count, best % count, float(pairs.flatten()[best])


def _merged(
    similarity: Float[Tensor, "groups groups"], first: int, second: int, of_first: int, of_second: int
) -> Float[Tensor, "fewer fewer"]:
    """Return mean similarities after two groups of given sizes became one (average linkage)."""
    row = (of_first * similarity[first] + of_second * similarity[second]) / (of_first + of_second)
    similarity = similarity.clone()
    similarity[first], similarity[:, first] = row, row
    kept = [group for group in range(len(similarity)) if group != second]
    return similarity[kept][:, kept]


def _numbered(groups: list[list[int]], frames: int) -> Int64[Tensor, "frames"]:
    numbers = torch.zeros(frames, dtype=torch.int64, device="cpu")  # (frames,)
    for number, group in enumerate(sorted(groups, key=min)):
        numbers[group] = number
    return numbers
