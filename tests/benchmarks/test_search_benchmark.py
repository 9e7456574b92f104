"""The search benchmark: its corpus, its exact answers, its measures on a small corpus, and its page."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import BENCHMARKS
from thorough import cases, thorough_only

VIDEOS, DIM = 300, 64


@pytest.fixture(scope="module")
def corpus(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small stored corpus, which no test changes."""
    world = load("search_world").World(VIDEOS, "plain", DIM)
    return load("search_corpus").prepare(tmp_path_factory.mktemp("benchmark") / "corpus", world)


def naive_score(query: np.ndarray, frame: np.ndarray, video: np.ndarray) -> float:
    """MMS_F + MMS_V of one video, token by token."""
    return sum(
        float(np.mean([max(float(token @ other) for other in bag) for token in query])) for bag in (frame, video)
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


def test_the_process_of_another_engine_needs_none_of_this_package() -> None:
    hidden = "import sys; sys.modules['colbert_video'] = sys.modules['torch'] = None; import search_worker"
    subprocess.run([sys.executable, "-c", hidden], check=True, env={**os.environ, "PYTHONPATH": str(BENCHMARKS)})


@pytest.mark.parametrize(
    ("name", "package"),
    cases([("qdrant", "qdrant_edge")], thorough=[("lancedb", "lancedb"), ("qdrant-hnsw", "qdrant_edge")]),
)
def test_a_database_finds_everything_in_a_small_corpus(
    load: Any, corpus: Any, tmp_path: Path, name: str, package: str
) -> None:
    pytest.importorskip(package)
    engine = load("rivals").ENGINES[name].load()
    engine.build(corpus, tmp_path / "index")
    engine.open(corpus, tmp_path / "index")
    most = list(engine.settings.values())[-1]
    found = [list(engine.search(query, 10, **most)) for query in corpus.queries[:8]]
    assert load("search_measures").recall(found, corpus.truth[:8]) >= 0.95


@thorough_only
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


def test_bits_are_measured_as_said(load: Any) -> None:
    import torch

    bits = load("bits")
    exact, scores = torch.arange(40.0).reshape(2, 20), torch.arange(40.0).reshape(2, 20)
    scores[1] = -scores[1]
    assert bits.recall(scores, exact) == 0.5
    report = json.loads((BENCHMARKS / "results" / "bits.json").read_text(encoding="utf-8"))
    assert [(row["pool_factor"], row["nbits"]) for row in report["rows"]] == [
        (factor, nbits) for factor in bits.FACTORS for nbits in bits.NBITS
    ]
    assert [row["bytes_per_video"] for row in report["rows"][:4]] == [14 * (8 * n + 4) for n in (1, 2, 4, 8)]
