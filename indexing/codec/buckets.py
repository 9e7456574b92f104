"""One-dimensional quantisers for residuals: the cutoffs of buckets, and the value that stands for each.

`lloyd_max` minimises the mean squared error (Lloyd, "Least squares quantization in PCM", 1982; Max, 1960);
`quantile_buckets` is ColBERT's own choice (colbert/indexing/collection_indexer.py, `_compute_avg_residual`).
"""

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

MAX_SAMPLE = 2**22
"""Values looked at: plenty for 255 cutoffs, and far below the limit of `torch.quantile` in older releases."""

ROUNDS = 2000
TOLERANCE = 1e-7
MAX_COMPARED = 15
"""Cutoffs that are compared one by one: up to four bits this is faster on a CPU than a binary search."""
VALUES_AT_ONCE = 2**16
"""Values compared at once; with their ids they stay in a CPU core's cache."""


def quantile_buckets(
    values: Float[Tensor, "..."], nbits: int, *, seed: int = 0
) -> tuple[Float[Tensor, "cutoffs"], Float[Tensor, "buckets"]]:
    """Cut at equal shares of the values, as stock ColBERT does.

    Args:
        values: Residual values, any shape, at least one.
        nbits: Bits per id; there are 2**nbits buckets.
        seed: Seed of the sample taken of many values.

    Returns:
        Cutoffs (2**nbits - 1,) and weights (2**nbits,), float32, ascending.
    """
    shares = torch.arange(2**nbits, dtype=torch.float32, device=values.device) / 2**nbits
    sample = _sample(values, seed).float()
    return sample.quantile(shares[1:]), sample.quantile(shares + 0.5 / 2**nbits)


def lloyd_max(
    values: Float[Tensor, "..."], nbits: int, *, seed: int = 0
) -> tuple[Float[Tensor, "cutoffs"], Float[Tensor, "buckets"]]:
    """Choose cutoffs and weights of least mean squared error.

    Alternates the two conditions of an optimum until neither moves: a cutoff lies midway between two weights, a
    weight is the mean of its bucket. Both are read off prefix sums over the sorted values.

    Args:
        values: Residual values, any shape, at least one.
        nbits: Bits per id; there are 2**nbits buckets.
        seed: Seed of the sample taken of many values.

    Returns:
        Cutoffs (2**nbits - 1,) and weights (2**nbits,), float32, ascending.
    """
    ordered = _sample(values, seed).double().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    weights = _companded(ordered, 2**nbits)
    spread = float(ordered[-1] - ordered[0])
    for _ in range(ROUNDS):
        updated = _bucket_means(ordered, sums, weights)
        moved = float((updated - weights).abs().max())
        weights = updated
        if moved <= TOLERANCE * spread:
            break
    rounded = weights.float()
    return _midpoints(rounded), rounded


def bucket_ids(values: Float[Tensor, "*shape"], cutoffs: Float[Tensor, "cutoffs"]) -> UInt8[Tensor, "*shape"]:
    """Return each value's bucket: how many cutoffs lie below it, as `torch.bucketize` counts.

    Args:
        values: Residual values, no NaN.
        cutoffs: Ascending, at most 255.

    Returns:
        Bucket ids of the shape of `values`.
    """
    if len(cutoffs) > MAX_COMPARED or values.device.type != "cpu":
        return torch.bucketize(values, cutoffs, out_int32=True).to(torch.uint8)
    ids = torch.zeros(values.shape, dtype=torch.uint8, device=values.device)
    pieces = zip(values.flatten().split(VALUES_AT_ONCE), ids.view(-1).split(VALUES_AT_ONCE), strict=True)
    for piece, piece_ids in pieces:
        for cutoff in cutoffs:
            piece_ids += (piece > cutoff).view(torch.uint8)
    return ids


def _sample(values: Float[Tensor, "..."], seed: int) -> Float[Tensor, "sample"]:
    """Return the values, or `MAX_SAMPLE` of them, drawn with replacement, if there are more."""
    flat = values.flatten()
    if len(flat) <= MAX_SAMPLE:
        return flat
    generator = torch.Generator().manual_seed(seed)
    return flat[torch.randint(len(flat), (MAX_SAMPLE,), generator=generator, device="cpu").to(flat.device)]


def _companded(ordered: Float64[Tensor, "values"], levels: int) -> Float64[Tensor, "levels"]:
    """Return weights spaced by the cube root of the density: optimal for many levels (Panter and Dite, 1951).

    Lloyd's rounds then start near their end; from quantiles, 256 levels take thousands of them.
    """
    bins = 16 * levels
    density = torch.histc(ordered, bins).pow(1 / 3)  # over [min, max]
    share = density.cumsum(0) / density.sum()  # (bins,)
    wanted = (torch.arange(levels, device=ordered.device, dtype=ordered.dtype) + 0.5) / levels
    edges = torch.searchsorted(share, wanted).double() + 0.5
    return ordered[0] + (ordered[-1] - ordered[0]) * edges / bins


def _bucket_means(
    ordered: Float64[Tensor, "values"], sums: Float64[Tensor, "values+1"], weights: Float64[Tensor, "levels"]
) -> Float64[Tensor, "levels"]:
    """Return the mean of the values nearest to each weight; a weight without values stays."""
    inner = torch.searchsorted(ordered, _midpoints(weights), right=True)
    ends = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(ordered))])
    counts = ends.diff()
    return torch.where(counts > 0, sums[ends].diff() / counts.clamp(min=1), weights)


def _midpoints(weights: Float[Tensor, "levels"]) -> Float[Tensor, "cutoffs"]:
    return (weights[1:] + weights[:-1]) / 2
