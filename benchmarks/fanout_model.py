"""The tail of a fan-out: a query waits for the slowest of its shards (Dean and Barroso, "The Tail at Scale", 2013).

Latencies of one shard, measured ones or those of a log-normal distribution through two measured quantiles, are drawn
again for each shard of each simulated query. Shards are taken to be independent of each other: what slows a whole
machine down is not in here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

QUANTILES = (50, 95, 99)
Z_95, Z_99 = 1.6448536269514722, 2.3263478740408408
"""The 95th and the 99th percentile of the standard normal distribution."""
DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Tail:
    """Latencies of a query, in milliseconds, and what it lost."""

    shards: int
    p50: float
    p95: float
    p99: float
    lost: float
    """Mean share of the shards that had not answered by the deadline: the share of the results that is missing, if
    these lie anywhere."""
    asked_twice: float
    """Mean share of the shards that were asked a second time."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def lognormal_samples(p50: float, p95: float, count: int, rng: np.random.Generator) -> Float[np.ndarray, "count"]:
    """Latencies whose distribution has two quantiles that were measured.

    Args:
        p50: Median.
        p95: 95th percentile.
        count: How many to draw.
        rng: Draws them.
    """
    return rng.lognormal(math.log(p50), math.log(p95 / p50) / Z_95, count)


def histogram_samples(histogram: Mapping[str, Any], count: int, rng: np.random.Generator) -> Float[np.ndarray, "count"]:
    """Latencies that fall into the cells of a histogram as the measured ones did; within a cell evenly by logarithm.

    Args:
        histogram: `histogram_edges` in milliseconds, above 0, and `histogram_counts`.
        count: How many to draw.
        rng: Draws them.
    """
    edges, counts = (np.asarray(histogram[f"histogram_{name}"], dtype=float) for name in ("edges", "counts"))
    cells = rng.choice(len(counts), count, p=counts / counts.sum())
    return edges[cells] * (edges[cells + 1] / edges[cells]) ** rng.random(count)


def simulate(
    samples: Float[np.ndarray, "samples"],
    shards: int,
    *,
    queries: int,
    rng: np.random.Generator,
    hedge: float | None = None,
    deadline: float | None = None,
) -> Tail:
    """Queries that wait for all of their shards.

    Args:
        samples: Latencies of one shard, in milliseconds.
        shards: How many shards a query asks at once.
        queries: How many are simulated.
        rng: Draws latencies.
        hedge: Milliseconds after which a second copy of a late shard is asked too; the first answer counts.
        deadline: Milliseconds after which the query is answered with what is there.
    """
    worst, lost, twice = np.empty(queries), 0.0, 0.0
    step = max(1, DRAWS_AT_ONCE // shards)
    for first in range(0, queries, step):
        rows = min(step, queries - first)
        drawn = rng.choice(samples, (rows, shards))  # (queries, shards)
        if hedge is not None:
            late = drawn > hedge
            twice += late.sum()
            drawn = np.where(late, np.minimum(drawn, hedge + rng.choice(samples, drawn.shape)), drawn)
        if deadline is not None:
            lost += (drawn > deadline).sum()
            drawn = np.minimum(drawn, deadline)
        worst[first : first + rows] = drawn.max(axis=1)
    p50, p95, p99 = (float(value) for value in np.percentile(worst, QUANTILES))
    return Tail(shards, p50, p95, p99, float(lost) / queries / shards, float(twice) / queries / shards)


def quantiles(samples: Sequence[float] | Float[np.ndarray, "samples"]) -> dict[str, float]:
    """Median, 95th and 99th percentile by name."""
    values = np.percentile(np.asarray(samples, dtype=float), QUANTILES)
    return {f"p{number}": float(value) for number, value in zip(QUANTILES, values, strict=True)}
