"""Bags of token vectors, the form of encoded queries and videos."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from colbert_video.errors import SettingsError

Bags = TypeVar("Bags", bound="TokenBags")


@dataclass(frozen=True, eq=False)
class TokenBags:
    """A batch of bags of unit vectors, padded to the longest bag.

    Raises:
        SettingsError: If the leading dimensions of tokens and mask differ, or the mask is not boolean.
    """

    tokens: Float[Tensor, "bags tokens dim"]
    """Token vectors, L2-normalised; rows where the mask is False mean nothing."""
    mask: Bool[Tensor, "bags tokens"]
    """True where a token is scored."""

    def __post_init__(self) -> None:
        if self.tokens.shape[:2] != self.mask.shape:
            raise SettingsError(
                f"tokens {tuple(self.tokens.shape)} and mask {tuple(self.mask.shape)} must agree in their first "
                "two dimensions (bags, tokens)."
            )
        if self.mask.dtype != torch.bool:
            raise SettingsError(f"the mask is {self.mask.dtype}; it must be torch.bool, True where a token is scored.")

    @classmethod
    def from_list(cls, bags: Sequence[Float[Tensor, "_ dim"]]) -> "TokenBags":
        """Pad bags of different lengths, each (tokens, dim), into one batch.

        Raises:
            SettingsError: If there is no bag, or their dimensions differ.
        """
        if not bags:
            raise SettingsError("no bags were given; at least one is needed.")
        dims = sorted({bag.shape[-1] for bag in bags})
        if len(dims) > 1:
            raise SettingsError(f"bags have different dimensions {dims}; tokens of one model have one.")
        lengths = torch.tensor([len(bag) for bag in bags], device=bags[0].device)
        tokens = pad_sequence(list(bags), batch_first=True)  # (bags, tokens, dim)
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]  # (bags, tokens)
        return cls(tokens, mask)

    @property
    def shape(self) -> torch.Size:
        """(bags, tokens, dim), padding included."""
        return self.tokens.shape

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Float[Tensor, "_ dim"]:
        """Return the scored tokens of one bag, without padding."""
        return self.tokens[index][self.mask[index]]

    def unpadded(self) -> list[Float[Tensor, "_ dim"]]:
        """Return every bag without its padding, each (tokens, dim)."""
        return [self[index] for index in range(len(self))]

    def to(self: Bags, device: torch.device | str) -> Bags:
        """Return the same bags on another device."""
        return replace(self, **{item.name: getattr(self, item.name).to(device) for item in fields(self)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={tuple(self.shape)}, scored={int(self.mask.sum())})"


@dataclass(frozen=True, eq=False, repr=False)
class QueryTokens(TokenBags):
    """Encoded queries, with the position of the token that the backbone pools."""

    pooled: Int[Tensor, "bags"]
    """Position of each query's pooled token: end of text for CLIP, last for SigLIP."""

    def pooled_tokens(self) -> Float[Tensor, "bags dim"]:
        """Return the one token of each query that the backbone was trained to align with images."""
        return self.tokens[torch.arange(len(self), device=self.tokens.device), self.pooled]


class VideoTokens(NamedTuple):
    """The two bags of each video: `frame, video = model.encode_videos(...)`."""

    frame: TokenBags
    """Frame tokens (videos, frames, dim): each sampled frame alone."""
    video: TokenBags | None
    """Video tokens (videos, frames + expansion tokens, dim): frames in context; None from an untrained model."""
