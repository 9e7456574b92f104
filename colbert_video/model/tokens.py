"""Bags of token vectors, the form of encoded queries and videos."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from colbert_video.device import Device
from colbert_video.errors import SettingsError, shown

Bags = TypeVar("Bags", bound="TokenBags")


def as_tensor(values: Any, name: str) -> Tensor:
    """Return numbers as a dense tensor without gradients, whatever holds them.

    Tensors and parameters stay on their device. Arrays of any byte order, strides or dtype of real numbers are copied
    into memory that torch can read, and lists of numbers or of rows become one.

    Args:
        values: A tensor, an array, or nested lists of numbers.
        name: What they are, for errors.

    Raises:
        SettingsError: If they are no real numbers, ragged, nested, or a tensor without values (device "meta").
    """
    if isinstance(values, Tensor):
        return _plain_tensor(values, name)
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = array.astype(np.float64)
    except Exception as error:  # ragged lists, tensors on a GPU, foreign objects
        raise SettingsError(
            f"{name} are {shown(values)}, which is not an array of numbers; give a NumPy array."
        ) from error
    if array.dtype.kind not in "fiub":
        raise SettingsError(f"{name} are of dtype {array.dtype}; give real numbers, such as float32.")
    native = array.dtype.newbyteorder("=")
    # torch reads no negative strides, foreign byte order or float128, and warns of memory that is read-only
    return torch.from_numpy(np.array(array, dtype=np.float64 if native.itemsize > 8 else native, order="C"))


def _plain_tensor(values: Tensor, name: str) -> Tensor:
    if values.is_nested:
        raise SettingsError(f"{name} are a nested tensor; give a list of tensors, or pad them.")
    if values.is_meta:
        raise SettingsError(f'{name} are on the device "meta", where tensors have no values; load them first.')
    if values.is_complex():
        raise SettingsError(f"{name} are of dtype {values.dtype}; give real numbers, such as float32.")
    dense = values.detach().dequantize() if values.is_quantized else values.detach()
    return dense.to_dense() if dense.layout is not torch.strided else dense


def float_tokens(values: Any, name: str) -> Float[Tensor, "..."]:
    """Return tokens as float32 on the CPU; arguments and errors as for `as_tensor`."""
    return as_tensor(values, name).cpu().float()


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
        for item in fields(self):
            if not isinstance(getattr(self, item.name), Tensor):
                object.__setattr__(self, item.name, as_tensor(getattr(self, item.name), item.name))
        if self.tokens.is_nested or self.mask.is_nested:
            raise SettingsError("tokens are a nested tensor; TokenBags.from_list pads a list of bags.")
        if self.tokens.shape[:2] != self.mask.shape:
            raise SettingsError(
                f"tokens {tuple(self.tokens.shape)} and mask {tuple(self.mask.shape)} must agree in their first "
                "two dimensions (bags, tokens)."
            )
        if self.mask.device != self.tokens.device:
            raise SettingsError(
                f"tokens are on {self.tokens.device}, their mask on {self.mask.device}; move one of them."
            )
        if self.mask.dtype != torch.bool:
            raise SettingsError(f"the mask is {self.mask.dtype}; it must be torch.bool, True where a token is scored.")

    @classmethod
    def from_list(cls, bags: Sequence[Float[Tensor, "_ dim"]]) -> "TokenBags":
        """Pad bags of different lengths, each (tokens, dim), into one batch.

        Raises:
            SettingsError: If there is no bag, or their dimensions differ.
        """
        bags = [bag if isinstance(bag, Tensor) else as_tensor(bag, "the tokens of a bag") for bag in bags]
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
        lengths = self.mask.sum(dim=1).tolist()  # bag by bag, a GPU would be waited for as often as there are bags
        return [bag.clone() for bag in self.tokens[self.mask].split(lengths)]

    def first_dims(self: Bags, dim: int) -> Bags:
        """Return the bags with the first dimensions of each token, normalised again; the same bags for all of them.

        Raises:
            SettingsError: If the tokens have fewer dimensions.
        """
        if not 1 <= dim <= self.tokens.shape[-1]:
            raise SettingsError(
                f"dim={shown(dim)}: tokens have {self.tokens.shape[-1]} dimensions; give 1 or more of them."
            )
        if dim == self.tokens.shape[-1]:
            return self
        return replace(self, tokens=normalize(self.tokens[..., :dim], dim=-1))

    def to(self: Bags, device: Device) -> Bags:
        """Return the same bags on another device."""
        return replace(self, **{item.name: getattr(self, item.name).to(device) for item in fields(self)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={tuple(self.shape)}, scored={int(self.mask.sum())})"


_POSITIONS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class QueryTokens(TokenBags):
    """Encoded queries, with the position of the token that the backbone pools."""

    pooled: Int[Tensor, "bags"]
    """Position of each query's pooled token: end of text for CLIP, last for SigLIP."""

    def __post_init__(self) -> None:
        super().__post_init__()
        pooled = self.pooled
        if pooled.is_nested or pooled.shape != (len(self),) or pooled.dtype not in _POSITIONS:
            raise SettingsError(
                f"pooled is {_described(pooled)}; give the position of a token for each of {len(self)} queries."
            )
        if pooled.device != self.tokens.device:
            raise SettingsError(f"tokens are on {self.tokens.device}, pooled on {pooled.device}; move one of them.")
        object.__setattr__(self, "pooled", pooled.long())  # torch takes uint8 for a mask
        looked_at = pooled.device.type == "cpu" and not torch.compiler.is_compiling()
        if looked_at and len(self):  # on a GPU, looking would wait for it, and in a graph there is nothing to see
            least, most = int(pooled.min()), int(pooled.max())
            if least < 0 or most >= self.shape[1]:
                raise SettingsError(f"pooled runs from {least} to {most}; a query has tokens 0 to {self.shape[1] - 1}.")

    def pooled_tokens(self) -> Float[Tensor, "bags dim"]:
        """Return the one token of each query that the backbone was trained to align with images."""
        return self.tokens[torch.arange(len(self), device=self.tokens.device), self.pooled]


def _described(tensor: Tensor) -> str:
    return "a nested tensor" if tensor.is_nested else f"{tensor.dtype} of shape {tuple(tensor.shape)}"


class VideoTokens(NamedTuple):
    """The two bags of each video: `frame, video = model.encode_videos(...)`."""

    frame: TokenBags
    """Frame tokens (videos, frames, dim): each sampled frame alone."""
    video: TokenBags | None
    """Video tokens (videos, frames + expansion tokens, dim): frames in context; None from an untrained model."""
