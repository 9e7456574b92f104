"""Which centroid a token belongs to: the one of largest inner product.

`assign` compares a token with every centroid. `CentroidIndex` compares it with few: faiss groups the centroids into
cells, and a token meets only the members of the cells whose centres are nearest to it (the inverted file of Jégou,
Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011, section IV). It misses the best
centroid of a few tokens in a thousand, and then finds one almost as near.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.device import full_precision

SCORES_AT_ONCE = 2**21
"""Token × centroid products held at once: 8 MiB in float32, which stay in a CPU's cache."""
MAX_EXACT = 1024
"""Centroids that a CPU compares with every token; grouping more of them into cells is faster."""
CELLS_PER_ROOT = 4
"""Cells for each square root of the number of centroids: many, since reading members costs more than choosing."""
PROBES = 8
"""Cells searched for each token; `benchmarks/assignment.py` shows how many tokens find their best centroid there."""

Assign = Callable[[Float[Tensor, "tokens dim"]], tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]]
"""From tokens to centroid ids and inner products."""


def assigner(centroids: Float[Tensor, "centroids dim"], *, probes: int = PROBES) -> Assign:
    """Return the function that finds tokens' centroids: exact for few centroids or on a GPU, else through cells.

    Args:
        centroids: Unit-norm centroids.
        probes: Cells searched for each token where there are cells.
    """
    if len(centroids) <= MAX_EXACT or centroids.device.type != "cpu":
        return partial(assign, centroids=centroids)
    return CentroidIndex(centroids, probes=probes).assign


def assign(
    tokens: Float[Tensor, "tokens dim"], centroids: Float[Tensor, "centroids dim"]
) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
    """Find each token's centroid among all: the one of largest inner product, the first of equals.

    Args:
        tokens: Tokens, rotated like the centroids.
        centroids: Centroids on the same device, float32.

    Returns:
        Centroid ids and their inner products with the tokens.
    """
    codes = torch.empty(len(tokens), dtype=torch.int64, device=tokens.device)
    scores = torch.empty(len(tokens), device=tokens.device, dtype=torch.float32)
    rows = max(1, SCORES_AT_ONCE // len(centroids))
    with full_precision(tokens):
        for start in range(0, len(tokens), rows):
            part = slice(start, start + rows)
            codes[part], scores[part] = _largest(tokens[part].float() @ centroids.T)
    return codes, scores


def _largest(scores: Float[Tensor, "tokens centroids"]) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
    """Return column and value of each row's maximum; on a CPU NumPy's argmax takes a fifth of torch's time."""
    if scores.device.type != "cpu":
        best = scores.max(1)
        return best.indices, best.values
    columns = torch.from_numpy(scores.numpy().argmax(1))
    return columns, scores.gather(1, columns[:, None])[:, 0]


class CentroidIndex:
    """A faiss inverted file over the centroids, in the CPU's memory; the same for the same centroids.

    Args:
        centroids: Unit-norm centroids.
        probes: Cells searched for each token; with all cells the result is that of `assign`.
        cells: Number of cells; None for one that makes the search cheapest.
    """

    def __init__(
        self, centroids: Float[Tensor, "centroids dim"], *, probes: int = PROBES, cells: int | None = None
    ) -> None:
        self._centroids = centroids
        wanted = CELLS_PER_ROOT * math.isqrt(len(centroids)) if cells is None else cells
        with _faiss() as faiss:
            kind = f"IVF{min(wanted, len(centroids))},Flat"
            self._index = faiss.index_factory(centroids.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
            self._index.cp.min_points_per_centroid = 1  # cells are small on purpose: no warning
            self._index.nprobe = probes
            self._index.train(centroids.numpy())
            self._index.add(centroids.numpy())

    def assign(self, tokens: Float[Tensor, "tokens dim"]) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
        """Find each token's centroid among the members of the cells nearest to it.

        Returns:
            Centroid ids and their inner products with the tokens.
        """
        tokens = tokens.float().contiguous()
        with _faiss():
            found = self._index.search(tokens.numpy(), 1)
        scores, codes = (torch.from_numpy(column[:, 0]) for column in found)
        missed = (codes < 0).nonzero()[:, 0]  # all of a token's cells were empty
        codes[missed], scores[missed] = assign(tokens[missed], self._centroids)
        return codes, scores


@contextmanager
def _faiss() -> Iterator[Any]:
    """Import faiss, with as many threads as torch has; its own number comes back afterwards.

    One thread on macOS, where the OpenMP libraries of the two wheels crash when both start threads.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if sys.platform == "darwin" else torch.get_num_threads())
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)
