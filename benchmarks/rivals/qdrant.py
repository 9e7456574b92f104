"""Qdrant Edge, the engine of Qdrant inside the process: both bags as multivectors of one shard, in int8.

Each bag's best videos are retrieved by MaxSim over int8 tokens, through an HNSW graph of bags or by comparing all; the
union is scored exactly in single precision. The shard holds the uncompressed tokens too; scoring the union reads the
same values from the corpus.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
from search_corpus import BAGS, Corpus

from rivals.rerank import Reranker

ROWS_AT_ONCE = 256
LINKS, EF_CONSTRUCT, NEVER = 16, 100, 10**9
"""Qdrant's own defaults for the graph; a threshold of kilobytes that nothing reaches."""


class Rival:
    """One shard, with a graph or without."""

    value_bytes = 0
    """Tokens are in the index."""
    retrieved = 50
    """Videos taken from each bag."""

    def __init__(self, graph: bool) -> None:
        self._graph = graph
        efforts = (64, 128, 256) if graph else (None,)
        self.settings: dict[str, dict[str, Any]] = {
            "all, int8" if effort is None else f"ef {effort}, int8": {"effort": effort} for effort in efforts
        }
        self.reads_tokens = list(self.settings)
        self._shard: Any = None

    def versions(self) -> str:
        """Package and version."""
        return f"qdrant-edge-py {version('qdrant-edge-py')}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Add all points, then let the optimizer quantise them and build the graphs."""
        folder.mkdir(parents=True)
        stored = {bag: corpus.bag(bag) for bag in BAGS}
        shard = qdrant.EdgeShard.create(str(folder), self._config(corpus.world.dim))
        for start in range(0, corpus.world.size, ROWS_AT_ONCE):
            numbers = range(start, min(start + ROWS_AT_ONCE, corpus.world.size))
            points = [
                qdrant.Point(number, {bag: tokens[number].tolist() for bag, tokens in stored.items()}, {})
                for number in numbers
            ]
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def _config(self, dim: int) -> Any:
        comparator = qdrant.MultiVectorConfig(qdrant.MultiVectorComparator.MaxSim)
        vector = qdrant.EdgeVectorParams(dim, qdrant.Distance.Dot, on_disk=True, multivector_config=comparator)
        threshold = 1 if self._graph else NEVER
        return qdrant.EdgeConfig(
            vectors=dict.fromkeys(BAGS, vector),
            hnsw_config=qdrant.HnswIndexConfig(
                LINKS if self._graph else 0, EF_CONSTRUCT, threshold, max_indexing_threads=1
            ),
            quantization_config=qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, always_ram=True),
            optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1),
            max_search_threads=1,
            wal_enabled=False,
        )

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Load the shard."""
        self._shard = qdrant.EdgeShard.load(str(folder))
        self._reranker = Reranker(corpus)

    def search(self, query: np.ndarray, k: int, *, effort: int | None) -> Sequence[int]:
        """Retrieve from both bags, score the union."""
        tokens = query.tolist()
        found = {point.id for bag in BAGS for point in self._retrieve(bag, tokens, effort)}
        return self._reranker.best(query, np.array(list(found)), k)

    def _retrieve(self, bag: str, tokens: list[list[float]], effort: int | None) -> Sequence[Any]:
        unrescored = qdrant.QuantizationSearchParams(rescore=False)
        params = qdrant.SearchParams(hnsw_ef=effort, quantization=unrescored)
        nearest = qdrant.Query.Nearest(tokens, using=bag)
        return self._shard.search(qdrant.SearchRequest(nearest, self.retrieved, params=params))
