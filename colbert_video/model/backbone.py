"""What the model needs of a dual encoder: every text token, one token per frame, and how both inputs are prepared.

`OpenClipBackbone` and `TransformersBackbone` are its implementations. Another is an `nn.Module` with the members of
`Backbone`, and an entry in `checkpoint.BACKBONES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from colbert_video.base.checks import check_fields
from colbert_video.errors import SettingsError
from colbert_video.model.tokens import as_tensor

MAX_SIDE = 4096
"""Largest side of a model's pictures, and largest context; tables of their squares are made."""


@dataclass(frozen=True)
class Preprocess:
    """How frames become pixels; fixed by the pretrained weights, so it is stored in the checkpoint."""

    height: int
    """Rows of the resized frame; frames are resized straight to this size, without a crop."""
    width: int
    """Columns of the resized frame."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel, on pixels in [0, 1]."""
    std: tuple[float, float, float]
    """Standard deviation of each RGB channel, on pixels in [0, 1]."""
    interpolation: Literal["bicubic", "bilinear"]
    """Filter of the resize."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise SettingsError(
                f"frame size {self.height}×{self.width} must be at least 1×1 and at most {MAX_SIDE}×{MAX_SIDE}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise SettingsError(f"mean {self.mean} and std {self.std} need three values each, and std above 0.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """Rebuild from a checkpoint's JSON, whose lists become tuples."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_pixels(
        self, frames: UInt8[np.ndarray, "frames _ _ 3"] | UInt8[Tensor, "frames _ _ 3"], *, device: torch.device
    ) -> Float[Tensor, "frames 3 height width"]:
        """Scale frames to [0, 1], resize them straight to the backbone's size if need be, normalise the channels.

        Args:
            frames: RGB, values 0 to 255.
            device: Where the result is wanted; bytes travel there, not floats.

        Raises:
            SettingsError: If the frames are not uint8 RGB, or have no pixels.
        """
        as_bytes = isinstance(frames, np.ndarray) and frames.dtype == np.uint8  # the usual case, without a copy
        tensor = torch.from_numpy(np.ascontiguousarray(frames)) if as_bytes else as_tensor(frames, "the frames")
        if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
            raise SettingsError(
                f"frames are {tensor.dtype} of shape {tuple(tensor.shape)}; give RGB bytes, torch.uint8 or numpy.uint8 of "
                "shape (frames, height, width, 3), with at least one pixel."
            )
        pixels = tensor.to(device).permute(0, 3, 1, 2).float().div_(255)  # (frames, 3, height, width)
        if pixels.shape[2:] != (self.height, self.width):
            pixels = nn.functional.interpolate(
                pixels, (self.height, self.width), mode=self.interpolation, antialias=True
            ).clamp_(0, 1)
        return pixels.sub_(_per_channel(self.mean, device)).div_(_per_channel(self.std, device))


def _per_channel(values: Sequence[float], device: torch.device) -> Float[Tensor, "3 1 1"]:
    """Return one number for each channel, made on the device: sending them there would wait for it."""
    filled = [torch.full((1, 1), value, dtype=torch.float32, device=device) for value in values]
    return torch.stack(filled)


@dataclass(frozen=True, eq=False)
class TokenizedQueries:
    """Token ids of a batch of queries, padded or cut to one length."""

    ids: Int[Tensor, "queries query_tokens"]
    """Vocabulary ids."""
    content: Bool[Tensor, "queries query_tokens"]
    """True for start, words and end of text; False for padding."""
    scored: Bool[Tensor, "queries query_tokens"]
    """True where a token takes part in MeanMaxSim: `content` from a backbone, the settings' choice from the model."""
    pooled: Int[Tensor, "queries"]
    """Position of the token that the backbone pools."""

    def to(self, device: torch.device) -> "TokenizedQueries":
        """Return the same queries on another device."""
        return TokenizedQueries(*(getattr(self, item.name).to(device) for item in fields(self)))


@runtime_checkable
class Backbone(Protocol):
    """A dual encoder (an `nn.Module`) whose text tower gives all its tokens, not only the pooled one.

    A text tower that pools the mean of its words has one attribute more: `pooling = "mean"`. Then the mean over words of their
    inner products is the pooled score, so that an untrained model searches with all words. The mean is its last token, where
    `TokenizedQueries.pooled` points; it is no content, and counts in the context length.
    """

    preprocess: Preprocess
    """How its weights expect frames."""
    architecture: dict[str, Any]
    """Plain values from which it can be built again; two runs with equal values have weights of equal shapes."""

    @property
    def dim(self) -> int:
        """Dimensions of the space that text and frames share."""

    @property
    def context_length(self) -> int:
        """Most tokens a query can have."""

    @property
    def bidirectional(self) -> bool:
        """True if text tokens see later ones, so that the length of the padding changes every token (SigLIP)."""

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""

    @property
    def start_id(self) -> int | None:
        """Token id that opens every query, if the tokenizer has one."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    @property
    def text_positions(self) -> Float[Tensor, "context width"]:
        """Position embeddings of the text tower; frame positions start as copies."""

    def text_blocks(self, count: int) -> list[nn.Module]:
        """Return the text tower's first `count` transformer blocks, which the temporal transformer copies.

        A block is called as `block(x, attn_mask=mask)` with x of (batch, tokens, width), and has `attn.num_heads`.

        Raises:
            ModelError: If there are fewer.
        """

    def tokenize(self, texts: list[str], *, length: int, pad_id: int | None = None) -> TokenizedQueries:
        """Turn texts into ids of one length; longer texts are cut, the end-of-text token kept.

        Args:
            texts: Queries.
            length: Tokens per query, padding included.
            pad_id: Id written into the padding; None for the tokenizer's own.
        """

    def too_long(self, texts: list[str], *, length: int) -> list[bool]:
        """Return True for each text that loses words when it is cut to `length` tokens."""

    def token_texts(self, ids: Int[Tensor, "query_tokens"], content: Bool[Tensor, "query_tokens"]) -> list[str]:
        """Return each token for people to read: words as they are, padding and control tokens in angle brackets."""

    def text_tokens(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return every text token in the shared space, before normalisation."""

    def frame_tokens(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return one token per frame in the shared space, before normalisation."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in both towers."""

    def save(self, folder: Path) -> None:
        """Write the architecture and what the tokenizer needs into a checkpoint's folder; weights are written elsewhere."""

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, as `nn.Module` does."""
