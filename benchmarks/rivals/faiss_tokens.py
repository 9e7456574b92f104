"""faiss over single tokens: each query token finds its neighbours, their videos are scored exactly.

Each bag has an index of its tokens in eight bits (SQ8), a graph (HNSW) or inverted lists (IVF). What the query tokens
find adds up to a first score of each video, where a missing neighbour counts as the last one found (as in XTR); of both
bags' videos the best by the sum are scored again in single precision.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from search_corpus import BAGS, Corpus

from rivals.rerank import Reranker

TOKENS_AT_ONCE = 2**16
TRAINING_PER_LIST = 64
GRAPH_SETTINGS = {
    "ef 32, k 25, rescore 100": {"effort": 32, "neighbours": 25, "rescored": 100},
    "ef 64, k 50, rescore 50": {"effort": 64, "neighbours": 50, "rescored": 50},
    "ef 64, k 50, rescore 100": {"effort": 64, "neighbours": 50, "rescored": 100},
    "ef 64, k 50, rescore 300": {"effort": 64, "neighbours": 50, "rescored": 300},
    "ef 128, k 100, rescore 100": {"effort": 128, "neighbours": 100, "rescored": 100},
    "ef 128, k 100, rescore 300": {"effort": 128, "neighbours": 100, "rescored": 300},
    "ef 256, k 200, rescore 300": {"effort": 256, "neighbours": 200, "rescored": 300},
}
LIST_SETTINGS = {
    "probe 2, k 25, rescore 100": {"effort": 2, "neighbours": 25, "rescored": 100},
    "probe 4, k 50, rescore 50": {"effort": 4, "neighbours": 50, "rescored": 50},
    "probe 4, k 50, rescore 100": {"effort": 4, "neighbours": 50, "rescored": 100},
    "probe 4, k 50, rescore 300": {"effort": 4, "neighbours": 50, "rescored": 300},
    "probe 8, k 100, rescore 100": {"effort": 8, "neighbours": 100, "rescored": 100},
    "probe 8, k 100, rescore 300": {"effort": 8, "neighbours": 100, "rescored": 300},
    "probe 16, k 200, rescore 300": {"effort": 16, "neighbours": 200, "rescored": 300},
}


class Rival:
    """One faiss index a bag."""

    value_bytes = 4

    def __init__(self, graph: bool) -> None:
        faiss.omp_set_num_threads(1)
        self._graph = graph
        self.settings: dict[str, dict[str, Any]] = GRAPH_SETTINGS if graph else LIST_SETTINGS
        self.reads_tokens = list(self.settings)
        self._indexes: dict[str, faiss.Index] = {}

    def versions(self) -> str:
        """Package and version."""
        return f"faiss {faiss.__version__}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Train on a sample, then add all tokens."""
        folder.mkdir(parents=True)
        for bag in BAGS:
            tokens = corpus.bag(bag).reshape(-1, corpus.world.dim)
            lists = 1024 if len(tokens) < 500_000 else 4096
            kind = "HNSW16,SQ8" if self._graph else f"IVF{lists},SQ8"
            index = faiss.index_factory(tokens.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
            size = min(len(tokens), lists * TRAINING_PER_LIST)
            sample = np.sort(np.random.default_rng(0).choice(len(tokens), size, replace=False))
            index.train(np.ascontiguousarray(tokens[sample]))
            for start in range(0, len(tokens), TOKENS_AT_ONCE):
                index.add(np.ascontiguousarray(tokens[start : start + TOKENS_AT_ONCE]))
            faiss.write_index(index, str(folder / f"{bag}.faiss"))

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Read both indexes."""
        self._indexes = {bag: faiss.read_index(str(folder / f"{bag}.faiss")) for bag in BAGS}
        self._reranker = Reranker(corpus)

    def search(self, query: np.ndarray, k: int, *, effort: int, neighbours: int, rescored: int) -> Sequence[int]:
        """Neighbours of tokens, then exact scores."""
        found = []
        for bag, index in self._indexes.items():
            if self._graph:
                index.hnsw.efSearch = effort
            else:
                index.nprobe = effort
            similarity, tokens = index.search(query, neighbours)
            found.append((similarity, tokens // BAGS[bag]))
        return self._reranker.best(query, most_promising(found, rescored), k)


def most_promising(found: list[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Videos of highest summed similarity to what was found: pairs of (query_tokens, neighbours), a bag each."""
    videos = np.unique(np.concatenate([numbers.ravel() for _, numbers in found]))
    videos = videos[videos >= 0]  # faiss fills up with -1
    if len(videos) <= count:
        return videos
    total = np.zeros(len(videos), np.float32)
    for similarity, numbers in found:
        last = np.where(numbers >= 0, similarity, np.inf).min(1)
        table = np.repeat(last[:, None], len(videos), 1)
        rows, columns = np.nonzero(numbers >= 0)
        rows, columns = rows[::-1], columns[::-1]  # of a video's several tokens the best is written last
        table[rows, np.searchsorted(videos, numbers[rows, columns])] = similarity[rows, columns]
        total += table.mean(0)
    return videos[np.argpartition(-total, count)[:count]]
