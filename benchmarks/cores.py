"""What cores bring: one query cut over them, many queries spread over them, and the memory that they share.

    python benchmarks/cores.py --index WORK/plain-20000-512/ours-4bit

One query is answered over a million videos with random codes, as in `benchmarks/scan.py`; many are answered on an index
that `benchmarks/search.py` built. Wall times of one thread and of all cores are taken in turns. Beside them stands how
fast this machine reads memory, and how many bytes a query reads: cores help until those bytes take all of it.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from reports import arguments, machine, save
from scan import BAGS, QUERY_TOKENS, K, random_bag, random_codec
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Searcher
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.kmeans import num_partitions
from colbert_video.indexing.scan.kernels import Kernels, compiled_kernels, kernel_name
from colbert_video.indexing.scan.scan import num_candidates, search_segment
from colbert_video.indexing.segments.opened_segment import Segment

MANY = 256
"""Queries that are answered together."""
READ_BYTES = 2**29
"""Memory that each thread reads to tell its bandwidth: far more than any cache holds."""


def in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median wall seconds of each step; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - started)
    return {name: median(values[1:]) for name, values in taken.items()}


def bandwidth(cores: int, rounds: int) -> dict[str, float]:
    """Return the gigabytes that one thread and all cores read in a second."""
    blocks = [np.ones(READ_BYTES // 8, np.int64) for _ in range(cores)]

    def read(threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.ndarray.sum, blocks[:threads]))

    taken = in_turns({"one": lambda: read(1), "all": lambda: read(cores)}, rounds)
    return {
        "one_thread": round(READ_BYTES / taken["one"] / 1e9, 2),
        "all_cores": round(cores * READ_BYTES / taken["all"] / 1e9, 2),
    }


def random_segment(videos: int, dim: int, nbits: int) -> tuple[Segment, dict[str, ResidualCodec]]:
    """Codes and residuals that say nothing, as many as of real videos."""
    generator = torch.Generator().manual_seed(0)
    codecs = {bag: random_codec(num_partitions(videos * length), dim, nbits, generator) for bag, length in BAGS.items()}
    bags = {bag: random_bag(videos, length, codecs[bag], generator) for bag, length in BAGS.items()}
    return Segment("random", bags, torch.ones(videos, dtype=torch.bool)), codecs


def bytes_read(kernels: Kernels, segment: Segment, codecs: dict[str, ResidualCodec]) -> int:
    """Return the bytes that a query reads at most: all codes, all rounded centroids, and the residuals of candidates."""
    total = 0
    for bag, stored in segment.bags.items():
        codes = kernels.distinct_codes(stored)
        total += codes.groups.numel() * codes.groups.element_size() + codes.starts.numel() * codes.starts.element_size()
        total += codecs[bag].num_centroids * codecs[bag].dim
        total += num_candidates(len(segment), K) * BAGS[bag] * stored.residuals.shape[1]
    return total


def one_query(videos: int, dim: int, nbits: int, cores: int, rounds: int) -> dict[str, Any]:
    """Measure one query over very many videos, on one thread and cut over all cores."""
    kernels = compiled_kernels()
    assert kernels is not None
    segment, codecs = random_segment(videos, dim, nbits)
    generator = torch.Generator().manual_seed(1)
    queries = [normalize(torch.randn(QUERY_TOKENS, dim, generator=generator), dim=1) for _ in range(4)]

    def ask(threads: int) -> Callable[[], list[Any]]:
        return lambda: [search_segment(segment, codecs, query, k=K, threads=threads) for query in queries]

    for one, other in zip(ask(1)(), ask(cores)(), strict=True):
        assert torch.equal(one.rows, other.rows)
    taken = in_turns({"one": ask(1), "all": ask(cores)}, rounds)
    return {
        "videos": videos,
        "one_thread_ms": round(1000 * taken["one"] / len(queries), 2),
        "all_cores_ms": round(1000 * taken["all"] / len(queries), 2),
        "ratio": round(taken["all"] / taken["one"], 3),
        "megabytes_read": round(bytes_read(kernels, segment, codecs) / 1e6, 1),
    }


def many_queries(index: Path, dim: int, cores: int, rounds: int) -> dict[str, Any]:
    """Measure `search_all` of many queries, on one thread and spread over all cores."""
    with Searcher(index, threads=1) as one, Searcher(index, threads=cores) as spread:
        generator = torch.Generator().manual_seed(2)
        tokens = normalize(torch.randn(MANY, QUERY_TOKENS, dim, generator=generator), dim=2)
        queries: dict[str, Tensor] = {str(number): row for number, row in enumerate(tokens)}
        assert one.search_all(queries, k=K).todict() == spread.search_all(queries, k=K).todict()
        asked = {"one": lambda: one.search_all(queries, k=K), "all": lambda: spread.search_all(queries, k=K)}
        taken = in_turns(asked, rounds)
        return {
            "videos": len(one),
            "queries": MANY,
            "one_thread_s": round(taken["one"], 3),
            "all_cores_s": round(taken["all"], 3),
            "times_as_fast": round(taken["one"] / taken["all"], 2),
        }


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__, "cores")
    parser.add_argument("--index", type=Path, required=True, help="an index that benchmarks/search.py built")
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--nbits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cores = os.cpu_count() or 1
    report: dict[str, Any] = {"machine": machine(), "kernels": kernel_name(), "load": round(os.getloadavg()[0], 1)}
    report["bandwidth_gb_s"] = bandwidth(cores, options.rounds)
    print(report["bandwidth_gb_s"], flush=True)
    report["many_queries"] = many_queries(options.index, options.dim, cores, options.rounds)
    print(report["many_queries"], flush=True)
    report["one_query"] = one_query(options.videos, options.dim, options.nbits, cores, options.rounds)
    print(report["one_query"])
    save(options.output, report)


if __name__ == "__main__":
    main()
