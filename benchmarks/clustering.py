"""Whole indexes built with centroids of two levels, and with rounds over all tokens from a random start.

    python benchmarks/clustering.py --corpus plain outliers --size 4000

Both kinds of round find centroids through faiss's inverted file. For each corpus of `search_world.py` and each clustering:
processor time of the build on one thread, and recall@10 at 4 bits of fresh queries against exhaustive scores in single
precision.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from centroids import exact_scores
from reports import arguments, load, save
from rivals.ours import Rival
from search_corpus import Corpus, prepare
from search_world import World
from torch import Tensor

from colbert_video.indexing.codec import codec, fit, kmeans

K, NBITS, STREAM = 10, 4, 97
TWO_LEVELS = kmeans.spherical_kmeans


def one_level(tokens: Tensor, *, centroids: int, iterations: int = 6, seed: int = 0) -> Tensor:
    """Rounds over all tokens, each finding its centroid through the inverted file."""
    drawn = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:centroids]]
    return kmeans._distinct(kmeans._lloyd(tokens.float(), drawn.float(), iterations), tokens[0])


def measure(corpus: Corpus, folder: Path, queries: int) -> dict[str, Any]:
    """Processor seconds and recall of each clustering on one corpus."""
    asked = corpus.world.queries(queries, stream=STREAM)[0]
    best = np.argsort(-exact_scores(corpus, asked), axis=0)[:K].T  # (queries, K)
    figures = {}
    for name, cluster in {"two levels": TWO_LEVELS, "one level through faiss": one_level}.items():
        codec.spherical_kmeans = fit.spherical_kmeans = cluster
        rival = Rival(NBITS)
        started = time.process_time()
        rival.build(corpus, folder / name)
        seconds = time.process_time() - started
        rival.open(corpus, folder / name)
        found = [set(rival.search(query, K)) for query in asked]
        recall = float(np.mean([len(one & set(row.tolist())) / K for one, row in zip(found, best, strict=True)]))
        figures[name] = {"build_cpu_seconds": seconds, f"recall@{K}": recall}
    return figures


def main() -> None:
    """Measure every corpus that is named."""
    parser = arguments(__doc__, "clustering")
    parser.add_argument("--corpus", nargs="+", default=["plain", "outliers"])
    parser.add_argument("--size", type=int, default=4000, help="videos")
    parser.add_argument("--queries", type=int, default=400, help="fresh queries")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    report: dict[str, Any] = load(options.output, default={})
    for kind in options.corpus:
        with tempfile.TemporaryDirectory() as work:
            corpus = prepare(Path(work) / "corpus", World(options.size, kind))
            report[f"{kind}-{options.size}"] = measure(corpus, Path(work), options.queries)
        print(kind, report[f"{kind}-{options.size}"], flush=True)
    save(options.output, report)


if __name__ == "__main__":
    main()
