"""Filters: a JSON object says which videos may be found, and becomes one SQL condition over the catalog.

    {"channel": "news", "duration": {">": 60}, "not": {"tags": {"contains": "advert"}}}

Names and values are bound as parameters; no text of a filter becomes part of a statement.

A filter is an object; all its entries must hold. An entry is one of

    NAME: VALUE                  the stored value equals VALUE: text, a number, true, false or null
    NAME: {OPERATOR: OPERAND}    with one operator or more, all of which must hold
    "and": [FILTER, ...]         all hold
    "or": [FILTER, ...]          at least one holds
    "not": FILTER                it does not hold

NAME is a built-in (id, path, parent, duration, start, end) or a key of the metadata; dots lead into objects
("camera.make"), a dot or backslash that belongs to a key is written with a backslash before it. "metadata.duration" is
the metadata's key where a built-in, "and", "or" or "not" has the same name. The operators:

    =  !=  <  <=  >  >=    compare with text or a number; = and != with true, false and null too
    in                     equals one of a list; of a stored list, one element is enough
    contains               the stored value is a list, and an element equals the operand; or it is text that holds the
                           operand, whether in capitals or not
    exists                 true: the key is there, whatever its value; false: it is not

Kinds never mix: 1, "1" and true differ, and a comparison with a value of another kind is false. A missing key
makes every operator false but != and {"exists": false}: != is exactly the contrary of =. The same applies to a built-in
without a value. null equals a stored null only. Text is compared by code points, up to a NUL character if it holds one;
numbers are 64-bit integers and doubles.

A key that no video has is refused, as it is most likely mistyped: `colbert_video.indexing.catalog.fields` says which there are.
Only "exists" may ask for such a key.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colbert_video.base.json_values import parse_json, plain_condition
from colbert_video.errors import SettingsError, shown

BUILT_IN = {
    "id": "text", "path": "text", "parent": "text", "duration": "number", "start": "number", "end": "number",
}  # fmt: skip
"""Columns of the catalog that filters can name, with the kind of their values."""
FOLDED = "folded"
"""Name of `folded` in SQL, which connections to the catalog define."""
ORDER = ("<", "<=", ">", ">=")
OPERATORS = ("=", "!=", *ORDER, "in", "contains", "exists")
MAX_CONDITIONS = 256
MAX_DEPTH = 12  # SQLite's parser holds a hundred open brackets
TYPES = {"text": "('text')", "number": "('integer', 'real')", "boolean": "('true', 'false')", "null": "('null')"}
"""What SQLite's json_type says of each kind."""


@dataclass(frozen=True)
class Condition:
    """A piece of SQL, with its parameters, that is 0 or 1 for every video, never NULL."""

    sql: str
    values: tuple[Any, ...] = ()


def compile_filter(where: Mapping[str, Any]) -> Condition:
    """Turn a filter into a condition on rows of the catalog's table of videos.

    Args:
        where: The filter, as the module describes it; {} lets every video pass. Sets, tuples and arrays stand for
            lists, NumPy's scalars for numbers, and dates, UUIDs and paths for the text that metadata keep of them.

    Returns:
        The condition; wherever it is used, `videos` must be in scope.

    Raises:
        SettingsError: If an operator is unknown, an operand is of the wrong kind or NaN, or the filter is too large.
    """
    return _Compiler().filter(plain_condition(where, "the filter"), depth=0)


def compared_fields(where: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of the metadata that a filter compares with something, with their paths in SQLite's JSON.

    Raises:
        SettingsError: As `compile_filter`.
    """
    compiler = _Compiler()
    compiler.filter(plain_condition(where, "the filter"), depth=0)
    return compiler.compared


def parse_filter(text: str) -> dict[str, Any]:
    """Read a filter from JSON.

    Raises:
        SettingsError: If it is not JSON or not an object, or names a key twice, of which one would be lost.
    """
    try:
        where = parse_json(text)
    except ValueError as error:
        raise SettingsError(
            f'the filter {shown(text)} is not JSON ({error}); write for instance \'{{"channel": "news"}}\'.'
        ) from error
    if not isinstance(where, dict):
        raise SettingsError(
            f'the filter {shown(text)} is not a JSON object; write for instance \'{{"channel": "news"}}\'.'
        )
    return where


def _all(conditions: Sequence[Condition], joint: str = "AND") -> Condition:
    if not conditions:
        return Condition("1")
    values = tuple(value for condition in conditions for value in condition.values)
    return Condition("(" + f" {joint} ".join(condition.sql for condition in conditions) + ")", values)


def _any(conditions: Sequence[Condition]) -> Condition:
    return _all(conditions, "OR") if conditions else Condition("0")


def _not(condition: Condition) -> Condition:
    return Condition(f"NOT {condition.sql}", condition.values)


@dataclass(frozen=True)
class _Field:
    """A stored value as SQL sees it."""

    name: str
    type: str
    """Expression of its JSON type, NULL where it is missing."""
    value: str
    values: tuple[Any, ...]
    """Parameters of `type` and of `value`."""
    kind: str | None = None
    """The one kind of a built-in's values."""


class _Compiler:
    """Walks a filter, of plain JSON values, and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0
        self.compared: dict[str, str] = {}

    def filter(self, where: Any, depth: int) -> Condition:
        if not isinstance(where, Mapping):
            raise SettingsError(f"{shown(where)} is not a filter; write an object such as {{'channel': 'news'}}.")
        if depth > MAX_DEPTH:
            raise SettingsError(f"the filter is nested more than {MAX_DEPTH} deep; use fewer levels.")
        return _all([self._entry(name, operand, depth) for name, operand in where.items()])

    def _entry(self, name: str, operand: Any, depth: int) -> Condition:
        self._count()
        if name == "not":
            return _not(self.filter(operand, depth + 1))
        if name in ("and", "or"):
            if not isinstance(operand, list) or not operand:
                raise SettingsError(f"{shown(name)} takes a list of filters, at least one; got {shown(operand)}.")
            parts = [self.filter(part, depth + 1) for part in operand]
            return _all(parts, name.upper())
        field = _field(name)
        if field.kind is None and not (isinstance(operand, Mapping) and set(operand) == {"exists"}):
            self.compared[name] = str(field.values[0])
        if not isinstance(operand, Mapping):
            return _equal(field, operand)
        if not operand:
            raise SettingsError(f"{shown(name)} has no operator; known ones are {', '.join(OPERATORS)}.")
        return _all([self._operation(field, operator, value) for operator, value in operand.items()])

    def _operation(self, field: _Field, operator: str, operand: Any) -> Condition:
        self._count()
        if operator in ORDER:
            return _compare(field, operator, operand)
        operations: dict[str, Callable[[_Field, Any], Condition]] = {
            "=": _equal,
            "!=": lambda field, operand: _not(_equal(field, operand)),
            "in": _in,
            "contains": _contains,
            "exists": _exists,
        }
        if operator not in operations:
            raise SettingsError(
                f"{shown(operator)} for {shown(field.name)} is not an operator; known ones are {', '.join(OPERATORS)}."
            )
        return operations[operator](field, operand)

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise SettingsError(f"the filter has more than {MAX_CONDITIONS} conditions; use in with a list of values.")


def _field(name: str) -> _Field:
    """Return the built-in or the value in the metadata that a name stands for."""
    if name in BUILT_IN:
        column, kind = f'videos."{name}"', BUILT_IN[name]
        stored = {"text": "text", "number": "real"}[kind]
        return _Field(name, f"CASE WHEN {column} IS NOT NULL THEN '{stored}' END", column, (), kind)
    path = _json_path(name.removeprefix("metadata."))
    return _Field(name, "json_type(videos.metadata, ?)", "json_extract(videos.metadata, ?)", (path,))


def _json_path(name: str) -> str:
    """Return SQLite's path of a dotted name; keys are written as the catalog stores them, with JSON's ASCII escapes."""
    keys, escaped = [""], False
    for character in name:
        if not escaped and character == "\\":
            escaped = True
        elif not escaped and character == ".":
            keys.append("")
        else:
            keys[-1] += character
            escaped = False
    if '"' in name or "\0" in name:
        raise SettingsError(f"{shown(name)} cannot be a filter's key: it holds a double quote or a NUL character.")
    return "$" + "".join(f".{json.dumps(key)}" for key in keys)


def _compare(field: _Field, operator: str, operand: Any) -> Condition:
    kind = _kind(field, operand)
    if kind not in ("text", "number"):
        raise SettingsError(f"{shown(operator)} for {shown(field.name)} takes a number or text; got {shown(operand)}.")
    sql = f"coalesce({field.type} IN {TYPES[kind]} AND {field.value} {operator} json_extract(?, '$'), 0)"
    return Condition(sql, (*field.values, *field.values, _json(field, operand)))


def _equal(field: _Field, operand: Any) -> Condition:
    return _equals_one_of(field, [operand])


def _in(field: _Field, operands: Any) -> Condition:
    if not isinstance(operands, list):
        raise SettingsError(f"'in' for {shown(field.name)} takes a list; got {shown(operands)}.")
    alone = _equals_one_of(field, operands)
    return alone if field.kind is not None else _any([alone, _element_of_list(field, operands)])


def _contains(field: _Field, operand: Any) -> Condition:
    if field.kind not in (None, "text"):
        raise SettingsError(f"'contains' looks into text and stored lists; {shown(field.name)} is {field.kind}.")
    element = [_element_of_list(field, [operand])] if field.kind is None else []
    _kind(field, operand)
    holds = [_holds_text(field, operand)] if isinstance(operand, str) else []
    return _any([*element, *holds])


def _holds_text(field: _Field, operand: str) -> Condition:
    """Return the condition that a text holds another of at least one character, whether in capitals or not."""
    found = f"instr({FOLDED}({field.value}), json_extract(?, '$')) > (json_extract(?, '$') = '')"  # '' is found at 1
    sql = f"coalesce({field.type} = 'text' AND {found}, 0)"
    return Condition(sql, (*field.values, *field.values, *[_json(field, folded(operand))] * 2))


def folded(text: Any) -> str:
    """Return a text as it is compared whether in capitals or not, accents in one form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(text)).casefold())


def _exists(field: _Field, operand: Any) -> Condition:
    if not isinstance(operand, bool):
        raise SettingsError(f"'exists' for {shown(field.name)} takes true or false; got {shown(operand)}.")
    return Condition(f"({field.type} IS {'NOT ' if operand else ''}NULL)", field.values)


def _element_of_list(field: _Field, operands: Sequence[Any]) -> Condition:
    element = _Field(field.name, "element.type", "element.value", ())
    same = _equals_one_of(element, operands)
    elements = f"SELECT 1 FROM json_each(videos.metadata, ?) AS element WHERE {same.sql}"
    sql = f"coalesce({field.type} = 'array' AND EXISTS ({elements}), 0)"
    return Condition(sql, (*field.values, *field.values, *same.values))


def _equals_one_of(field: _Field, operands: Sequence[Any]) -> Condition:
    """Return the condition that the value is of an operand's kind and equals it, for at least one of the operands."""
    by_kind: dict[str, list[Any]] = {}
    for operand in operands:
        by_kind.setdefault(_kind(field, operand), []).append(operand)
    return _any([_equals_of_kind(field, kind, found) for kind, found in by_kind.items()])


def _equals_of_kind(field: _Field, kind: str, operands: list[Any]) -> Condition:
    if kind == "null":
        return Condition(f"coalesce({field.type} = 'null', 0)", field.values)
    if kind == "boolean":
        types = ", ".join("'true'" if operand else "'false'" for operand in operands)
        return Condition(f"coalesce({field.type} IN ({types}), 0)", field.values)
    wanted = "SELECT value FROM json_each(?)"  # parsed as the stored values are, so that equal digits are equal numbers
    sql = f"coalesce({field.type} IN {TYPES[kind]} AND {field.value} IN ({wanted}), 0)"
    return Condition(sql, (*field.values, *field.values, _json(field, operands)))


def _kind(field: _Field, operand: Any) -> str:
    """Return the kind of an operand, and check that a built-in can have it."""
    if operand is None:
        kind = "null"
    elif isinstance(operand, bool):
        kind = "boolean"
    elif isinstance(operand, str):
        kind = "text"
    elif isinstance(operand, int | float):
        kind = "number"
    else:
        name = shown(field.name)
        several = f"; for one of several write {{{name}: {{'in': [...]}}}}" if isinstance(operand, list) else ""
        raise SettingsError(
            f"{name} cannot be compared with {shown(operand)}; use text, a finite number, true, false or null{several}."
        )
    if field.kind is not None and kind != field.kind:
        hint = "; use {'exists': false} for videos without it" if kind == "null" else ""
        raise SettingsError(
            f"{shown(field.name)} holds a {field.kind} and cannot be compared with {shown(operand)}: give a {field.kind}{hint}."
        )
    return kind


def _json(field: _Field, operands: Any) -> str:
    text = json.dumps(operands)
    if "\\u0000" in text.replace("\\\\", ""):
        raise SettingsError(f"the text for {shown(field.name)} holds a NUL character; leave it out.")
    return text
