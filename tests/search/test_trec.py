"""TREC files of any ids, rankings out of them, and files of queries."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from colbert_video.errors import SettingsError
from colbert_video.search.ranking import Ranking
from colbert_video.search.trec import read_qrels, read_queries, read_run, write_qrels, write_queries

NAMES = st.text("aé% 2\t\n\u2028\x1f", min_size=1, max_size=6)
SCORES = st.floats(allow_nan=False)
FEW = settings(max_examples=20)


@FEW
@given(run=st.dictionaries(NAMES, st.dictionaries(NAMES, SCORES, min_size=1), min_size=1))
def test_any_ids_survive_when_escaped(tmp_path_factory: pytest.TempPathFactory, run: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "escaped.trec"
    Ranking.from_run(run).save_trec(path, escape=True)
    assert read_run(path, escaped=True) == run
    assert Ranking.load_trec(path, escaped=True).torun() == run


@FEW
@given(qrels=st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(), min_size=1), min_size=1))
def test_any_qrels_survive_when_escaped(tmp_path_factory: pytest.TempPathFactory, qrels: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "escaped.qrels"
    assert read_qrels(write_qrels(path, qrels, escape=True), escaped=True) == qrels


def test_escaped_ids_by_hand(tmp_path: Path) -> None:
    path = write_qrels(tmp_path / "q", {"100 %": {"my\u00a0clip é.mp4": 1}}, escape=True)
    assert path.read_text(encoding="utf-8") == "100%20%25 0 my%C2%A0clip%20é.mp4 1\n"
    assert read_qrels(path) == {"100%20%25": {"my%C2%A0clip%20é.mp4": 1}}


@pytest.mark.parametrize("name", ["my clip.mp4", "a\tb", "a\u2028b", " a"])
def test_ids_with_white_space_are_refused_unless_escaped(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"holds white space.*escape=True \(--escape\)"):
        write_qrels(tmp_path / "q", {"q": {name: 1}})
    assert not (tmp_path / "q").exists()
    with pytest.raises(SettingsError, match="id '' is empty"):
        write_qrels(tmp_path / "q", {"": {"a": 1}}, escape=True)


def test_a_run_name_is_one_word(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'two words' holds white space"):
        Ranking({"q": [("a", 1, 1.0)]}).save_trec(tmp_path / "r", run_name="two words", escape=True)


def test_scores_rank_and_not_the_column(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 a 1 0.25 x\nq Q0 b 2 0.5 x\nq Q0 c 3 0.5 x\n")
    assert Ranking.load_trec(path).todict() == {"q": [("b", 1, 0.5), ("c", 2, 0.5), ("a", 3, 0.25)]}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run cannot be written: No such file or directory"):
        Ranking({}).save_trec(tmp_path / "gone" / "run")


def test_queries_by_line(tmp_path: Path) -> None:
    path = write_queries(tmp_path / "q.tsv", {"1": "a  red\ncircle", "ö 2": "x"})
    assert path.read_text(encoding="utf-8") == "1\ta red circle\nö 2\tx\n"
    assert read_queries(path) == {"1": "a red circle", "ö 2": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no queries"),
        ("1\ta\n2 b\n", "line 2: no tab; write each query as ID, tab, words"),
        ("\ta\n", "line 1: no id"),
        ("1\t \n", "line 1: no words"),
        ("1\ta\n\n1\tb\n", "line 3: query '1' is there already"),
    ],
)
def test_wrong_queries_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.tsv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_queries(path)


def test_query_ids_that_do_not_fit_a_line_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not fit into a column"):
        write_queries(tmp_path / "q", {"a\tb": "x"})
