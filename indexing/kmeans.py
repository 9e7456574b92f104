"""Centroids on the unit sphere: how many, where, and which one each token belongs to.

The number follows ColBERT (colbert/indexing/collection_indexer.py, `setup`); the clustering is Faiss's spherical
k-means, since tokens are compared by inner product.
"""

import math

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn import functional

from colbert_video.errors import SettingsError

TOKENS_PER_CENTROID = 4
SCORES_AT_ONCE = 2**25  # token × centroid products held in memory, 128 MiB in float32


def num_partitions(tokens: int) -> int:
    """Return how many centroids suit a corpus.

    ColBERT's 2 ** floor(log2(16 * sqrt(tokens))), held down so that small corpora keep about four tokens a centroid.

    Args:
        tokens: Tokens in the whole corpus, at least 1.

    Returns:
        The number of centroids, at least 1.
    """
    if tokens < 1:
        raise SettingsError(f"num_partitions got {tokens} tokens; a corpus has at least one")
    formula = 2 ** math.floor(math.log2(16 * math.sqrt(tokens)))
    return max(1, min(formula, tokens // TOKENS_PER_CENTROID))


def spherical_kmeans(
    tokens: Float[Tensor, "tokens dim"], *, centroids: int, iterations: int = 8, seed: int = 0
) -> Float[Tensor, "centroids dim"]:
    """Cluster tokens by inner product.

    Args:
        tokens: Unit-norm tokens.
        centroids: How many centroids, 1 <= centroids <= tokens.
        iterations: Assignment and update rounds.
        seed: Seed of the initial choice.

    Returns:
        Distinct unit-norm float32 centroids; fewer than asked for when clusters coincide, as when tokens repeat.

    Raises:
        SettingsError: `centroids` is out of range.
    """
    if not 1 <= centroids <= len(tokens):
        raise SettingsError(f"centroids={centroids} for {len(tokens)} tokens: ask for 1 to {len(tokens)}")
    import faiss

    kmeans = faiss.Kmeans(
        tokens.shape[1],
        centroids,
        niter=iterations,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,  # below this Faiss prints a warning
        gpu=tokens.is_cuda and faiss.get_num_gpus() > 0,
    )
    kmeans.train(tokens.float().cpu().numpy())
    means = torch.from_numpy(kmeans.centroids).to(tokens.device)
    return _distinct(means, tokens[0].float())


def _distinct(
    means: Float[Tensor, "means dim"], token: Float[Tensor, "dim"]
) -> Float[Tensor, "centroids dim"]:
    """Normalise `means`, put `token` where there is no direction, and drop repetitions (compared as stored, in fp16)."""
    usable = means.isfinite().all(1) & (means.norm(dim=1) > 1e-6)  # opposite tokens average to nothing
    means = torch.where(usable[:, None], means, token)
    unit = functional.normalize(means, dim=1)
    _, group = unit.half().unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(unit), device=unit.device)
    first.scatter_reduce_(0, group, torch.arange(len(unit), device=unit.device), "amin")
    return unit[first.sort().values]


def assign(
    tokens: Float[Tensor, "tokens dim"], centroids: Float[Tensor, "centroids dim"]
) -> Int32[Tensor, "tokens"]:
    """Return each token's centroid: the one of largest inner product, the first of equals.

    Args:
        tokens: Tokens, rotated like the centroids.
        centroids: Centroids on the same device.

    Returns:
        Centroid ids, int32.
    """
    codes = torch.empty(len(tokens), dtype=torch.int32, device=tokens.device)
    rows = max(1, SCORES_AT_ONCE // len(centroids))
    for start in range(0, len(tokens), rows):
        scores = tokens[start : start + rows].float() @ centroids.T  # (rows, centroids)
        codes[start : start + rows] = scores.argmax(1)
    return codes
