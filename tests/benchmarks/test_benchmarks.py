"""The search benchmark: its corpus, its exact answers, its measures on a small corpus, and its page."""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import BENCHMARKS

VIDEOS, DIM = 300, 64


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the benchmark as its scripts do: they find each other in their own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def corpus(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small stored corpus, which no test changes."""
    world = load("search_world").World(VIDEOS, "plain", DIM)
    return load("search_corpus").prepare(tmp_path_factory.mktemp("benchmark") / "corpus", world)


def naive_score(query: np.ndarray, frame: np.ndarray, video: np.ndarray) -> float:
    """MMS_F + MMS_V of one video, token by token."""
    return sum(
        float(np.mean([max(float(token @ other) for other in bag) for token in query]))
        for bag in (frame, video)
    )


@pytest.mark.parametrize("kind", ["plain", "outliers"])
def test_tokens_have_unit_length_and_are_the_same_whenever_they_are_made(load: Any, kind: str) -> None:
    world = load("search_world").World(VIDEOS, kind, DIM)
    bags = world.tokens(0)
    assert {bag: tokens.shape for bag, tokens in bags.items()} == {
        "frame": (VIDEOS, 12, DIM),
        "video": (VIDEOS, 14, DIM),
    }
    queries, targets = world.queries(5)
    for tokens in (*bags.values(), queries):
        assert tokens.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(tokens, axis=-1), 1, atol=1e-5)
    assert len(set(targets.tolist())) == 5
    larger = load("search_world").World(10 * VIDEOS, kind, DIM).tokens(0)
    for bag, tokens in bags.items():
        np.testing.assert_array_equal(larger[bag][:VIDEOS], tokens)


def test_geometry_is_that_of_the_description(load: Any) -> None:
    frames = load("search_world").World(VIDEOS).tokens(0)["frame"]
    neighbours = (frames[:, 1:] * frames[:, :-1]).sum(-1)
    assert np.median(neighbours) == pytest.approx(0.90, abs=0.01)
    assert float((frames[0] @ frames[100:].reshape(-1, 512).T).mean()) == pytest.approx(0.11, abs=0.03)


def test_outlier_dimensions_hold_a_large_common_component(load: Any) -> None:
    plain, outliers = (
        load("search_world").World(VIDEOS, kind).tokens(0)["video"] for kind in load("search_world").KINDS
    )
    place = int(0.26 * 512)
    assert abs(float(plain[..., place].mean())) < 0.02
    assert float(outliers[..., place].mean()) > 0.5
    assert float((outliers[..., place] > 0).mean()) == 1.0


def test_exact_answers_are_those_of_scoring_token_by_token(corpus: Any) -> None:
    frame, video = corpus.bag("frame"), corpus.bag("video")
    scores = [naive_score(corpus.queries[0], frame[number], video[number]) for number in range(VIDEOS)]
    assert corpus.truth[0, :10].tolist() == np.argsort(-np.array(scores), kind="stable")[:10].tolist()


def test_a_corpus_that_is_not_stored_reads_the_same(
    load: Any, corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("search_corpus")
    monkeypatch.setattr(module, "MAX_STORED", 0)
    generated = module.prepare(tmp_path / "generated", corpus.world)
    assert corpus.stored
    assert not generated.stored
    assert len(generated.bag("video")) == VIDEOS
    np.testing.assert_array_equal(generated.bag("video")[VIDEOS - 1], corpus.bag("video")[VIDEOS - 1])
    np.testing.assert_array_equal(np.stack(list(generated.bag("frame"))), corpus.bag("frame"))
    np.testing.assert_array_equal(generated.truth, corpus.truth)
    assert generated.cache.seconds > 0


def test_exhaustive_search_finds_everything(load: Any, corpus: Any, tmp_path: Path) -> None:
    engine = load("rivals").ENGINES["torch-fp32"].load()
    engine.build(corpus, tmp_path / "index")
    engine.open(corpus, tmp_path / "index")
    found = [list(engine.search(query, 10)) for query in corpus.queries]
    assert load("search_measures").recall(found, corpus.truth) == 1.0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are bound to cores on Linux only")
def test_our_engine_is_measured_in_a_process_of_its_own(
    load: Any, corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent))
    cores = [min(os.sched_getaffinity(0))]
    contest = load("search_measures").Contest(corpus, tmp_path / "work", {}, 2, cores)
    (row,) = contest.run(["ours-4bit"])
    result = row["results"]["default"]
    assert result["queries"] == 128
    assert result["recall"] >= 0.9
    assert result["success"] >= 0.9
    assert len(result["cpu_ms"]["rounds"]) == 2
    assert 0 < result["cpu_ms"]["p50"] <= result["cpu_ms"]["p95"]
    assert result["queries_per_second"] > 0
    assert row["index_bytes_per_video"] > 26 * DIM // 2
    assert row["build_cpu_seconds"] > 0
    report = load("search").Report(tmp_path / "report.json")
    report.add([row])
    again = load("search").Report(tmp_path / "report.json")
    assert again.missing(VIDEOS, "plain", ["ours-4bit", "faiss-ivf"]) == ["faiss-ivf"]
    assert again.missing(VIDEOS, "outliers", ["ours-4bit"]) == ["ours-4bit"]


def test_a_failing_engine_is_a_row_that_says_why(load: Any, corpus: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such package >&2\nexit 3\n")
    python.chmod(0o755)
    contest = load("search_measures").Contest(corpus, tmp_path / "work", {"colbert": str(python)}, 1, [0])
    (row,) = contest.run(["colbert"])
    assert "exit code 3: no such package" in row["failed"]


def test_beaten_settings_are_dropped(load: Any) -> None:
    measured = {
        "slow and poor": {"recall": 0.8, "cpu_ms": 9.0},
        "fast": {"recall": 0.8, "cpu_ms": 1.0},
        "slow": {"recall": 0.99, "cpu_ms": 5.0},
        "no better": {"recall": 0.99, "cpu_ms": 6.0},
    }
    assert load("search_measures").unbeaten(measured) == ["fast", "slow"]


def test_recall_counts_the_exact_top_ten(load: Any) -> None:
    truth = np.arange(40).reshape(2, 20)
    found = [list(range(10)), [20, 21, 22, 23, 24, 99, 98, 97, 30, 31]]
    assert load("search_measures").recall(found, truth) == pytest.approx(0.75)


def test_most_promising_adds_up_what_the_query_tokens_found(load: Any) -> None:
    pytest.importorskip("faiss")
    most_promising = load("rivals.faiss_tokens").most_promising
    similarity = np.array([[0.9, 0.8, 0.5], [0.9, 0.7, 0.5]], np.float32)
    videos = np.array([[1, 2, 1], [2, 3, 3]])
    # video 1: 0.9 + (missing) 0.5; video 2: 0.8 + 0.9; video 3: (missing) 0.5 + 0.7, its best token
    assert sorted(most_promising([(similarity, videos)], 2).tolist()) == [1, 2]
    assert most_promising([(similarity, videos)], 1).tolist() == [2]
    assert most_promising([(similarity, videos)], 5).tolist() == [1, 2, 3]


def canned_row(
    engine: str, size: int, figures: dict[str, tuple[float, float]], **extra: Any
) -> dict[str, Any]:
    """A row of the report; figures are recall and CPU ms by setting."""
    results = {
        setting: {
            "queries": 128,
            "recall": recall,
            "success": 0.906,
            "cpu_ms": {"p50": cost, "p95": 2 * cost, "rounds": [cost, cost]},
            "wall_ms": {"p50": cost, "p95": cost},
            "peak_megabytes": 512.0,
        }
        for setting, (recall, cost) in figures.items()
    }
    best = max(figures, key=lambda setting: figures[setting][0])
    return {
        "engine": engine,
        "size": size,
        "corpus": "plain",
        "dim": 512,
        "tuning_queries": 32,
        "tuning": {
            setting: {"recall": recall, "cpu_ms": cost} for setting, (recall, cost) in figures.items()
        },
        "reads_tokens": ["b"],
        "open_wall_seconds": 0.4,
        "build_cpu_seconds": 61.4,
        "index_bytes_per_video": 7000.0,
        "token_bytes_per_video": 53248,
        "best": best,
        "results": results,
        **extra,
    }


def test_page_says_who_is_faster_at_the_same_recall(load: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        canned_row("ours-4bit", 20_000, {"default": (0.97, 1.5)}),
        canned_row("colbert", 20_000, {"a": (0.93, 10.0), "b": (0.99, 30.0)}),
        canned_row("faiss-hnsw", 20_000, {"a": (0.966, 6.0), "b": (0.90, 1.0)}),
        canned_row("ours-4bit", 100_000, {"default": (0.96, 4.0)}),
        {"engine": "fast-plaid", "size": 20_000, "corpus": "plain", "dim": 512, "failed": "out of memory"},
    ]
    results = tmp_path / "search.json"
    machine = {"processor": "a processor", "cores": 2, "system": "Linux"}
    results.write_text(json.dumps({"machine": machine, "rows": rows}))
    load("search_page").write_page(results, tmp_path / "docs" / "performance.md")
    text = (tmp_path / "docs" / "performance.md").read_text()
    assert (
        "1.50 ms at recall 0.970; the cheapest other engine of that recall is faiss HNSW16-SQ8 (a), 6.00 ms"
        in text
    )
    assert "4.0 times as long" in text
    assert "4.00 ms at recall 0.960; no other engine reached that recall." in text
    assert (
        "| stock colbert-ai, 4 bits | **b** | 0.990 | 0.906 | 30.00 | 60.00 |  | 61 | 0.4 | 60.2 | 0.5 |"
        in text
    )
    assert (
        "| colbert_video, 4 bits | **default** | 0.970 | 0.906 | 1.50 | 3.00 |  | 61 | 0.4 | 7.0 | 0.5 |"
        in text
    )
    assert "fast-plaid, 4 bits failed: `out of memory`" in text
    assert "100,000 videos, plain corpus: not run: colbert_video, 8 bits, stock" in text
    for name in ("search_recall.svg", "search_cost.svg"):
        assert "faiss HNSW16-SQ8" in (tmp_path / "docs" / "figures" / name).read_text()


def test_committed_page_is_that_of_the_committed_figures(load: Any) -> None:
    pytest.importorskip("matplotlib")
    search, page = load("search"), load("search_page")
    assert search.PAGE.read_text() == page.page_text(search.RESULTS)


def test_page_shows_what_pooling_saves(load: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    machine = {"processor": "a processor", "cores": 2, "system": "Linux"}
    rows = [canned_row("ours-4bit", 20_000, {"default": (0.97, 1.5)})]
    (tmp_path / "search.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    pooled = [
        {
            "rule": rule,
            "value": value,
            "tokens_per_video": 14,
            "bytes_per_video": 504,
            "R@1": 0.9,
            "R@10": 1.0,
        }
        for rule, value in (("none", None), ("factor", 2.0), ("similarity", 0.95))
    ]
    report = {"clips": 1000, "seed": 1, "dim": 64, "nbits": 4, "rows": pooled}
    (tmp_path / "pooling.json").write_text(json.dumps(report))
    load("search_page").write_page(tmp_path / "search.json", tmp_path / "docs" / "performance.md")
    text = (tmp_path / "docs" / "performance.md").read_text()
    assert "| none | 14.0 | 504 | 0.900 | 1.000 |" in text
    assert "| similarity 0.95 | 14.0 | 504 | 0.900 | 1.000 |" in text
    assert "by similarity" in (tmp_path / "docs" / "figures" / "pooling.svg").read_text()
