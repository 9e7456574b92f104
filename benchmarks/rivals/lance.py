"""LanceDB: both bags as multivector columns of one table, an IVF-PQ index a column.

Each column's best videos are retrieved, the union is scored exactly in single precision. The table holds the
uncompressed tokens, which its `refine_factor` reads; scoring the union reads the same values from the corpus.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from search_corpus import BAGS, Corpus

from rivals.rerank import Reranker

TABLE, ROWS_AT_ONCE = "videos", 1024
SUB_VECTORS = 64
"""Of product quantisation, a byte each: 64 bytes a token."""


class Rival:
    """One table."""

    settings: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "nprobes 8, refine 4": {"nprobes": 8, "refine": 4},
        "nprobes 20, refine 10": {"nprobes": 20, "refine": 10},
        "nprobes 50, refine 50": {"nprobes": 50, "refine": 50},
    }
    reads_tokens = list(settings)  # noqa: RUF012
    value_bytes = 0
    """Tokens are in the index."""
    retrieved = 50
    """Videos taken from each column."""

    def __init__(self) -> None:
        self._table: Any = None

    def versions(self) -> str:
        """Package and version."""
        return f"lancedb {version('lancedb')}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Write the rows, then train one index a column, with its own number of partitions."""
        token = pa.list_(pa.float32(), corpus.world.dim)
        schema = pa.schema([("id", pa.int64()), *((bag, pa.list_(token)) for bag in BAGS)])
        table = lancedb.connect(folder).create_table(TABLE, batches_of(corpus, schema), schema=schema)
        for bag in BAGS:
            table.create_index(
                metric="cosine", vector_column_name=bag, index_type="IVF_PQ", num_sub_vectors=SUB_VECTORS
            )

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the table."""
        self._table = lancedb.connect(folder).open_table(TABLE)
        self._reranker = Reranker(corpus)

    def search(self, query: np.ndarray, k: int, *, nprobes: int, refine: int) -> Sequence[int]:
        """Retrieve from both columns, score the union."""
        found = [self._retrieve(bag, query, nprobes, refine) for bag in BAGS]
        return self._reranker.best(query, np.unique(np.concatenate(found)), k)

    def _retrieve(self, bag: str, query: np.ndarray, nprobes: int, refine: int) -> np.ndarray:
        nearest = self._table.search(query, vector_column_name=bag).limit(self.retrieved).select(["id", "_distance"])
        return nearest.nprobes(nprobes).refine_factor(refine).to_arrow()["id"].to_numpy()


def batches_of(corpus: Corpus, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows of the table, block by block."""
    stored = {bag: corpus.bag(bag) for bag in BAGS}
    for start in range(0, corpus.world.size, ROWS_AT_ONCE):
        ids = np.arange(start, min(start + ROWS_AT_ONCE, corpus.world.size))
        columns = [nested(np.array(bag[ids[0] : ids[-1] + 1]), schema.field(name).type) for name, bag in stored.items()]
        yield pa.record_batch([pa.array(ids), *columns], schema=schema)


def nested(tokens: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Tokens (videos, tokens, dim) as a column of lists of vectors."""
    videos, count, dim = tokens.shape
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), dim)
    starts = pa.array(np.arange(0, videos * count + 1, count, dtype=np.int32))
    return pa.ListArray.from_arrays(starts, vectors, type=kind)
