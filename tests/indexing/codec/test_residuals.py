import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from thorough import amount
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from colbert_video.indexing.codec import residuals as module
from colbert_video.indexing.codec.buckets import lloyd_max, quantile_buckets
from colbert_video.indexing.codec.packing import unpack
from colbert_video.indexing.codec.residuals import MULTIPLES, compress, dequantise, fit_buckets

DIM = 64


def pairs(count: int, seed: int = 0, spread: float = 0.1) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n dim"]]:
    """Unit tokens and a centroid near each, some much nearer than others."""
    generator = torch.Generator().manual_seed(seed)
    centroids = normalize(torch.randn(count, DIM, generator=generator), dim=1)
    distances = spread * torch.rand(count, 1, generator=generator)
    return normalize(centroids + distances * torch.randn(count, DIM, generator=generator), dim=1), centroids


def cosines(tokens: Tensor, centroids: Tensor, residuals: Tensor, weights: Tensor) -> Tensor:
    return cosine_similarity(centroids + dequantise(residuals, weights), tokens, dim=1)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=amount(10, thorough=25), deadline=None)
def test_no_other_multiple_is_read_back_better(nbits: int, count: int, seed: int) -> None:
    tokens, centroids = pairs(count, seed)
    cutoffs, weights = lloyd_max(pairs(500)[0] - pairs(500)[1], nbits)
    residuals, chosen = compress(tokens, centroids, cutoffs, weights)
    best = cosines(tokens, centroids, residuals, weights)
    for multiple in MULTIPLES:
        wanted = multiple * tokens - centroids
        buckets = torch.bucketize(wanted, cutoffs)
        others = cosine_similarity(centroids + weights[buckets], tokens, dim=1)
        assert bool((best >= others - 1e-6).all())
        same = chosen == multiple
        assert torch.equal(unpack(residuals[same], nbits).long(), buckets[same])
    assert set(chosen.tolist()) <= set(torch.tensor(MULTIPLES).tolist())


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_dequantised_bytes_are_the_weights_of_their_buckets(nbits: int) -> None:
    weights = torch.randn(2**nbits).sort().values
    packed = torch.randint(256, (20, DIM * nbits // 8), dtype=torch.uint8)
    assert torch.equal(dequantise(packed, weights), weights[unpack(packed, nbits).long()])


@pytest.mark.parametrize("nbits", [2, 4])
def test_buckets_of_chosen_multiples_lose_less(nbits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, centroids = pairs(2000)
    fitted = fit_buckets(tokens, centroids, nbits=nbits, buckets="lloyd_max", seed=0)
    monkeypatch.setattr(module, "REFITS", 0)
    once = fit_buckets(tokens, centroids, nbits=nbits, buckets="lloyd_max", seed=0)
    assert torch.equal(once[1], lloyd_max(tokens - centroids, nbits)[1])
    later, near = pairs(500, seed=1)
    errors = [
        float((1 - cosines(later, near, compress(later, near, *buckets)[0], buckets[1])).mean())
        for buckets in (fitted, once)
    ]
    assert errors[0] < 0.99 * errors[1]


def test_quantile_buckets_are_colberts() -> None:
    tokens, centroids = pairs(300)
    ours = fit_buckets(tokens, centroids, nbits=2, buckets="quantile", seed=0)
    for got, expected in zip(ours, quantile_buckets(tokens - centroids, 2), strict=True):
        assert torch.equal(got, expected)
