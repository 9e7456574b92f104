"""TREC's files: a run (query Q0 video rank score name) and qrels (query 0 video relevance).

Columns are separated by white space, so an id cannot hold any. Such ids are refused, or escaped as in URLs if that is
asked for: each white-space character and each "%" becomes "%XX" for every byte of its UTF-8. Whoever reads the file must
know, for nothing in it tells; all other characters, Unicode included, stay as they are.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from colbert_video.errors import SettingsError

Run = dict[str, dict[str, float]]
"""Score by video id by query id."""
Qrels = dict[str, dict[str, int]]
"""Relevance by video id by query id; 0 and less mean not relevant."""
RUN_FORM = "query Q0 video rank score name"
QRELS_FORM = "query 0 video relevance"


def read_run(path: str | Path, *, escaped: bool = False) -> Run:
    """Read a TREC run; as in trec_eval the score orders the videos, the column rank is not read.

    Args:
        path: The file.
        escaped: Whether "%XX" in ids stands for a byte, as `escape=True` writes it.

    Raises:
        SettingsError: If the file cannot be read, has no rows, or a row has not six columns, a score that is no number,
            or a video that the query has already; the text names the line.
    """
    run: Run = {}
    for line, (query, _, video, _, text, _) in _read_columns(Path(path), 6, RUN_FORM):
        score = _number(float, path, line, "score", text, "number")
        if math.isnan(score):
            raise SettingsError(f"{path}, line {line}: score is NaN; every video needs a number.")
        _insert(run, path, line, _id(query, escaped), _id(video, escaped), score)
    return run


def write_run(
    path: str | Path, rows: Iterable[tuple[str, str, int, float]], *, run_name: str, escape: bool = False
) -> Path:
    """Write a TREC run.

    Args:
        path: The file; one that exists is replaced.
        rows: (query id, video id, rank from 1, score), queries together and best first.
        run_name: The last column, the same in each row.
        escape: Whether white space and "%" in ids are written as "%XX".

    Returns:
        The path.

    Raises:
        SettingsError: If an id or the name is empty or holds white space (ids: unless escaped), or the file cannot be
            written; then there is none.
    """
    name = _written(run_name, escape=False)
    return write_lines(
        path,
        [
            f"{_written(query, escape)} Q0 {_written(video, escape)} {rank} {score} {name}"
            for query, video, rank, score in rows
        ],
    )


def read_qrels(path: str | Path, *, escaped: bool = False) -> Qrels:
    """Read TREC qrels.

    Args:
        path: The file.
        escaped: Whether "%XX" in ids stands for a byte, as `escape=True` writes it.

    Raises:
        SettingsError: If the file cannot be read, has no rows, or a row has not four columns, a relevance that is no
            whole number, or a video that the query has already; the text names the line.
    """
    qrels: Qrels = {}
    for line, (query, _, video, text) in _read_columns(Path(path), 4, QRELS_FORM):
        gain = _number(int, path, line, "relevance", text, "whole number")
        _insert(qrels, path, line, _id(query, escaped), _id(video, escaped), gain)
    return qrels


def write_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, int]], *, escape: bool = False) -> Path:
    """Write TREC qrels.

    Args:
        path: The file; one that exists is replaced.
        qrels: Relevance by video id by query id.
        escape: Whether white space and "%" in ids are written as "%XX".

    Returns:
        The path.

    Raises:
        SettingsError: If an id is empty or holds white space and is not escaped, or the file cannot be written.
    """
    return write_lines(
        path,
        [
            f"{_written(query, escape)} 0 {_written(video, escape)} {gain}"
            for query, judged in qrels.items()
            for video, gain in judged.items()
        ],
    )


def write_lines(path: str | Path, lines: Iterable[str]) -> Path:
    """Write a text file of lines.

    Raises:
        SettingsError: If it cannot be written.
    """
    path = Path(path)
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; choose another place.") from error
    return path


def _written(name: str, escape: bool) -> str:
    """An id as one column."""
    if escape and name:
        return "".join(quote(char, safe="") if char == "%" or char.isspace() else char for char in name)
    if len(name.split()) != 1 or name != name.strip():
        what = "holds white space, the character that separates columns of the file" if name else "is empty"
        raise SettingsError(f"id {name!r} {what}; rename it, or write it with escape=True (--escape).")
    return name


def _id(column: str, escaped: bool) -> str:
    return unquote(column) if escaped else column


def _read_columns(path: Path, count: int, form: str) -> Iterator[tuple[int, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 at byte {error.start}; a TREC file is text.") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise SettingsError(f"{path} holds no rows; each row is: {form}.")
    for number, columns in rows:
        if len(columns) != count:
            raise SettingsError(
                f"{path}, line {number}: {len(columns)} columns instead of {count}; a row is: {form}."
            )
        yield number, columns


def _number(kind: type, path: str | Path, line: int, name: str, text: str, what: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{path}, line {line}: {name} {text!r} is no {what}.") from error


def _insert(
    table: dict[str, dict[str, Any]], path: str | Path, line: int, query: str, video: str, value: float
) -> None:
    videos = table.setdefault(query, {})
    if video in videos:
        raise SettingsError(
            f"{path}, line {line}: query {query!r} has video {video!r} already; each may come once."
        )
    videos[video] = value


def read_queries(path: str | Path) -> dict[str, str]:
    """Read a file of queries.

    Args:
        path: A text file in UTF-8, a line "ID<tab>WORDS" for each query; empty lines are passed over.

    Returns:
        Words by query id, in the order of the file.

    Raises:
        SettingsError: If the file cannot be read or holds no query, or a line has no tab, no id, no words, or the id of
            an earlier one; the text names the line.
    """
    queries: dict[str, str] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        if not line.strip():
            continue
        if "\t" not in line:
            raise SettingsError(f"{path}, line {number}: no tab; write each query as ID, tab, words.")
        name, words = (part.strip() for part in line.split("\t", 1))
        if not name or not words:
            raise SettingsError(f"{path}, line {number}: {'no id' if not name else 'no words'}; give both.")
        if name in queries:
            raise SettingsError(f"{path}, line {number}: query {name!r} is there already; ids are unique.")
        queries[name] = words
    if not queries:
        raise SettingsError(f"{path} holds no queries; write each as a line of ID, tab, words.")
    return queries


def write_queries(path: str | Path, queries: Mapping[str, str]) -> Path:
    """Write what `read_queries` reads; white space within the words becomes single spaces.

    Args:
        path: The file; one that exists is replaced.
        queries: Words by query id.

    Raises:
        SettingsError: If an id holds a tab or a line break, or the file cannot be written.
    """
    for name in queries:
        if not name or name != name.strip() or "\t" in name or len(name.splitlines()) != 1:
            raise SettingsError(f"query id {name!r} does not fit into a line of a file; rename it.")
    return write_lines(path, (f"{name}\t{' '.join(words.split())}" for name, words in queries.items()))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
