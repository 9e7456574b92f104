"""Centroids on the unit sphere: how many there are and where.

The number grows as ColBERT's does (colbert/indexing/collection_indexer.py, `setup`). The clustering is spherical
k-means (Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001), since tokens
are compared by inner product. Codebooks of thousands are made in two levels on a CPU, as the vocabulary tree of Nistér
and Stewénius (CVPR 2006) is: a coarse clustering cuts the tokens into cells, each cell is clustered alone, and the last
rounds run over all tokens and centroids, which find each other through faiss (`assigner`).

`faiss.Kmeans` over a flat index takes several times as long for the same mean cosine (`benchmarks/assignment.py`).
Rounds over all tokens through an inverted file, from a random start, take as long as two levels, but with outlier
dimensions they lose half a point of recall@10 (0.982 against 0.986 of 4,000 videos at 4 bits,
`benchmarks/clustering.py`). On a GPU comparing all is fast: one level.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.assignment import MAX_EXACT, assign, assigner

CENTROIDS_PER_ROOT = 9
"""Centroids for each square root of the number of tokens. ColBERT takes 16 and rounds down to a power of two, which
leaves 8 to 16; `benchmarks/centroids.py` shows what more of them, or fewer, bring and cost."""
TOKENS_PER_CENTROID = 4
"""Least tokens per centroid, in corpora so small that there would be fewer."""
TOKENS_PER_CELL = 128
"""Tokens that the coarse clustering sees for each cell."""
COARSE_ROUNDS, ROUNDS_OVER_ALL = 6, 2
"""Rounds of the coarse clustering, and those over all tokens at the end, which undo the borders between cells."""
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
        centroids: Number of centroids, 1 <= centroids <= tokens.
        iterations: Assignment and update rounds.
        seed: Seed of the initial choice.

    Returns:
        Distinct unit-norm float32 centroids; fewer than asked for when clusters coincide, as when tokens repeat.

    Raises:
        SettingsError: If `centroids` is out of range.
    """
    if not 1 <= centroids <= len(tokens):
        raise SettingsError(f"centroids={centroids} for {len(tokens)} tokens: ask for 1 to {len(tokens)}")
    generator = torch.Generator().manual_seed(seed)
    tokens = tokens.float()
    if centroids <= MAX_EXACT or tokens.device.type != "cpu":
        means = _lloyd(tokens, _drawn(tokens, centroids, generator), iterations)
    else:
        means = _cell_by_cell(tokens, centroids, max(1, iterations - ROUNDS_OVER_ALL), generator)
        means = _lloyd(tokens, means, min(iterations, ROUNDS_OVER_ALL))
    return _distinct(means, tokens[0])


def _lloyd(
    tokens: Float[Tensor, "tokens dim"], means: Float[Tensor, "means dim"], iterations: int
) -> Float[Tensor, "means dim"]:
    """Alternate assignment and update; a centroid without tokens moves to a token that is served worst."""
    for _ in range(iterations):
        codes, scores = assigner(means, probes=ROUND_PROBES)(tokens)
        sums = torch.zeros_like(means).index_add_(0, codes, tokens)  # (means, dim)
        empty = (torch.bincount(codes, minlength=len(means)) == 0).nonzero()[:, 0]
        sums[empty] = tokens[scores.topk(len(empty), largest=False).indices]
        means = functional.normalize(sums, dim=1)
    return means


def _cell_by_cell(
    tokens: Float[Tensor, "tokens dim"], centroids: int, iterations: int, generator: torch.Generator
) -> Float[Tensor, "centroids dim"]:
    """Cut the tokens into cells and cluster each cell alone, into its share of the centroids."""
    cells = 2 * math.isqrt(centroids)
    sample = _drawn(tokens, min(len(tokens), TOKENS_PER_CELL * cells), generator)
    cell, _ = assign(tokens, _lloyd(sample, sample[:cells], COARSE_ROUNDS))  # (tokens,)
    sizes = torch.bincount(cell)
    rows_of_cells = cell.argsort(stable=True).split(sizes.tolist())
    means = []
    for rows, share in zip(rows_of_cells, _shares(sizes, centroids).tolist(), strict=True):
        members = tokens[rows]
        means.append(_lloyd(members, _drawn(members, share, generator), iterations if share else 0))
    return torch.cat(means)


def _shares(sizes: Int64[Tensor, "cells"], centroids: int) -> Int64[Tensor, "cells"]:
    """Share centroids out in proportion to `sizes`, by largest remainders; no cell gets more than its size."""
    total = int(sizes.sum())
    shares = sizes * centroids // total
    remainders = sizes * centroids % total
    shares[remainders.topk(centroids - int(shares.sum())).indices] += 1
    return shares


def _drawn(tokens: Float[Tensor, "tokens dim"], count: int, generator: torch.Generator) -> Float[Tensor, "count dim"]:
    """Draw tokens at random, without replacement."""
    return tokens[torch.randperm(len(tokens), generator=generator, device="cpu")[:count].to(tokens.device)]


def _distinct(means: Float[Tensor, "means dim"], token: Float[Tensor, "dim"]) -> Float[Tensor, "centroids dim"]:
    """Normalise `means`, put `token` where there is no direction, and drop repetitions (compared in half precision)."""
    usable = means.isfinite().all(1) & (means.norm(dim=1) > 1e-6)  # opposite tokens average to nothing
    means = torch.where(usable[:, None], means, token)
    unit = functional.normalize(means, dim=1)
    _, group = unit.half().unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(unit), device=unit.device)
    first.scatter_reduce_(0, group, torch.arange(len(unit), device=unit.device), "amin")
    return unit[first.sort().values]
