"""How long a query over many shards takes: simulated from the latencies of one shard, for docs/scale.md.

    python benchmarks/fanout.py
    python benchmarks/fanout.py --seed 7 --queries 20000

The median of a shard is that of the largest in `search.json`. What varies about it is taken from a measured cluster of small
shards (`cluster_serving.json`), in milliseconds; where there is none, from `serve.json`, a service with one client, in
proportion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fanout_model import Z_95, Z_99, histogram_samples, lognormal_samples, quantiles, simulate
from reports import RESULTS, arguments, load, save
from scale_model import measured

SHARDS = (1, 3, 10, 30, 100, 300, 1000)
SEED, QUERIES, SAMPLES = 1, 5_000, 1_000_000
DEADLINE_MEDIANS = 2.0
"""A query with a deadline waits for so many medians of a shard."""


def shard_latencies(results: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Latencies of one large shard in milliseconds, and where they come from.

    Args:
        results: Folder of measured figures.
        rng: Draws them.
    """
    median, cluster = measured(results).query_ms[-1], quiet_cluster(results)
    if cluster is not None:
        drawn = histogram_samples(cluster["each_shard"], SAMPLES, rng)
        source = "median of the largest measured shard, varied as the answers of a measured cluster of small shards"
        return source, np.maximum(median + drawn - np.median(drawn), 0.0)
    served = load(results / "serve.json")["figures"]
    alone = next(row for row in served if (row["mode"], row["clients"]) == ("cached", 1))
    spread = alone["p99_ms"] / alone["p50_ms"]
    source = "log-normal, median of the largest measured shard, spread of the measured service"
    return source, lognormal_samples(median, median * spread ** (Z_95 / Z_99), SAMPLES, rng)


def quiet_cluster(results: Path) -> Mapping[str, Any] | None:
    """What a cluster did without failures, if one was measured."""
    figures = load(results / "cluster_serving.json")
    return figures and {**figures["quiet"], "shards": figures["corpus"]["shards"]}


def checked(cluster: Mapping[str, Any], *, queries: int, rng: np.random.Generator) -> dict[str, Any]:
    """The measured fan-out beside one that is simulated from the same cluster's shards."""
    samples = histogram_samples(cluster["each_shard"], SAMPLES, rng)
    tail = simulate(samples, cluster["shards"], queries=queries, rng=rng)
    names = ("p50", "p95", "p99")
    return {
        "shards": cluster["shards"],
        "measured": {name: cluster["answers"]["quantiles"][name] for name in names},
        "simulated": {name: getattr(tail, name) for name in names},
    }


def figures_of(results: Path, *, seed: int, queries: int) -> dict[str, Any]:
    """Simulate every number of shards with every way to wait."""
    rng = np.random.default_rng(seed)
    source, samples = shard_latencies(results, rng)
    shard = quantiles(samples)
    hedge, deadline = shard["p95"], DEADLINE_MEDIANS * shard["p50"]
    policies: dict[str, dict[str, float]] = {
        "wait for all": {},
        "ask a copy after p95": {"hedge": hedge},
        "deadline": {"deadline": deadline},
        "both": {"hedge": hedge, "deadline": deadline},
    }
    tails = {
        name: [simulate(samples, count, queries=queries, rng=rng, **waits).to_dict() for count in SHARDS]
        for name, waits in policies.items()
    }
    cluster = quiet_cluster(results)
    return {
        "source": source,
        "seed": seed,
        "queries": queries,
        "shard": shard,
        "hedge_ms": hedge,
        "deadline_ms": deadline,
        "tails": tails,
        "check": None if cluster is None else checked(cluster, queries=queries, rng=rng),
    }


def main() -> None:
    """Simulate, and write the figures down."""
    parser = arguments(__doc__, "fanout")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--queries", type=int, default=QUERIES)
    options = parser.parse_args()
    figures = figures_of(RESULTS, seed=options.seed, queries=options.queries)
    save(options.output, figures)


if __name__ == "__main__":
    main()
