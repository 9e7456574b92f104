"""Annotation files: JSON values of the expected type and lists of ids, with errors that name file and remedy."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colbert_video.base.user_files import read_text
from colbert_video.errors import SettingsError, in_one_line, shown
from colbert_video.training.data.text_files import TABBED, read_csv

ID_COLUMNS = ("video_id", "video", "videoid", "id")
"""Columns of a table that may hold the ids; the first one found is read."""


def read_json(path: Path) -> Any:
    """Read a JSON file; SettingsError if it cannot be read or is not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        hint = "; it is a web page, so the download failed" if error.doc.lstrip()[:1] == "<" else ""
        raise SettingsError(
            f"{path}, line {error.lineno}: not JSON: {error.msg} at column {error.colno}{hint}. Download it again."
        ) from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply to be annotations.") from error
    except ValueError as error:
        raise SettingsError(f"{path}: {in_one_line(error)}; is it the right file?") from error


def read_ids(path: Path) -> list[str]:
    """Read video ids in order, from lines of a .txt, a column of a .csv or .tsv, or a JSON list.

    Raises:
        SettingsError: If the file cannot be read, has no ids, or has one of them twice.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        ids = [text(value, path, "the list") for value in items(read_json(path), path, "the file")]
    elif suffix in (".csv", *TABBED):
        ids = _column(path)
    else:
        ids = read_text(path).split("\n")
    ids = [identifier.strip() for identifier in ids if identifier.strip()]
    if not ids:
        raise SettingsError(f"{path} lists no video; download it again.")
    _check_repeats(path, ids)
    return ids


def mapping(value: Any, path: Path, place: str) -> Mapping[str, Any]:
    """Return the value if it is an object with names; raise SettingsError otherwise."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise SettingsError(f"{path}: {place} is {_kind(value)}, not an object with names; is it the right file?")
    return value


def items(value: Any, path: Path, place: str) -> Sequence[Any]:
    """Return the value if it is a list; raise SettingsError otherwise."""
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{path}: {place} is {_kind(value)}, not a list; is it the right file?")
    return value


def text(value: Any, path: Path, place: str) -> str:
    """Return the value if it is a string; raise SettingsError otherwise."""
    if not isinstance(value, str):
        raise SettingsError(f"{path}: {place} holds {_kind(value)} where a text belongs; is it the right file?")
    return value


def field(record: Any, name: str, path: Path, place: str) -> Any:
    """Return one field of a record; raise SettingsError if it has no such field."""
    record = mapping(record, path, place)
    if name not in record:
        raise SettingsError(
            f"{path}: {place} has no {shown(name)} but {', '.join(map(repr, record)) or 'nothing'}; is it the right "
            "file?"
        )
    return record[name]


def spans(value: Any, path: Path, place: str) -> list[tuple[float, float]]:
    """Return the value if it is a list of pairs of numbers, such as [start, end] in seconds; else raise SettingsError."""
    pairs = []
    for pair in items(value, path, place):
        both = items(pair, path, place)
        if len(both) != 2 or not all(isinstance(number, int | float) for number in both):
            raise SettingsError(f"{path}: {place} holds {shown(pair)} where a pair of numbers belongs.")
        pairs.append((float(both[0]), float(both[1])))
    return pairs


def _column(path: Path) -> list[str]:
    rows = [row for _, row in read_csv(path)]
    name = next((name for name in ID_COLUMNS if rows and name in rows[0]), None)
    if rows and name is None:
        raise SettingsError(f"{path} has none of the columns {', '.join(ID_COLUMNS)}; is it a list of videos?")
    return [row[name] for row in rows] if name else []


def _check_repeats(path: Path, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for identifier in ids:
        if identifier in seen:
            raise SettingsError(f"{path} lists {shown(identifier)} twice; list each video once.")
        seen.add(identifier)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), repr(value)[:40])
