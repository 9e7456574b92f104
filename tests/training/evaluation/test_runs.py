"""TREC files: what is read, the line of every error, and agreement with ir_measures."""

from pathlib import Path

import numpy as np
import pytest

from colbert_video.errors import SettingsError
from colbert_video.search.ranking import Ranking
from colbert_video.search.trec import read_qrels, read_run
from colbert_video.training.evaluation.metrics import average_metrics, rank_run


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_reads_what_a_ranking_saves(tmp_path: Path) -> None:
    ranking = Ranking({"q1": [("b", 1, 2.5), ("a", 2, -1.0)], "q2": [("a", 1, 0.125)]})
    path = ranking.save_trec(tmp_path / "run.trec")
    assert read_run(path) == ranking.torun() == {"q1": {"b": 2.5, "a": -1.0}, "q2": {"a": 0.125}}


def test_qrels_keep_grades(tmp_path: Path) -> None:
    path = write(tmp_path / "qrels", "q1 0 a 2", "", "q1 0 b 0", "q2\t0\tc\t-1")
    assert read_qrels(path) == {"q1": {"a": 2, "b": 0}, "q2": {"c": -1}}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no rows; each row is: query Q0 video rank score name"),
        (["q Q0 a 1 0.5 x", "q Q0 b 2 0.4"], "line 2: 5 columns instead of 6"),
        (["q Q0 a 1 high x"], "line 1: score 'high' is not a number"),
        (["q Q0 a 1 nan x"], "line 1: score of video 'a' for query 'q' is NaN"),
        (["q Q0 a 1 0.5 x", "", "q Q0 a 2 0.4 x"], "line 3: query 'q' already has video 'a'"),
    ],
)
def test_wrong_runs_are_refused_with_their_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_run(write(tmp_path / "run", *lines))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["q 0 a"], "line 1: 3 columns instead of 4; a row is: query 0 video relevance"),
        (["q 0 a 1", "q 0 b 0.5"], "line 2: relevance '0.5' is not a whole number"),
        (["q 0 a 1", "q 0 a 1"], "line 2: query 'q' already has video 'a'"),
    ],
)
def test_wrong_qrels_are_refused_with_their_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_qrels(write(tmp_path / "qrels", *lines))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="gone cannot be read: No such file"):
        read_run(tmp_path / "gone")
    (tmp_path / "binary").write_bytes(b"q 0 \xff 1\n")
    with pytest.raises(SettingsError, match="binary is not UTF-8 at byte 4"):
        read_qrels(tmp_path / "binary")


def test_places_in_a_run_by_hand() -> None:
    run = {"q1": {"a": 2.0, "b": 2.0, "c": 1.0}, "q3": {"a": 1.0}}
    qrels = {"q0": {"a": 0}, "q1": {"c": 1, "b": 2, "gone": 1}, "q2": {"a": 1}}
    ranks = rank_run(run, qrels)
    assert ranks.query.tolist() == [0, 0]  # q0 has nothing relevant, q2 is not in the run
    assert ranks.better.tolist() == [2, 0]
    assert ranks.tied.tolist() == [1, 2]
    assert ranks.gain.tolist() == [1.0, 2.0]
    metrics = average_metrics(ranks, videos=4)
    assert metrics["R@1"] == 0.25  # q1 by chance of a tie, q2 not at all
    assert metrics["MnR"] == (1.5 + 4) / 2


def test_qrels_without_anything_relevant_are_refused() -> None:
    with pytest.raises(SettingsError, match="no query of the qrels has a relevant video"):
        rank_run({"q": {"a": 1.0}}, {"q": {"a": 0}})


def test_agreement_with_ir_measures_on_incomplete_runs() -> None:
    """Rankings that end early, graded relevance, queries without results."""
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(4)
    videos = [f"v{number}" for number in range(30)]
    run = {
        f"q{q}": dict(zip(rng.choice(videos, 12, replace=False), rng.random(12).tolist(), strict=True))
        for q in range(25)
    }
    qrels = {
        f"q{q}": {str(v): int(rng.integers(0, 4)) for v in rng.choice(videos, 6, replace=False)} for q in range(28)
    }
    qrels = {query: {**judged, "v0": 1} for query, judged in qrels.items()}
    names = {"R@1": "Success@1", "R@5": "Success@5", "R@10": "Success@10", "nDCG@10": "nDCG@10"}
    measures = [ir_measures.parse_measure(name) for name in names.values()]
    theirs = ir_measures.calc_aggregate(measures, qrels, run)
    ours = average_metrics(rank_run(run, qrels), videos=30)
    for name, measure in zip(names, measures, strict=True):
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-6), name
