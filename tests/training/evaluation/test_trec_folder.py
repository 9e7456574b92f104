"""What evaluations leave for other tools, which must come to the same figures; and runs of many queries."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from command_line import exit_code, run
from hypothesis import given, settings

from colbert_video.errors import SettingsError
from colbert_video.search.ranking import Ranking
from colbert_video.search.searcher import Searcher
from colbert_video.search.trec import read_qrels, read_queries, read_run
from colbert_video.training.evaluation.metrics import average_metrics, rank_run, retrieval_metrics
from colbert_video.training.evaluation.trec_folder import TrecFolder, rank_scores
from colbert_video.training.world import write_world

pytestmark = pytest.mark.numeric

NAMES = {"R@1": "Success@1", "R@5": "Success@5", "R@10": "Success@10", "nDCG@10": "nDCG@10"}


def theirs(qrels: dict, run: dict) -> dict[str, float]:
    ir_measures = pytest.importorskip("ir_measures")
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in NAMES.items()}
    found = ir_measures.calc_aggregate([*measures.values()], qrels, run)
    return {name: found[measure] for name, measure in measures.items()}


VIDEOS = [f"v{number}" for number in range(12)]
ORDERS = st.lists(st.tuples(st.permutations(VIDEOS), st.integers(1, 12), st.sets(st.sampled_from(VIDEOS), min_size=1)))


@settings(max_examples=10)
@given(drawn=ORDERS.filter(len))
def test_figures_without_ties_are_those_of_ir_measures(drawn: list) -> None:
    run = {f"q{q}": {v: -float(p) for p, v in enumerate(order[:held])} for q, (order, held, _) in enumerate(drawn)}
    qrels = {f"q{q}": dict.fromkeys(relevant, 1) for q, (_, _, relevant) in enumerate(drawn)}
    ours = average_metrics(rank_run(run, qrels), videos=12)
    for name, figure in theirs(qrels, run).items():
        assert ours[name] == pytest.approx(figure, abs=1e-6), name


def test_figures_with_ties_are_the_mean_over_their_orders() -> None:
    """trec_eval puts the greater id first; over all ways to name the tied videos that is the mean over their orders."""
    scores = {"best": 2.0, "x": 1.0, "y": 1.0, "z": 1.0, "last": 0.5}
    relevant = {"x": 1, "last": 1}
    ours = average_metrics(rank_run({"q": scores}, {"q": relevant}), videos=5)
    figures = []
    for names in permutations("abc"):
        called = dict(zip("xyz", names, strict=True))
        run = {called.get(video, video): score for video, score in scores.items()}
        figures.append(theirs({"q": {called.get(video, video): 1 for video in relevant}}, {"q": run}))
    for name in NAMES:
        assert ours[name] == pytest.approx(sum(found[name] for found in figures) / len(figures), abs=1e-6), name


def test_rankings_of_a_score_matrix() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    ranking = rank_scores(scores, ["p", "q"], ["a", "b", "c"], 2)
    assert [row[:2] for row in ranking.todict()["p"]] == [("b", 1), ("c", 2)]
    assert [row[:2] for row in ranking.todict()["q"]] == [("a", 1), ("b", 2)]
    relevant = torch.tensor([2, 0])
    full = rank_scores(scores, ["p", "q"], ["a", "b", "c"], 9).torun()
    ranks = rank_run(full, {"p": {"c": 1}, "q": {"a": 1}})
    assert average_metrics(ranks, 3) == pytest.approx(retrieval_metrics(scores, relevant))


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="k=0 must be at least 1"):
        TrecFolder(tmp_path, k=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        TrecFolder(tmp_path / "file").write({}, {}, {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trec-world") / "my clips"
    write_world(folder, count=6, seed=5, split="test")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    path = tmp_path_factory.mktemp("trec-model") / "model"
    tiny_trained_model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, world: Path, model: Path) -> Path:
    path = tmp_path_factory.mktemp("trec-index") / "my.index"
    arguments = ["index", str(world.parent), "--index", str(path), "--model", str(model), "--workers", "1"]
    assert exit_code(arguments) == 0
    return path


def test_evaluations_leave_what_gives_their_figures(
    world: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, left = world / "captions.jsonl", tmp_path / "left"
    asked = ["evaluate", "--model", str(model), "--data", str(manifest), "--trec", str(left), "--workers", "1"]
    code, out, _ = run([*asked, "--json"], capsys)
    assert code == 0
    figures = json.loads(out)["interactions"]
    assert {path.stem for path in left.glob("*.trec")} == {*figures}
    queries, qrels = read_queries(left / "queries.tsv"), read_qrels(left / "qrels.txt")
    assert queries.keys() == qrels.keys()
    assert len(queries) == 6
    compared: list[str] = []
    for name, ours in figures.items():
        held = read_run(left / f"{name}.trec")
        if all(len(set(scored.values())) == len(scored) for scored in held.values()):
            assert ours["nDCG@10"] == pytest.approx(theirs(qrels, held)["nDCG@10"], abs=1e-4), name
            compared.append(name)  # ties are left out: trec_eval decides them by the ids
        files = ["--run", str(left / f"{name}.trec"), "--qrels", str(left / "qrels.txt")]
        again = json.loads(run(["evaluate", *files, "--json"], capsys)[1])
        assert again["interactions"]["run"] == pytest.approx(ours)
    assert compared, "every run has ties"
    assert "--trec has no effect" in run(["evaluate", *files, "--trec", str(left)], capsys)[2]


def test_an_index_is_evaluated_and_searched_to_the_same_run(
    index: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ids hold a space, "my clips/clip-0001.mp4", so its runs are escaped."""
    queries = tmp_path / "queries.tsv"
    rows = [json.loads(line) for line in (world / "captions.jsonl").read_text().splitlines()]
    queries.write_text("".join(f"{number}\t{row['caption']}\n" for number, row in enumerate(rows)))
    output = tmp_path / "run.trec"
    arguments = ["search", "--index", str(index), "--queries", str(queries), "--trec", str(output)]
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert "holds white space" in err
    code, out, _ = run([*arguments, "--escape", "--exact", "-k", "4", "--json"], capsys)
    assert (code, json.loads(out)) == (0, {"run": str(output), "queries": 6, "k": 4})
    assert "my%20clips/clip-" in output.read_text()
    with Searcher(index) as searcher:
        expected = searcher.search_all(read_queries(queries), 4, exact=True)
    assert Ranking.load_trec(output, escaped=True).todict() == expected.todict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queries", "q"], "--queries FILE and --trec RUN belong together"),
        (["words", "--trec", "r"], "--queries FILE and --trec RUN belong together"),
        (["words", "--queries", "q", "--trec", "r"], "say what to look for"),
        (["--queries", "q", "--trec", "r", "--windows"], "a run ranks videos; leave --windows out"),
        (["--queries", "q", "--trec", "r", "--explain"], "--explain shows what words found"),
    ],
)
def test_wrong_searches_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["search", "--index", "i", *arguments], capsys)
    assert code == 2
    assert message in err
