"""Chunks of encoded videos: how tokens travel from the model, or from a user's arrays, into a segment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from colbert_video.indexing.catalog.entries import VideoEntry

BAGS = ("frame", "video")
"""Names of the two bags, in the order in which they are scored."""


@dataclass(frozen=True)
class BagTokens:
    """The tokens of several videos' bags of one kind, end to end."""

    tokens: Float[Tensor, "tokens dim"]
    """Unit vectors, not rotated."""
    doclens: Int[Tensor, "videos"]
    """Tokens of each video."""

    @classmethod
    def from_list(cls, bags: Sequence[Float[Tensor, "_ dim"]]) -> "BagTokens":
        """Join one bag a video."""
        return cls(torch.cat(list(bags)), torch.tensor([len(bag) for bag in bags]))


@dataclass(frozen=True)
class TokenChunk:
    """Some videos with their tokens."""

    entries: Sequence[VideoEntry]
    """What the catalog keeps of each video."""
    bags: Mapping[str, BagTokens]
    """Tokens by bag name."""


@runtime_checkable
class TokenSource(Protocol):
    """Where a segment's tokens come from; read twice, once for the codec's sample and once to compress."""

    def counts(self) -> Mapping[str, int]:
        """Tokens in each bag, over all chunks."""
        ...

    def __len__(self) -> int:
        """How many videos there are."""
        ...

    def __iter__(self) -> Iterator[TokenChunk]:
        """All chunks, in the order of the segment."""
        ...
