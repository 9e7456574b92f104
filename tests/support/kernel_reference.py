"""The arithmetic of the compiled kernels once more, one step after the other, in torch."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.packing import unpack
from colbert_video.indexing.scan.kernels import LANES, MAX_ROUNDED, ZERO, RoundedCodec, RoundedQuery, by_plane
from colbert_video.indexing.segments.segment import StoredBag


@dataclass(frozen=True)
class Case:
    """A random bag with a codec and a query that fit it."""

    codec: ResidualCodec
    stored: StoredBag
    query: Tensor


def random_case(*, dim: int, nbits: int, centroids: int, doclens: list[int], query_tokens: int, seed: int) -> Case:
    """Random centroids, codes, residuals and query; nothing about them is like real tokens."""
    generator = torch.Generator().manual_seed(seed)
    means = normalize(torch.randn(centroids, dim, generator=generator), dim=1).half().float()
    weights = torch.randn(2**nbits, generator=generator).sort().values * 0.05
    cutoffs = (weights[1:] + weights[:-1]) / 2
    codec = ResidualCodec(torch.eye(dim), means, cutoffs, weights, 0.05, nbits)
    tokens = sum(doclens)
    codes = torch.randint(0, centroids, (tokens,), generator=generator, dtype=torch.int32)
    residuals = torch.randint(0, 256, (tokens, dim * nbits // 8), generator=generator, dtype=torch.uint8)
    lengths = torch.tensor(doclens)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    stored = StoredBag(Path("nowhere"), dim, nbits, centroids, codec.fingerprint, codes, residuals, lengths, offsets)
    query = normalize(torch.randn(query_tokens, dim, generator=generator), dim=1)
    return Case(codec, stored, query)


def round_query(rotated: Tensor, nbits: int) -> RoundedQuery:
    """Query tokens as bytes of one scale, in blocks of lanes that zeros fill up."""
    count, dim = rotated.shape
    blocks = -(-count // LANES)
    padded = torch.zeros(blocks * LANES, dim)
    padded[:count] = rotated
    scale = float(rotated.abs().max() / MAX_ROUNDED)
    rounded = by_plane((padded / scale).round(), nbits).to(torch.int8)
    fours = rounded.view(blocks, LANES, dim // 4, 4).transpose(1, 2)  # (blocks, dim / 4, lanes, 4)
    return RoundedQuery(
        bytes=fours.contiguous(),
        start=-ZERO * rounded.sum(dim=1, dtype=torch.int32).view(blocks, LANES),
        tokens=padded.view(blocks, LANES, dim).transpose(1, 2).contiguous(),
        scale=scale,
        count=count,
    )


def whole_numbers(query: RoundedQuery) -> Tensor:
    """The rounded query tokens, (blocks, lanes, dim), dimensions by plane."""
    return query.bytes.transpose(1, 2).flatten(2).long()


def centroid_products(codec: RoundedCodec, query: RoundedQuery) -> Tensor:
    """(blocks, centroids, lanes) inner products."""
    return ((codec.centroids.long() - ZERO) @ whole_numbers(query).transpose(1, 2)).int()


def byte_table(products: Tensor, low: int, scale: float) -> Tensor:
    """(product - low) * scale in single precision, rounded toward zero, within 0 to 255."""
    return ((products - low).float() * torch.tensor(scale)).int().clamp(0, 255).to(torch.uint8)


def distinct_codes(stored: StoredBag) -> list[list[int]]:
    """Each video's codes once, ascending."""
    return [codes.unique().tolist() for codes in stored.codes.split(stored.doclens.tolist())]


def centroid_interaction(stored: StoredBag, ordinals: Tensor, table: Tensor) -> Tensor:
    """Sum over lanes of the largest byte among each video's tokens."""
    sums = []
    for start, stop in zip(stored.offsets[ordinals], stored.offsets[ordinals + 1], strict=True):
        rows = table[:, stored.codes[start:stop].long()].int()  # (blocks, tokens, lanes)
        sums.append(int(rows.amax(dim=1).sum()) if stop > start else 0)
    return torch.tensor(sums, dtype=torch.int32)


def rounded_scores(stored: StoredBag, codec: RoundedCodec, query: RoundedQuery, ordinals: Tensor) -> Tensor:
    """MeanMaxSim on decoded tokens from whole-number inner products, put together in double precision."""
    lanes = whole_numbers(query).reshape(-1, stored.dim)  # (blocks * lanes, dim)
    scores = []
    for ordinal in ordinals.tolist():
        rows = slice(int(stored.offsets[ordinal]), int(stored.offsets[ordinal + 1]))
        centroids = codec.centroids[stored.codes[rows].long()].long() - ZERO  # (tokens, dim)
        ids = torch.arange(stored.residuals.shape[1])
        planes = [plane[stored.residuals[rows].long()][:, ids] for plane in codec.planes]
        weights = torch.cat(planes, dim=1).long() - ZERO  # (tokens, dim), by plane
        squares = (
            codec.squares[stored.codes[rows].long()].double()
            + (weights * weights).sum(1) * codec.weight_scale**2
            + (weights * centroids).sum(1) * 2 * codec.weight_scale * codec.centroid_scale
        )
        numerators = (centroids @ lanes.T) * codec.centroid_scale + (weights @ lanes.T) * codec.weight_scale
        similarities = numerators * query.scale / squares.clamp(min=1e-24).sqrt()[:, None]
        scores.append(float(similarities[:, : query.count].amax(dim=0).mean()))
    return torch.tensor(scores)


def exact_scores(case: Case, ordinals: Tensor) -> Tensor:
    """MeanMaxSim on tokens as `ResidualCodec.decode` gives them."""
    scores = []
    for ordinal in ordinals.tolist():
        rows = slice(int(case.stored.offsets[ordinal]), int(case.stored.offsets[ordinal + 1]))
        tokens = case.codec.decode(case.stored.codes[rows], case.stored.residuals[rows])
        scores.append(float((case.codec.rotate(case.query) @ tokens.T).amax(dim=1).mean()))
    return torch.tensor(scores)


def bucket_ids(stored: StoredBag) -> Tensor:
    """Bucket id of each dimension of each token."""
    return unpack(stored.residuals, stored.nbits)


assert LANES == 32  # the shapes above say so
