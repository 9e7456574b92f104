"""A query and what its search computes once, however many segments and bags are searched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import Kernels, RoundedQuery, rounded_codec

MAX_BYTE = 255
"""What the best similarity of a query token and a centroid becomes in the byte tables."""
FARTHEST = 2**30


@dataclass(frozen=True)
class CentroidProducts:
    """Whole-number inner products of a query with all centroids of one codec."""

    products: Int32[Tensor, "blocks centroids lanes"]
    """The products; times `scale` they are similarities."""
    low: int
    high: int
    scale: float


class PreparedQuery:
    """A query, with its rotations, rounded forms and centroid products; each is computed when first wanted.

    Args:
        tokens: Scored query tokens, unit vectors, not rotated.

    Raises:
        SettingsError: If they hold NaN or infinity.
    """

    def __init__(self, tokens: Float[Tensor, "query_tokens dim"]) -> None:
        if not math.isfinite(float(tokens.sum())):  # cheaper than looking at each number
            raise SettingsError("query tokens hold NaN or infinity; check the model that made them.")
        self.tokens = tokens.float()
        self._rotated: dict[ResidualCodec, Tensor] = {}
        self._rounded: dict[tuple[int, int], RoundedQuery] = {}
        self._products: dict[ResidualCodec, CentroidProducts] = {}
        self._tables: dict[tuple[ResidualCodec, ...], tuple[Mapping[ResidualCodec, Tensor], float]] = {}

    def __reduce__(self) -> "tuple[type[PreparedQuery], tuple[Tensor]]":
        """Send the tokens alone to other processes; the copy holds no more of a larger tensor than these."""
        return PreparedQuery, (self.tokens.clone(),)

    def rotated(self, codec: ResidualCodec) -> Float[Tensor, "query_tokens dim"]:
        """Return the tokens in the space of a codec's centroids, on its device.

        Codecs that share a rotation share the result.
        """
        if codec not in self._rotated:
            twin = next((other for other in self._rotated if other.rotation is codec.rotation), None)
            query = self.tokens.to(codec.rotation.device)
            self._rotated[codec] = codec.rotate(query) if twin is None else self._rotated[twin]
        return self._rotated[codec]

    def rounded(self, kernels: Kernels, codec: ResidualCodec) -> RoundedQuery:
        """Return the rotated tokens rounded to bytes."""
        rotated = self.rotated(codec)
        key = id(rotated), codec.nbits  # equal rotations share one tensor, which self._rotated keeps
        if key not in self._rounded:
            self._rounded[key] = kernels.round_query(rotated, codec)
        return self._rounded[key]

    def products(self, kernels: Kernels, codec: ResidualCodec) -> CentroidProducts:
        """Return the inner products of the rounded tokens with a codec's centroids."""
        if codec not in self._products:
            centroids, query = rounded_codec(codec), self.rounded(kernels, codec)
            found = kernels.centroid_products(centroids, query)
            self._products[codec] = CentroidProducts(*found, centroids.centroid_scale * query.scale)
        return self._products[codec]

    def tables(
        self, kernels: Kernels, codecs: Mapping[str, ResidualCodec]
    ) -> tuple[Mapping[ResidualCodec, UInt8[Tensor, "blocks _ lanes"]], float]:
        """Return the products as bytes, on one scale for all bags: their sums of maxima can be added.

        A byte is floor(255 * (similarity - lowest) / (highest - lowest)), over all centroids of all bags.

        Returns:
            The table of each codec, (blocks, centroids, lanes), and the similarity that 1 of a byte stands for.
        """
        key = tuple(codecs.values())
        if key not in self._tables:
            every = {codec: self.products(kernels, codec) for codec in key}
            lowest = min(found.low * found.scale for found in every.values())
            highest = max(found.high * found.scale for found in every.values())
            step = max(highest - lowest, 1e-30) / MAX_BYTE
            tables = {
                codec: kernels.byte_table(found.products, _whole(lowest / found.scale), found.scale / step)
                for codec, found in every.items()
            }
            self._tables[key] = tables, step
        return self._tables[key]


def prepare(query: Float[Tensor, "query_tokens dim"] | PreparedQuery) -> PreparedQuery:
    """Return a query that is prepared already as it is, and prepare query tokens."""
    return query if isinstance(query, PreparedQuery) else PreparedQuery(query)


def _whole(value: float) -> int:
    """Return the nearest whole number, within a range that no product leaves and whose differences fit 32 bits.

    Codecs of very different scales, as only a damaged file has them, would go beyond.
    """
    return max(-FARTHEST, min(round(value), FARTHEST))
