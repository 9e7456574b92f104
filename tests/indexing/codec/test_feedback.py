import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_residuals import DIM, pairs
from token_corpus import unit_tokens
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.buckets import lloyd_max
from colbert_video.indexing.codec.packing import unpack
from colbert_video.indexing.codec.residuals import DAMPING, bucket_ids_with_feedback, compress, dequantise

DIRECTION = unit_tokens(1, DIM, seed=5)[0]


def by_hand(residual: Tensor, token: Tensor, direction: Tensor, cutoffs: Tensor, weights: Tensor) -> list[int]:
    """The ids of one token, dimension by dimension."""
    across = direction - float(direction @ token) * token
    lost, ids = 0.0, []
    for number, value in enumerate(residual.tolist()):
        ahead = float(across[number:].square().sum()) + DAMPING
        wanted = value - lost * float(across[number]) / ahead
        ids.append(int(torch.bucketize(torch.tensor(wanted, dtype=cutoffs.dtype), cutoffs)))
        lost += float(across[number]) * (float(weights[ids[-1]]) - value)
    return ids


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_ids_are_those_of_rounding_dimension_by_dimension(nbits: int, count: int, seed: int) -> None:
    tokens, centroids = pairs(count, seed)
    before, residuals = tokens.clone(), tokens - centroids
    buckets = lloyd_max(residuals, nbits)
    # in double precision: in single, a value may fall on the other side of a border, and the rest follows
    tokens, residuals, direction, cutoffs, weights = (
        array.double() for array in (tokens, residuals, DIRECTION, *buckets)
    )
    ids = bucket_ids_with_feedback(residuals, tokens, direction, cutoffs, weights)
    expected = [
        by_hand(residual, token, direction, cutoffs, weights) for residual, token in zip(residuals, tokens, strict=True)
    ]
    assert ids.tolist() == expected
    assert torch.equal(tokens.float(), before)  # nothing is written into what was given


@pytest.mark.parametrize(("nbits", "least"), [(1, 1.5), (2, 2.5), (4, 3.0), (8, 3.0)])
def test_errors_cancel_along_the_direction_and_hardly_grow_elsewhere(nbits: int, least: float) -> None:
    tokens, centroids = pairs(2000)
    cutoffs, weights = lloyd_max(tokens - centroids, nbits)
    along, lost = [], []
    for direction in (None, DIRECTION):
        residuals, _ = compress(tokens, centroids, cutoffs, weights, direction)
        errors = normalize(centroids + dequantise(residuals, weights), dim=1) - tokens
        along.append(float((errors @ DIRECTION).square().mean().sqrt()))
        lost.append(float(errors.square().sum(1).mean()))
    assert along[1] < along[0] / least
    assert lost[1] < (1.25 if nbits == 1 else 1.1) * lost[0]


def test_a_token_along_the_direction_is_rounded_as_ever() -> None:
    """Reading normalises, so its error along itself does not show, and there is nothing else to make up for."""
    tokens = DIRECTION[None]
    centroids = normalize(tokens + 0.1 * unit_tokens(1, DIM, seed=6), dim=1)
    cutoffs, weights = lloyd_max(tokens - centroids, 4)
    plain, multiples = compress(tokens, centroids, cutoffs, weights)
    fed, same = compress(tokens, centroids, cutoffs, weights, DIRECTION)
    assert torch.equal(plain, fed)
    assert torch.equal(multiples, same)


def test_multiples_are_chosen_as_without_a_direction() -> None:
    tokens, centroids = pairs(300)
    cutoffs, weights = lloyd_max(tokens - centroids, 4)
    plain, multiples = compress(tokens, centroids, cutoffs, weights)
    fed, same = compress(tokens, centroids, cutoffs, weights, DIRECTION)
    assert torch.equal(multiples, same)
    moved = (unpack(plain, 4).int() - unpack(fed, 4).int()).abs()
    assert 0 < float((moved > 0).float().mean()) < 0.2
    assert int(moved.max()) <= 2
