import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Float
from thorough import amount
from torch import Tensor

from colbert_video.indexing.codec import buckets
from colbert_video.indexing.codec.buckets import bucket_ids, lloyd_max, quantile_buckets


def squared_error(
    values: Float[Tensor, "values"], cutoffs: Float[Tensor, "cutoffs"], weights: Float[Tensor, "buckets"]
) -> float:
    return float((weights[torch.bucketize(values, cutoffs)] - values).square().mean())


@pytest.mark.parametrize(("nbits", "distortion"), [(1, 0.3634), (2, 0.1175), (4, 0.009497)])
def test_gaussian_distortion_is_that_of_max_1960(nbits: int, distortion: float) -> None:
    # table I of Max, "Quantizing for minimum distortion"
    values = torch.randn(2**20)
    assert squared_error(values, *lloyd_max(values, nbits)) == pytest.approx(distortion, rel=0.01)


def test_two_bit_gaussian_weights_are_those_of_max_1960() -> None:
    cutoffs, weights = lloyd_max(torch.randn(2**20), 2)
    torch.testing.assert_close(weights, torch.tensor([-1.510, -0.4528, 0.4528, 1.510]), atol=0.01, rtol=0)
    torch.testing.assert_close(cutoffs, torch.tensor([-0.9816, 0.0, 0.9816]), atol=0.01, rtol=0)


def test_eight_bits_reach_the_high_resolution_limit() -> None:
    # Panter and Dite: error -> (integral of the cube root of the density)^3 / (12 levels^2) = pi sqrt(3) / 2 / 256^2
    values = torch.randn(2**20)
    limit = np.pi * np.sqrt(3) / 2 / 256**2
    assert squared_error(values, *lloyd_max(values, 8)) == pytest.approx(limit, rel=0.03)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_no_step_improves_a_converged_quantiser(nbits: int) -> None:
    values = torch.distributions.Laplace(0.0, 0.02).sample((100_000,))
    cutoffs, weights = lloyd_max(values, nbits)
    assert cutoffs.shape == (2**nbits - 1,)
    assert cutoffs.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(cutoffs, (weights[1:] + weights[:-1]) / 2)
    bucket = torch.bucketize(values, cutoffs)
    counts = torch.bincount(bucket, minlength=2**nbits)
    means = torch.bincount(bucket, weights=values.double(), minlength=2**nbits) / counts
    held = counts > 0
    torch.testing.assert_close(means[held].float(), weights[held], atol=2e-5, rtol=0)
    assert squared_error(values, cutoffs, weights) < squared_error(values, *quantile_buckets(values, nbits))


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1, 1, width=32)), st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=amount(10, thorough=30), deadline=None)
def test_any_values_give_ordered_buckets_no_worse_than_one(array: np.ndarray, nbits: int) -> None:
    values = torch.from_numpy(array)
    cutoffs, weights = lloyd_max(values, nbits)
    assert bool(weights.isfinite().all())
    assert bool((cutoffs.diff() >= 0).all())
    assert squared_error(values, cutoffs, weights) <= float(values.var(unbiased=False)) + 1e-6


def test_few_distinct_values_are_kept_exactly() -> None:
    values = torch.tensor([-0.5, 0.25, 0.5]).repeat(100)
    assert squared_error(values, *lloyd_max(values, 4)) < 1e-12


def test_quantiles_are_colberts() -> None:
    values = torch.randn(10_001)
    cutoffs, weights = quantile_buckets(values, 2)
    shares = torch.arange(0, 4) * (1 / 4)
    assert torch.equal(cutoffs, values.quantile(shares[1:]))
    assert torch.equal(weights, values.quantile(shares + 0.5 / 4))


@pytest.mark.parametrize("method", [lloyd_max, quantile_buckets])
def test_samples_are_bounded_and_seeded(method: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MAX_SAMPLE", 1000)
    values = torch.randn(300, 64)
    first = method(values, 4, seed=1)
    assert torch.equal(first[1], method(values, 4, seed=1)[1])
    assert not torch.equal(first[1], method(values, 4, seed=2)[1])
    assert squared_error(values.flatten(), *first) < 0.05


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=40), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 50),
)
@settings(max_examples=amount(13, thorough=40), deadline=None)
def test_ids_are_those_of_bucketize(array: np.ndarray, nbits: int, at_once: int) -> None:
    values = torch.from_numpy(array)
    cutoffs = values.flatten()[torch.arange(2**nbits - 1) % values.numel()].sort().values  # values on the borders
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "VALUES_AT_ONCE", at_once)
        ids = bucket_ids(values, cutoffs)
    assert ids.dtype == torch.uint8
    assert torch.equal(ids.long(), torch.bucketize(values, cutoffs))
