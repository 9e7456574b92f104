"""Residuals: of several multiples of a token the one is compressed that is decoded best.

Decoding gives unit vectors, so a token may be compressed at any length. The longer it is, the less the width of the
buckets turns it, until its residual leaves the outermost buckets; where that is depends on how near the token is to its
centroid. Extended RaBitQ (Gao et al., SIGMOD 2025) looks for the best length of each vector in the same way. Buckets
are fitted to the residuals of the multiples that are chosen, as in Lloyd's method: choice and fit take turns.
"""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from colbert_video.device import full_precision
from colbert_video.indexing.codec.buckets import bucket_ids, lloyd_max, quantile_buckets
from colbert_video.indexing.codec.packing import bucket_table, pack

MULTIPLES = (1.0, 1.1, 1.2, 1.3, 1.4)
"""Lengths at which a token may be compressed."""
REFITS = 3
"""Times that buckets are fitted again after multiples were chosen."""
BucketKind = Literal["lloyd_max", "quantile"]
BUCKETS = {"lloyd_max": lloyd_max, "quantile": quantile_buckets}
DAMPING = 0.01
"""Squared length always counted as still to come: the last dimensions must not make up for all errors before."""


def compress(
    tokens: Float[Tensor, "tokens dim"],
    centroids: Float[Tensor, "tokens dim"],
    cutoffs: Float[Tensor, "cutoffs"],
    weights: Float[Tensor, "buckets"],
    direction: Float[Tensor, "dim"] | None = None,
) -> tuple[UInt8[Tensor, "tokens bytes"], Float[Tensor, "tokens"]]:
    """Compress the residual of each token at its best length.

    Args:
        tokens: Unit-norm tokens, rotated.
        centroids: The centroid of each token.
        cutoffs: Bucket borders.
        weights: The value that stands for each bucket.
        direction: Unit vector, rotated, along which rounding errors cancel; None for plain rounding.

    Returns:
        Packed residuals, and the multiple of the token that each belongs to.
    """
    residuals, best = _compress_at(MULTIPLES[0], tokens, centroids, cutoffs, weights)
    chosen = torch.full_like(best, MULTIPLES[0])
    for multiple in MULTIPLES[1:]:
        others, cosines = _compress_at(multiple, tokens, centroids, cutoffs, weights)
        better = cosines > best
        residuals = torch.where(better[:, None], others, residuals)
        chosen.masked_fill_(better, multiple)
        best = torch.maximum(cosines, best)
    if direction is not None:
        wanted = chosen[:, None] * tokens - centroids
        ids = bucket_ids_with_feedback(wanted, tokens, direction, cutoffs, weights)
        residuals = pack(ids, len(weights).bit_length() - 1)
    return residuals, chosen


def _compress_at(
    multiple: float,
    tokens: Float[Tensor, "tokens dim"],
    centroids: Float[Tensor, "tokens dim"],
    cutoffs: Float[Tensor, "cutoffs"],
    weights: Float[Tensor, "buckets"],
) -> tuple[UInt8[Tensor, "tokens bytes"], Float[Tensor, "tokens"]]:
    """Return residuals of a multiple of each token, and the cosine between the token and its decoded form."""
    nbits = len(weights).bit_length() - 1
    residuals = pack(bucket_ids(multiple * tokens - centroids, cutoffs), nbits)
    decoded = dequantise(residuals, weights).add_(centroids)  # (tokens, dim)
    return residuals, functional.cosine_similarity(decoded, tokens, dim=1)


def dequantise(
    residuals: UInt8[Tensor, "tokens bytes"], weights: Float[Tensor, "buckets"]
) -> Float[Tensor, "tokens dim"]:
    """Return the bucket weights that packed residuals stand for, on the device of the weights."""
    return functional.embedding(residuals.to(weights.device).int(), byte_weights(weights)).flatten(1)


def byte_weights(weights: Float[Tensor, "buckets"]) -> Float[Tensor, "256 ids"]:
    """Return the bucket weights that each possible byte of packed residuals stands for."""
    nbits = len(weights).bit_length() - 1
    return weights[bucket_table(nbits).long().to(weights.device)]


def fit_buckets(
    tokens: Float[Tensor, "tokens dim"],
    centroids: Float[Tensor, "tokens dim"],
    *,
    nbits: int,
    buckets: BucketKind,
    seed: int,
) -> tuple[Float[Tensor, "cutoffs"], Float[Tensor, "buckets"]]:
    """Fit buckets to residuals.

    Args:
        tokens: Unit-norm tokens, rotated, at least one.
        centroids: The centroid of each token.
        nbits: Bits kept of each dimension.
        buckets: "lloyd_max", or ColBERT's "quantile", which knows no multiples and is fitted once.
        seed: Seed of the sample taken of many values.

    Returns:
        Cutoffs (2**nbits - 1,) and weights (2**nbits,), float32, ascending.
    """
    cutoffs, weights = BUCKETS[buckets](tokens - centroids, nbits, seed=seed)
    for _ in range(REFITS if buckets == "lloyd_max" else 0):
        _, multiples = compress(tokens, centroids, cutoffs, weights)
        cutoffs, weights = lloyd_max(multiples[:, None] * tokens - centroids, nbits, seed=seed)
    return cutoffs, weights


def bucket_ids_with_feedback(
    residuals: Float[Tensor, "tokens dim"],
    tokens: Float[Tensor, "tokens dim"],
    direction: Float[Tensor, "dim"],
    cutoffs: Float[Tensor, "cutoffs"],
    weights: Float[Tensor, "buckets"],
) -> UInt8[Tensor, "tokens dim"]:
    """Choose a bucket for each residual value, so that errors cancel along a direction.

    Args:
        residuals: What is to be rounded.
        tokens: The unit-norm token that each residual belongs to, rotated.
        direction: Unit vector, rotated.
        cutoffs: Bucket borders.
        weights: The value that stands for each bucket.

    Returns:
        Bucket ids.
    """
    with full_precision(tokens):
        along = tokens @ direction  # (tokens,)
    across = (tokens.T.contiguous() * -along).add_(direction[:, None])  # (dim, tokens)
    ahead = across.square().sum(dim=0).add_(DAMPING)  # (tokens,), squared length of what is not rounded yet
    ids = torch.empty(across.shape, dtype=torch.uint8, device=across.device)
    lost = torch.zeros_like(along)
    for number, (wanted, part) in enumerate(zip(residuals.T.contiguous(), across, strict=True)):
        ids[number] = bucket_ids(torch.addcmul(wanted, part, lost / ahead, value=-1), cutoffs)
        rounded = weights.index_select(0, ids[number].int())
        lost.addcmul_(part, rounded - wanted)
        ahead.addcmul_(part, part, value=-1)
    return ids.T.contiguous()
