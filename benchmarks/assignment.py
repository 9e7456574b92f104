"""Clustering tokens, and finding a token's centroid through cells, beside comparing every token with every centroid.

    python benchmarks/assignment.py --corpus plain outliers --size 20000

Of a corpus of `search_world.py`, tokens of the first videos are clustered into as many centroids as the whole corpus has,
by `spherical_kmeans` and by `faiss.Kmeans`, whose index is flat; then tokens of other videos look for their centroid.
Times are processor time on one thread.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from reports import arguments, load, save
from search_world import BLOCK, VIDEO_TOKENS, World
from torch import Tensor

from colbert_video.indexing.codec.assignment import PROBES, CentroidIndex, assign
from colbert_video.indexing.codec.kmeans import num_partitions, spherical_kmeans

CLUSTERED_BLOCKS, ITERATIONS = 5, 6
PROBED = (2, 4, PROBES, 16)


def video_tokens(world: World, blocks: range) -> Tensor:
    """Tokens of the video bags of some blocks, (tokens, dim)."""
    return torch.from_numpy(np.concatenate([world.tokens(block)["video"] for block in blocks])).flatten(0, 1)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what some work gives, and its processor time in seconds."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def flat_kmeans(tokens: Tensor, count: int) -> Tensor:
    """Centroids of faiss's own clustering."""
    settings = {"niter": ITERATIONS, "spherical": True, "seed": 1, "min_points_per_centroid": 1}
    clustering = faiss.Kmeans(tokens.shape[1], count, **settings)
    clustering.train(tokens.numpy())
    return torch.from_numpy(clustering.centroids)


def measure(world: World) -> dict[str, Any]:
    """Time and mean cosine of both clusterings; agreement, loss and time of the search through cells."""
    tokens = video_tokens(world, range(CLUSTERED_BLOCKS))
    unseen = video_tokens(world, range(CLUSTERED_BLOCKS, CLUSTERED_BLOCKS + 1))
    count = num_partitions(world.size * VIDEO_TOKENS)
    clusterings, found = [], {}
    for name, cluster in {
        "spherical_kmeans": lambda: spherical_kmeans(tokens, centroids=count, iterations=ITERATIONS),
        "faiss.Kmeans, flat": lambda: flat_kmeans(tokens, count),
    }.items():
        found[name], seconds = timed(cluster)
        cosines = (float(assign(part, found[name])[1].mean()) for part in (tokens, unseen))
        row = dict(zip(("mean_cosine", "mean_cosine_unseen"), cosines, strict=True))
        clusterings.append({"method": name, "cpu_seconds": seconds, **row})
    centroids = found["spherical_kmeans"]
    (exact, best), seconds = timed(lambda: assign(unseen, centroids))
    report = {"tokens": len(tokens), "centroids": len(centroids), "clustering": clusterings}
    report["exact_cpu_us_per_token"] = seconds / len(unseen) * 1e6
    report["cells"] = []
    for probes in PROBED:
        index, making = timed(lambda probes=probes: CentroidIndex(centroids, probes=probes))
        (codes, scores), seconds = timed(lambda index=index: index.assign(unseen))
        row = {"probes": probes, "agreement": float((codes == exact).float().mean())}
        row |= {"mean_cosine_lost": float((best - scores).mean()), "making_cpu_seconds": making}
        report["cells"].append({**row, "cpu_us_per_token": seconds / len(unseen) * 1e6})
    return report


def main() -> None:
    """Measure every corpus that is named."""
    parser = arguments(__doc__, "assignment")
    parser.add_argument("--corpus", nargs="+", default=["plain", "outliers"])
    parser.add_argument("--size", type=int, default=20_000, help=f"videos, at least {6 * BLOCK}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    report: dict[str, Any] = load(options.output, default={})
    for kind in options.corpus:
        report[f"{kind}-{options.size}"] = measure(World(options.size, kind))
        print(kind, json.dumps(report[f"{kind}-{options.size}"], indent=1), flush=True)
    save(options.output, report)


if __name__ == "__main__":
    main()
