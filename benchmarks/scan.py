"""Processor time of each stage of a search, by size of the corpus, without building one.

    python benchmarks/scan.py --sizes 20000 100000 1000000

Codes and residuals are random numbers: what a search costs does not depend on what the tokens say, only on how many
there are. So this tells time and nothing about recall (benchmarks/search.py does). A million videos take 7 GB.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from reports import arguments, save
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.kmeans import num_partitions
from colbert_video.indexing.codec.packing import random_rotation
from colbert_video.indexing.scan.kernel_scorer import KernelScorer
from colbert_video.indexing.scan.kernels import Kernels, compiled_kernels, kernel_name
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import num_candidates, num_in_every_bag, search_segment
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.indexing.segments.segment import StoredBag

BAGS = {"frame": 12, "video": 14}
"""Tokens of a video in each bag."""
QUERY_TOKENS = 32
K = 10
QUERIES, WARM_UP = 16, 4
SCENES = 4
"""Codes of a video that differ: tokens of one scene share their centroid."""
VARIED = 2**18
"""Tokens with residuals of their own; the others repeat one row."""


def random_codec(centroids: int, dim: int, nbits: int, generator: torch.Generator) -> ResidualCodec:
    """A codec that has seen no data."""
    weights = torch.linspace(-0.06, 0.06, 2**nbits)
    cutoffs = (weights[1:] + weights[:-1]) / 2
    means = normalize(torch.randn(centroids, dim, generator=generator), dim=1).half().float()
    return ResidualCodec(random_rotation(dim), means, cutoffs, weights, 0.02, nbits)


def random_bag(videos: int, length: int, codec: ResidualCodec, generator: torch.Generator) -> StoredBag:
    """Tokens of all videos in memory."""
    scenes = torch.randint(
        codec.num_centroids, (videos, SCENES), generator=generator, dtype=torch.int32
    )  # (videos, scenes)
    order = torch.randint(SCENES, (length,), generator=generator)
    bytes_ = codec.dim * codec.nbits // 8
    residuals = torch.empty(videos * length, bytes_, dtype=torch.uint8)
    residuals[:] = torch.randint(256, (bytes_,), generator=generator, dtype=torch.uint8)
    varied = residuals[:VARIED]
    varied[:] = torch.randint(256, varied.shape, generator=generator, dtype=torch.uint8)
    return StoredBag(
        Path(),
        codec.dim,
        codec.nbits,
        codec.num_centroids,
        "random",
        scenes[:, order].flatten(),
        residuals,
        torch.full((videos,), length),
        torch.arange(videos + 1) * length,
    )


def stages(
    kernels: Kernels, segment: Segment, codecs: dict[str, ResidualCodec], query: Tensor
) -> Iterator[tuple[str, Callable[[], object]]]:
    """The steps of one search in their order; each takes up what the one before left."""
    prepared = PreparedQuery(query)
    scorer = KernelScorer(kernels, segment, codecs, prepared)
    left: dict[str, Tensor] = {}

    def centroid_products() -> None:
        for codec in codecs.values():
            prepared.products(kernels, codec)

    def scan() -> None:
        left["scanned"] = scorer.best_by_centroids(segment.eligible(), num_candidates(len(segment), K))

    def rounded() -> None:
        left["rounded"] = scorer.best_by_rounded_scores(left["scanned"], num_in_every_bag(K), K)

    def single_precision() -> None:
        scorer.score(left["rounded"]).best(K)

    yield "centroid products", centroid_products
    yield "scan and selection", scan
    yield "candidates in int8", rounded
    yield "finalists in fp32", single_precision
    yield "whole search", lambda: search_segment(segment, codecs, query, k=K)


def measure(kernels: Kernels, videos: int, dim: int, nbits: int) -> dict[str, float]:
    """Median milliseconds of processor time of each stage."""
    generator = torch.Generator().manual_seed(0)
    codecs = {bag: random_codec(num_partitions(videos * length), dim, nbits, generator) for bag, length in BAGS.items()}
    bags = {bag: random_bag(videos, length, codecs[bag], generator) for bag, length in BAGS.items()}
    segment = Segment("random", bags, torch.ones(videos, dtype=torch.bool))
    taken: dict[str, list[float]] = {}
    for _ in range(QUERIES):
        query = normalize(torch.randn(QUERY_TOKENS, dim, generator=generator), dim=1)
        for name, step in stages(kernels, segment, codecs, query):
            started = time.process_time()
            step()
            taken.setdefault(name, []).append(1000 * (time.process_time() - started))
    return {name: round(median(values[WARM_UP:]), 2) for name, values in taken.items()}


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__, "scan")
    parser.add_argument("--sizes", nargs="+", type=int, default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--nbits", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernels = compiled_kernels()
    if kernels is None:
        parser.error("the compiled kernels are not built; install the package where there is a C++ compiler")
    rows = []
    for videos in options.sizes:
        milliseconds = measure(kernels, videos, options.dim, options.nbits)
        rows.append({"videos": videos, "candidates": num_candidates(videos, K), "cpu_ms": milliseconds})
        print(f"{videos:9,}", ", ".join(f"{name} {value:.2f}" for name, value in milliseconds.items()))
    report = {
        "kernels": kernel_name(),
        "dim": options.dim,
        "nbits": options.nbits,
        "tokens": BAGS,
        "query_tokens": QUERY_TOKENS,
        "load": round(os.getloadavg()[0], 1),
        "rows": rows,
    }
    save(options.output, report)


if __name__ == "__main__":
    main()
