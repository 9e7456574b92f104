"""Searching shards on a Ray cluster while shards are killed: is every answer right, and how long does a fan-out take?

    python benchmarks/cluster_serving.py --output benchmarks/results/cluster_serving.json

Three machines of a cluster run as processes on this one, with a synthetic corpus in as many shards. First, one client
asks without failures: time to answer, time of each shard, and the time that the same shards take in this process. Then
clients ask with a deadline while shard processes are killed (SIGKILL) again and again: with one replica of each shard,
then with two. Every answer is compared with that of one index over the same corpus (`exact`, so that both score all
videos): a complete answer must have its ids and scores, one that names missing shards those of the others. Anything else
is counted as wrong.
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import arguments

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests" / "support")]

from cluster_fixture import start_cluster  # noqa: E402

from colbert_video import Indexer, Searcher  # noqa: E402
from colbert_video.cluster.cluster_searcher import ClusterSearcher  # noqa: E402
from colbert_video.durable import write_text  # noqa: E402
from colbert_video.errors import ShardsUnavailableError  # noqa: E402
from colbert_video.indexing.catalog.catalog import Catalog  # noqa: E402
from colbert_video.indexing.upkeep.sharding import (  # noqa: E402
    ShardedCorpus,
    shard_index,
)
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher  # noqa: E402

DIM, FRAMES = 64, 12
QUERY_TOKENS = 16
QUERIES = 40
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
HISTOGRAM = 2.0 ** np.arange(-2, 14.01, 0.25)
"""Edges in milliseconds, from 0.25 ms to 16 s."""


def unit(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random unit vectors."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=-1)


def build(folder: Path, videos: int, shards: int) -> None:
    """An index of random tokens, and its shards."""
    ids = [f"video-{number:06d}" for number in range(videos)]
    frame, video = unit((videos, FRAMES, DIM), 1), unit((videos, FRAMES + 2, DIM), 2)
    Indexer(folder / "one", dim=DIM).index_tokens(ids, frame, video)
    shard_index(folder / "one", folder / "many", shards=shards)


def told(hits: Any) -> list[tuple[str, float]]:
    """What must agree."""
    return [(hit.id, hit.score) for hit in hits]


class Truth:
    """What one index answers, with any shards missing.

    Args:
        folder: Where index and shards are.
        queries: Query tokens.
        k: Hits wanted.
    """

    def __init__(self, folder: Path, queries: list[torch.Tensor], k: int) -> None:
        corpus = ShardedCorpus.open(folder / "many")
        self.held: dict[str, str] = {}
        for name, shard in zip(corpus.names, corpus.folders, strict=True):
            with Catalog.open(shard) as catalog:
                self.held |= {entry.id: name for entry in catalog.entries()}
        with Searcher(folder / "one") as one:
            self.every = [told(one.search_tokens(query, k=len(one), exact=True)) for query in queries]
        self.k = k

    def wanted(self, query: int, missing: tuple[str, ...]) -> list[tuple[str, float]]:
        """The right answer."""
        return [row for row in self.every[query] if self.held[row[0]] not in missing][: self.k]


@dataclass
class Outcome:
    """What clients met."""

    seconds: list[float] = field(default_factory=list)
    """Time to each answer."""
    counts: Counter[str] = field(default_factory=Counter)
    """Answers that were complete, partial, failed (none at all) or wrong."""
    complete: list[tuple[float, float]] = field(default_factory=list)
    """When each question was asked that was answered completely, and when it was."""


def ask(searcher: ClusterSearcher, truth: Truth, queries: list[torch.Tensor], number: int, met: Outcome) -> None:
    """Ask one question and judge the answer."""
    begun = time.monotonic()
    try:
        found = searcher.search_tokens(queries[number], k=truth.k, exact=True)
        right = told(found) == truth.wanted(number, found.shards_failed)
        kind = ("partial" if found.shards_failed else "complete") if right else "wrong"
    except ShardsUnavailableError:
        kind = "failed"
    ended = time.monotonic()
    met.seconds.append(ended - begun)
    met.counts[kind] += 1
    if kind == "complete":
        met.complete.append((begun, ended))


def client(ask_one: Callable[[int], None], stop: threading.Event, *, seed: int, pause: float) -> None:
    """Ask one question after the other until told to stop."""
    chance = random.Random(seed)
    while not stop.wait(pause):
        ask_one(chance.randrange(QUERIES))


def milliseconds(seconds: list[float]) -> dict[str, Any]:
    """Quantiles and a histogram."""
    times = np.array(seconds) * 1000
    counts, _ = np.histogram(np.clip(times, HISTOGRAM[0], HISTOGRAM[-1]), HISTOGRAM)
    return {
        "answers": len(times),
        "quantiles": {f"p{100 * q:g}": round(float(np.quantile(times, q)), 3) for q in QUANTILES},
        "mean": round(float(times.mean()), 3),
        "histogram_edges": [round(float(edge), 4) for edge in HISTOGRAM],
        "histogram_counts": counts.tolist(),
    }


def process(searcher: ClusterSearcher, shard: int, replica: int) -> Any:
    """A call that returns the process of a replica, once it is there."""
    return searcher.shards[shard].replicas[replica].handle.ready.options(max_task_retries=-1).remote()


def quiet(folder: Path, address: str, truth: Truth, queries: list[torch.Tensor], count: int) -> dict[str, Any]:
    """One client, nothing dies."""
    met, by_shard = Outcome(), defaultdict(list)
    with (
        ClusterSearcher(
            folder / "many", cluster=address, deadline=60, observe=lambda name, seconds: by_shard[name].append(seconds)
        ) as searcher,
        ShardedSearcher(folder / "many") as local,
    ):
        for number in range(20):
            ask(searcher, truth, queries, number % QUERIES, Outcome())
        by_shard.clear()
        for number in range(count):
            ask(searcher, truth, queries, number % QUERIES, met)
        shards = [seconds for every in by_shard.values() for seconds in every]
        nothing = [_timed(lambda: searcher.search_tokens(queries[0], where={"id": "nobody"})) for _ in range(count)]
        here = [
            _timed(partial(local.search_tokens, queries[number % QUERIES], k=truth.k, exact=True))
            for number in range(count)
        ]
    assert set(met.counts) == {"complete"}, met.counts
    return {
        "answers": milliseconds(met.seconds),
        "each_shard": milliseconds(shards),
        "nothing_to_score": milliseconds(nothing),
        "same_shards_in_this_process": milliseconds(here),
    }


def _timed(call: Any) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def killing(
    folder: Path, address: str, truth: Truth, queries: list[torch.Tensor], *, replicas: int, settings: Any
) -> dict[str, Any]:
    """Clients ask while shard processes are killed, one every so many seconds."""
    met, by_shard, chance = Outcome(), [], random.Random(1)
    stop, restarts, kills = threading.Event(), [], []
    with ClusterSearcher(
        folder / "many",
        cluster=address,
        replicas=replicas,
        deadline=settings.deadline,
        observe=lambda _, seconds: by_shard.append(seconds),
    ) as searcher:
        import ray

        def ask_one(number: int) -> None:
            ask(searcher, truth, queries, number, met)

        clients = [
            threading.Thread(target=client, args=(ask_one, stop), kwargs={"seed": seed, "pause": settings.pause})
            for seed in range(settings.clients)
        ]
        for thread in clients:
            thread.start()
        ends = time.monotonic() + settings.seconds
        while time.monotonic() < ends:
            time.sleep(settings.every)
            shard, replica = chance.randrange(len(searcher.shards)), chance.randrange(replicas)
            pid = ray.get(process(searcher, shard, replica))
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while ray.get(process(searcher, shard, replica)) == pid:
                time.sleep(0.01)
            restarts.append(time.monotonic() - killed)
            kills.append(killed)
        time.sleep(settings.every)
        stop.set()
        for thread in clients:
            thread.join()
    never = time.monotonic()
    gaps = [min((ended for begun, ended in met.complete if begun > killed), default=never) - killed for killed in kills]
    return {
        "replicas": replicas,
        "kills": len(kills),
        **{kind: met.counts[kind] for kind in ("complete", "partial", "failed", "wrong")},
        "seconds_until_the_process_is_back": _spread(restarts),
        "seconds_until_the_next_complete_answer": _spread(gaps),
        "answers": milliseconds(met.seconds),
        "each_shard": milliseconds(by_shard),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {name: round(float(pick(values)), 2) for name, pick in (("median", np.median), ("most", max))}


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=6000)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--queries", type=int, default=500, help="questions without failures")
    parser.add_argument("--seconds", type=float, default=60, help="of killing, for each number of replicas")
    parser.add_argument("--every", type=float, default=2, help="seconds from a restart to the next kill")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds of a client between questions")
    parser.add_argument("--deadline", type=float, default=5)
    parser.add_argument("--output", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    queries = [unit((QUERY_TOKENS, DIM), 100 + number) for number in range(QUERIES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, settings.videos, settings.shards)
        truth = Truth(folder, queries, 10)
        cluster = start_cluster(settings.shards)
        try:
            figures = {
                "corpus": {
                    "videos": settings.videos,
                    "shards": settings.shards,
                    "dim": DIM,
                    "query_tokens": QUERY_TOKENS,
                },
                "machine": {"hardware_threads": os.cpu_count(), "load_average": os.getloadavg()},
                "load": {
                    name: getattr(settings, name) for name in ("clients", "pause", "deadline", "seconds", "every")
                },
                "quiet": quiet(folder, cluster.address, truth, queries, settings.queries),
                "killing": [
                    killing(folder, cluster.address, truth, queries, replicas=replicas, settings=settings)
                    for replicas in (1, 2)
                ],
            }
        finally:
            cluster.shutdown()
    text = json.dumps(figures, indent=1)
    print(text)
    if settings.output is not None:
        write_text(settings.output, text + "\n")


if __name__ == "__main__":
    main()
