"""The study of losses: as many tries for each, rows from the best of them, resuming, paired tests, page and plot."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import loss_study
from frozen_features import FrozenFeatures
from loss_study import TUNED, LossLedger, best, fixed_rows, grid, wanted
from loss_study_runs import LossFigures, LossRun
from pages import render
from paired_tests import compare, holm, verdicts
from views import loss_study as loss_study_view

BUDGET = {
    "train_clips": 48,
    "test_clips": 4,
    "steps": 2,
    "batch": 16,
    "learning_rate": 1e-3,
    "pretrained_learning_rate": 6e-4,
}
FACTS = {"budget": BUDGET, "lengths": [2, 4], "validation_clips": 16}


def figures(run: LossRun, last: float, hits: str = "") -> LossFigures:
    metrics = {"R@1": hits.count("1") / 4, "R@5": 0.9, "nDCG@10": 0.8, "motion pairs": 0.7} if hits else {}
    return LossFigures(run, {"1": 0.1, "2": last}, {"2": run.point} if run.point else {}, metrics, hits, 9.0)


def tuned() -> list[LossFigures]:
    """All tries; the third of each loss is the best."""
    return [figures(run, 0.9 if number == 2 else 0.5) for loss in TUNED for number, run in enumerate(grid(loss, 2))]


def test_each_loss_has_its_tries_and_a_combined_one_those_of_the_sum() -> None:
    assert [len(grid(loss, 2)) for loss in TUNED] == [8, 6, 8, 6]
    for kind in ("sigmoid", "infonce"):
        for dual, combined in zip(grid(f"dual_{kind}", 2), grid(f"combined_{kind}", 2), strict=True):
            assert combined.scale == dual.scale / 2
            assert combined.bias == dual.bias
    assert [run.config(loss_study.BUDGETS["quick"]).loss for run in grid("dual_infonce", 2)] == ["dual_infonce"] * 6


def test_rows_are_the_best_tries_and_the_untuned_settings(tmp_path: Path) -> None:
    ledger = LossLedger(tmp_path / "figures.json", FACTS)
    ledger.made = tuned()
    assert best(ledger.made, "dual_infonce") == grid("dual_infonce", 2)[2]
    runs = [*wanted(ledger, (2, 4), [0, 1])]
    assert len(runs) == len(set(runs)) == 2 * 2 * (len(TUNED) + len(fixed_rows(2, 0)))
    assert runs[0] == replace(grid("dual_sigmoid", 2)[2], seed=0)
    papers = fixed_rows(2, 0)["dual sigmoid, the paper's constants"]
    assert papers.point == pytest.approx(0.1097, abs=1e-4)


def test_a_run_that_the_figures_hold_is_not_repeated(tmp_path: Path) -> None:
    run = LossRun("dual_sigmoid", 30.0, "calibrate", 2, 0)
    made = figures(run, 0.5, "1010")
    assert LossLedger(tmp_path / "figures.json", FACTS).get(run, lambda: made) == made

    def again() -> LossFigures:
        raise AssertionError("measured again")

    assert LossLedger(tmp_path / "figures.json", FACTS).get(run, again) == made
    with pytest.raises(SystemExit, match="choose another --output"):
        LossLedger(tmp_path / "figures.json", {**FACTS, "validation_clips": 3})


def test_the_bootstrap_tells_a_real_difference_from_a_lucky_one() -> None:
    random = np.random.default_rng(0)

    def row(share: float) -> dict[int, str]:
        return {seed: "".join("01"[int(hit)] for hit in random.random(400) < share) for seed in range(3)}

    clusters = [number // 2 for number in range(400)]
    good, same, bad = ("good", row(0.9)), ("same", row(0.9)), ("bad", row(0.7))
    real, lucky = compare(good, bad, clusters), compare(good, same, clusters)
    assert real is not None
    assert lucky is not None
    assert real.mean == pytest.approx(0.2, abs=0.04)
    assert real.low < real.mean < real.high
    assert (real.p_value < 0.001, real.one_sign) == (True, True)
    assert lucky.low < 0 < lucky.high
    found = verdicts([real, lucky])
    assert (found["Established"], found["Not established"]) == ([real], [lucky])
    assert verdicts([replace(real, gains=real.gains[:2])])["Weak"]  # two seeds establish nothing
    assert compare(good, ("other", {7: good[1][0]}), clusters) is None


def test_one_cluster_of_many_queries_is_one_observation() -> None:
    first, second = ("a", {0: "1" * 100}), ("b", {0: "0" * 90 + "1" * 10})
    alone, together = compare(first, second, range(100)), compare(first, second, [0] * 90 + [*range(1, 11)])
    assert alone is not None
    assert together is not None
    assert alone.high - alone.low < together.high - together.low


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def report() -> dict[str, Any]:
    runs = tuned()
    for seed in (0, 1, 2):
        for number, run in enumerate([replace(best(runs, "dual_sigmoid"), seed=seed), *fixed_rows(2, seed).values()]):
            runs.append(figures(run, 0.7, ("1110", "1100", "1000", "0000")[number]))
    return json.loads(json.dumps({"facts": FACTS, "pairs": "0 0 1 1", "runs": [run.to_dict() for run in runs]}))


def test_the_page_has_tries_rows_and_tests() -> None:
    method, rows = (render("loss_study", block, report()) for block in ("method", "rows"))
    assert "**100, 0.35 → 90.0**" in method
    assert "| dual sigmoid, tuned | 100, 0.35 | 75.0 ± 0.0 | 90.0 ± 0.0 | 80.0 ± 0.0 | 70.0 ± 0.0 | 3 |" in rows
    assert "dual sigmoid, tuned before dual sigmoid, the paper's constants (75.0 points" in rows
    assert "4 steps" not in rows  # none of its rows was run


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from loss_curves import draw_loss_curves

    draw_loss_curves(loss_study_view(report())["rows_at"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_frozen_tower_is_asked_once_for_a_picture() -> None:
    asked = []

    def tower(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(len(pixels))
        return pixels.flatten(1).sum(dim=1, keepdim=True)

    features = FrozenFeatures()
    remembered = features.around(tower)
    pixels = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(remembered(pixels[:3]), tower(pixels[:3]))
    assert torch.equal(remembered(pixels[[3, 1, 0]]), tower(pixels[[3, 1, 0]]))
    assert asked[0::2] == [3, 1]
    assert len(features) == 4
