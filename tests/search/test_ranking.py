import inspect
from pathlib import Path

import numpy as np
import pytest

from colbert_video.errors import SettingsError
from colbert_video.search.ranking import Ranking
from colbert_video.search.trec import write_run

ROWS = {"q1": [("a", 1, 0.9), ("b", 2, 0.5)], "q2": [("b", 1, 0.25)]}


def test_rows_come_back_as_colbert_gives_them() -> None:
    assert Ranking(ROWS).todict() == ROWS
    assert Ranking(ROWS).torun() == {"q1": {"a": 0.9, "b": 0.5}, "q2": {"b": 0.25}}


def test_saved_rows_are_colberts(tmp_path: Path) -> None:
    path = Ranking(ROWS).save(tmp_path / "run.tsv")
    assert path.read_text() == "q1\ta\t1\t0.9\nq1\tb\t2\t0.5\nq2\tb\t1\t0.25\n"


def test_saved_trec_run(tmp_path: Path) -> None:
    path = Ranking(ROWS).save_trec(tmp_path / "run.trec", run_name="mine")
    assert path.read_text().splitlines()[0] == "q1 Q0 a 1 0.9 mine"


def test_ids_with_white_space_do_not_fit_a_trec_run(tmp_path: Path) -> None:
    ranking = Ranking({"q": [("my clip.mp4", 1, 1.0)]})
    with pytest.raises(SettingsError, match=r"'my clip.mp4' holds white space, the character that separates"):
        ranking.save_trec(tmp_path / "run.trec")
    assert ranking.save(tmp_path / "run.tsv").read_text() == "q\tmy clip.mp4\t1\t1.0\n"


def test_ids_with_tabs_do_not_fit_colberts_rows(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not fit into a column: it is empty, holds a tab"):
        Ranking({"q": [("a\tb", 1, 1.0)]}).save(tmp_path / "run.tsv")


@pytest.mark.parametrize("score", [float("nan"), np.float32("nan"), "0.5", None, True])
def test_a_score_that_is_no_number_is_refused_by_name(score: object, tmp_path: Path) -> None:
    message = "the score of video 'b' for query 'q' is"
    run = {"q": {"a": 1.0, "b": score}}
    with pytest.raises(SettingsError, match=message):
        inspect.unwrap(Ranking.from_run.__func__)(Ranking, run)  # past the test suite's own type checks
    plain = inspect.unwrap(write_run)
    with pytest.raises(SettingsError, match=message):
        plain(tmp_path / "run", [("q", "a", 1, 1.0), ("q", "b", 2, score)], run_name="x")
    assert not (tmp_path / "run").exists()


def test_infinite_scores_rank_at_the_ends() -> None:
    ranking = Ranking.from_run({"q": {"a": float("-inf"), "b": 0.0, "c": float("inf")}})
    assert [video for video, _, _ in ranking.todict()["q"]] == ["c", "b", "a"]
