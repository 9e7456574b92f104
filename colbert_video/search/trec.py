r"""Text files of evaluation: TREC's runs and qrels, and queries.

A row of a run is "query Q0 video rank score name", one of qrels "query 0 video relevance".

Columns of TREC's files are separated by blanks and tabs, lines end with "\n" or "\r\n"; no other character separates
anything. Other programs also separate at the white space of Unicode, so an id that is written cannot hold any. Such ids
are refused, or escaped as in URLs if that is asked for: each white-space character and each "%" becomes "%XX" for every
byte of its UTF-8; all other characters, Unicode included, stay as they are. The file does not say so: its readers must
know.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from colbert_video.base.checks import id_text, score_of, whole_number
from colbert_video.base.user_files import expand_path, read_text, user_path
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError, shown

Run = dict[str, dict[str, float]]
"""Score by video id by query id."""
Qrels = dict[str, dict[str, int]]
"""Relevance by video id by query id; 0 and less mean not relevant."""
RUN_FORM = "query Q0 video rank score name"
QRELS_FORM = "query 0 video relevance"
BOM = "\ufeff"
"""A byte order mark, which counts as none of the text where a line begins with it."""
BLANKS = re.compile(r"[ \t]+")
UNWRITABLE = "\t\n\r\0"
"""Characters that an id in a file of tabbed columns cannot hold."""


def read_run(path: str | Path, *, escaped: bool = False) -> Run:
    """Read a TREC run; as in trec_eval the score orders the videos, the column rank is not read.

    Args:
        path: The file.
        escaped: True if "%XX" in ids stands for a byte, as `escape=True` writes it.

    Raises:
        SettingsError: If the file cannot be read or has no rows, or a row does not have six columns, its score is not a
            number, or its query has the video already; the text names the line.
    """
    run: Run = {}
    for where, (query, _, video, _, score, _) in _read_columns(user_path(path, "the run"), RUN_FORM):
        value = _number(float, where, "score", score)
        if math.isnan(value):
            raise SettingsError(
                f"{where}: score of video {shown(video)} for query {shown(query)} is NaN; every video needs a number."
            )
        _insert(run, where, _id(query, escaped), _id(video, escaped), value)
    return run


def read_qrels(path: str | Path, *, escaped: bool = False) -> Qrels:
    """Read TREC qrels.

    Args:
        path: The file.
        escaped: True if "%XX" in ids stands for a byte, as `escape=True` writes it.

    Raises:
        SettingsError: If the file cannot be read or has no rows, or a row does not have four columns, its relevance is not
            a whole number, or its query has the video already; the text names the line.
    """
    qrels: Qrels = {}
    for where, (query, _, video, relevance) in _read_columns(user_path(path, "qrels"), QRELS_FORM):
        gain = _number(int, where, "relevance", relevance)
        _insert(qrels, where, _id(query, escaped), _id(video, escaped), gain)
    return qrels


def read_queries(path: str | Path) -> dict[str, str]:
    """Read a file of queries.

    Args:
        path: A text file in UTF-8, a line "ID<tab>WORDS" for each query; empty lines are skipped.

    Returns:
        Words by query id, in the order of the file.

    Raises:
        SettingsError: If the file cannot be read or holds no query, or a line has no tab, no id, no words, or the id of
            an earlier one; the text names the line.
    """
    queries: dict[str, str] = {}
    for where, line in _read_lines(user_path(path, "the file of queries")):
        if "\t" not in line:
            raise SettingsError(f"{where}: no tab; write each query as ID, tab, words.")
        name, words = (part.strip() for part in line.split("\t", 1))
        if not name or not words:
            raise SettingsError(f"{where}: {'no words' if name else 'no id'}; give both.")
        if name in queries:
            raise SettingsError(f"{where}: query {shown(name)} is already there; ids must be unique.")
        queries[name] = words
    if not queries:
        raise SettingsError(f"{path} holds no queries; write each as a line of ID, tab, words.")
    return queries


def write_run(
    path: str | Path, rows: Iterable[tuple[str, str, int, float]], *, run_name: str, escape: bool = False
) -> Path:
    """Write a TREC run; return its path.

    Args:
        path: The file; one that exists is replaced.
        rows: (query id, video id, rank from 1, score), queries together and best first.
        run_name: The last column, the same in each row.
        escape: True to write white space and "%" in ids as "%XX".

    Raises:
        SettingsError: If an id or the name is empty or holds white space (ids: unless escaped), or the file cannot be
            written; then there is none.
    """
    name = _column(run_name, escape=False)
    lines = [
        f"{_column(query, escape)} Q0 {_column(video, escape)} {rank} {score_of(query, video, score)} {name}"
        for query, video, rank, score in rows
    ]
    return _write_lines(path, lines)


def write_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, int]], *, escape: bool = False) -> Path:
    """Write TREC qrels; return their path.

    Args:
        path: The file; one that exists is replaced.
        qrels: Relevance by video id by query id.
        escape: True to write white space and "%" in ids as "%XX".

    Raises:
        SettingsError: If an id is empty or holds white space and is not escaped, or the file cannot be written.
    """
    lines = [
        f"{_column(query, escape)} 0 {_column(video, escape)} {whole_number('relevance', gain)}"
        for query, judged in qrels.items()
        for video, gain in judged.items()
    ]
    return _write_lines(path, lines)


def write_queries(path: str | Path, queries: Mapping[str, str]) -> Path:
    """Write what `read_queries` reads; white space within the words becomes single spaces.

    Raises:
        SettingsError: As `write_tabbed`, or if a query has no words.
    """
    wordless = [name for name, words in queries.items() if not words.strip()]
    if wordless:
        raise SettingsError(f"query {shown(wordless[0])} has no words; give it some, or leave it out.")
    return write_tabbed(path, (([name], " ".join(words.split())) for name, words in queries.items()))


def write_tabbed(path: str | Path, rows: Iterable[tuple[list[str], str]]) -> Path:
    """Write rows of ids and one more text, separated by tabs; return the path.

    Raises:
        SettingsError: If an id is empty or holds a tab or a line break, or the file cannot be written.
    """
    lines = []
    for ids, rest in rows:
        for name in ids:
            if not name or any(char in name for char in UNWRITABLE) or name != name.strip() or name[0] == BOM:
                raise SettingsError(
                    f"id {shown(name)} does not fit into a column: it is empty, holds a tab, a line break or a zero "
                    "byte, or begins or ends with white space; rename it."
                )
        lines.append("\t".join([*ids, rest]))
    return _write_lines(path, lines)


def check_columns(names: Iterable[str], *, escape: bool) -> None:
    """Check before long work that ids can be columns of a TREC file.

    Raises:
        SettingsError: If one is empty or holds white space and is not escaped.
    """
    for name in names:
        _column(name, escape)


def _write_lines(path: str | Path, lines: Iterable[str]) -> Path:
    target = expand_path(path)
    write_text(target, "".join(f"{line}\n" for line in lines))
    return target


def _column(name: str, escape: bool) -> str:
    """Return an id as one column; a whole number in digits."""
    name = name if isinstance(name, str) else id_text(name)
    if escape and name:
        return "".join(quote(char, safe="") if _is_escaped(char) else char for char in name)
    if len(name.split()) != 1 or name != name.strip() or name[0] == BOM or "\0" in name:
        what = "holds white space, the character that separates columns of the file" if name else "is empty"
        raise SettingsError(f"id {shown(name)} {what}; rename it, or write it with escape=True (--escape).")
    return name


def _is_escaped(char: str) -> bool:
    return char in ("%", BOM, "\0") or char.isspace()


def _id(column: str, escaped: bool) -> str:
    return unquote(column) if escaped else column


def _read_columns(path: Path, form: str) -> Iterator[tuple[str, list[str]]]:
    empty = True
    for where, line in _read_lines(path):
        empty, columns, count = False, BLANKS.split(line.strip(" \t")), len(form.split())
        if len(columns) != count:
            raise SettingsError(f"{where}: {len(columns)} columns instead of {count}; a row is: {form}.")
        yield where, columns
    if empty:
        raise SettingsError(f"{path} holds no rows; each row is: {form}.")


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not empty, each with where it is, for errors."""
    lines = read_text(path).removesuffix("\r").split("\n")
    return ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip(" \t"))


def _number(kind: type, where: str, name: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        what = "whole number" if kind is int else "number"
        raise SettingsError(f"{where}: {name} {shown(text)} is not a {what}.") from error


def _insert(table: dict[str, dict[str, Any]], where: str, query: str, video: str, value: float) -> None:
    videos = table.setdefault(query, {})
    if video in videos:
        raise SettingsError(f"{where}: query {shown(query)} already has video {shown(video)}; list each once.")
    videos[video] = value
