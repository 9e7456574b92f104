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
        ("1\ta\n\n1\tb\n", "line 3: query '1' is already there"),
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


ODD = "a\u2028b\x85c\x0cd\x1ce\x1df\x1eg\u00a0h\u3000i"
"""White space and line separators of Unicode, none of which separates anything in these files."""


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends_change_nothing(tmp_path: Path, mark: str, end: str) -> None:
    run, qrels, queries = (tmp_path / name for name in ("run", "qrels", "queries"))
    rows = f"q Q0 {ODD} 1 0.5 x\n\nq\tQ0 \t b 2 0.25 x\n"
    run.write_bytes((mark + rows).replace("\n", end).encode())
    qrels.write_bytes(f"{mark}q 0 {ODD} 1\n".replace("\n", end).encode())
    queries.write_bytes(f"{mark}q\t{ODD}\n{ODD}\tb\n".replace("\n", end).encode())
    assert read_run(run) == {"q": {ODD: 0.5, "b": 0.25}}
    assert read_qrels(qrels) == {"q": {ODD: 1}}
    assert read_queries(queries) == {"q": ODD, ODD: "b"}


def test_tabbed_files_hold_any_id_without_a_tab_or_a_line_break(tmp_path: Path) -> None:
    assert read_queries(write_queries(tmp_path / "q", {ODD: "x"})) == {ODD: "x"}
    path = Ranking({ODD: [(ODD, 1, 0.5)]}).save(tmp_path / "r")
    assert path.read_bytes() == f"{ODD}\t{ODD}\t1\t0.5\n".encode()


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\tb", "a\0b", " a", "a\u2028", "\ufeffa", ""])
def test_ids_that_no_tabbed_file_can_hold_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "q").write_text("old")
    with pytest.raises(SettingsError, match="does not fit into a column"):
        write_queries(tmp_path / "q", {name: "x"})
    with pytest.raises(SettingsError, match="does not fit into a column"):
        Ranking({"q": [(name, 1, 0.5)]}).save(tmp_path / "q")
    assert (tmp_path / "q").read_text() == "old"


@pytest.mark.parametrize("name", ["\ufeffa", "a\0b"])
def test_ids_that_a_reader_would_change_are_escaped(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="rename it, or write it with escape=True"):
        write_qrels(tmp_path / "q", {name: {"a": 1}})
    assert read_qrels(write_qrels(tmp_path / "q", {name: {"a": 1}}, escape=True), escaped=True) == {name: {"a": 1}}


@pytest.mark.parametrize("escape", [False, True])
def test_names_that_are_no_text_leave_the_old_file(tmp_path: Path, escape: bool) -> None:
    (tmp_path / "r").write_text("old")
    with pytest.raises(SettingsError, match=r"r cannot be written: its line 2 would hold '\\udcff'"):
        Ranking({"q": [("a", 1, 0.5), ("b\udcff", 2, 0.25)]}).save_trec(tmp_path / "r", escape=escape)
    assert (tmp_path / "r").read_text() == "old"


def test_the_path_that_comes_back_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_queries("~/q", {"a": "x"}) == tmp_path / "q"
    assert (tmp_path / "q").read_text() == "a\tx\n"


def test_queries_without_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="query 'b' has no words"):
        write_queries(tmp_path / "q", {"a": "x", "b": " \n"})
