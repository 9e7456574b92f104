"""What callers pass is checked by one rule a kind: whole numbers, numbers, ids, collections, fields of settings.

NumPy's scalars count as Python's. A truth value is no number, a text is neither number nor collection of characters.
"""

import operator
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import numpy as np

from colbert_video.base.user_files import expand_path
from colbert_video.errors import SettingsError, shown

MAX_ID_CHARACTERS = 2**16
"""Ids are often paths; those of archive members may be long."""
MAX_WHOLE = 2**64 - 1
"""Largest whole number of a setting; no library below takes larger ones."""


def whole_number(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number as int.

    Args:
        name: The parameter, for errors.
        value: An int, or an integer of NumPy or torch.
        least: Smallest value allowed.
        most: Largest value allowed.

    Raises:
        SettingsError: If it is a truth value, a float, a text or anything else, or out of range.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except Exception:  # torch raises several kinds for tensors that hold no integer
        number = None
    if number is None:
        raise SettingsError(f"{name}={shown(value)} must be a whole number, such as 10.")
    _check_range(name, number, least=least, most=most)
    return number


def real_number(
    name: str, value: Any, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> float:
    """Return a finite number, an int or a float.

    Args:
        name: The parameter, for errors.
        value: An int or a float, of Python or NumPy; or one element of an array.
        least: Smallest value allowed.
        above: The value must be larger than this.
        most: Largest value allowed.

    Raises:
        SettingsError: If it is a truth value, a text, NaN, infinite or anything else, or out of range.
    """
    number = plain_scalar(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not is_finite(number):
        raise SettingsError(f"{name}={shown(value)} must be a finite number, such as 0.5.")
    _check_range(name, number, least=least, above=above, most=most)
    return number


def score_of(query: object, video: object, value: Any) -> float:
    """Return the score of a video as a number.

    Both infinities are scores: -inf is what a masked video gets. NaN is none, it ranks anywhere.

    Raises:
        SettingsError: If it is NaN, a truth value, a text or anything else; the error names query and video.
    """
    if type(value) is float and value == value:
        return value
    number = plain_scalar(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
        raise SettingsError(
            f"the score of video {shown(video)} for query {shown(query)} is {shown(value)}; give each video a number, "
            "or leave it out."
        )
    return number


def truth_value(name: str, value: Any) -> bool:
    """Return True or False as bool.

    Raises:
        SettingsError: If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise SettingsError(f"{name}={shown(value)} must be True or False.")
    return bool(value)


def check_flags(**flags: Any) -> None:
    """Check that each of some parameters is True or False: the text "False" would count as True.

    Raises:
        SettingsError: If one is anything else.
    """
    for name, value in flags.items():
        truth_value(name, value)


def plain_scalar(value: Any) -> Any:
    """Return a scalar of NumPy, or an array or tensor without dimensions, as Python's value; anything else as it is."""
    if type(value) in (int, float, str, bool) or shape_of(value) != ():
        return value
    try:
        return value.item()
    except Exception:  # a tensor on the device "meta" has no value
        return value


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array or tensor; None for anything else, and for nested tensors, which have none."""
    try:
        shape = value.shape
    except Exception:  # torch raises RuntimeError for nested tensors
        return None
    return tuple(shape) if isinstance(shape, tuple) else None


def is_finite(number: Any) -> bool:
    """Return True for a number that a double can hold, neither NaN nor infinite."""
    try:
        return bool(np.isfinite(float(number)))
    except OverflowError:  # an int of more than 308 digits
        return False


def id_text(value: Any, name: str = "id") -> str:
    """Return an id as text: a text as it is, a whole number in digits, a UUID in its usual form.

    Raises:
        SettingsError: If it is anything else, or empty.
    """
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        if not value:
            raise SettingsError(f"{name} is empty; give it at least one character.")
        return str(value)
    try:
        return str(whole_number(name, value))
    except (SettingsError, ValueError):
        raise SettingsError(
            f"{name} {shown(value)} is a value of type {type(value).__name__}; an id is a text (a whole number or a "
            "UUID is taken as its text)."
        ) from None


def new_id(value: Any, name: str = "id") -> str:
    """Return an id that is to be stored as text; as `id_text`, and no longer than `MAX_ID_CHARACTERS`."""
    text = id_text(value, name)
    if len(text) > MAX_ID_CHARACTERS:
        raise SettingsError(
            f"{name} has {len(text)} characters ({shown(text)}); at most {MAX_ID_CHARACTERS} are allowed."
        )
    return text


def id_list(name: str, values: Any, *, ordered: bool = False) -> list[str]:
    """Return ids as a list of texts; a text alone is one id.

    Args:
        name: The parameter, for errors.
        values: Some ids.
        ordered: True if the order counts, which a set does not keep.

    Raises:
        SettingsError: If `values` is no collection, or one of them is not an id.
    """
    each = f"an id of {name}"
    return [id_text(value, each) for value in _several(name, values, ordered=ordered)]


def text_list(name: str, values: Any, *, ordered: bool = False) -> list[str]:
    """Return texts, such as names of columns, as a list; a text alone is one.

    Args:
        name: The parameter, for errors.
        values: Some texts.
        ordered: True if the order counts, which a set does not keep.

    Raises:
        SettingsError: If `values` is no collection, or one of them is not a text.
    """
    texts = _several(name, values, ordered=ordered)
    for text in texts:
        if not isinstance(text, str):
            raise SettingsError(
                f"{name} holds {shown(text)}, which is a value of type {type(text).__name__}; give texts."
            )
    return [str(text) for text in texts]


def _several(name: str, values: Any, *, ordered: bool) -> list[Any]:
    if isinstance(values, str | UUID):
        return [values]
    if ordered:
        check_ordered(name, values)
    if isinstance(values, bytes | bytearray) or not isinstance(values, Iterable) or shape_of(values) == ():
        raise SettingsError(f"{name}={shown(values)} must be a text or a list of texts.")
    return list(values)


def check_ordered(name: str, values: Any) -> None:
    """Check that a collection keeps an order of its own, by which its items belong to others.

    Raises:
        SettingsError: If it is a set, whose order changes from run to run, or has keys, which would be taken for items.
    """
    if isinstance(values, Set):
        raise SettingsError(f"{name} is a {type(values).__name__}, which has no order; give a list.")
    if isinstance(values, Mapping):
        raise SettingsError(f"{name} is a {type(values).__name__}, whose keys would be taken; give a list.")


def check_fields(settings: Any) -> None:
    """Check each field of a frozen dataclass by its annotation, and turn NumPy's scalars into Python's.

    Known annotations: int, float, bool, str, Path, Literal, tuples of these, and unions with None; fields of other
    types are left as they are. Numbers keep their type, so that what was stored as 10 stays 10.

    Raises:
        SettingsError: If a value does not fit its annotation; the text names the field.
    """
    for item in fields(settings):
        value = getattr(settings, item.name)
        typed = _typed(item.name, value, item.type)
        if typed is not value:
            object.__setattr__(settings, item.name, typed)


def typed_field(kind: type, name: str, value: Any) -> Any:
    """Return a value that is meant for a field of a dataclass, checked as `check_fields` does it."""
    return _typed(name, value, next(item.type for item in fields(kind) if item.name == name))


def _typed(name: str, value: Any, kind: Any) -> Any:
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if value is None and NoneType in options:
        return None
    choices = [text for option in options if get_origin(option) is Literal for text in get_args(option)]
    if choices and isinstance(value, str) and value in choices:
        return str(value)
    if choices and isinstance(value, str) and str not in options:
        also = "a number or " if float in options else ""
        raise SettingsError(f"{name}={shown(value)} must be {also}one of {', '.join(choices)}.")
    for option in options:
        if option in _CHECKED:
            return _CHECKED[option](name, value)
        if get_origin(option) is tuple:
            return _typed_tuple(name, value, get_args(option))
    if choices:
        raise SettingsError(f"{name}={shown(value)} must be one of {', '.join(choices)}.")
    return value


def _typed_tuple(name: str, values: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple | np.ndarray | str):
        raise SettingsError(f"{name}={shown(values)} must be a list.")
    parts = [values] if isinstance(values, str) else list(values)
    if Ellipsis not in kinds and len(parts) != len(kinds):
        raise SettingsError(f"{name}={shown(values)} must have {len(kinds)} values.")
    return tuple(_typed(name, part, kinds[0]) for part in parts)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str):
            return str(text)
    raise SettingsError(f"{name}={shown(value)} must be a text.")


_CHECKED: Mapping[Any, Any] = {
    int: lambda name, value: whole_number(name, value, least=-MAX_WHOLE, most=MAX_WHOLE),
    float: real_number,
    bool: truth_value,
    str: _text,
    Path: lambda name, value: expand_path(_text(name, value), name),
}


def _check_range(
    name: str, number: float, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> None:
    if least is not None and number < least:
        raise SettingsError(f"{name}={shown(number)} must be at least {least}.")
    if above is not None and number <= above:
        raise SettingsError(f"{name}={shown(number)} must be more than {above}.")
    if most is not None and number > most:
        raise SettingsError(f"{name}={shown(number)} must be at most {most}.")
