"""Dataclasses of settings from plain values, as YAML gives them: names and types are checked, errors say where."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from colbert_video.errors import SettingsError, shown

Settings = TypeVar("Settings")
_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    tuple: "a list",
    dict: "a mapping",
}


def build_section(kind: type[Settings], values: Any, where: str) -> Settings:
    """Build a dataclass of settings from its fields by name; `where` is the section's name in errors.

    Raises:
        SettingsError: If `values` is no mapping, a field is missing or unknown, or a value has the wrong type.
    """
    typed = typed_values(kind, values, where)
    missing = [item.name for item in fields(kind) if _required(item) and item.name not in typed]  # type: ignore[arg-type]
    if missing:
        raise SettingsError(f"{where} lacks {', '.join(missing)}.")
    return kind(**typed)


def typed_values(kind: type[Any], values: Any, where: str) -> dict[str, Any]:
    """Return some fields of a dataclass, each in the type of its annotation; arguments as for `build_section`.

    Raises:
        SettingsError: If `values` is no mapping, a field is unknown, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"section {shown(where)} must be a mapping of settings, not {shown(values)}.")
    known = {item.name: item.type for item in fields(kind)}
    check_unknown(where, values, list(known))
    return {name: _typed(value, known[name], f"{where}.{name}") for name, value in values.items()}


def check_unknown(where: str, values: Iterable[str], known: list[str]) -> None:
    """Check that all names are known; the error suggests the nearest one.

    Raises:
        SettingsError: If a name is unknown.
    """
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {shown(near[0])}?" if near else f"it has {', '.join(known)}."
            raise SettingsError(f"{where} has no setting {shown(name)}; {hint}")


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _typed(value: Any, kind: Any, where: str) -> Any:
    """Return the value in the type of a field's annotation: YAML reads 1e-7 as text, and tuples as lists."""
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kind = next(option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        item = get_args(kind)[0]
        return tuple(_typed(part, item, where) for part in value)
    kind = str if get_origin(kind) is Literal else get_origin(kind) or kind
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):  # OverflowError: a whole number of more than 308 digits
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SettingsError(f"{where}={shown(value)} must be {_KINDS.get(kind, kind.__name__)}.")
