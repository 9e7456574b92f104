"""JSON from people, and Python's values as JSON: one reader and one writer, so that nothing is lost silently.

A filter that names a key twice would lose a condition, NaN is no JSON, and SQLite reads neither deep nesting nor whole
numbers that no double can hold.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

from colbert_video.base.checks import is_finite, plain_scalar, shape_of
from colbert_video.errors import SettingsError, shown

logger = logging.getLogger(__name__)

MAX_DEPTH = 100
"""Lists and objects inside each other; SQLite reads up to 1000."""
MAX_DIGITS = 308
"""Digits of a whole number; a double holds no larger one."""
MAX_CHARACTERS = 2**24
"""Texts, keys and values of one object, counted in characters: a catalog is read row by row, each as a whole."""
MISSING_NAMES = ("NAType", "NaTType")
"""Types of what pandas puts where a value is missing."""


def parse_json(text: str | bytes) -> Any:
    """Read JSON that a person wrote.

    Raises:
        ValueError: With the reason in words, if it is not JSON, an object names a key twice, a number is NaN, infinite
            or too large, or it is nested more than `MAX_DEPTH` deep.
    """
    try:
        value = _DECODER.decode((text if isinstance(text, str) else text.decode()).removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in error.doc else ""
        raise ValueError(f"{error.msg} at {line}column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check_depth(value)
    return value


def unique_keys(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return pairs as a dict.

    Raises:
        ValueError: If a key comes twice.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} comes twice; use each key once")
        found[key] = value
    return found


def plain_metadata(metadata: Any, where: str, missing: Counter[str] | None = None) -> dict[str, Any]:
    """Return metadata as JSON holds it.

    What has one obvious form takes it: NumPy's scalars and arrays, tensors, tuples and sets (as sorted lists), dates
    and times (ISO 8601), Decimal, UUID, paths, enumerations; whole numbers that are keys become text. NaN, NaT and
    pandas.NA become null, with a warning.

    Args:
        metadata: Values by key.
        where: Whose they are, for errors and the warning.
        missing: Counts the keys of values that became null, instead of warning.

    Raises:
        SettingsError: If a value has no form in JSON (bytes, infinity, other objects), a key is not text, or it holds
            more than `MAX_CHARACTERS`.
    """
    if not isinstance(metadata, Mapping):
        raise SettingsError(f"{where} is {shown(metadata)}; give a dict of names and values.")
    nulls = Counter[str]() if missing is None else missing
    plain: dict[str, Any] = _written(metadata, where, nulls)
    if missing is None:
        warn_of_missing(nulls)
    return plain


def warn_of_missing(missing: Counter[str]) -> None:
    """Log once for many records which keys were NaN or missing and became null."""
    if missing:
        listed = ", ".join(f"{key} ({count})" for key, count in missing.most_common(5))
        logger.warning("metadata that is NaN or missing is stored as null, by key: %s", listed)


def plain_condition(value: Any, where: str) -> Any:
    """Return a filter, or a part of one, as `plain_metadata` returns metadata, so that both compare; NaN is refused.

    Raises:
        SettingsError: As `plain_metadata`, and for NaN.
    """
    return _written(value, where, None)


def _written(value: Any, where: str, missing: Counter[str] | None) -> Any:
    try:
        return _Writer(where, missing).write(value, ())
    except RecursionError as error:  # the caller is deep in calls himself
        raise SettingsError(_too_deep(where)) from error


def _too_deep(where: str) -> str:
    return f"{where} is nested more than {MAX_DEPTH} deep; make it flatter."


class _Writer:
    """Turns values into those of JSON.

    Args:
        where: Whose they are, for errors.
        missing: Counts the keys of values that became null; None to refuse such values.
    """

    def __init__(self, where: str, missing: Counter[str] | None) -> None:
        self._where, self._missing, self._characters = where, missing, 0

    def write(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return a value as JSON holds it; `path` leads to it."""
        self._count(len(value) if isinstance(value, str) else 1)
        kind = type(value)
        if value is None or kind in (str, bool) or (kind in (int, float) and is_finite(value)):
            return value
        if len(path) >= MAX_DEPTH and isinstance(value, _CONTAINERS):
            raise SettingsError(_too_deep(self._where))
        if isinstance(value, Mapping):
            return self._object(value, path)
        if isinstance(value, list | tuple | range):
            return [self.write(part, (*path, "")) for part in value]
        if isinstance(value, set | frozenset):
            return self._sorted(value, path)
        return self._other(value, path)

    def _count(self, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            raise SettingsError(
                f"{self._where} holds more than {MAX_CHARACTERS} characters and values; keep what is so long elsewhere, "
                "and its name here."
            )

    def _other(self, value: Any, path: tuple[str, ...]) -> Any:
        if _is_missing(value):
            return self._null(path)
        if isinstance(value, Enum):
            return self.write(value.value, path)
        if isinstance(value, str | np.datetime64):
            return str(value)
        scalar = plain_scalar(value)
        if isinstance(scalar, int | float | Decimal):
            return self._number(scalar, path)
        if isinstance(value, date | datetime | time):
            return value.isoformat()
        if isinstance(value, UUID | PurePath):
            return os.fspath(value) if isinstance(value, PurePath) else str(value)
        return self._array(value, scalar, path)

    def _array(self, value: Any, scalar: Any, path: tuple[str, ...]) -> Any:
        if scalar is not value and not isinstance(scalar, bytes | complex):
            return self.write(scalar, path)
        if hasattr(value, "dtype") and hasattr(value, "tolist") and shape_of(value):
            try:
                plain = value.tolist()
            except Exception as error:  # torch: a tensor without values, or a nested one
                raise self._error(value, path) from error
            if isinstance(plain, list):
                return self.write([str(one) for one in value] if _holds_times(value) else plain, path)
        raise self._error(value, path)

    def _number(self, number: Any, path: tuple[str, ...]) -> Any:
        if not is_finite(number):
            raise self._error(number, path)
        if isinstance(number, Decimal):
            number = int(number) if number == number.to_integral_value() else float(number)
        return int(number) if isinstance(number, int) and not isinstance(number, bool) else number

    def _object(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, part in value.items():
            key = self._key(name, path)
            if key in plain:
                raise SettingsError(
                    f"{self._where} has the key {shown(key)}{_inside(path)} twice, as text and as a number."
                )
            self._count(len(key))
            plain[key] = self.write(part, (*path, key))
        return plain

    def _key(self, name: Any, path: tuple[str, ...]) -> str:
        if isinstance(name, str):
            return str(name)
        number = plain_scalar(name)
        if isinstance(number, int) and not isinstance(number, bool):
            return str(number)
        raise SettingsError(
            f"{self._where} has the key {shown(name)}{_inside(path)}, which is not text; name it in text."
        )

    def _sorted(self, values: Iterable[Any], path: tuple[str, ...]) -> list[Any]:
        plain = [self.write(value, (*path, "")) for value in values]
        return sorted(
            plain, key=lambda value: (type(value).__name__, str(value) if isinstance(value, list) else value or 0)
        )

    def _null(self, path: tuple[str, ...]) -> None:
        if self._missing is None:
            raise SettingsError(f"{self._where} holds NaN{_inside(path)}; use null (None) for what has no value.")
        self._missing[".".join(filter(None, path)) or "value"] += 1

    def _error(self, value: Any, path: tuple[str, ...]) -> SettingsError:
        return SettingsError(
            f"{self._where} holds {shown(value)}{_inside(path)}, which JSON cannot hold; use text, finite numbers, "
            "true, false, null, lists and dicts."
        )


def _inside(path: tuple[str, ...]) -> str:
    keys = ".".join(filter(None, path))
    return f" under {shown(keys)}" if keys else ""


def _is_missing(value: Any) -> bool:
    """Return True for NaN, NaT and pandas.NA; comparing an array with itself gives an array, which is none of these."""
    if type(value).__name__ in MISSING_NAMES:
        return True
    if not isinstance(value, float | Decimal | np.generic) and shape_of(value) != ():
        return False
    scalar = plain_scalar(value)
    try:
        return (isinstance(value, np.generic) and scalar is None) or bool(scalar != scalar)  # None: NumPy's NaT
    except Exception:  # a signalling NaN, or a tensor without a value
        return isinstance(value, Decimal)


def _holds_times(value: Any) -> bool:
    return getattr(value.dtype, "kind", "") == "M" and not hasattr(value, "isna")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        level = [part for one in level for part in _parts(one)]


def _parts(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; use null for what has no value")


def _float(text: str) -> float:
    number = float(text)
    if not is_finite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a whole number has {len(text.lstrip('-'))} digits, more than {MAX_DIGITS}")
    return int(text)


_CONTAINERS = (Mapping, list, tuple, range, set, frozenset)
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
)
