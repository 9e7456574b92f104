"""Rank fusion by hand, and its laws."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from thorough import amount

from colbert_video.cli import main
from colbert_video.errors import SettingsError
from colbert_video.model.interaction import RRF_CONSTANT as INTERACTION_CONSTANT
from colbert_video.search.fusion import RRF_CONSTANT, fuse
from colbert_video.search.ranking import Ranking

ONE = Ranking.from_run({"q": {"a": 3.0, "b": 2.0, "c": 1.0}})
TWO = Ranking.from_run({"q": {"c": 30.0, "d": 10.0}})


def test_reciprocal_ranks_by_hand() -> None:
    fused = fuse([ONE, TWO]).torun()["q"]
    assert fused == {"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62}
    assert [video for video, _, _ in fuse([ONE, TWO]).todict()["q"]] == ["c", "a", "b", "d"]  # b and d are tied
    assert RRF_CONSTANT == INTERACTION_CONSTANT


def test_equal_scores_share_the_best_rank() -> None:
    tied = Ranking.from_run({"q": {"a": 1.0, "b": 1.0, "c": 0.5}})
    assert fuse([tied]).torun()["q"] == {"a": 1 / 61, "b": 1 / 61, "c": 1 / 63}


def test_min_max_by_hand() -> None:
    fused = fuse([ONE, TWO], "min_max", weights=[1.0, 0.25]).torun()["q"]
    assert fused == {"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.0}
    assert fuse([Ranking.from_run({"q": {"a": 7.0}}), TWO], "min_max").torun()["q"]["a"] == 1.0


def test_z_scores_by_hand() -> None:
    fused = fuse([ONE, TWO], "z_score").torun()["q"]
    spread = (2 / 3) ** 0.5
    assert fused == pytest.approx({"a": 1 / spread - 2, "b": -2.0, "c": -1 / spread + 1, "d": -1 - 2.0})


def test_to_be_found_is_never_worse_than_not() -> None:
    far = {f"v{number}": 1.0 for number in range(50)} | {"last": -1000.0}  # seven deviations below the mean
    rankings = [Ranking.from_run({"q": far}), Ranking.from_run({"q": {"last": 1.0, "never": 1.0}})]
    fused = fuse(rankings, "z_score").torun()["q"]
    assert fused["never"] <= fused["last"] < -6


@pytest.mark.parametrize("method", ["rrf", "min_max", "z_score"])
def test_queries_of_one_run_alone(method: str) -> None:
    other = Ranking.from_run({"p": {"a": 1.0, "b": 0.5}})
    fused = fuse([ONE, other], method)  # type: ignore[arg-type]
    assert [*fused.todict()] == ["q", "p"]
    assert [row[0] for row in fused.todict()["p"]] == ["a", "b"]
    assert fused.todict()["q"] == fuse([ONE], method).todict()["q"]  # type: ignore[arg-type]


def test_k_cuts() -> None:
    assert [row[:2] for row in fuse([ONE, TWO], k=2).todict()["q"]] == [("c", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rankings": []}, "nothing to fuse"),
        ({"weights": [1.0]}, "1 weights for 2 rankings"),
        ({"weights": [-1.0, 1.0]}, "finite and not negative"),
        ({"weights": [0.0, 0.0]}, "one above 0"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"constant": -1.0}, "constant=-1.0 must be at least 0"),
    ],
)
def test_senseless_fusions_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fuse(**{"rankings": [ONE, TWO], **arguments})


def test_endless_scores_have_ranks_alone() -> None:
    endless = Ranking.from_run({"q": {"a": float("inf"), "b": 1.0}})
    assert fuse([endless]).todict()["q"][0][0] == "a"
    with pytest.raises(SettingsError, match="score of video 'a' is inf, which cannot be normalised; fuse by rank"):
        fuse([endless], "min_max")


def test_equal_scores_tell_nothing_however_they_are_rounded() -> None:
    alike = Ranking.from_run({"q": dict.fromkeys("abc", 0.1)})  # three of them have a mean above 0.1
    assert fuse([alike], "z_score").torun()["q"] == dict.fromkeys("abc", 0.0)


SCORED = st.dictionaries(st.sampled_from("abcdef"), st.integers(-5, 5).map(float), min_size=1)


@settings(max_examples=amount(16, thorough=50))
@given(
    runs=st.lists(SCORED, min_size=1, max_size=3),
    method=st.sampled_from(["rrf", "min_max", "z_score"]),
    scale=st.floats(0.5, 4.0),
    shift=st.floats(-8.0, 8.0),
)
def test_laws_of_fusion(runs: list[dict[str, float]], method: str, scale: float, shift: float) -> None:
    rankings = [Ranking.from_run({"q": run}) for run in runs]
    fused = fuse(rankings, method).torun()["q"]  # type: ignore[arg-type]
    assert fused.keys() == {video for run in runs for video in run}
    moved = [Ranking.from_run({"q": {v: scale * s + shift for v, s in run.items()}}) for run in runs]
    assert fuse(moved, method).torun()["q"] == pytest.approx(fused, abs=1e-6)  # type: ignore[arg-type]
    twice = fuse(rankings * 2, method).torun()["q"]  # type: ignore[arg-type]
    assert twice == pytest.approx({video: 2 * score for video, score in fused.items()})


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spaced = Ranking.from_run({"q": {"my a.mp4": 3.0, "b": 2.0}})
    one, two = spaced.save_trec(tmp_path / "1", escape=True), TWO.save_trec(tmp_path / "2")
    output = tmp_path / "fused"
    arguments = ["fuse", str(one), str(two), "--output", str(output), "--weight", "2", "--weight", "1"]
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--escape", "--json"])
    assert not exit_.value.code
    assert json.loads(capsys.readouterr().out) == {"output": str(output), "runs": 2, "queries": 1, "rows": 4}
    expected = fuse([spaced, TWO], weights=[2, 1])
    assert Ranking.load_trec(output, escaped=True).todict() == expected.todict()
    assert output.read_text().endswith("fused_rrf\n")
