"""Centroids on the unit sphere: how many there are and where.

The number grows as ColBERT's does (colbert/indexing/collection_indexer.py, `setup`). The clustering is spherical k-means
(Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001), since tokens are
compared by inner product. Codebooks of thousands are made in two levels, as the vocabulary tree of Nistér and
Stewénius (CVPR 2006) is: a coarse clustering cuts the tokens into cells, each cell is clustered alone, and the last
rounds run over all tokens and centroids.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from colbert_video.errors import SettingsError
from colbert_video.indexing.codec.assignment import PROBES, CentroidCells, assign

CENTROIDS_PER_ROOT = 9
"""Centroids for each square root of the number of tokens. ColBERT takes 16 and rounds down to a power of two, which
leaves 8 to 16; `benchmarks/centroids.py` shows what more of them, or fewer, bring and cost."""
TOKENS_PER_CENTROID = 4
"""Least tokens a centroid, in corpora so small that there would be fewer."""
EXACT_MOST = 1024
"""Centroids that a CPU compares with every token; grouping more of them into cells is faster."""
TOKENS_PER_CELL = 128
"""Tokens that the coarse clustering sees for each cell."""
ROUNDS_OVER_ALL = 2
"""Rounds of a two-level clustering that run over all tokens; they undo the borders between cells."""
ROUND_PROBES = 4
"""Cells searched for each token in these rounds: a mean forgives what a code would not."""

Assign = Callable[[Float[Tensor, "tokens dim"]], tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]]
"""From tokens to centroid ids and inner products."""


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


def assigner(centroids: Float[Tensor, "centroids dim"], *, probes: int = PROBES) -> Assign:
    """Return the function that finds tokens' centroids: exact for few centroids or on a GPU, else through cells.

    Args:
        centroids: Unit-norm centroids.
        probes: Cells searched for each token where there are cells.
    """
    if len(centroids) <= EXACT_MOST or centroids.device.type != "cpu":
        return partial(assign, centroids=centroids)
    centres = _coarse(centroids, _num_cells(len(centroids)), torch.Generator().manual_seed(0))
    return partial(CentroidCells.group(centroids, centres).assign, probes=probes)


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
    if centroids <= EXACT_MOST or tokens.device.type != "cpu":
        means = _lloyd(tokens, _drawn(tokens, centroids, generator), iterations)
    else:
        means = _cell_by_cell(tokens, centroids, max(1, iterations - ROUNDS_OVER_ALL), generator)
        means = _lloyd(tokens, means, min(iterations, ROUNDS_OVER_ALL))
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


def _cell_by_cell(
    tokens: Float[Tensor, "tokens dim"], centroids: int, iterations: int, generator: torch.Generator
) -> Float[Tensor, "centroids dim"]:
    """Cut the tokens into cells and cluster each cell alone, into its share of the centroids."""
    cell, _ = assign(tokens, _coarse(tokens, _num_cells(centroids), generator))
    sizes = torch.bincount(cell)
    means = []
    for rows, share in zip(
        cell.argsort(stable=True).split(sizes.tolist()), _shares(sizes, centroids).tolist(), strict=True
    ):
        members = tokens[rows]
        means.append(_lloyd(members, _drawn(members, share, generator), iterations if share else 0))
    return torch.cat(means)


def _coarse(
    tokens: Float[Tensor, "tokens dim"], cells: int, generator: torch.Generator
) -> Float[Tensor, "cells dim"]:
    """Cluster some of the tokens into few cells."""
    sample = _drawn(tokens, min(len(tokens), TOKENS_PER_CELL * cells), generator)
    return _lloyd(sample, sample[:cells], iterations=6)


def _num_cells(centroids: int) -> int:
    """Return how many cells make searching centres and members cheapest, a few cells being searched a token."""
    return 2 * math.isqrt(centroids)


def _shares(sizes: Int64[Tensor, "cells"], centroids: int) -> Int64[Tensor, "cells"]:
    """Share centroids out in proportion to `sizes`, by largest remainders; no cell gets more than its size."""
    total = int(sizes.sum())
    shares = sizes * centroids // total
    remainders = sizes * centroids % total
    shares[remainders.topk(centroids - int(shares.sum())).indices] += 1
    return shares


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
