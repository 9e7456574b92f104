"""Agreement with ranx, in metrics and in fusion, on random runs without ties."""

from typing import Any

import numpy as np
import pytest

from colbert_video.search.fusion import fuse
from colbert_video.search.ranking import Ranking
from colbert_video.training.evaluation.metrics import average_metrics, rank_run

VIDEOS = 12
METRICS = {"R@1": "hit_rate@1", "R@5": "hit_rate@5", "R@10": "hit_rate@10", "nDCG@10": "ndcg@10"}


@pytest.fixture(scope="module")
def ranx() -> Any:
    """ranx as plain Python, for compiling it takes a minute."""
    numba = pytest.importorskip("numba")
    numba.config.DISABLE_JIT = True
    return pytest.importorskip("ranx")


def random_runs(seed: int, *, complete: bool) -> list[dict[str, dict[str, float]]]:
    """Two runs; `complete` ones hold the same videos."""
    rng = np.random.default_rng(seed)
    runs: list[dict[str, dict[str, float]]] = [{}, {}]
    for query in range(4):
        for run in runs:
            held = range(VIDEOS) if complete else rng.choice(VIDEOS, 8, replace=False)
            run[f"q{query}"] = {f"v{video}": float(rng.normal()) for video in held}
    return runs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("method", "norm", "name", "complete"),
    [("rrf", None, "rrf", False), ("min_max", "min-max", "sum", False), ("z_score", "zmuv", "sum", True)],
)
def test_fusion(ranx: Any, method: str, norm: str | None, name: str, complete: bool, seed: int) -> None:
    """Of videos that a run does not hold, ranx makes z-scores of 0, the mean; there we differ on purpose."""
    runs = random_runs(seed, complete=complete)
    theirs = ranx.fuse([ranx.Run(run) for run in runs], norm=norm, method=name).to_dict()
    ours = fuse([Ranking.from_run(run) for run in runs], method).torun()  # type: ignore[arg-type]
    assert ours.keys() == theirs.keys()
    for query in ours:
        assert ours[query] == pytest.approx(theirs[query], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_metrics(ranx: Any, seed: int) -> None:
    run = random_runs(seed, complete=False)[0]
    rng = np.random.default_rng(seed)
    qrels = {query: {f"v{video}": 1 for video in rng.choice(VIDEOS, 3, replace=False)} for query in run}
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), list(METRICS.values()))
    ours = average_metrics(rank_run(run, qrels), videos=VIDEOS)
    for name, metric in METRICS.items():
        assert ours[name] == pytest.approx(float(theirs[metric]), abs=1e-9), name
