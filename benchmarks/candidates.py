"""How many of the best videos the early stages of a search let through.

    python benchmarks/candidates.py --index plain-20000=WORK/plain-20000-512/ours-4bit ...

For queries that no other benchmark asks, every video is decoded and scored; of the ten best, the share is printed that
is left when a number of videos is kept by the centroid stage, and when some of those are decoded in every bag first. The
indexes are those that `benchmarks/search.py` built: their name gives the corpus, kind and size.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from reports import arguments, load, save
from search_world import World
from torch import Tensor

from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.kernel_scorer import KernelScorer
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import CANDIDATE_GROWTH, CANDIDATE_SCALE, num_in_every_bag
from colbert_video.indexing.segments.opened_segment import Segment

QUERIES, K = 64, 10
QUERY_STREAM = 99
"""Random stream of the queries; the corpora and the other benchmarks' queries use the first few."""
SCALES = (0.2, 0.4, CANDIDATE_SCALE, 1.0, 1.5)
IN_EVERY_BAG = (120, 240, 480)
"""Numbers of videos decoded in every bag first that are tried."""


def fresh_queries(world: World) -> Iterator[Tensor]:
    """Queries about planted videos, from a random stream of their own."""
    for query in world.queries(QUERIES, stream=QUERY_STREAM)[0]:
        yield torch.from_numpy(query)


def scorer_of(reader: IndexReader, query: Tensor) -> tuple[KernelScorer, Segment]:
    """What scores the index's one segment."""
    kernels = compiled_kernels()
    if kernels is None:
        raise SystemExit("no compiled kernels: python setup.py build_ext --inplace")
    (segment,) = reader.segments
    return KernelScorer(kernels, segment, reader.codecs(segment), PreparedQuery(query)), segment


def share_left(best: Tensor, left: Tensor) -> float:
    """Share of the best videos that are left."""
    return len(set(best.tolist()) & set(left.tolist())) / len(best)


def measure(path: Path, world: World) -> list[dict[str, Any]]:
    """Mean shares of the ten best, for each number of candidates and of those that are decoded in every bag first."""
    reader = IndexReader.open(path)
    settings = [(scale, math.ceil(scale * world.size**CANDIDATE_GROWTH)) for scale in SCALES]
    rows = [{"scale": scale, "candidates": count, "after_centroids": 0.0} for scale, count in settings]
    for query in fresh_queries(world):
        scorer, segment = scorer_of(reader, query)
        everyone = segment.eligible()
        best = scorer.score(everyone).best(K).rows
        for row in rows:
            candidates = scorer.best_by_centroids(everyone, int(row["candidates"]))
            row["after_centroids"] += share_left(best, candidates) / QUERIES
            kept = {f"decoded_in_every_bag_{count}": count for count in IN_EVERY_BAG}
            kept["decoded_as_by_default"] = num_in_every_bag(K)
            for key, number in kept.items():
                left = scorer.best_by_rounded_scores(candidates, number, K)
                row[key] = row.get(key, 0.0) + share_left(best, left) / QUERIES
    reader.close()
    return rows


def main() -> None:
    """Measure every index that is named."""
    parser = arguments(__doc__, "candidates")
    parser.add_argument("--index", nargs="+", required=True, metavar="KIND-SIZE=PATH")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = load(options.output, default={})
    for pair in options.index:
        name, path = pair.split("=", 1)
        kind, size = name.rsplit("-", 1)
        report[name] = measure(Path(path), World(int(size), kind))
        print(name)
        for row in report[name]:
            print("  " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    save(options.output, report)


if __name__ == "__main__":
    main()
