"""Scores equal but for their last bits count as equal, wherever an order is decided."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.indexing.segments.opened_segment import Scored
from colbert_video.model.interaction import SCORE_RESOLUTION, best_first, reciprocal_rank_fusion, settle_ties
from colbert_video.search.explain import _best
from colbert_video.search.fusion import fuse as fuse_rankings
from colbert_video.search.moments import best_moment
from colbert_video.search.ranking import Ranking
from colbert_video.training.evaluation.metrics import retrieval_metrics

LEVELS = (1.31, 0.9, 0.5, 0.25, -0.1)
"""Far enough apart that only videos of one level are tied."""


@st.composite
def tied_rows(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 scores with many equal ones, and the same with up to two units in the last place added or taken away."""
    queries, videos = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    levels = draw(st.lists(st.sampled_from(LEVELS), min_size=queries * videos, max_size=queries * videos))
    bits = draw(st.lists(st.integers(-2, 2), min_size=len(levels), max_size=len(levels)))
    exact = np.array(levels, dtype=np.float32).reshape(queries, videos)
    shaken = exact + np.array(bits, dtype=np.float32).reshape(exact.shape) * np.spacing(exact)
    return torch.from_numpy(exact), torch.from_numpy(shaken.astype(np.float32))


@given(tied_rows())
def test_last_bits_change_no_metric(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    exact, shaken = rows
    relevant = torch.arange(len(exact)) % exact.shape[1]
    assert retrieval_metrics(shaken, relevant) == retrieval_metrics(exact, relevant)
    several = torch.rand(exact.shape) < 0.5
    several[:, 0] = True
    assert retrieval_metrics(shaken, several) == retrieval_metrics(exact, several)


@given(tied_rows())
def test_last_bits_change_no_order(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    for exact, shaken in zip(*rows, strict=True):
        stable = exact.sort(descending=True, stable=True).indices
        for k in (1, 2, len(exact), None):
            assert best_first(shaken, k).tolist() == stable[:k].tolist()
        scored = Scored(torch.arange(len(exact)), {"frame": shaken}, shaken).best(2)
        assert scored.rows.tolist() == stable[:2].tolist()
        assert scored.total.tolist() == shaken[stable[:2]].tolist()  # the score itself stays to the bit


@given(tied_rows())
def test_last_bits_change_no_rank_fusion(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    exact, shaken = rows
    assert reciprocal_rank_fusion(shaken, exact).equal(reciprocal_rank_fusion(exact, exact))
    runs = [
        {str(query): {str(video): float(score) for video, score in enumerate(row)} for query, row in enumerate(table)}
        for table in (exact, shaken)
    ]
    other = Ranking.from_run(runs[0])
    fused = [fuse_rankings([Ranking.from_run(run), other]).torun() for run in runs]
    assert fused[0] == fused[1]


def test_scores_further_apart_than_the_resolution_are_in_order() -> None:
    scores = torch.tensor([0.5, 0.5 + 3e-6, 0.5 - 3e-6])
    assert best_first(scores).tolist() == [1, 0, 2]
    assert settle_ties(scores).equal(scores)
    assert retrieval_metrics(scores[None], torch.tensor([0]))["MnR"] == 2.0


def test_metrics_of_a_tie_are_those_of_equal_scores() -> None:
    """Without the tolerance the relevant video would be first or last by chance."""
    scores = torch.tensor([[0.7, torch.nextafter(torch.tensor(0.7), torch.tensor(1.0)).item(), 0.1]])
    metrics = retrieval_metrics(scores, torch.tensor([0]))
    assert (metrics["R@1"], metrics["MnR"]) == (0.5, 1.5)
    assert retrieval_metrics(scores, torch.tensor([0]), resolution=0.0)["MnR"] == 2.0


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40))
def test_settling_moves_no_score_by_more_than_the_resolution_and_keeps_the_order(values: list[float]) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    settled = settle_ties(scores)
    assert bool((settled >= scores).all())
    assert float((settled - scores).max()) <= SCORE_RESOLUTION
    order = scores.argsort(descending=True)
    assert bool((settled[order].diff() <= 0).all())


def test_a_dense_gallery_is_not_one_tie() -> None:
    """Neighbours of 5e-7 chain for ever: ties are cut where they grow wider than the resolution."""
    scores = torch.arange(1000, dtype=torch.float64) * 5e-7
    assert len(settle_ties(scores).unique()) >= 400


def test_infinite_scores_stay() -> None:
    scores = torch.tensor([float("-inf"), 0.2, float("-inf"), float("inf")])
    assert settle_ties(scores).equal(scores)


@pytest.mark.parametrize("bit", [-1.0, 1.0])
def test_the_first_of_tied_frames_is_the_match_and_the_moment(bit: float) -> None:
    row = np.array([0.1, 0.8, 0.3, 0.8, 0.1], dtype=np.float32)
    row[3] += bit * np.spacing(row[3])
    assert _best(row, [0.0, 1.0, 2.0, 3.0, 4.0]).frame == 1
    relevance = np.array([0.0, 0.9, 0.0, 0.0, 0.0, 0.9 + bit * 1e-9, 0.0])
    assert best_moment(relevance, np.arange(7.0), 0.0, 7.0) == (0.5, 1.5)


def test_settled_rankings_show_their_ties_to_tools_that_compare_exactly() -> None:
    ranking = Ranking.from_scored({"q": [("a", 0.5), ("b", 0.5 - 1e-7), ("c", 0.4)]})
    assert ranking.settled().todict() == {"q": [("a", 1, 0.5), ("b", 2, 0.5), ("c", 3, 0.4)]}
    assert ranking.torun()["q"]["b"] == 0.5 - 1e-7
