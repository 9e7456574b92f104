"""Normalisations by all queries: the published formulas, what they are good for, and that they stand apart."""

import io

import pytest
import torch
from rich.console import Console

from colbert_video.training.evaluation.evaluation import Evaluation
from colbert_video.training.evaluation.metrics import retrieval_metrics
from colbert_video.training.evaluation.transductive import (
    csls,
    dual_softmax,
    querybank_norm,
    transductive_metrics,
    transductive_scores,
)

SCORES = torch.tensor([[0.5, 0.6, 0.1], [0.2, 0.9, 0.1], [0.3, 0.8, 0.75]])
"""The second video is a hub: it wins all queries."""
RELEVANT = torch.tensor([0, 1, 2])


def test_dual_softmax_is_that_of_the_paper() -> None:
    exponentials = (100 * SCORES.double()).exp()
    torch.testing.assert_close(dual_softmax(SCORES.double()), SCORES.double() * exponentials / exponentials.sum(dim=0))


def test_querybank_norm_divides_by_the_nearness_of_the_bank() -> None:
    exponentials = (20 * SCORES.double()).exp()
    torch.testing.assert_close(querybank_norm(SCORES.double()).exp(), exponentials / exponentials.sum(dim=0))


def test_csls_orders_rows_as_its_formula_does() -> None:
    scores = torch.randn(30, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    of_queries = scores.topk(10, dim=1).values.mean(dim=1, keepdim=True)
    of_videos = scores.topk(10, dim=0).values.mean(dim=0)
    assert torch.equal(csls(scores).argsort(dim=1), (2 * scores - of_queries - of_videos).argsort(dim=1))


def test_a_hub_no_longer_wins() -> None:
    assert retrieval_metrics(SCORES, RELEVANT)["R@1"] == pytest.approx(1 / 3)
    assert {name: metrics["R@1"] for name, metrics in transductive_metrics(SCORES, RELEVANT).items()} == {
        "DSL": 1.0,
        "QB-Norm": 1.0,
        "CSLS": 1.0,
    }


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (40, 7)])
def test_any_shape_and_high_scores_are_finite(shape: tuple[int, int]) -> None:
    for found in transductive_scores(2 * torch.ones(shape)).values():
        assert found.shape == shape
        assert found.isfinite().all()


def test_they_stand_apart() -> None:
    plain = Evaluation({"mms_fv": retrieval_metrics(SCORES, RELEVANT)}, "single-caption", 3, 3)
    assert "transductive" not in plain.to_dict()
    both = Evaluation(
        plain.interactions, "single-caption", 3, 3, transductive={"mms_fv": transductive_metrics(SCORES, RELEVANT)}
    )
    values = both.to_dict()
    assert values["interactions"] == plain.to_dict()["interactions"]
    assert values["transductive"]["mms_fv"]["DSL"]["R@1"] == 1.0
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(both.table())
    shown = console.export_text()
    assert (
        shown.index("33.3")
        < shown.index("transductive: all test queries decide together")
        < shown.index("mms_fv with DSL")
    )
