"""The compiled kernels of the search on a CPU, if this installation has them.

setup.py builds them as an optional extension; `_kernels.cpp` says what each computes. They run without Python's
global lock, on the calling thread alone, with the best instruction set of the machine.
"""

import ctypes
import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int32, Int64, UInt8
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.packing import check_nbits
from colbert_video.indexing.scan import kernels as kernel_library
from colbert_video.indexing.scan.rounding import LANES, RoundedCodec, RoundedQuery
from colbert_video.indexing.segments.segment import StoredBag

logger = logging.getLogger(__name__)
VERSION = 2
"""`kernels_version` of the _kernels.cpp that this file calls."""
LEVELS = ("portable", "avx2", "avx512-vnni")
"""Instruction sets the kernels are compiled for, the best last."""
WITHOUT_KERNELS = "torch"
"""What scores on a CPU where the kernels are missing."""
Subject = TypeVar("Subject")
Value = TypeVar("Value")


class Bag(ctypes.Structure):
    """`Bag` of _kernels.cpp."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("residuals", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("inverse", ctypes.c_void_p),
    )


class Codec(ctypes.Structure):
    """`Codec` of _kernels.cpp."""

    _fields_ = (
        ("centroids", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("means", ctypes.c_void_p),
        ("planes", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("nbits", ctypes.c_int64),
        ("centroid_scale", ctypes.c_float),
        ("weight_scale", ctypes.c_float),
    )


class Query(ctypes.Structure):
    """`Query` of _kernels.cpp."""

    _fields_ = (
        ("bytes", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("scale", ctypes.c_float),
    )


def installed_library() -> ctypes.CDLL | None:
    """The library that setup.py built, or None if it was not built or cannot be used here."""
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
        OSError: It is no library of this machine, or of another version than this file.
        AttributeError: It lacks a function.
    """
    library = ctypes.CDLL(path)
    version = library.kernels_version()
    if version != VERSION:
        raise OSError(f"{path} is version {version} instead of {VERSION}; build it again")
    return _declared(library)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library, with the arguments of every function told to ctypes."""
    level, number, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    bag, codec, query = ctypes.POINTER(Bag), ctypes.POINTER(Codec), ctypes.POINTER(Query)
    arguments: Mapping[str, list[Any]] = {
        "best_level": [],
        "round_query": [pointer, number, number, number, pointer, pointer, pointer],
        "centroid_products": [level, codec, query, pointer, pointer],
        "byte_table": [level, pointer, number, ctypes.c_int32, ctypes.c_float, pointer],
        "centroid_interaction": [level, bag, pointer, number, pointer, number, number, pointer],
        "rounded_scores": [level, bag, codec, query, pointer, pointer, number, pointer],
        "exact_scores": [level, bag, codec, query, pointer, number, pointer],
        "select_largest": [pointer, number, ctypes.c_int32, number, pointer],
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
    """

    def __init__(self, library: ctypes.CDLL, level: int) -> None:
        self._library = library
        self._level = level

    @property
    def name(self) -> str:
        """The instruction set's name, one of LEVELS."""
        return LEVELS[self._level]

    def round_query(self, rotated: Float[Tensor, "query_tokens dim"], nbits: int) -> RoundedQuery:
        """Round a query for a codec.

        Args:
            rotated: Query tokens, rotated by the codec.
            nbits: The codec's bits a dimension, which order the dimensions.
        """
        count, dim = rotated.shape
        check_nbits(nbits, dim)
        blocks = -(-count // LANES)
        values = torch.zeros(blocks, dim // 4, LANES, 4, dtype=torch.int8, device="cpu")
        start = torch.zeros(blocks, LANES, dtype=torch.int32, device="cpu")
        tokens = torch.zeros(blocks, dim, LANES, dtype=torch.float32, device="cpu")
        scale = self._library.round_query(
            _address(rotated, torch.float32), count, dim, nbits, _address(values, torch.int8),
            _address(start, torch.int32), _address(tokens, torch.float32),
        )  # fmt: skip
        return RoundedQuery(values, start, tokens, scale, count)

    def centroid_products(
        self, codec: RoundedCodec, query: RoundedQuery
    ) -> tuple[Int32[Tensor, "blocks centroids lanes"], int, int]:
        """Inner products of all rounded centroids and query tokens, with the least and the largest of them."""
        _check_query(codec, query)
        products = torch.empty(len(query.bytes), len(codec.centroids), LANES, dtype=torch.int32, device="cpu")
        extremes = (ctypes.c_int32 * 2)()
        self._library.centroid_products(
            self._level, _codec(codec), _query(query), _address(products, torch.int32), extremes
        )
        return products, extremes[0], extremes[1]

    def byte_table(
        self, products: Int32[Tensor, "blocks centroids lanes"], low: int, scale: float
    ) -> UInt8[Tensor, "blocks centroids lanes"]:
        """Products as bytes: (product - low) * scale, rounded down, held within 0 to 255."""
        table = torch.empty(products.shape, dtype=torch.uint8, device="cpu")
        self._library.byte_table(
            self._level, _address(products, torch.int32), products.numel(), low, scale,
            _address(table, torch.uint8),
        )  # fmt: skip
        return table

    def add_centroid_interaction(
        self,
        stored: StoredBag,
        ordinals: Int64[Tensor, "videos"],
        table: UInt8[Tensor, "blocks centroids lanes"],
        sums: Int32[Tensor, "videos"],
    ) -> None:
        """Add to each video's sum: over all lanes, the largest of the table's bytes at its tokens' codes."""
        _check_ordinals(stored, ordinals, sums)
        blocks, centroids, _ = table.shape
        self._library.centroid_interaction(
            self._level, _bag(stored), _address(ordinals, torch.int64), len(ordinals),
            _address(table, torch.uint8), centroids, blocks, _address(sums, torch.int32),
        )  # fmt: skip

    def add_rounded_scores(
        self,
        stored: StoredBag,
        codec: RoundedCodec,
        query: RoundedQuery,
        products: Int32[Tensor, "blocks centroids lanes"],
        ordinals: Int64[Tensor, "videos"],
        scores: Float[Tensor, "videos"],
    ) -> None:
        """Add each video's MeanMaxSim on decoded tokens, in rounded arithmetic; `products` are the centroids'."""
        _check_ordinals(stored, ordinals, scores)
        _check_query(codec, query)
        _check_bag(stored, codec)
        if products.shape != (len(query.bytes), len(codec.centroids), LANES):
            raise SettingsError(f"products have shape {tuple(products.shape)}; they belong to another query")
        self._library.rounded_scores(
            self._level, _bag(stored), _codec(codec), _query(query), _address(products, torch.int32),
            _address(ordinals, torch.int64), len(ordinals), _address(scores, torch.float32),
        )  # fmt: skip

    def exact_scores(
        self,
        stored: StoredBag,
        codec: RoundedCodec,
        query: RoundedQuery,
        ordinals: Int64[Tensor, "videos"],
    ) -> Float[Tensor, "videos"]:
        """Each video's MeanMaxSim on decoded tokens, in single precision."""
        scores = torch.empty(len(ordinals), dtype=torch.float32, device="cpu")
        _check_ordinals(stored, ordinals, scores)
        _check_query(codec, query)
        _check_bag(stored, codec)
        self._library.exact_scores(
            self._level, _bag(stored), _codec(codec), _query(query), _address(ordinals, torch.int64),
            len(ordinals), _address(scores, torch.float32),
        )  # fmt: skip
        return scores

    def largest(self, sums: Int32[Tensor, "videos"], wanted: int) -> Int64[Tensor, "wanted"]:
        """Positions of the largest sums, ascending; of equal ones the first. Sums must not be negative."""
        if not 0 <= wanted <= len(sums):
            raise SettingsError(f"{wanted} of {len(sums)} sums cannot be selected")
        positions = torch.empty(wanted, dtype=torch.int64, device="cpu")
        if wanted:
            least, most = (int(value) for value in sums.aminmax())
            if least < 0:
                raise SettingsError(f"the least sum is {least}; sums are at least 0")
            self._library.select_largest(
                _address(sums, torch.int32), len(sums), most, wanted, _address(positions, torch.int64)
            )
        return positions


@cache
def compiled_kernels(level: str | None = None) -> Kernels | None:
    """The compiled kernels.

    Args:
        level: One of LEVELS; None for the best of this machine.

    Returns:
        None if this installation has none, or this machine lacks the instructions.
    """
    library = installed_library()
    if library is None:
        return None
    best = int(library.best_level())
    wanted = best if level is None else LEVELS.index(level)
    return Kernels(library, wanted) if wanted <= best else None


def kernel_name() -> str:
    """What scores on the CPU: one of LEVELS, or "torch" where no kernels were compiled."""
    kernels = compiled_kernels()
    return WITHOUT_KERNELS if kernels is None else kernels.name


def _address(array: Tensor, dtype: torch.dtype) -> int:
    """Where an array lies; one of another type would be read, or written, beyond its end."""
    if array.dtype != dtype:
        raise SettingsError(f"the kernels take {dtype} here, not {array.dtype}")
    if array.device.type != "cpu" or not array.is_contiguous():
        raise SettingsError(f"the kernels read contiguous memory of the CPU, not {array.device} memory")
    return array.data_ptr()


def _check_ordinals(stored: StoredBag, ordinals: Int64[Tensor, "videos"], values: Tensor) -> None:
    if len(values) != len(ordinals):
        raise SettingsError(f"{len(values)} values for {len(ordinals)} videos; they must agree")
    if len(ordinals):
        least, most = (int(value) for value in ordinals.aminmax())
        if least < 0 or most >= len(stored.doclens):
            raise SettingsError(
                f"ordinals run from {least} to {most}, but there are {len(stored.doclens)} videos"
            )


def _check_query(codec: RoundedCodec, query: RoundedQuery) -> None:
    if query.tokens.shape[1] != codec.centroids.shape[1]:
        raise SettingsError(
            f"query tokens have {query.tokens.shape[1]} dimensions, centroids {codec.centroids.shape[1]}"
        )


def _check_bag(stored: StoredBag, codec: RoundedCodec) -> None:
    if (stored.dim, stored.nbits) != (codec.centroids.shape[1], codec.nbits):
        raise SettingsError(
            f"the bag has dim={stored.dim}, nbits={stored.nbits}; its codec has dim={codec.centroids.shape[1]}, "
            f"nbits={codec.nbits}"
        )


def _once(make: Callable[[Subject], Value]) -> Callable[[Subject], Value]:
    """Keep what `make` returns as long as its argument lives."""
    kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def lookup(subject: Subject) -> Value:
        value = kept.get(subject)
        if value is None:
            value = kept[subject] = make(subject)
        return value

    return lookup


@_once
def rounded_codec(codec: ResidualCodec) -> RoundedCodec:
    """`RoundedCodec.of`, computed once for each codec."""
    return RoundedCodec.of(codec)


@_once
def _bag(stored: StoredBag) -> kernel_library.Bag:
    addresses = (
        _address(stored.codes, torch.int32),
        _address(stored.residuals, torch.uint8),
        _address(stored.offsets, torch.int64),
        _address(stored.inverse_lengths, torch.float32),
    )
    return kernel_library.Bag(*addresses)


@_once
def _codec(codec: RoundedCodec) -> kernel_library.Codec:
    addresses = (
        _address(codec.centroids, torch.uint8),
        _address(codec.squares, torch.float32),
        _address(codec.means, torch.float32),
        _address(codec.planes, torch.uint8),
        _address(codec.weights, torch.float32),
    )
    count, dim = codec.centroids.shape
    return kernel_library.Codec(*addresses, count, dim, codec.nbits, codec.centroid_scale, codec.weight_scale)


@_once
def _query(query: RoundedQuery) -> kernel_library.Query:
    addresses = (
        _address(query.bytes, torch.int8),
        _address(query.start, torch.int32),
        _address(query.tokens, torch.float32),
    )
    return kernel_library.Query(*addresses, query.count, len(query.bytes), query.scale)
