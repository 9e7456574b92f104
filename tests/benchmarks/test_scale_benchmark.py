"""The plan for very many videos: its arithmetic, its simulation of a fan-out, and that the page holds its figures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "scale.md"


@pytest.fixture
def known(load: Any) -> Any:
    """Round figures."""
    return load("scale_model").Measured(
        sizes=(100, 10_000),
        query_ms=(1.0, 16.0),
        peak_megabytes=(1.1, 11.0),
        disk_bytes=500.0,
        build_ms=2.0,
        open_seconds=1.0,
        stages={
            "centroid products": 4.0,
            "scan and selection": 8.0,
            "candidates in int8": 3.0,
            "finalists in fp32": 1.0,
        },
        decode_ms=36.0,
        encode_ms=360.0,
        frames=12,
    )


@pytest.fixture
def given(load: Any) -> Any:
    return load("scale_model").Assumed(
        shard_videos=10_000,
        cores=10,
        memory_gigabytes=0.1,
        memory_share=0.5,
        load=0.5,
        build_cores=100,
        gpus=2,
        gpu_frames=1000.0,
        list_share=0.25,
        wanted_qps=50.0,
    )


def test_memory_is_a_line_through_the_measured_sizes(known: Any) -> None:
    assert known.resident_bytes == pytest.approx(1000.0)
    assert known.process_bytes == pytest.approx(1e6)


def test_cost_of_a_shard_between_and_beyond_what_was_measured(known: Any) -> None:
    assert [known.shard_ms(size) for size in (100, 1_000, 10_000)] == pytest.approx([1.0, 4.0, 16.0])
    for size in (99, 10_001):
        with pytest.raises(ValueError, match=f"a shard of {size} videos was not measured; 100 to 10000 were"):
            known.shard_ms(size)


def test_a_plan_by_hand(load: Any, known: Any, given: Any) -> None:
    plan = load("scale_model").plan(95_000, known, given)
    assert (plan.shards, plan.shards_a_machine, plan.machines) == (10, 4, 3)  # 11 MB a shard, 50 MB a machine
    assert plan.resident_gigabytes == pytest.approx(0.11)
    assert plan.disk_terabytes == pytest.approx(95_000 * 500 * 2 * 2 / 1e12)
    assert plan.query_cpu_seconds == pytest.approx(0.16)
    assert plan.queries_a_second == pytest.approx(3 * 5 / 0.16)
    assert plan.wanted_machines == 6  # two copies; 50 queries/s alone would need 2
    assert plan.decode_hours == pytest.approx(0.95)
    assert plan.encode_cpu_hours == pytest.approx(9.5)
    assert plan.encode_gpu_hours == pytest.approx(95 * 12 / 3600)
    assert plan.compress_hours == plan.recode_hours == pytest.approx(95 * 2 / 3600)
    assert plan.build_days == pytest.approx(95 * 12 / 3600 / 2 / 24)  # the GPUs take longer than the cores
    assert plan.query_kilobytes == pytest.approx(3 * (32 * 512 * 4 + 5000) / 1000)
    assert plan.query_kilobytes_flat == pytest.approx(10 * (32 * 512 * 4 + 5000) / 1000)
    assert plan.merged_hits == 100
    assert plan.scanned_gigabytes == pytest.approx(95_000 * 26 * 4 / 1e9)
    busy = load("scale_model").plan(95_000, known, replace(given, wanted_qps=1000.0))
    assert busy.wanted_machines == 32


def test_improvements_follow_each_other(load: Any, known: Any, given: Any) -> None:
    model = load("scale_model")
    costs = model.improvements(known, given, 80_000)  # 8 shards, 4 of them on a machine
    candidates = 3 * 8**model.CANDIDATE_GROWTH / 8  # as many in all as one shard of this size would have
    assert list(costs.values()) == pytest.approx([16.0, 13.0, 10 + candidates, 4 + candidates])
    least = 4 + candidates
    assert model.improved(known, given, 80_000).query_ms == pytest.approx((least / 16, least))
    assert list(model.improvements(known, given, 10_000).values()) == pytest.approx([16, 16, 16, 10])


def test_figures_are_read_from_the_right_rows(load: Any) -> None:
    known = load("scale_model").measured(RESULTS)
    assert list(known.sizes) == sorted(known.sizes)
    assert known.sizes[-1] == load("scale_model").Assumed().shard_videos
    assert list(known.query_ms) == sorted(known.query_ms)
    assert 20 * 26 < known.resident_bytes < 20_000
    assert known.frames == 12


def test_the_slowest_of_independent_shards(load: Any) -> None:
    """Of S uniform latencies the slowest has the S-th root of a half as its median."""
    model, rng = load("fanout_model"), np.random.default_rng(3)
    samples = np.linspace(0, 100, 10_001)
    for shards in (1, 3, 100):
        tail = model.simulate(samples, shards, queries=20_000, rng=rng)
        assert tail.p50 == pytest.approx(100 * 0.5 ** (1 / shards), abs=1.5)
        assert tail.p99 == pytest.approx(100 * 0.99 ** (1 / shards), abs=1.0)
        assert (tail.lost, tail.asked_twice) == (0.0, 0.0)


def test_a_deadline_and_a_copy(load: Any) -> None:
    model, rng = load("fanout_model"), np.random.default_rng(3)
    samples = np.array([10.0] * 9 + [1000.0])
    cut = model.simulate(samples, 20, queries=5_000, rng=rng, deadline=50.0)
    assert (cut.p50, cut.p99) == (50.0, 50.0)
    assert cut.lost == pytest.approx(0.1, abs=0.01)
    hedged = model.simulate(samples, 1, queries=50_000, rng=rng, hedge=20.0)
    assert hedged.asked_twice == pytest.approx(0.1, abs=0.01)
    assert hedged.p95 == 30.0  # the copy answers at 20 + 10
    both = model.simulate(samples, 20, queries=5_000, rng=rng, hedge=20.0, deadline=50.0)
    assert both.lost == pytest.approx(0.01, abs=0.005)
    again = model.simulate(samples, 20, queries=5_000, rng=np.random.default_rng(4), hedge=20.0)
    assert again == model.simulate(samples, 20, queries=5_000, rng=np.random.default_rng(4), hedge=20.0)


def test_a_distribution_through_two_quantiles(load: Any) -> None:
    model = load("fanout_model")
    samples = model.lognormal_samples(80.0, 120.0, 200_000, np.random.default_rng(1))
    found = model.quantiles(samples)
    assert found["p50"] == pytest.approx(80, rel=0.01)
    assert found["p95"] == pytest.approx(120, rel=0.01)


def test_the_fan_out_is_compared_where_one_was_measured(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("search.json", "scan.json", "indexing.json", "serve.json"):
        (tmp_path / name).write_text((RESULTS / name).read_text())
    fanout = load("fanout")
    monkeypatch.setattr(fanout, "SAMPLES", 1_000)
    assert fanout.figures_of(tmp_path, seed=1, queries=50)["check"] is None
    histogram = {"histogram_edges": [1.0, 2.0, 4.0], "histogram_counts": [3, 1]}
    answers = {"quantiles": {"p50": 1.5, "p95": 3.0, "p99": 4.0}}
    cluster = {"corpus": {"shards": 2}, "quiet": {"each_shard": histogram, "answers": answers}}
    (tmp_path / "cluster_serving.json").write_text(json.dumps(cluster))
    figures = fanout.figures_of(tmp_path, seed=1, queries=2_000)
    median = load("scale_model").measured(RESULTS).query_ms[-1]
    assert figures["shard"]["p50"] == pytest.approx(median)
    assert figures["shard"]["p99"] - figures["shard"]["p50"] < 3.0, "varied by milliseconds, not in proportion"
    assert figures["check"]["measured"] == answers["quantiles"]
    # Half of the queries have both shards below the 71st percentile, 0.94 of the way through the first cell's octave.
    assert figures["check"]["simulated"]["p50"] == pytest.approx(2**0.943, rel=0.05)
    assert "| measured | 1.5 |" in load("pages").render("fanout", "check", figures)
    load("plots").draw_fanout(figures, tmp_path / "fanout.svg")
    assert "wait for all, p99" in (tmp_path / "fanout.svg").read_text()


def test_other_assumptions(load: Any) -> None:
    scale = load("scale")
    given = scale.assumptions(["cores=128", "load=0.7"])
    assert (given.cores, given.load) == (128, 0.7)
    with pytest.raises(SystemExit, match="'core' is not assumed"):
        scale.assumptions(["core=1"])
