"""Pickles of strings, numbers and containers, and of nothing else.

Two annotation files in common use are pickles. Unpickling runs whatever program the file holds, so the opcodes are read
first: those that name a class or call something are rejected before anything is built.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from colbert_video.base.access import reason_of
from colbert_video.errors import SettingsError, shown

MAX_BYTES = 256 * 2**20
"""The largest known file has 7 MB."""
# fmt: off
PLAIN = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "EMPTY_LIST", "APPEND", "APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET",
))
# fmt: on
"""Opcodes that build strings, numbers, lists, tuples, dicts and sets."""
MEMO_WRITES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))


class _NoClasses(pickle.Unpickler):
    """Second check, after that of the opcodes."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds plain values.

    Args:
        path: The file. Byte strings of Python 2 are read as UTF-8, those of its text protocol as ASCII.

    Raises:
        SettingsError: If the file cannot be read, is larger than `MAX_BYTES`, is damaged, or holds anything but strings,
            numbers and containers; then nothing of it was run.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SettingsError(f"{path} has {size} bytes; captions have at most {MAX_BYTES}. Is it the right file?")
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {reason_of(error)}.") from error
    _check_opcodes(path, data)
    try:
        return _NoClasses(io.BytesIO(data), encoding="utf-8").load()
    except (
        pickle.UnpicklingError,
        ValueError,  # UnicodeDecodeError is one
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OverflowError,
        RecursionError,
    ) as error:
        raise SettingsError(f"{path} is a damaged pickle: {error}; download it again.") from error


def _check_opcodes(path: Path, data: bytes) -> None:
    try:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if opcode.name not in PLAIN:
                raise SettingsError(
                    f"{path} is refused: at byte {position}, {opcode.name} {_shown(argument)}would make an object of a "
                    "class; only strings, numbers and containers are read. Do not open this file with pickle."
                )
            # An index far beyond the values so far would let the memo grow to any size.
            if opcode.name in MEMO_WRITES and isinstance(argument, int) and argument > number:
                raise SettingsError(f"{path} is refused: byte {position} asks for memory without need.")
    except SettingsError:
        raise
    except (ValueError, EOFError, IndexError, OverflowError) as error:
        raise SettingsError(f"{path} is not a pickle, or a damaged one: {error}; download it again.") from error


def _shown(argument: Any) -> str:
    return "" if argument is None else f"({shown(str(argument))}) "
