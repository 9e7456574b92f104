"""A codec and a query rounded to bytes, laid out as the compiled kernels read them.

Centroids, bucket weights and query tokens each get one scale, so that inner products are whole numbers, the same on
every machine. Rounding errors average out over the dimensions (tokens are rotated) and cost about 1e-4 of a
MeanMaxSim; the last few dozen videos are scored again in single precision.

Dimensions are ordered by plane: those in the highest bits of each packed byte first. Then a decoded token is a few
runs of table look-ups, with no shuffling in between.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, Int32, UInt8
from torch import Tensor

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.packing import bucket_table

LANES = 32
"""Query tokens in a block, scored side by side."""
MOST = 127
"""Largest rounded number."""
ZERO = 128
"""The byte that stands for 0 in centroids and weights."""

ROWS_AT_ONCE = 512
"""Centroids rounded together: few enough to stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class RoundedCodec:
    """A codec rounded to bytes; a byte stands for (byte - 128) * scale."""

    centroids: UInt8[Tensor, "centroids dim"]
    """Rounded centroids, dimensions by plane."""
    squares: Float[Tensor, "centroids"]
    """Squared length of each centroid, not rounded."""
    centroid_scale: float
    """Scale of the centroids."""
    planes: UInt8[Tensor, "ids 256"]
    """Rounded weight of each id in each packed byte, plane by plane."""
    weight_scale: float
    """Scale of the weights."""
    means: Float[Tensor, "centroids dim"]
    """The centroids themselves, dimensions in order."""
    weights: Float[Tensor, "256 ids"]
    """The weights of each packed byte themselves."""
    nbits: int
    """Bits a dimension."""

    @classmethod
    def of(cls, codec: ResidualCodec) -> "RoundedCodec":
        """Round a codec; its arrays must be on the CPU."""
        centroid_scale, weight_scale = _scale(codec.centroids), _scale(codec.weights)
        weights = codec.weights[bucket_table(codec.nbits).long()]  # (256, ids)
        return cls(
            centroids=torch.cat(
                [
                    by_plane(_rounded(part, centroid_scale) + ZERO, codec.nbits).to(torch.uint8)
                    for part in codec.centroids.split(ROWS_AT_ONCE)
                ]
            ),
            squares=codec.centroids.square().sum(dim=1),
            centroid_scale=centroid_scale,
            planes=(_rounded(weights, weight_scale) + ZERO).T.to(torch.uint8).contiguous(),
            weight_scale=weight_scale,
            means=codec.centroids.contiguous(),
            weights=weights.contiguous(),
            nbits=codec.nbits,
        )


@dataclass(frozen=True, eq=False)
class RoundedQuery:
    """A query for one codec; the lanes beyond its tokens hold zeros."""

    bytes: Int8[Tensor, "blocks fours lanes 4"]
    """Rounded query tokens: for each four dimensions, by plane, all lanes."""
    start: Int32[Tensor, "blocks lanes"]
    """What takes back the 128 in the bytes of centroids and weights: -128 * the sum of each lane."""
    tokens: Float[Tensor, "blocks dim lanes"]
    """The query tokens themselves, dimensions in order."""
    scale: float
    """Scale of the rounded query tokens."""
    count: int
    """How many query tokens there are."""


def by_plane(rows: Float[Tensor, "rows dim"], nbits: int) -> Float[Tensor, "rows dim"]:
    """Order dimensions by their place in a packed byte, highest bits first."""
    ids = 8 // nbits
    return rows.view(len(rows), -1, ids).transpose(1, 2).flatten(1)


def _scale(values: Tensor) -> float:
    """What 1 of a rounded number stands for."""
    return max(float(values.abs().max()), 1e-30) / MOST


def _rounded(values: Tensor, scale: float) -> Tensor:
    return (values / scale).round_()
