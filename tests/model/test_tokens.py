"""Bags of tokens: padding in, padding out, and what is refused."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import SettingsError
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens, float_tokens


def queries() -> QueryTokens:
    tokens = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    return QueryTokens(tokens, mask, torch.tensor([1, 2]))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_padding_and_unpadding_is_the_identity(lengths: list[int]) -> None:
    bags = [torch.randn(length, 3) for length in lengths]
    batch = TokenBags.from_list(bags)
    assert batch.shape == (len(lengths), max(lengths), 3)
    assert batch.mask.sum(dim=1).tolist() == lengths
    assert all(torch.equal(one, other) for one, other in zip(batch.unpadded(), bags, strict=True))


def test_getitem_drops_masked_tokens_wherever_they_are() -> None:
    tokens = torch.arange(6.0).reshape(1, 3, 2)
    assert TokenBags(tokens, torch.tensor([[True, False, True]]))[0].tolist() == [[0.0, 1.0], [4.0, 5.0]]


def test_bags_can_be_iterated() -> None:
    batch = TokenBags.from_list([torch.ones(1, 2), torch.zeros(2, 2)])
    assert [len(bag) for bag in batch] == [1, 2]
    assert len(batch) == 2


def test_pooled_tokens_are_the_rows_at_the_pooled_positions() -> None:
    assert queries().pooled_tokens().tolist() == [[2.0, 3.0], [10.0, 11.0]]


def test_moving_queries_keeps_all_parts() -> None:
    moved = queries().to("meta")
    assert isinstance(moved, QueryTokens)
    assert {moved.tokens.device.type, moved.mask.device.type, moved.pooled.device.type} == {"meta"}
    assert type(TokenBags(queries().tokens, queries().mask).to("meta")) is TokenBags


def test_repr_shows_shapes_and_no_numbers() -> None:
    assert repr(queries()) == "QueryTokens(shape=(2, 3, 2), scored=5)"


def test_equality_is_identity() -> None:
    one = queries()
    assert one == one
    assert one != queries()


def test_video_tokens_unpack_into_two_bags() -> None:
    bags = TokenBags.from_list([torch.ones(1, 2)])
    frame, video = VideoTokens(bags, None)
    assert frame is bags
    assert video is None


def test_no_bags_are_refused() -> None:
    with pytest.raises(SettingsError, match="no bags were given"):
        TokenBags.from_list([])


def test_bags_of_different_dimensions_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"different dimensions \[2, 3\]"):
        inspect.unwrap(TokenBags.from_list.__func__)(TokenBags, [torch.ones(1, 2), torch.ones(1, 3)])


class Unchecked(TokenBags):
    """Reaches the library's own checks past the test suite's shape checks."""

    def __init__(self, tokens: torch.Tensor, mask: torch.Tensor) -> None:
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "mask", mask)
        TokenBags.__post_init__(self)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"tokens \(2, 3, 4\) and mask \(2, 2\) must agree"):
        Unchecked(torch.ones(2, 3, 4), torch.ones(2, 2, dtype=torch.bool))


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"mask is torch.int64; it must be torch.bool"):
        Unchecked(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("pooled", "message"),
    [
        (torch.tensor([1.0, 2.0]), r"pooled is torch.float32 of shape \(2,\)"),
        (torch.tensor([True, False]), "pooled is torch.bool"),
        (torch.tensor([1]), r"of shape \(1,\); give the position of a token for each of 2 queries"),
        (torch.tensor([[1], [2]]), r"of shape \(2, 1\)"),
        (torch.tensor([1, 3]), "pooled runs from 1 to 3; a query has tokens 0 to 2"),
        (torch.tensor([-1, 2]), "pooled runs from -1 to 2"),
        (torch.tensor([1, 2], device="meta"), "tokens are on cpu, pooled on meta"),
        (torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "pooled is a nested tensor"),
    ],
)
def test_positions_that_are_none_are_refused(pooled: torch.Tensor, message: str) -> None:
    made = queries()
    object.__setattr__(made, "pooled", pooled)  # past the checks of types, which only tests have
    with pytest.raises(SettingsError, match=message):
        made.__post_init__()


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_positions_of_any_whole_type_are_positions(kind: torch.dtype) -> None:
    """Torch takes uint8 for a mask."""
    small = queries()
    object.__setattr__(small, "pooled", small.pooled.to(kind))
    small.__post_init__()
    assert small.pooled_tokens().tolist() == [[2.0, 3.0], [10.0, 11.0]]


def test_tokens_and_mask_lie_on_one_device() -> None:
    with pytest.raises(SettingsError, match="tokens are on cpu, their mask on meta"):
        TokenBags(queries().tokens, queries().mask.to("meta"))


def test_quantized_tokens_are_read() -> None:
    tokens = torch.tensor([[0.5, -0.25]])
    assert float_tokens(torch.quantize_per_tensor(tokens, 0.25, 0, torch.qint8), "tokens").tolist() == tokens.tolist()
