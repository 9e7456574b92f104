"""The benchmark of a GPU runs through on the CPU; a part that fails leaves its error and costs no other."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import BENCHMARKS, ROOT
from thorough import thorough_only

from colbert_video.indexing.scan.scan import search_segment


@thorough_only
def test_it_runs_through_on_the_cpu(load: Any, tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--tiny", "--output", output]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["device"] == "cpu"
    assert report["parts"].keys() == load("gpu_parts").PARTS.keys()
    figures = {name: part["figures"] for name, part in report["parts"].items()}
    assert set(figures["tests"]["counts"]) == {"skipped"} or torch.cuda.is_available()
    for name in ("encoding", "encoding_compiled"):
        assert [row["precision"] for row in figures[name]["rows"]] == ["fp32", "bf16", "fp16"]
        assert all(row["cosine_videos"] > 0.99 and row["ms_per_video"] > 0 for row in figures[name]["rows"])
    for name in ("training", "training_gradcache"):
        assert figures[name]["samples_per_second"] > 0
    for name in ("search", "search_large"):
        assert figures[name]["equal_hits"]
        assert figures[name]["planted_first"] == 1
        assert figures[name]["overlap"] > 0.5


def test_a_part_that_fails_costs_no_other(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, parts = load("gpu"), load("gpu_parts")
    answers = {"tests": {"seconds": 1.0, "error": "exit code 1: out of\nmemory"}}
    fine = {"seconds": 2.0, "figures": {"ms": 1.5, "cpu_ms": 3.0}}
    monkeypatch.setattr(gpu, "run_apart", lambda name, *_: answers.get(name, fine))
    report = gpu.measure(["tests", "search"], parts.Setup("cpu", tiny=True), tmp_path / "gpu.json")
    assert report["parts"] == {"tests": answers["tests"], "search": fine}
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")) == report


def test_no_part_starts_when_the_time_is_over(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, parts = load("gpu"), load("gpu_parts")
    monkeypatch.setattr(gpu, "SECONDS", 0)
    monkeypatch.setattr(gpu, "run_apart", lambda *_: pytest.fail("it was started"))
    report = gpu.measure(["tests"], parts.Setup("cpu", tiny=True), None)
    assert "were over" in report["parts"]["tests"]["error"]


def test_a_part_that_hangs_is_ended(load: Any) -> None:
    gpu, parts = load("gpu"), load("gpu_parts")
    assert gpu.run_apart("search", parts.Setup("cpu", tiny=True), 0.05)["error"] == "it took longer than its 0 s"


def test_all_parts_fit_into_the_time(load: Any) -> None:
    parts = load("gpu_parts").PARTS
    first = [part.seconds for name, part in parts.items() if name != "encoding_compiled"]
    assert sum(first) < load("gpu").SECONDS <= 480


def test_planted_videos_are_found_first(load: Any) -> None:
    parts = load("gpu_parts")
    segment, codecs = parts.random_segment(60, 64, "cpu")
    for row, query in enumerate(parts.planted_queries(segment, codecs["frame"], 3)):
        assert query.shape == (32, 64)
        torch.testing.assert_close(query.norm(dim=1), torch.ones(32))
        found = search_segment(segment, codecs, query, k=5, exact=True)
        assert int(found.rows[0]) == row
        assert parts.same_hits(found, found)


@pytest.mark.parametrize(
    ("rows", "scores", "same"),
    [
        ([4, 2, 9], [0.9, 0.8, 0.7], True),
        ([2, 4, 9], [0.9, 0.8, 0.7], True),  # as good as equal, or their scores would differ
        ([4, 2, 5], [0.9, 0.8, 0.70005], True),  # the last is as good as the other's
        ([4, 2, 9], [0.9, 0.8, 0.6], False),
        ([4, 5, 9], [0.9, 0.8, 0.7], False),
    ],
)
def test_hits_are_the_same_but_for_scores_that_are_as_good_as_equal(
    load: Any, rows: list[int], scores: list[float], same: bool
) -> None:
    parts = load("gpu_parts")
    one, other = (
        parts.Scored(torch.tensor(each), {}, torch.tensor(values))
        for each, values in (([4, 2, 9], [0.9, 0.8, 0.7]), (rows, scores))
    )
    assert parts.same_hits(one, other) is same
