"""Fitting a codec to a sample: whole videos are held out, not tokens.

Frames of one video look alike. Where there are about as many centroids as videos, as in small corpora, a held-out token
finds a centroid of its own video, its residual is tiny, and buckets that are fitted to such residuals cut off those of
videos that are added later. So some videos are set aside first: centroids are fitted to the others, the residuals of
the videos set aside show what later ones will be like, and then they get centroids too. Buckets are fitted to residuals
of both kinds.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.indexing.codec.assignment import assigner
from colbert_video.indexing.codec.codec import ResidualCodec, as_stored
from colbert_video.indexing.codec.kmeans import spherical_kmeans
from colbert_video.indexing.codec.residuals import BucketKind, fit_buckets

HELDOUT_TOKENS = 2048
"""Tokens that are set aside, about; never more than half of the videos."""
MAX_STORED = 2**13
"""Tokens of stored videos that the buckets are fitted to."""
UNSEEN_SHARE = 0.1
"""Share of unseen videos in the residuals that the buckets are fitted to. Lloyd-Max minimises squared errors: a few
large residuals are served well by few buckets, and most buckets stay with the many small ones."""


@dataclass(frozen=True)
class Sample:
    """Tokens of one bag, in random order."""

    tokens: Float[Tensor, "tokens dim"]
    """Unit-norm tokens as the model gives them."""
    owners: Int64[Tensor, "tokens"]
    """Video that each token belongs to, any number per video."""


@dataclass(frozen=True)
class FittedCodec:
    """A codec, and its error on videos that it has not seen."""

    codec: ResidualCodec
    unseen_error: float
    """Reconstruction error of videos that no centroid was fitted to; of a corpus of one video, that video's."""


def fit_codec(
    sample: Sample,
    *,
    centroids: int,
    nbits: int,
    buckets: BucketKind,
    rotate: bool,
    seed: int,
    query_direction: Float[Tensor, "dim"] | None = None,
) -> FittedCodec:
    """Fit a codec to a sample of a corpus.

    Args:
        sample: The tokens.
        centroids: Number of centroids, at most that of tokens.
        nbits: Bits kept per dimension.
        buckets: "lloyd_max" or ColBERT's "quantile".
        rotate: True to rotate tokens first.
        seed: Makes rotation, centroids and the choice of videos reproducible.
        query_direction: Unit vector along which rounding errors cancel; None for plain rounding.
    """
    held = _set_aside(sample.owners, seed)
    seen, unseen = sample.tokens[~held], sample.tokens[held]
    later = len(unseen) * centroids // len(held)
    codec = ResidualCodec.train(
        seen,
        nbits=nbits,
        seed=seed,
        centroids=min(centroids - later, len(seen)),
        buckets=buckets,
        rotate=rotate,
        query_direction=query_direction,
    )
    if len(unseen) == 0:
        return FittedCodec(codec, codec.reconstruction_error(seen[:MAX_STORED]))
    whole = _with_more_centroids(codec, unseen, later, seed)
    stored = _with_centroids(whole, sample.tokens[:MAX_STORED])
    few = max(1, int(len(stored[0]) * UNSEEN_SHARE / (1 - UNSEEN_SHARE)))
    later_ones = _with_centroids(codec, unseen[:few])
    tokens, nearest = (torch.cat(both) for both in zip(stored, later_ones, strict=True))
    cutoffs, weights = fit_buckets(tokens, nearest, nbits=nbits, buckets=buckets, seed=seed)
    average = float((stored[0] - stored[1]).abs().mean())
    fitted = replace(whole, cutoffs=cutoffs, weights=weights, avg_residual=average)
    as_if_new = replace(fitted, centroids=codec.centroids)
    return FittedCodec(fitted, as_if_new.reconstruction_error(unseen))


def _set_aside(owners: Int64[Tensor, "tokens"], seed: int) -> Bool[Tensor, "tokens"]:
    """Choose whole videos; return which tokens are theirs."""
    videos = owners.unique()
    wanted = -(-HELDOUT_TOKENS * len(videos) // len(owners))
    order = torch.randperm(len(videos), generator=torch.Generator().manual_seed(seed), device="cpu")
    return torch.isin(owners, videos[order[: min(wanted, len(videos) // 2)]])


def _with_more_centroids(
    codec: ResidualCodec, tokens: Float[Tensor, "tokens dim"], count: int, seed: int
) -> ResidualCodec:
    """Add centroids for tokens that had none."""
    if count == 0:
        return codec
    means = spherical_kmeans(tokens, centroids=count, seed=seed)
    more = as_stored(codec.rotate(means))
    return replace(codec, centroids=torch.cat([codec.centroids, more]))


def _with_centroids(
    codec: ResidualCodec, tokens: Float[Tensor, "tokens dim"]
) -> tuple[Float[Tensor, "tokens dim"], Float[Tensor, "tokens dim"]]:
    """Return tokens, rotated, and the centroid of each."""
    rotated = codec.rotate(tokens)
    return rotated, codec.centroids[assigner(codec.centroids)(rotated)[0]]
