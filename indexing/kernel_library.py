"""The library of compiled kernels, seen through ctypes: where it lies, its structures and its functions."""

import ctypes
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

logger = logging.getLogger(__name__)

VERSION = 2
"""`kernels_version` of the _kernels.cpp that this file calls."""


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
    found = find_spec("colbert_video.indexing._kernels")
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
