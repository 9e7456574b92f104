"""Metrics against brute force over all orders of tied videos, against ir_measures, and by hand."""

import math
from itertools import pairwise, permutations
from statistics import mean, median

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.errors import SettingsError
from colbert_video.training.evaluation.metrics import (
    TiedRanks,
    average_metrics,
    ideal_dcg,
    rank_relevant,
    retrieval_metrics,
)

pytestmark = pytest.mark.numeric

NAMES = ["R@1", "R@5", "R@10", "MdR", "MnR", "nDCG@10"]


def orders(scores: list[float]) -> list[tuple[int, ...]]:
    """Every ranking that the scores allow, each once."""
    return [
        order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]


def brute_force(scores: list[list[float]], relevant: list[list[bool]]) -> dict[str, float]:
    """The same metrics from their definitions, over all orders of ties."""
    found = {k: [] for k in (1, 5, 10)}
    ranks, gains = [], []
    for row, wanted in zip(scores, relevant, strict=True):
        first, gain = [], []
        for order in orders(row):
            places = [place for place, video in enumerate(order, start=1) if wanted[video]]
            first.append(places[0])
            best = sum(1 / math.log2(place + 1) for place in range(1, min(len(places), 10) + 1))
            gain.append(sum(1 / math.log2(place + 1) for place in places if place <= 10) / best)
        for k, values in found.items():
            values.append(mean(rank <= k for rank in first))
        ranks.append(mean(first))
        gains.append(mean(gain))
    recall = {f"R@{k}": mean(values) for k, values in found.items()}
    return {**recall, "MdR": median(ranks), "MnR": mean(ranks), "nDCG@10": mean(gains)}


@st.composite
def score_tables(draw: st.DrawFn) -> tuple[list[list[float]], list[list[bool]]]:
    """Few distinct values, so that ties are the rule."""
    queries, videos = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    value = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    scores = draw(st.lists(st.lists(value, min_size=videos, max_size=videos), min_size=queries, max_size=queries))
    row = st.lists(st.booleans(), min_size=videos, max_size=videos).filter(any)
    return scores, draw(st.lists(row, min_size=queries, max_size=queries))


@settings(max_examples=amount(20, thorough=60))
@given(score_tables())
def test_metrics_are_the_means_over_all_orders_of_ties(table: tuple) -> None:
    scores, relevant = table
    metrics = retrieval_metrics(torch.tensor(scores), torch.tensor(relevant))
    assert list(metrics) == NAMES
    assert metrics == pytest.approx(brute_force(scores, relevant), abs=1e-9)


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_constant_scores_find_one_in_n(videos: int, seed: int) -> None:
    relevant = torch.randint(videos, (5,), generator=torch.Generator().manual_seed(seed))
    metrics = retrieval_metrics(torch.zeros(5, videos), relevant)
    assert metrics["R@1"] == pytest.approx(1 / videos)
    assert metrics["R@10"] == pytest.approx(min(10 / videos, 1))
    assert metrics["MdR"] == metrics["MnR"] == (videos + 1) / 2


def test_values_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.1]])
    metrics = retrieval_metrics(scores, torch.tensor([0, 2, 1, 0]))  # ranks 1, 2, 3 and 1 or 2
    expected = {
        "R@1": 1.5 / 4,
        "R@5": 1.0,
        "R@10": 1.0,
        "MdR": 1.75,
        "MnR": 7.5 / 4,
        "nDCG@10": (1 + 1 / math.log2(3) + 0.5 + (1 + 1 / math.log2(3)) / 2) / 4,
    }
    assert metrics == pytest.approx(expected)


@given(st.integers(0, 10**6))
def test_nothing_depends_on_the_order_or_scale_of_videos(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(6, (8, 15), generator=generator).double()
    relevant = torch.randint(15, (8,), generator=generator)
    order = torch.randperm(15, generator=generator)
    shuffled = retrieval_metrics(scores[:, order] * 3 - 7, order.argsort()[relevant])
    assert shuffled == pytest.approx(retrieval_metrics(scores, relevant))


def test_metrics_of_many_queries_are_computed_in_parts() -> None:
    """More (query, video) entries than one step compares."""
    scores = torch.rand(3000, 7)
    relevant = torch.randint(7, (3000,))
    own = scores.gather(1, relevant[:, None])
    ranks = (scores > own).sum(dim=1) + 1
    metrics = retrieval_metrics(scores, relevant)
    assert metrics["R@1"] == pytest.approx((ranks == 1).float().mean().item(), abs=1e-6)
    assert metrics["MnR"] == pytest.approx(ranks.float().mean().item(), abs=1e-5)


def test_agreement_with_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(40, 50, generator=generator, dtype=torch.float64)
    relevant = torch.rand(40, 50, generator=generator) < 0.06
    relevant[:, 0] |= ~relevant.any(dim=1)
    run = {f"q{q}": {f"v{v}": scores[q, v].item() for v in range(50)} for q in range(40)}
    qrels = {f"q{q}": {f"v{v}": 1 for v in range(50) if relevant[q, v]} for q in range(40)}
    names = {"R@1": "Success@1", "R@5": "Success@5", "R@10": "Success@10", "nDCG@10": "nDCG@10"}
    measures = [ir_measures.parse_measure(name) for name in names.values()]
    theirs = ir_measures.calc_aggregate(measures, qrels, run)
    ours = retrieval_metrics(scores, relevant)
    for name, measure in zip(names, measures, strict=True):
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-6), name
    single = relevant.float().argmax(dim=1)
    reciprocal = ir_measures.parse_measure("RR")
    one = {f"q{q}": {f"v{single[q].item()}": 1} for q in range(40)}
    per_query = {found.query_id: found.value for found in ir_measures.iter_calc([reciprocal], one, run)}
    assert retrieval_metrics(scores, single)["MnR"] == pytest.approx(mean(1 / value for value in per_query.values()))


def test_queries_that_found_nothing_count_as_ranked_last() -> None:
    ranks = TiedRanks(
        query=np.array([0]), better=np.array([1]), tied=np.array([1]), gain=np.array([1.0]), ideal=np.array([1.0, 1.0])
    )
    metrics = average_metrics(ranks, videos=8)
    assert metrics == pytest.approx(
        {"R@1": 0.0, "R@5": 0.5, "R@10": 0.5, "MdR": 5.0, "MnR": 5.0, "nDCG@10": 0.5 / math.log2(3)}
    )


def test_ideal_gain_takes_the_best_ten_first() -> None:
    assert ideal_dcg(np.array([1.0, 3.0])) == pytest.approx(3 + 1 / math.log2(3))
    assert ideal_dcg(np.ones(12)) == pytest.approx(ideal_dcg(np.ones(10)))


def test_ranks_name_the_tie_of_each_relevant_video() -> None:
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0]])
    ranks = rank_relevant(scores, torch.tensor([[False, True, True, True]]))
    assert ranks.better.tolist() == [1, 1, 3]
    assert ranks.tied.tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        (torch.tensor([[0.0, 1.0], [0.0, float("nan")]]), torch.tensor([0, 0]), "scores of query 1 are NaN"),
        (torch.zeros(1, 2, dtype=torch.bfloat16), torch.tensor([0]), "bfloat16, which is too coarse"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "at least one query and one video"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "the position of its video, 0 to 1"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), "the position of its video, 0 to 1"),
        (torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]), "query 1 has no relevant video"),
    ],
)
def test_unusable_scores_are_refused(scores: torch.Tensor, relevant: torch.Tensor, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        retrieval_metrics(scores, relevant)
