"""The study of first dimensions: what a run is scored with, what is not repeated, and its table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import nested_dims
from nested_dims import ROWS, SEARCHED, cut_tokens, facts_of
from pages import render
from thorough import thorough_only

from colbert_video.model.tokens import TokenBags, VideoTokens


def run(row: str, seed: int, r1: float) -> dict[str, Any]:
    metrics = {str(dim): {"R@1": r1 - 1 / dim, "R@5": 0.9, "nDCG@10": 0.8} for dim in SEARCHED}
    return {"row": row, "seed": seed, "metrics": metrics, "cpu_seconds": 9.0}


def report(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"facts": facts_of(nested_dims.BUDGETS["quick"]), "runs": list(runs)}


def test_the_table_compares_rows_of_one_seed() -> None:
    plain, nested = ROWS
    runs = [run(plain, 0, 0.6), run(nested, 0, 0.7), run(plain, 1, 0.5), run(nested, 1, 0.7)]
    table = render("nested_dims", "rows", report(*runs))
    assert "| trained with | 64 dimensions | 32 dimensions | 16 dimensions | 8 dimensions |" in table
    (gain,) = [line for line in table.splitlines() if line.startswith("| gain")]
    assert gain.count("+15.0 ± 7.1") == len(SEARCHED)
    assert "over seeds 0, 1" in table


def test_both_bags_are_cut() -> None:
    bag = TokenBags(torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool))
    frame, video = cut_tokens(VideoTokens(bag, bag), 2)
    assert video is not None
    assert (frame.shape, video.shape) == ((1, 4, 2), (1, 4, 2))


def test_runs_that_are_there_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def measured(shop: Any, row: str, seed: int) -> dict[str, Any]:
        made.append((row, seed))
        return run(row, seed, 0.5)

    monkeypatch.setattr(nested_dims, "measure", measured)
    monkeypatch.setattr(nested_dims.Workshop, "render", lambda self: None)
    output = tmp_path / "figures.json"
    arguments = ["--budget", "quick", "--cache", str(tmp_path), "--output", str(output), "--seeds"]
    nested_dims.main([*arguments, "0"])
    nested_dims.main([*arguments, "0", "1"])
    assert made == [(row, seed) for seed in (0, 1) for row in ROWS]
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert len(figures["runs"]) == 4
    output.write_text(json.dumps({**figures, "facts": {}}), encoding="utf-8")
    with pytest.raises(SystemExit, match="choose another --output"):
        nested_dims.main([*arguments, "0"])


@thorough_only
def test_it_runs_through(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    nested_dims.main(["--budget", "quick", "--cache", str(tmp_path), "--output", str(output), "--seeds", "0"])
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert [one["row"] for one in runs] == [*ROWS]
    assert all(0 <= values["R@1"] <= 1 for one in runs for values in one["metrics"].values())
    assert runs[0]["metrics"] != runs[1]["metrics"]
