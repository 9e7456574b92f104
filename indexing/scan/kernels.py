"""The compiled kernels of the search on a CPU, if this installation has them, and the memory layouts that they read.

setup.py builds them as an optional extension; `_kernels.cpp` says what each computes. They run without Python's
global lock, with the best instruction set of the machine, on the calling thread alone or on as many as it is told; the
results are the same.

For most of a search a codec and a query are rounded to bytes. Centroids, bucket weights and query tokens each get one
scale, so that inner products are whole numbers, the same on every machine. Seven bits of each byte are used: then four
products fit into 16 bits, which is what AVX2 is fast at. Rounding errors average out over the dimensions (tokens are
rotated) and cost about 2e-4 of a MeanMaxSim; the last few dozen videos are scored again in single precision.

Dimensions are ordered by plane: those in the highest bits of each packed byte first. Then a decoded token is a few
runs of table look-ups, with no shuffling in between.
"""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int, Int8, Int32, Int64, Real, UInt8
from torch import Tensor

from colbert_video.base.once import ForkLock, once_property
from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.segments.segment import StoredBag

VERSION = 3
"""`kernels_version` of the _kernels.cpp that this file calls."""
LEVELS = ("portable", "avx2", "avx512-vnni")
"""Instruction sets the kernels are compiled for, the best last."""
WITHOUT_KERNELS = "torch"
"""What scores on a CPU where the kernels are missing."""
LANES = 32
"""Query tokens in a block, scored side by side."""
MAX_ROUNDED = 63
"""Largest rounded number."""
ZERO = 64
"""The byte that stands for 0 in centroids and weights."""
GROUP = 4
"""Distinct codes of a video that lie side by side."""
FEW_CENTROIDS = 2**16
"""Centroids whose numbers fit into 16 bits."""
VALUES_AT_ONCE = 2**14
"""Numbers rounded together: few enough to stay in the processor's cache, and for torch to leave them to this thread."""
ROUNDING = 1.5 * 2**23
"""Added to a float32 of less than 2**22 it leaves no bits for fractions, so that the sum is rounded as `torch.round` rounds."""

logger = logging.getLogger(__name__)
Subject = TypeVar("Subject")
Value = TypeVar("Value")
Rest = ParamSpec("Rest")


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names]


class _Bag(ctypes.Structure):
    _fields_ = _pointers("codes", "residuals", "offsets", "inverse")


class _Distinct(ctypes.Structure):
    _fields_ = (*_pointers("groups", "starts"), ("wide", ctypes.c_int64))


class _Codec(ctypes.Structure):
    _fields_ = (
        *_pointers("centroids", "squares", "means", "planes", "weights"),
        ("count", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("nbits", ctypes.c_int64),
        ("centroid_scale", ctypes.c_float),
        ("weight_scale", ctypes.c_float),
    )


class _Query(ctypes.Structure):
    _fields_ = (
        *_pointers("bytes", "start", "tokens"),
        ("count", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True, eq=False)
class RoundedCodec:
    """A codec rounded to bytes; a byte stands for (byte - ZERO) * scale."""

    centroids: UInt8[Tensor, "centroids dim"]
    """Rounded centroids, dimensions by plane."""
    squares: Float[Tensor, "centroids"]
    """Squared length of each centroid, not rounded."""
    means: Float[Tensor, "centroids dim"]
    """The centroids in full precision, dimensions in order."""
    planes: UInt8[Tensor, "ids 256"]
    """Rounded weight of each id in each packed byte, plane by plane."""
    weights: Float[Tensor, "256 ids"]
    """The weights of each packed byte in full precision."""
    nbits: int
    centroid_scale: float
    weight_scale: float

    @classmethod
    def from_codec(cls, codec: ResidualCodec) -> "RoundedCodec":
        """Round a codec, whose arrays must be on the CPU."""
        centroid_scale, weight_scale = _scale(codec.centroids), _scale(codec.weights)
        return cls(
            centroids=_rounded_by_plane(codec.centroids, centroid_scale, codec.nbits),
            squares=codec.centroids.square().sum(dim=1),
            means=codec.centroids.contiguous(),
            planes=_rounded(codec.byte_weights, weight_scale).T.contiguous(),
            weights=codec.byte_weights,
            nbits=codec.nbits,
            centroid_scale=centroid_scale,
            weight_scale=weight_scale,
        )

    @once_property
    def _struct(self) -> _Codec:
        return _Codec(
            _address(self.centroids, torch.uint8),
            _address(self.squares, torch.float32),
            _address(self.means, torch.float32),
            _address(self.planes, torch.uint8),
            _address(self.weights, torch.float32),
            *self.centroids.shape,
            self.nbits,
            self.centroid_scale,
            self.weight_scale,
        )


@dataclass(frozen=True, eq=False)
class RoundedQuery:
    """A query for one codec; the lanes beyond its tokens hold zeros."""

    bytes: Int8[Tensor, "blocks fours lanes 4"]
    """Rounded query tokens: for each four dimensions, by plane, all lanes."""
    start: Int32[Tensor, "blocks lanes"]
    """-ZERO * the sum of each lane: undoes the ZERO in the bytes of centroids and weights."""
    tokens: Float[Tensor, "blocks dim lanes"]
    """The query tokens in full precision, dimensions in order."""
    scale: float
    """The value that 1 of a rounded number stands for."""
    count: int
    """Number of query tokens."""

    @once_property
    def _struct(self) -> _Query:
        return _Query(
            _address(self.bytes, torch.int8),
            _address(self.start, torch.int32),
            _address(self.tokens, torch.float32),
            self.count,
            len(self.bytes),
            self.scale,
        )


@dataclass(frozen=True, eq=False)
class DistinctCodes:
    """The codes of a bag, each once for a video that has it: most tokens share their centroid with another one."""

    groups: Int[Tensor, "groups 4"]
    """A video's codes, ascending, in whole groups that its last code fills up; int32, or 16 bits without a sign."""
    starts: Int64[Tensor, "starts"]
    """Where each video's groups start."""

    @once_property
    def _struct(self) -> _Distinct:
        wide = self.groups.dtype == torch.int32
        groups = _address(self.groups, torch.int32 if wide else torch.int16)
        return _Distinct(groups, _address(self.starts, torch.int64), wide)


def by_plane(rows: Real[Tensor, "rows dim"], nbits: int) -> Real[Tensor, "rows dim"]:
    """Order dimensions by their place in a packed byte, highest bits first."""
    ids = 8 // nbits
    return rows.view(len(rows), -1, ids).transpose(1, 2).flatten(1)


def _scale(values: Float[Tensor, "..."]) -> float:
    return max(float(values.abs().max()), 1e-30) / MAX_ROUNDED


def _rounded_by_plane(rows: Float[Tensor, "rows dim"], scale: float, nbits: int) -> UInt8[Tensor, "rows dim"]:
    """Return `by_plane` of the rounded rows, without a copy of all of them in between: a first search waits for it."""
    rounded = torch.empty(rows.shape, dtype=torch.uint8, device="cpu")
    size = max(1, VALUES_AT_ONCE // rows.shape[1])
    for part, target in zip(rows.split(size), rounded.split(size), strict=True):
        values = part.div(scale).add_(ROUNDING).sub_(ROUNDING - ZERO)  # torch.round would start threads for so few
        ids = 8 // nbits
        target.view(len(part), ids, -1).copy_(values.view(len(part), -1, ids).transpose(1, 2))
    return rounded


def _rounded(values: Float[Tensor, "*shape"], scale: float) -> UInt8[Tensor, "*shape"]:
    return ((values / scale).round_() + ZERO).to(torch.uint8)


def installed_library() -> ctypes.CDLL | None:
    """Return the library that setup.py built, or None if it was not built or cannot be used here."""
    found = find_spec("colbert_video.indexing.scan._kernels")
    if found is None or found.origin is None:
        return None
    try:
        return load_library(found.origin)
    except (OSError, AttributeError) as error:  # compiled for another machine, or by another version
        logger.warning("the compiled kernels cannot be used (%s); searching with torch", error)
        return None


def load_library(path: str) -> ctypes.CDLL:
    """Load a compiled _kernels.cpp.

    Raises:
        OSError: If it is not a library for this machine, or has another version than this file.
        AttributeError: If it lacks a function.
    """
    library = ctypes.CDLL(path)
    version = library.kernels_version()
    if version != VERSION:
        raise OSError(f"{path} is version {version} instead of {VERSION}; build it again")
    return _declared(library)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the arguments of every function to ctypes."""
    level, number, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    bag, codec, query = ctypes.POINTER(_Bag), ctypes.POINTER(_Codec), ctypes.POINTER(_Query)
    threads = level
    arguments: dict[str, list[Any]] = {
        "best_level": [],
        "rotate": [level, pointer, number, pointer, number, pointer],
        "round_query": [pointer, number, number, number, pointer, pointer, pointer],
        "distinct_codes": [bag, number, number, number, pointer, pointer],
        "centroid_products": [level, threads, codec, query, pointer, pointer],
        "byte_table": [level, threads, pointer, number, ctypes.c_int32, ctypes.c_float, pointer],
        "centroid_interaction": [
            level,
            threads,
            ctypes.POINTER(_Distinct),
            pointer,
            number,
            pointer,
            number,
            number,
            pointer,
        ],
        "rounded_scores": [level, threads, bag, codec, query, pointer, pointer, number, pointer],
        "exact_scores": [level, threads, bag, codec, query, pointer, number, pointer],
        "select_largest": [level, pointer, number, ctypes.c_int32, number, pointer],
    }
    for name, types in arguments.items():
        getattr(library, name).argtypes = types
        getattr(library, name).restype = None
    library.best_level.restype = ctypes.c_int
    library.round_query.restype = ctypes.c_float
    return library


class Kernels:
    """The compiled functions at one instruction set.

    Args:
        library: The loaded extension.
        level: Index into LEVELS.
        threads: Threads that share the work of a call.
    """

    def __init__(self, library: ctypes.CDLL, level: int, threads: int = 1) -> None:
        self._library = library
        self._level = level
        self._threads = threads

    def on(self, threads: int) -> "Kernels":
        """Return the same kernels for another number of threads; results do not depend on it."""
        return Kernels(self._library, self._level, threads)

    @property
    def name(self) -> str:
        """Name of the instruction set, one of LEVELS."""
        return LEVELS[self._level]

    def rotate(self, rows: Float[Tensor, "rows dim"], rotation: Float[Tensor, "dim dim"]) -> Float[Tensor, "rows dim"]:
        """Return rows times a rotation: on this thread, and the same in every thread.

        torch's product of a query takes threads of its own, which then wait for more work at the cost of ten products.
        """
        _check_dimensions(rows.shape[1], len(rotation))
        rotated = torch.empty(rows.shape, dtype=torch.float32, device="cpu")
        self._library.rotate(
            self._level, _address(rows, torch.float32), len(rows), _address(rotation, torch.float32),
            len(rotation), _address(rotated, torch.float32),
        )  # fmt: skip
        return rotated

    def round_query(self, rotated: Float[Tensor, "query_tokens dim"], codec: ResidualCodec) -> RoundedQuery:
        """Round query tokens, rotated by a codec, for this codec, whose `nbits` order the dimensions."""
        count, dim = rotated.shape
        _check_dimensions(dim, codec.dim)
        blocks = -(-count // LANES)
        values = torch.zeros(blocks, dim // 4, LANES, 4, dtype=torch.int8, device="cpu")
        start = torch.zeros(blocks, LANES, dtype=torch.int32, device="cpu")
        tokens = torch.zeros(blocks, dim, LANES, dtype=torch.float32, device="cpu")
        scale = self._library.round_query(
            _address(rotated, torch.float32), count, dim, codec.nbits, _address(values, torch.int8),
            _address(start, torch.int32), _address(tokens, torch.float32),
        )  # fmt: skip
        return RoundedQuery(values, start, tokens, scale, count)

    def centroid_products(
        self, codec: RoundedCodec, query: RoundedQuery
    ) -> tuple[Int32[Tensor, "blocks centroids lanes"], int, int]:
        """Return the inner products of all rounded centroids and query tokens, the least and the largest of them."""
        _check_dimensions(query.tokens.shape[1], codec.centroids.shape[1])
        products = torch.empty(len(query.bytes), len(codec.centroids), LANES, dtype=torch.int32, device="cpu")
        extremes = (ctypes.c_int32 * 2)()
        self._library.centroid_products(
            self._level, self._threads, codec._struct, query._struct, _address(products, torch.int32), extremes
        )
        return products, extremes[0], extremes[1]

    def byte_table(
        self, products: Int32[Tensor, "blocks centroids lanes"], low: int, scale: float
    ) -> UInt8[Tensor, "blocks centroids lanes"]:
        """Return products as bytes: (product - low) * scale, rounded down, within 0 to 255."""
        table = torch.empty(products.shape, dtype=torch.uint8, device="cpu")
        self._library.byte_table(
            self._level, self._threads, _address(products, torch.int32), products.numel(), low, scale,
            _address(table, torch.uint8),
        )  # fmt: skip
        return table

    def add_centroid_interaction(
        self,
        stored: StoredBag,
        rows: Int64[Tensor, "videos"],
        table: UInt8[Tensor, "blocks centroids lanes"],
        sums: Int32[Tensor, "videos"],
    ) -> None:
        """Add to each video's sum: over all lanes, the largest of the table's bytes at its tokens' codes."""
        _check_rows(stored, rows, sums)
        blocks, centroids, _ = table.shape
        if centroids != stored.num_centroids:
            raise SettingsError(f"the table has {centroids} centroids, the bag's codec {stored.num_centroids}")
        self._library.centroid_interaction(
            self._level, self._threads, self.distinct_codes(stored)._struct, _address(rows, torch.int64), len(rows),
            _address(table, torch.uint8), centroids, blocks, _address(sums, torch.int32),
        )  # fmt: skip

    def distinct_codes(self, stored: StoredBag) -> DistinctCodes:
        """Return the distinct codes of each of a bag's videos; they are looked for once."""
        return _distinct_codes(stored, self._library)

    def add_rounded_scores(
        self,
        stored: StoredBag,
        codec: RoundedCodec,
        query: RoundedQuery,
        products: Int32[Tensor, "blocks centroids lanes"],
        rows: Int64[Tensor, "videos"],
        scores: Float[Tensor, "videos"],
    ) -> None:
        """Add each video's MeanMaxSim on decoded tokens, in rounded arithmetic; `products` are the centroids'."""
        _check_rows(stored, rows, scores)
        _check_dimensions(query.tokens.shape[1], codec.centroids.shape[1])
        _check_bag(stored, codec)
        if products.shape != (len(query.bytes), len(codec.centroids), LANES):
            raise SettingsError(f"products have shape {tuple(products.shape)}; they belong to another query")
        self._library.rounded_scores(
            self._level, self._threads, _bag(stored), codec._struct, query._struct,
            _address(products, torch.int32), _address(rows, torch.int64), len(rows), _address(scores, torch.float32),
        )  # fmt: skip

    def exact_scores(
        self, stored: StoredBag, codec: RoundedCodec, query: RoundedQuery, rows: Int64[Tensor, "videos"]
    ) -> Float[Tensor, "videos"]:
        """Return each video's MeanMaxSim on decoded tokens, in single precision."""
        scores = torch.empty(len(rows), dtype=torch.float32, device="cpu")
        _check_rows(stored, rows, scores)
        _check_dimensions(query.tokens.shape[1], codec.centroids.shape[1])
        _check_bag(stored, codec)
        self._library.exact_scores(
            self._level, self._threads, _bag(stored), codec._struct, query._struct,
            _address(rows, torch.int64), len(rows), _address(scores, torch.float32),
        )  # fmt: skip
        return scores

    def largest(self, sums: Int32[Tensor, "videos"], wanted: int) -> Int64[Tensor, "wanted"]:
        """Return the positions of the largest sums, ascending; of equal ones the first. Sums must not be negative."""
        if not 0 <= wanted <= len(sums):
            raise SettingsError(f"{wanted} of {len(sums)} sums cannot be selected")
        positions = torch.empty(wanted, dtype=torch.int64, device="cpu")
        if wanted:
            least, most = (int(value) for value in sums.aminmax())
            if least < 0:
                raise SettingsError(f"the least sum is {least}; sums are at least 0")
            self._library.select_largest(
                self._level, _address(sums, torch.int32), len(sums), most, wanted, _address(positions, torch.int64)
            )
        return positions


@cache
def compiled_kernels(level: str | None = None) -> Kernels | None:
    """Return the compiled kernels.

    Args:
        level: One of LEVELS; None for the best of this machine.

    Returns:
        The kernels; None if this installation has none, or this machine lacks the instructions.
    """
    library = installed_library()
    if library is None:
        return None
    best = int(library.best_level())
    wanted = best if level is None else LEVELS.index(level)
    return Kernels(library, wanted) if wanted <= best else None


def kernel_name() -> str:
    """Return what scores on the CPU: one of LEVELS, or "torch" where no kernels were compiled."""
    kernels = compiled_kernels()
    return WITHOUT_KERNELS if kernels is None else kernels.name


def _address(array: Tensor, dtype: torch.dtype) -> int:
    """Return the address of an array; one of another type would be read, or written, beyond its end."""
    if array.dtype != dtype:
        raise SettingsError(f"the kernels take {dtype} here, not {array.dtype}")
    if array.device.type != "cpu" or not array.is_contiguous():
        raise SettingsError(f"the kernels read contiguous memory of the CPU, not {array.device} memory")
    return array.data_ptr()


def _check_rows(stored: StoredBag, rows: Int64[Tensor, "videos"], values: Tensor) -> None:
    if len(values) != len(rows):
        raise SettingsError(f"{len(values)} values for {len(rows)} videos; they must agree")
    if len(rows):
        least, most = (int(value) for value in rows.aminmax())
        if least < 0 or most >= len(stored.doclens):
            raise SettingsError(f"rows run from {least} to {most}, but there are {len(stored.doclens)} videos")


def _check_dimensions(query: int, centroids: int) -> None:
    if query != centroids:
        raise SettingsError(f"query tokens have {query} dimensions, centroids {centroids}")


def _check_bag(stored: StoredBag, codec: RoundedCodec) -> None:
    if (stored.dim, stored.nbits) != (codec.centroids.shape[1], codec.nbits):
        raise SettingsError(
            f"the bag has dim={stored.dim}, nbits={stored.nbits}; its codec has dim={codec.centroids.shape[1]}, "
            f"nbits={codec.nbits}"
        )


def _once(make: Callable[Concatenate[Subject, Rest], Value]) -> Callable[Concatenate[Subject, Rest], Value]:
    """Keep what `make` returns as long as its first argument lives."""
    kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
    making = ForkLock()

    def lookup(subject: Subject, /, *rest: Rest.args, **more: Rest.kwargs) -> Value:
        value = kept.get(subject)
        if value is not None:
            return value
        with making:
            if subject not in kept:
                kept[subject] = make(subject, *rest, **more)
            return kept[subject]

    return lookup


@_once
def rounded_codec(codec: ResidualCodec) -> RoundedCodec:
    """`RoundedCodec.from_codec`, computed once for each codec."""
    return RoundedCodec.from_codec(codec)


@_once
def _bag(stored: StoredBag) -> _Bag:
    return _Bag(
        _address(stored.codes, torch.int32),
        _address(stored.residuals, torch.uint8),
        _address(stored.offsets, torch.int64),
        _address(stored.inverse_lengths, torch.float32),
    )


@_once
def _distinct_codes(stored: StoredBag, library: ctypes.CDLL) -> DistinctCodes:
    most = int(((stored.doclens + GROUP - 1) // GROUP).sum())  # groups, if no code repeats
    wide = stored.num_centroids > FEW_CENTROIDS
    groups = torch.empty(most, GROUP, dtype=torch.int32 if wide else torch.int16, device="cpu")
    starts = torch.empty(len(stored.doclens) + 1, dtype=torch.int64, device="cpu")
    library.distinct_codes(
        _bag(stored), len(stored.doclens), stored.num_centroids, wide, groups.data_ptr(), starts.data_ptr()
    )
    return DistinctCodes(groups[: int(starts[-1])].clone(), starts)
