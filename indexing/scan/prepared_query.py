"""A query and what its search computes once, however many segments and bags are searched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.kernels import Kernels, RoundedQuery, compiled_kernels, rounded_codec

FEW_TOKENS = 3
"""Query tokens whose rotation torch leaves to one thread."""
MAX_BYTE = 255
"""What the best similarity of a query token and a centroid becomes in the byte tables."""


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
        padding: True for tokens that only fill up a short text; all are scored, but moments listen to words first. Empty
            if that is not known.

    Raises:
        SettingsError: If they hold NaN or infinity.
    """

    def __init__(self, tokens: Float[Tensor, "query_tokens dim"], padding: Sequence[bool] = ()) -> None:
        if not math.isfinite(float(tokens.sum())):  # cheaper than looking at each number
            raise SettingsError("query tokens hold NaN or infinity; check the model that made them.")
        self.tokens = tokens.float()
        self.padding = tuple(padding)
        self._rotated: dict[ResidualCodec, Tensor] = {}
        self._rounded: dict[tuple[int, int], RoundedQuery] = {}
        self._products: dict[ResidualCodec, CentroidProducts] = {}
        self._tables: dict[Any, tuple[Mapping[str, Tensor], float]] = {}

    @property
    def lengths(self) -> list[float]:
        """How much each token counts; 1 for unit vectors."""
        return self.tokens.norm(dim=1).tolist()

    def __reduce__(self) -> "tuple[type[PreparedQuery], tuple[Tensor, tuple[bool, ...]]]":
        """Send nothing that is computed to other processes; the copy holds no more of a larger tensor than these."""
        return PreparedQuery, (self.tokens.clone(), self.padding)

    def rotated(self, codec: ResidualCodec) -> Float[Tensor, "query_tokens dim"]:
        """Return the tokens in the space of a codec's centroids, on its device.

        Codecs that share a rotation share the result.
        """
        if codec not in self._rotated:
            twin = next((other for other in self._rotated if other.rotation is codec.rotation), None)
            query = self.tokens.to(codec.rotation.device)
            self._rotated[codec] = _rotated(query, codec) if twin is None else self._rotated[twin]
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
        self, kernels: Kernels, codecs: Mapping[str, ResidualCodec], weights: Mapping[str, float]
    ) -> tuple[Mapping[str, UInt8[Tensor, "blocks _ lanes"]], float]:
        """Return each bag's products as bytes, on one scale for all bags: their sums of maxima can be added.

        A byte is floor(weight * (similarity - lowest) / step), where `lowest` is the bag's own, which adds the same to
        every video, and the step is 1 / 255 of the widest bag's weighted range.

        Returns:
            The table of each bag, (blocks, centroids, lanes), and the weighted similarity that 1 of a byte stands for.
        """
        key = tuple((bag, codec, weights[bag]) for bag, codec in codecs.items())
        if key not in self._tables:
            every = {bag: self.products(kernels, codec) for bag, codec in codecs.items()}
            scales = {bag: weights[bag] * found.scale for bag, found in every.items()}
            widest = max(scales[bag] * (found.high - found.low) for bag, found in every.items())
            step = max(widest, 1e-30) / MAX_BYTE
            tables = {
                bag: kernels.byte_table(found.products, found.low, scales[bag] / step) for bag, found in every.items()
            }
            self._tables[key] = tables, step
        return self._tables[key]


def _rotated(query: Float[Tensor, "query_tokens dim"], codec: ResidualCodec) -> Float[Tensor, "query_tokens dim"]:
    """Rotate a query by the compiled kernels where they are; torch does it as well for very few tokens, in any thread."""
    kernels = compiled_kernels() if query.device.type == "cpu" and len(query) > FEW_TOKENS else None
    return codec.rotate(query) if kernels is None else kernels.rotate(query.contiguous(), codec.rotation.contiguous())


def prepare(query: Float[Tensor, "query_tokens dim"] | PreparedQuery) -> PreparedQuery:
    """Return a query that is prepared already as it is, and prepare query tokens."""
    return query if isinstance(query, PreparedQuery) else PreparedQuery(query)
