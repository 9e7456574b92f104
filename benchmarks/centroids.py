"""How many centroids are worth their bytes and their time: recall, errors of scores, and processor time for several.

    python benchmarks/centroids.py --work WORK --corpus plain outliers --size 20000

For each number, an index of four bits is built of a corpus that `benchmarks/search.py` made in the work folder, then
asked queries that no other benchmark asks. "found" is the share of the ten best videos by uncompressed tokens that a
search finds, "decoded" the share among the ten best of a tenth of the corpus, all of it decoded, so the difference is
what the early stages lose; "error" is the root mean square error of the 60 best videos' scores, their mean error left out, which is
the same for all and changes no ranking. Recall of so many queries is noisy: a difference of half a point is nothing.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import arguments, load, save
from rivals.ours import Rival
from search_corpus import Corpus, fused_scores
from search_worker import bytes_of

from colbert_video.indexing.codec import kmeans
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.kernel_scorer import KernelScorer
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.indexing.segments.opened_segment import Segment

PER_ROOT = (6, 9, 16)
QUERIES, QUERY_STREAM, K = 128, 97, 10
TOP, TENTH = 60, 10
VIDEOS_AT_ONCE = 500


def exact_scores(corpus: Corpus, queries: np.ndarray) -> np.ndarray:
    """MMS_F + MMS_V of uncompressed tokens, (videos, queries)."""
    bags = {name: corpus.bag(name) for name in ("frame", "video")}
    starts = range(0, corpus.world.size, VIDEOS_AT_ONCE)
    blocks = (
        {name: np.asarray(bag[start : start + VIDEOS_AT_ONCE], np.float32) for name, bag in bags.items()}
        for start in starts
    )
    return np.concatenate([fused_scores(queries, block) for block in blocks])


def share(found: torch.Tensor, wanted: np.ndarray) -> float:
    """Share of the wanted videos that were found."""
    return len(set(found.tolist()) & set(wanted.tolist())) / len(wanted)


def ask(segment: Segment, codecs: dict[str, ResidualCodec], query: torch.Tensor, exact: np.ndarray) -> dict[str, float]:
    """One query's figures; `exact` holds every video's true score."""
    best = np.argsort(-exact)
    started = time.process_time()
    found = search_segment(segment, codecs, query, k=K).rows
    seconds = time.process_time() - started
    kernels = compiled_kernels()
    if kernels is None:
        raise SystemExit("no compiled kernels: python setup.py build_ext --inplace")
    scorer = KernelScorer(kernels, segment, codecs, PreparedQuery(query))
    decoded = scorer.score(scorer.best_by_centroids(segment.eligible(), len(segment) // TENTH))
    top = torch.from_numpy(np.sort(best[:TOP]))
    error = scorer.score(top).total.numpy() - exact[top]
    return {
        "found": share(found, best[:K]),
        "decoded": share(decoded.best(K).rows, best[:K]),
        "squared_error": float(((error - error.mean()) ** 2).mean()),
        "cpu_ms": 1000 * seconds,
    }


def measure(corpus: Corpus, folder: Path, queries: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Build an index with the present number of centroids and ask all queries."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    Rival(4).build(corpus, folder)
    built = time.process_time() - started
    reader = IndexReader.open(folder)
    (segment,) = reader.segments
    codecs = dict(reader.codecs(segment))
    rows = [ask(segment, codecs, torch.from_numpy(query), exact[:, number]) for number, query in enumerate(queries)]
    figures = {
        "centroids": sum(codec.num_centroids for codec in codecs.values()),
        "bytes_per_video": bytes_of(folder) / corpus.world.size,
        "build_cpu_seconds": built,
        "found": float(np.mean([row["found"] for row in rows])),
        "decoded": float(np.mean([row["decoded"] for row in rows])),
        "error": float(np.sqrt(np.mean([row["squared_error"] for row in rows]))),
        "cpu_ms": float(np.median([row["cpu_ms"] for row in rows])),
    }
    reader.close()
    shutil.rmtree(folder)
    return figures


def main() -> None:
    """Measure every number on every corpus."""
    parser = arguments(__doc__, "centroids")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--corpus", nargs="+", default=["plain", "outliers"])
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=QUERIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = load(options.output, default={})
    for kind in options.corpus:
        name = f"{kind}-{options.size}"
        corpus = Corpus(options.work / f"{name}-512" / "corpus")
        queries = corpus.world.queries(options.queries, stream=QUERY_STREAM)[0]
        exact, rows = exact_scores(corpus, queries), []
        for per_root in PER_ROOT:
            kmeans.CENTROIDS_PER_ROOT = per_root
            row = measure(corpus, options.work / f"centroids-{name}", queries, exact)
            rows.append({"centroids_per_root": per_root, **row})
            print(name, "  ".join(f"{key} {value:.5g}" for key, value in rows[-1].items()), flush=True)
        report[name] = rows
        save(options.output, report)


if __name__ == "__main__":
    main()
