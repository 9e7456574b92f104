"""MeanMaxSim and its fusions: worked examples, properties, and the naive reference."""

import math

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.model import interaction as module
from colbert_video.model.interaction import INTERACTIONS, fuse, mean_max_sim, mean_pool_sim, reciprocal_rank_fusion
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens

pytestmark = pytest.mark.numeric


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def query_batch(lengths: list[int], dim: int) -> QueryTokens:
    """Random queries; the last token of each is the pooled one."""
    bags = TokenBags.from_list([unit(length, dim) for length in lengths])
    return QueryTokens(bags.tokens, bags.mask, torch.tensor(lengths) - 1)


def one_query(*tokens: list[float], pooled: int = 0) -> QueryTokens:
    rows = torch.tensor([tokens])
    return QueryTokens(rows, torch.ones(rows.shape[:2], dtype=torch.bool), torch.tensor([pooled]))


def one_bag(*tokens: list[float]) -> TokenBags:
    return TokenBags.from_list([torch.tensor(tokens)])


# Two query tokens e1, e2; e2 is pooled. Frame bag {0.6 e1 + 0.8 e2, e1}: best matches 1.0 and 0.8, mean 0.9; the mean
# vector (0.8, 0.4) has the cosine 0.4 / sqrt(0.8) with e2. Video bag {-e1, -e2}: best matches 0 and 0; the mean vector
# (-0.5, -0.5) has the cosine -1 / sqrt(2) with e2.
QUERY = one_query([1.0, 0.0], [0.0, 1.0], pooled=1)
VIDEOS = VideoTokens(one_bag([0.6, 0.8], [1.0, 0.0]), one_bag([-1.0, 0.0], [0.0, -1.0]))
BY_HAND = {
    "mms_f": 0.9,
    "mms_v": 0.0,
    "mms_fv": 0.9,
    "mp_f": 0.4 / math.sqrt(0.8),
    "mp_v": -1 / math.sqrt(2),
    "rrf": 2 / 61,
}


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_worked_example(interaction: str) -> None:
    assert fuse(QUERY, VIDEOS, interaction).item() == pytest.approx(BY_HAND[interaction], abs=1e-6)


def test_the_default_is_the_sum_of_both_halves() -> None:
    videos = VideoTokens(one_bag([0.6, 0.8]), one_bag([0.8, 0.6]))
    assert fuse(QUERY, videos).item() == pytest.approx(0.7 + 0.7)


def test_reciprocal_rank_fusion_by_hand() -> None:
    frame = torch.tensor([[0.9, 0.5, 0.1]])  # ranks 1, 2, 3
    video = torch.tensor([[0.2, 0.2, 0.7]])  # ranks 2, 2, 1: equal scores share the better rank
    expected = [1 / 61 + 1 / 62, 1 / 62 + 1 / 62, 1 / 63 + 1 / 61]
    assert reciprocal_rank_fusion(frame, video)[0].tolist() == pytest.approx(expected)


def test_masked_tokens_lose_against_negative_similarities() -> None:
    """Multiplying by a 0/1 mask would let padding score 0, which beats -1."""
    bags = TokenBags.from_list([torch.tensor([[-1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [-0.8, -0.6]])])
    assert mean_max_sim(one_query([1.0, 0.0]), bags).tolist() == [pytest.approx([-1.0, -0.8])]


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_rows_behind_the_mask_mean_nothing(interaction: str) -> None:
    def spoil(bags: TokenBags) -> Tensor:
        return bags.tokens.masked_fill(~bags.mask[..., None], math.nan)

    queries = query_batch([2, 4], 8)
    videos = VideoTokens(*(TokenBags.from_list([unit(length, 8) for length in (1, 3, 5)]) for _ in range(2)))
    dirty = VideoTokens(*(TokenBags(spoil(bags), bags.mask) for bags in videos))
    dirty_queries = QueryTokens(spoil(queries), queries.mask, queries.pooled)
    assert torch.equal(fuse(dirty_queries, dirty, interaction), fuse(queries, videos, interaction))


LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@pytest.mark.parametrize("interaction", INTERACTIONS)
@given(query_lengths=LENGTHS, video_lengths=LENGTHS, extra=st.integers(0, 2))
def test_equals_the_naive_reference(
    interaction: str, query_lengths: list[int], video_lengths: list[int], extra: int
) -> None:
    queries = query_batch(query_lengths, 6)
    frame = [unit(length, 6) for length in video_lengths]
    video = [unit(length + extra, 6) for length in video_lengths]
    found = fuse(queries, VideoTokens(TokenBags.from_list(frame), TokenBags.from_list(video)), interaction)
    for row, tokens in enumerate(queries.unpadded()):
        expected = reference.scores(interaction, tokens, tokens[-1], frame, video)
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


@given(padding=st.integers(1, 4), lengths=LENGTHS)
def test_padding_never_changes_a_score(padding: int, lengths: list[int]) -> None:
    queries, bags = query_batch([3, 2], 6), TokenBags.from_list([unit(length, 6) for length in lengths])

    def padded(batch: TokenBags) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([batch.tokens, unit(len(batch), padding, 6)], dim=1)
        return tokens, torch.nn.functional.pad(batch.mask, (0, padding))

    wider = QueryTokens(*padded(queries), queries.pooled)
    for score in (mean_max_sim, mean_pool_sim):
        torch.testing.assert_close(score(wider, TokenBags(*padded(bags))), score(queries, bags))


@given(order=st.permutations(range(6)))
def test_the_order_within_a_bag_never_matters(order: list[int]) -> None:
    queries, bag = query_batch([3, 2], 6), unit(1, 6, 6)
    mask = torch.tensor([[True, True, False, True, True, False]])
    for score in (mean_max_sim, mean_pool_sim):
        shuffled = TokenBags(bag[:, order], mask[:, order])
        torch.testing.assert_close(score(queries, shuffled), score(queries, TokenBags(bag, mask)))


@given(length=st.integers(1, 5))
def test_another_token_never_lowers_mean_max_sim(length: int) -> None:
    queries, bag = query_batch([3, 2], 6), unit(length + 1, 6)
    with_it, without = (mean_max_sim(queries, TokenBags.from_list([rows])) for rows in (bag, bag[:-1]))
    assert bool((with_it >= without - 1e-6).all())


@pytest.mark.parametrize("budget", [1, 100, 2**26])
def test_chunks_give_the_same_scores(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, bags = query_batch([3, 2], 6), TokenBags.from_list([unit(1 + row % 4, 6) for row in range(9)])
    whole = mean_max_sim(queries, bags)
    calls = []
    inner = module._mean_max_sim
    monkeypatch.setattr(module, "_mean_max_sim", lambda *parts: calls.append(len(parts[1])) or inner(*parts))
    monkeypatch.setattr(module, "SIMILARITY_BUDGET", budget)
    torch.testing.assert_close(mean_max_sim(queries, bags), whole)
    assert sum(calls) == 9
    assert max(calls) == {1: 1, 100: 4, 2**26: 9}[budget]  # 2 queries × 3 tokens × 4 tokens = 24 similarities a video


def test_autocast_does_not_coarsen_scores() -> None:
    queries, bags = query_batch([5], 64), TokenBags.from_list([unit(7, 64)])
    for score in (mean_max_sim, mean_pool_sim):
        exact = score(queries, bags)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(score(queries, bags), exact)


def test_gradients_reach_the_matching_tokens_only() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [math.sqrt(0.5), math.sqrt(0.5)]]], requires_grad=True)
    bags = TokenBags(tokens, torch.tensor([[True, True, False]]))
    mean_max_sim(one_query([0.6, 0.8]), bags).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0].tolist() == [[0.0, 0.0], pytest.approx([0.6, 0.8]), [0.0, 0.0]]


def test_no_videos_give_no_columns() -> None:
    bags = TokenBags(torch.zeros(0, 3, 6), torch.zeros(0, 3, dtype=torch.bool))
    assert mean_max_sim(query_batch([2, 1], 6), bags).shape == (2, 0)


@pytest.mark.parametrize("score", [mean_max_sim, mean_pool_sim])
def test_a_query_without_tokens_is_refused(score: object) -> None:
    queries = query_batch([2, 2], 6)
    empty = QueryTokens(queries.tokens, torch.tensor([[True, True], [False, False]]), queries.pooled)
    with pytest.raises(SettingsError, match="query 1 has no unmasked token; every query needs at least one"):
        score(empty, TokenBags.from_list([unit(2, 6)]))  # type: ignore[operator]


@pytest.mark.parametrize("score", [mean_max_sim, mean_pool_sim])
def test_a_video_without_tokens_is_refused(score: object) -> None:
    bags = TokenBags.from_list([unit(2, 6), unit(0, 6)])
    with pytest.raises(SettingsError, match="video 1 has no unmasked token"):
        score(query_batch([2], 6), bags)  # type: ignore[operator]


@pytest.mark.parametrize("score", [mean_max_sim, mean_pool_sim])
def test_different_dimensions_are_refused(score: object) -> None:
    with pytest.raises(SettingsError, match="query tokens have 6 dimensions and bags 5; they must agree"):
        score(query_batch([2], 6), TokenBags.from_list([unit(2, 5)]))  # type: ignore[operator]


@pytest.mark.parametrize("interaction", ["mms_fv", "mms_v", "mp_v", "rrf"])
def test_a_missing_video_bag_is_refused_where_it_is_read(interaction: str) -> None:
    with pytest.raises(SettingsError, match=f"'{interaction}' needs video tokens.*use 'mms_f' or train the model"):
        fuse(QUERY, VideoTokens(VIDEOS.frame, None), interaction)


@pytest.mark.parametrize("interaction", ["mms_f", "mp_f"])
def test_frame_interactions_need_no_video_bag(interaction: str) -> None:
    score = fuse(QUERY, VideoTokens(VIDEOS.frame, None), interaction)
    assert score.item() == pytest.approx(BY_HAND[interaction], abs=1e-6)


def test_an_unknown_interaction_is_refused() -> None:
    import inspect

    with pytest.raises(SettingsError, match="interaction 'sum' is unknown; choose one of mms_fv, mms_f"):
        inspect.unwrap(fuse)(QUERY, VIDEOS, "sum")
