"""An opened segment, and scores of its videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.base.once import once_property
from colbert_video.device import Device
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.segments.segment import StoredBag, check_bag, open_bag
from colbert_video.model.interaction import best_first


@dataclass(frozen=True)
class Segment:
    """An opened segment: the bags of the same videos."""

    name: str
    """Name of its folder."""
    bags: Mapping[str, StoredBag]
    """Stored tokens by bag name."""
    live: Bool[Tensor, "videos"]
    """False where a video was removed or replaced; not to be changed once something was searched."""

    @classmethod
    def open(
        cls, folder: Path, codecs: Mapping[str, ResidualCodec], *, videos: int, removed: Sequence[int]
    ) -> "Segment":
        """Open a segment.

        Args:
            folder: The segment's folder, which holds one of each bag.
            codecs: The codec of each bag.
            videos: Videos that it must hold.
            removed: Ordinals of those that were removed or replaced.

        Raises:
            IndexFolderError: If a file is missing or damaged, or belongs to another codec.
        """
        bags = {bag: open_bag(folder / bag) for bag in codecs}
        for bag, codec in codecs.items():
            check_bag(bags[bag], codec, videos)
        live = torch.ones(videos, dtype=torch.bool, device="cpu")
        live[torch.tensor(removed, dtype=torch.int64, device="cpu")] = False
        return cls(folder.name, bags, live)

    def __len__(self) -> int:
        return len(self.live)

    def eligible(self, allowed: Bool[Tensor, "videos"] | None = None) -> Int64[Tensor, "eligible"]:
        """Return the rows of the live videos, or of those among them that are allowed, ascending."""
        if allowed is None:
            return self._live_ordinals
        chosen = allowed.to(self.live.device).nonzero().flatten()
        return chosen[self.live[chosen]]

    @once_property
    def _live_ordinals(self) -> Int64[Tensor, "eligible"]:
        return self.live.nonzero().flatten()

    def to(self, device: Device) -> "Segment":
        """Return this segment in the memory of `device`, in its compressed form."""
        bags = {bag: stored.to(device) for bag, stored in self.bags.items()}
        return Segment(self.name, bags, self.live.to(device))


@dataclass(frozen=True)
class Scored:
    """Videos of one segment with their complete scores."""

    rows: Int64[Tensor, "videos"]
    """Rows of the segment."""
    bags: Mapping[str, Float[Tensor, "videos"]]
    """MeanMaxSim in each bag."""
    total: Float[Tensor, "videos"]
    """Their weighted sum, by which videos are ranked."""

    @classmethod
    def from_bags(
        cls,
        rows: Int64[Tensor, "videos"],
        bags: Mapping[str, Float[Tensor, "videos"]],
        weights: Mapping[str, float] | None = None,
    ) -> "Scored":
        """Add up the scores of all bags, each times its weight; a bag without one counts once."""
        weighted = [scores * (weights or {}).get(bag, 1.0) for bag, scores in bags.items()]
        return cls(rows, bags, torch.stack(weighted).sum(dim=0))

    def best(self, k: int) -> "Scored":
        """Return the k best, best first; tied scores stay in order."""
        order = best_first(self.total, k)
        bags = {bag: scores[order] for bag, scores in self.bags.items()}
        return Scored(self.rows[order], bags, self.total[order])


def largest(scores: Float[Tensor, "videos"], wanted: int) -> Int64[Tensor, "wanted"]:
    """Return the positions of the largest scores, ascending; of equal scores, the first."""
    if len(scores) <= wanted:
        return torch.arange(len(scores), device=scores.device)
    least = scores.topk(wanted).values[-1]
    better, level = (scores > least).nonzero().flatten(), (scores == least).nonzero().flatten()
    return torch.cat([better, level[: wanted - len(better)]]).sort().values
