"""An opened segment, and scores of its videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.indexing.segments.segment import StoredBag
from colbert_video.model.interaction import best_first


@dataclass(frozen=True)
class Segment:
    """An opened segment: both bags of the same videos."""

    name: str
    """The segment's folder name."""
    bags: Mapping[str, StoredBag]
    """Stored tokens by bag name, "frame" and possibly "video"."""
    live: Bool[Tensor, "videos"]
    """False where a video was removed or replaced; not to be changed once something was searched."""

    def __len__(self) -> int:
        return len(self.live)

    def eligible(self, allowed: Bool[Tensor, "videos"] | None = None) -> Int64[Tensor, "eligible"]:
        """Ordinals of the live videos, or of those among them that are allowed, ascending."""
        if allowed is None:
            return self._live_ordinals
        chosen = allowed.to(self.live.device).nonzero().flatten()
        return chosen[self.live[chosen]]

    @cached_property
    def _live_ordinals(self) -> Int64[Tensor, "eligible"]:
        return self.live.nonzero().flatten()

    def to(self, device: torch.device | str) -> "Segment":
        """This segment in the memory of `device`, in its compressed form."""
        bags = {bag: stored.to(device) for bag, stored in self.bags.items()}
        return Segment(self.name, bags, self.live.to(device))


@dataclass(frozen=True)
class Scored:
    """Videos of one segment with their complete scores."""

    ordinals: Int64[Tensor, "videos"]
    """Positions in the segment."""
    bags: Mapping[str, Float[Tensor, "videos"]]
    """MeanMaxSim in each bag."""
    total: Float[Tensor, "videos"]
    """Their sum, by which videos are ranked."""

    def best(self, k: int) -> "Scored":
        """Return the k best, best first; tied scores stay in order."""
        order = best_first(self.total, k)
        bags = {bag: scores[order] for bag, scores in self.bags.items()}
        return Scored(self.ordinals[order], bags, self.total[order])
