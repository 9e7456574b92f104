"""Which centroid a token belongs to: the one of largest inner product.

`assign` compares a token with every centroid. `CentroidCells` does so with few of them: the centroids are grouped
into cells, and a token meets only the members of the cells whose centres are nearest to it. This is the inverted file
of Jégou, Douze and Schmid ("Product quantization for nearest neighbor search", TPAMI 2011, section IV) laid over the
codebook. It misses the best centroid of a few tokens in a thousand, and then finds one almost as near.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colbert_video.device import full_precision

SCORES_AT_ONCE = 2**21
"""Token × centroid products held at once: 8 MiB in float32, which stay in a CPU's cache."""
TOKENS_AT_ONCE = 2**14
"""Tokens that are spread over cells at once."""
PROBES = 8
"""Cells searched for each token; `benchmarks/assignment.py` shows how many tokens find their best centroid there."""


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
    scores = torch.empty(len(tokens), device=tokens.device)
    rows = max(1, SCORES_AT_ONCE // len(centroids))
    with full_precision(tokens):
        for start in range(0, len(tokens), rows):
            part = slice(start, start + rows)
            codes[part], scores[part] = _largest(tokens[part].float() @ centroids.T)
    return codes, scores


def _largest(
    scores: Float[Tensor, "tokens centroids"],
) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
    """Return column and value of each row's maximum; on a CPU NumPy's argmax takes a fifth of torch's time."""
    if scores.device.type != "cpu":
        best = scores.max(1)
        return best.indices, best.values
    columns = torch.from_numpy(scores.numpy().argmax(1))
    return columns, scores.gather(1, columns[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class CentroidCells:
    """Centroids grouped by their nearest centre."""

    centres: Float[Tensor, "cells dim"]
    """Direction of each cell."""
    ids: tuple[Int64[Tensor, "_"], ...]
    """Centroid ids of each cell, at least one."""
    members: tuple[Float[Tensor, "_ dim"], ...]
    """The centroids of these ids."""

    @classmethod
    def group(
        cls, centroids: Float[Tensor, "centroids dim"], centres: Float[Tensor, "cells dim"]
    ) -> "CentroidCells":
        """Put each centroid into the cell of its nearest centre; centres that get none are dropped."""
        cell, _ = assign(centroids, centres)
        sizes = torch.bincount(cell, minlength=len(centres))
        order = cell.argsort(stable=True)
        used = sizes > 0
        lengths = sizes[used].tolist()
        return cls(centres[used], order.split(lengths), centroids[order].split(lengths))

    def assign(
        self, tokens: Float[Tensor, "tokens dim"], *, probes: int = PROBES
    ) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
        """Find each token's centroid among the members of the cells nearest to it.

        Args:
            tokens: Tokens on the device of the centroids.
            probes: Cells searched for each token; with all cells the result is that of the function `assign`.

        Returns:
            Centroid ids and their inner products with the tokens.
        """
        codes = torch.empty(len(tokens), dtype=torch.int64, device=tokens.device)
        scores = torch.empty(len(tokens), device=tokens.device)
        with full_precision(tokens):
            for start in range(0, len(tokens), TOKENS_AT_ONCE):
                part = slice(start, start + TOKENS_AT_ONCE)
                codes[part], scores[part] = self._probe(tokens[part].float(), min(probes, len(self.centres)))
        return codes, scores

    def _probe(
        self, tokens: Float[Tensor, "tokens dim"], probes: int
    ) -> tuple[Int64[Tensor, "tokens"], Float[Tensor, "tokens"]]:
        """Score each cell's members against all tokens that chose it: one matrix product a cell."""
        chosen = (tokens @ self.centres.T).topk(probes, dim=1).indices.flatten()  # (tokens * probes,)
        visitors = chosen.argsort(stable=True) // probes  # tokens in the order of their cells
        visits = torch.bincount(chosen, minlength=len(self.centres)).tolist()
        codes = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
        scores = torch.full((len(tokens),), -torch.inf, device=tokens.device)
        for ids, members, rows in zip(self.ids, self.members, visitors.split(visits), strict=True):
            columns, found = _largest(tokens.index_select(0, rows) @ members.T)
            better = found > scores[rows]
            codes[rows[better]] = ids[columns[better]]
            scores[rows[better]] = found[better]
        return codes, scores
