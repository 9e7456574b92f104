"""Centroids on the unit sphere: how many there are and where.

The number grows as ColBERT's does (colbert/indexing/collection_indexer.py, `setup`). The clustering is spherical k-means
(Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001), since tokens are
compared by inner product. Where there are many centroids, a round finds each token's through cells (`assigner`). Compared
with faiss's own `faiss.Kmeans` over a flat index, `benchmarks/assignment.py` shows the same mean cosine in a fraction of the
time; on a GPU, where comparing all is fast, the same rounds run in torch and need no copy of the tokens.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.assignment import assigner

CENTROIDS_PER_ROOT = 9
"""Centroids for each square root of the number of tokens. ColBERT takes 16 and rounds down to a power of two, which
leaves 8 to 16; `benchmarks/centroids.py` shows what more of them, or fewer, bring and cost."""
TOKENS_PER_CENTROID = 4
"""Least tokens a centroid, in corpora so small that there would be fewer."""
ROUND_PROBES = 4
"""Cells searched for each token in a round: a mean forgives what a code would not."""


def num_partitions(tokens: int) -> int:
    """Return how many centroids suit a corpus.

    It grows with the root of the corpus, as ColBERT's does, without steps at powers of two.

    Args:
        tokens: Tokens in the whole corpus, at least 1.

    Returns:
        The number of centroids, at least 1.
    """
    if tokens < 1:
        raise SettingsError(f"num_partitions got {tokens} tokens; a corpus has at least one")
    return max(1, min(math.floor(CENTROIDS_PER_ROOT * math.sqrt(tokens)), tokens // TOKENS_PER_CENTROID))


def spherical_kmeans(
    tokens: Float[Tensor, "tokens dim"], *, centroids: int, iterations: int = 6, seed: int = 0
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
    generator = torch.Generator().manual_seed(seed)
    tokens = tokens.float()
    means = _lloyd(tokens, _drawn(tokens, centroids, generator), iterations)
    return _distinct(means, tokens[0])


def _lloyd(
    tokens: Float[Tensor, "tokens dim"], means: Float[Tensor, "means dim"], iterations: int
) -> Float[Tensor, "means dim"]:
    """Alternate assignment and update."""
    for _ in range(iterations):
        codes, scores = assigner(means, probes=ROUND_PROBES)(tokens)
        sums = torch.zeros_like(means).index_add_(0, codes, tokens)
        empty = (torch.bincount(codes, minlength=len(means)) == 0).nonzero()[:, 0]
        sums[empty] = tokens[scores.topk(len(empty), largest=False).indices]  # the tokens served worst
        means = functional.normalize(sums, dim=1)
    return means


def _drawn(
    tokens: Float[Tensor, "tokens dim"], count: int, generator: torch.Generator
) -> Float[Tensor, "count dim"]:
    """Draw tokens at random, without replacement."""
    return tokens[torch.randperm(len(tokens), generator=generator)[:count].to(tokens.device)]


def _distinct(
    means: Float[Tensor, "means dim"], token: Float[Tensor, "dim"]
) -> Float[Tensor, "centroids dim"]:
    """Normalise `means`, put `token` where there is no direction, and drop repetitions (compared in half precision)."""
    usable = means.isfinite().all(1) & (means.norm(dim=1) > 1e-6)  # opposite tokens average to nothing
    means = torch.where(usable[:, None], means, token)
    unit = functional.normalize(means, dim=1)
    _, group = unit.half().unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(unit), device=unit.device)
    first.scatter_reduce_(0, group, torch.arange(len(unit), device=unit.device), "amin")
    return unit[first.sort().values]
