"""Chunks of encoded videos: how tokens travel from the model, or from a user's arrays, into a segment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from colbert_video.indexing.catalog.entries import VideoEntry


@dataclass(frozen=True)
class TokenChunk:
    """Some videos with their tokens, those of one bag end to end."""

    entries: Sequence[VideoEntry]
    """What the catalog keeps of each video; empty where tokens alone matter, as on a cluster's workers."""
    tokens: Mapping[str, Float[Tensor, "_ dim"]]
    """Unit vectors by bag name, (tokens, dim), not rotated."""
    doclens: Mapping[str, Int[Tensor, "videos"]]
    """Tokens of each video, by bag name."""

    @classmethod
    def from_bags(
        cls, entries: Sequence[VideoEntry], bags: Mapping[str, Sequence[Float[Tensor, "_ dim"]]]
    ) -> "TokenChunk":
        """Join the bags of several videos, one (tokens, dim) for each video."""
        doclens = {name: torch.tensor([len(bag) for bag in each], device="cpu") for name, each in bags.items()}
        return cls(entries, {name: torch.cat(list(each)) for name, each in bags.items()}, doclens)


@runtime_checkable
class TokenSource(Protocol):
    """Where a segment's tokens come from; read twice, once for the codec's sample and once to compress."""

    def counts(self) -> Mapping[str, int]:
        """Return the number of tokens in each bag, over all chunks."""
        ...

    def __len__(self) -> int:
        """Return how many videos and windows there are."""
        ...

    def __iter__(self) -> Iterator[TokenChunk]:
        """Yield all chunks, in the order of the segment."""
        ...
