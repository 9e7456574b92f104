"""Rankings of any system, from TREC's files: a run (query Q0 video rank score name) and qrels (query 0 video relevance)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from colbert_video.errors import SettingsError
from colbert_video.training.metrics import TiedRanks, ideal_dcg

Run = dict[str, dict[str, float]]
"""Score by video id by query id."""
Qrels = dict[str, dict[str, int]]
"""Relevance by video id by query id; 0 and less mean not relevant."""


def read_run(path: str | Path) -> Run:
    """Read a TREC run; as in trec_eval the score orders the videos, the column rank is not read.

    Raises:
        SettingsError: If the file cannot be read, has no rows, or a row has not six columns, a score that is no number,
            or a video that the query has already; the text names the line.
    """
    run: Run = {}
    for line, (query, _, video, _, text, _) in _read_columns(Path(path), 6, "query Q0 video rank score name"):
        score = _number(float, path, line, "score", text, "number")
        if math.isnan(score):
            raise SettingsError(f"{path}, line {line}: score is NaN; every video needs a number.")
        _insert(run, path, line, query, video, score)
    return run


def read_qrels(path: str | Path) -> Qrels:
    """Read TREC qrels.

    Raises:
        SettingsError: If the file cannot be read, has no rows, or a row has not four columns, a relevance that is no
            whole number, or a video that the query has already; the text names the line.
    """
    qrels: Qrels = {}
    for line, (query, _, video, text) in _read_columns(Path(path), 4, "query 0 video relevance"):
        _insert(qrels, path, line, query, video, _number(int, path, line, "relevance", text, "whole number"))
    return qrels


def rank_run(run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]) -> TiedRanks:
    """Where the relevant videos stand in a run.

    Args:
        run: Score by video by query; what it does not hold was not found.
        qrels: Relevance by video by query. Queries without a relevant video are left out, as trec_eval does.

    Returns:
        One entry for each relevant video that the run holds; queries in the order of the qrels.

    Raises:
        SettingsError: If no query has a relevant video.
    """
    relevant = {
        query: {video: gain for video, gain in judged.items() if gain > 0} for query, judged in qrels.items()
    }
    relevant = {query: gains for query, gains in relevant.items() if gains}
    if not relevant:
        raise SettingsError("no query of the qrels has a relevant video; there is nothing to evaluate.")
    entries = [
        (position, *place)
        for position, (query, gains) in enumerate(relevant.items())
        for place in _places(run.get(query, {}), gains)
    ]
    table = np.array(entries, dtype=np.float64).reshape(-1, 4)  # (ranked, 4)
    query, better, tied = table[:, :3].T.astype(np.int64)
    ideal = [ideal_dcg(np.array(list(gains.values()), dtype=np.float64)) for gains in relevant.values()]
    return TiedRanks(query, better, tied, table[:, 3], np.array(ideal))


def _places(scored: Mapping[str, float], gains: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """Videos before, videos level with, and gain of each relevant video that was found."""
    scores = np.fromiter(scored.values(), dtype=np.float64, count=len(scored))
    for video, gain in gains.items():
        if video in scored:
            own = scored[video]
            yield int((scores > own).sum()), int((scores == own).sum()), gain


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
