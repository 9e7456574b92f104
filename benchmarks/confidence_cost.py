"""What confidence adds to a search: processor milliseconds of one query on one core.

Each query is searched with and without confidence, in turns, so that both are of one hour; the difference is the cost. Its
parts are timed too: scoring the sample of the index is nearly all of it.

    python benchmarks/confidence_cost.py WORK/plain-20000-512/corpus WORK/plain-20000-512/ours-4bit
"""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import arguments, save

from colbert_video import Searcher
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.confidence import perfect_score, sample_positions, with_confidence
from colbert_video.search.view import SearchView

ROUNDS = 4
K = 10


class Clock:
    """Processor milliseconds by name."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what a call returns."""
        started = time.process_time()
        result = call()
        self.taken[name].append(1000 * (time.process_time() - started))
        return result


def measure(view: SearchView, queries: list[torch.Tensor]) -> dict[str, float]:
    """Search every query with and without confidence, and time its parts."""
    wanted = SearchSettings(K, weights=view.weights(SearchSettings(K)))
    weights, clock = view.weights(wanted), Clock()

    def judged(hits: Any, sample: list[float], query: PreparedQuery) -> Any:
        return with_confidence(hits, sample, perfect_score(query, weights), None)

    for number, tokens in enumerate(queries * ROUNDS):
        for search in (view.found, view.hits)[:: -1 if number % 2 else 1]:
            prepared = PreparedQuery(tokens)
            clock.time(search.__name__, lambda search=search, query=prepared: search(query, wanted))
        query = PreparedQuery(tokens)
        hits = view.found(query, wanted)
        sample = clock.time(
            "sample", lambda query=query: view.sampled_scores(query, weights, sample_positions(view.reader.items))
        )
        clock.time("judged", lambda hits=hits, sample=sample, query=query: judged(hits, sample, query))
    added = np.array(clock.taken["hits"]) - np.array(clock.taken["found"])
    median = {name: float(np.median(values)) for name, values in clock.taken.items()}
    return {
        "search_ms": round(median["found"], 3),
        "confidence_ms": round(float(np.median(added)), 3),
        "of_which_sample_ms": round(median["sample"], 3),
        "of_which_judging_ms": round(median["judged"], 3),
    }


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__, "confidence_cost")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("index", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    queries = [torch.from_numpy(query.astype(np.float32)) for query in np.load(options.corpus / "queries.npy")]
    with Searcher(options.index, threads=1) as searcher, searcher._view() as view:
        figures = {"videos": len(searcher), "queries": len(queries), **measure(view, queries)}
    print(figures)
    save(options.output, figures)


if __name__ == "__main__":
    main()
