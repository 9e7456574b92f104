"""Precomputed tokens, from any encoder, as a source of chunks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.base.checks import id_list, new_id
from colbert_video.base.json_values import plain_metadata, warn_of_missing
from colbert_video.errors import SettingsError, callers_code, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.model.tokens import float_tokens

VIDEOS_PER_CHUNK, BYTES_PER_CHUNK = 2048, 2**27
"""Videos of a bag that are read at once, and bytes that their tokens take in float32, so that arrays larger than memory
work; a single video is read as a whole."""
NORM_TOLERANCE = 0.02
"""How far from 1 a token's length may be; half precision stays well within."""


@runtime_checkable
class TokenBlock(Protocol):
    """The bags of all videos in one array, as NumPy, torch, h5py and zarr give it; slices are read when needed."""

    @property
    def shape(self) -> Any:
        """(videos, tokens, dim)."""

    def __len__(self) -> int: ...

    def __getitem__(self, videos: Any, /) -> Any: ...


Tokens = TokenBlock | Sequence[np.ndarray] | Sequence[Tensor]
"""One bag per video: (videos, tokens, dim), or a list of (tokens, dim)."""


class ArraySource:
    """Videos given as arrays of tokens, as a `TokenSource`.

    Args:
        ids: One id per video.
        bags: Tokens of each bag, one item per video.
        dim: Dimensions every token must have.
        metadata: JSON values of each video, or None.

    Raises:
        SettingsError: If lengths disagree, an id is repeated, or metadata cannot be stored as JSON; tokens are checked
            when they are read.
    """

    def __init__(
        self, ids: Iterable[Any], bags: Mapping[str, Tokens], *, dim: int, metadata: Iterable[Any] | None = None
    ) -> None:
        self._dim = dim
        with callers_code():
            self._ids = [new_id(name, "an id of ids") for name in id_list("ids", ids, ordered=True)]
            self._bags = dict(bags)
            self._metadata = None if metadata is None else _several(metadata)
            self._check_lengths()
        self._metadata = self._plain_metadata()

    def _check_lengths(self) -> None:
        if not self._ids:
            raise SettingsError("no ids were given; at least one video is needed.")
        if len(set(self._ids)) != len(self._ids):
            ((repeated, _),) = Counter(self._ids).most_common(1)
            raise SettingsError(f"id {shown(repeated)} is given twice; ids must be unique.")
        lengths = {f"{bag} tokens": _length(bag, tokens) for bag, tokens in self._bags.items()}
        if self._metadata is not None:
            lengths["metadata"] = len(self._metadata)
        for name, length in lengths.items():
            if length != len(self._ids):
                raise SettingsError(f"{len(self._ids)} ids but {length} {name}; one is needed for each video.")

    def _plain_metadata(self) -> list[dict[str, Any]] | None:
        """Return all metadata as JSON holds them, checked before the work."""
        if self._metadata is None:
            return None
        missing: Counter[str] = Counter()
        named = zip(self._ids, self._metadata, strict=True)
        plain = [plain_metadata(each, f"the metadata of video {shown(name)}", missing) for name, each in named]
        warn_of_missing(missing)
        return plain

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """The ids, as text."""
        return self._ids

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in each bag."""
        with callers_code():
            counts = {bag: _count(tokens) for bag, tokens in self._bags.items()}
            for bag, count in counts.items():
                if not count:
                    raise SettingsError(f"{bag} tokens are empty; each video needs a token at least.")
            return counts

    def __iter__(self) -> Iterator[TokenChunk]:
        start = 0
        while start < len(self._ids):
            with callers_code():
                stop = min(self._chunk_end(tokens, start) for tokens in self._bags.values())
                bags = {bag: self._read(bag, tokens, start, stop) for bag, tokens in self._bags.items()}
                entries = [self._entry(row) for row in range(start, stop)]
            chunk = TokenChunk.from_bags(entries, bags)
            for bag, tokens in chunk.tokens.items():
                self._check_norms(bag, start, tokens, chunk.doclens[bag])
            yield chunk
            start = stop

    def _chunk_end(self, tokens: Tokens, start: int) -> int:
        """Return where a chunk that begins with video `start` ends, by one bag's size."""
        most, stop = BYTES_PER_CHUNK // (4 * self._dim), start + 1
        end = min(start + VIDEOS_PER_CHUNK, len(self._ids))
        if _is_block(tokens):
            return max(stop, min(end, start + most // max(1, tokens.shape[1])))
        total = _bag_length(tokens, start)
        while stop < end and (total := total + _bag_length(tokens, stop)) <= most:
            stop += 1
        return stop

    def _entry(self, row: int) -> VideoEntry:
        metadata = {} if self._metadata is None else self._metadata[row]
        return VideoEntry(id=self._ids[row], metadata=metadata)

    def _read(self, bag: str, tokens: Tokens, start: int, stop: int) -> list[Float[Tensor, "_ dim"]]:
        if _is_block(tokens):
            bags = list(float_tokens(tokens[start:stop], f"{bag} tokens"))  # (videos, tokens, dim)
        else:
            bags = [float_tokens(tokens[row], self._where(bag, row)) for row in range(start, stop)]
        for row, each in enumerate(bags, start):
            if each.ndim != 2 or each.shape[1] != self._dim or not len(each):
                raise SettingsError(
                    f"{self._where(bag, row)} have shape {tuple(each.shape)}; (tokens, {self._dim}) with a token is "
                    "needed."
                )
        return bags

    def _check_norms(
        self, bag: str, start: int, tokens: Float[Tensor, "tokens dim"], doclens: Int64[Tensor, "videos"]
    ) -> None:
        norms = tokens.norm(dim=1)  # (tokens,)
        bad = (~((norms - 1).abs() < NORM_TOLERANCE)).nonzero()  # also true of NaN
        if len(bad):
            token = int(bad[0])
            row = start + int(torch.searchsorted(doclens.cumsum(0), token, right=True))
            raise SettingsError(
                f"{self._where(bag, row)} are not unit vectors (a length is {float(norms[token]):.3g}); "
                "L2-normalise them first."
            )

    def _where(self, bag: str, row: int) -> str:
        return f"{bag} tokens of video {shown(self._ids[row])}"


def _is_block(tokens: Any) -> TypeGuard[TokenBlock]:
    """Return whether the bags of all videos lie in one array, (videos, tokens, dim)."""
    return len(getattr(tokens, "shape", ())) == 3


def _several(metadata: Any) -> list[Any]:
    """Return the metadata of all videos as a list."""
    if isinstance(metadata, Mapping | str | bytes) or not isinstance(metadata, Iterable):
        raise SettingsError(f"metadata is {shown(metadata)}; give a list with a dict for each video.")
    return list(metadata)


def _length(bag: str, tokens: Any) -> int:
    """Return of how many videos there are tokens."""
    kind = shown(tokens)
    if isinstance(tokens, Tensor) and (tokens.is_nested or tokens.layout != torch.strided):
        kind = "a sparse tensor" if tokens.layout != torch.strided else "a nested tensor"
    elif not isinstance(tokens, Mapping | str | bytes) and not (isinstance(tokens, Tensor) and tokens.is_meta):
        with suppress(TypeError):
            return len(tokens)
    raise SettingsError(
        f"{bag} tokens are {kind}; give (videos, tokens, dim), or a list of (tokens, dim), with values."
    )


def _count(tokens: Tokens) -> int:
    if _is_block(tokens):
        return tokens.shape[0] * tokens.shape[1]
    return sum(_bag_length(tokens, row) for row in range(len(tokens)))


def _bag_length(tokens: Tokens, row: int) -> int:
    """Return the number of tokens of one video."""
    bag = tokens[row]
    try:
        return len(bag)
    except Exception as error:  # torch raises RuntimeError for nested tensors
        raise SettingsError(
            f"the tokens of video {row} are {shown(bag)}; give (tokens, dim) for each video."
        ) from error
