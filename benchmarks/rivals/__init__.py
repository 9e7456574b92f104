"""Engines under comparison. Each runs in a process of its own, under the Python that has its packages.

An engine is a class that builds an index of a corpus in a folder, opens it, and answers one query with one of its
settings. All answer the same question, the k videos of highest MMS_F + MMS_V, and all that have an index for single
tokens go the same way: each bag's index retrieves, the union is scored by the sum.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from search_corpus import Corpus


class Engine(Protocol):
    """What is measured."""

    settings: Mapping[str, Mapping[str, Any]]
    """Arguments of `search`, by a short name."""
    reads_tokens: Collection[str]
    """Settings with which queries read uncompressed tokens."""
    value_bytes: int
    """Bytes that each dimension of such a token takes."""

    def versions(self) -> str:
        """Package and version."""
        ...

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Make the index."""
        ...

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Get ready for queries."""
        ...

    def search(self, query: np.ndarray, k: int, **setting: Any) -> Sequence[int]:
        """The best k videos, best first; the query is (32, dim)."""
        ...


@dataclass(frozen=True)
class Entry:
    """A line of the list of engines."""

    title: str
    """In tables."""
    module: str
    """Where its class `Rival` is."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of its class."""

    def load(self) -> Engine:
        """Import its packages and make one."""
        return import_module(f"rivals.{self.module}").Rival(**self.arguments)


ENGINES = {
    "ours-4bit": Entry("colbert_video, 4 bits", "ours", {"nbits": 4}),
    "ours-8bit": Entry("colbert_video, 8 bits", "ours", {"nbits": 8}),
    "colbert": Entry("stock colbert-ai, 4 bits", "stock", {"nbits": 4}),
    "fast-plaid": Entry("fast-plaid, 4 bits", "fastplaid", {"nbits": 4}),
    "faiss-hnsw": Entry("faiss HNSW16-SQ8", "faiss_tokens", {"graph": True}),
    "faiss-ivf": Entry("faiss IVF-SQ8", "faiss_tokens", {"graph": False}),
    "lancedb": Entry("LanceDB multivector, IVF-PQ", "lance"),
    "qdrant": Entry("Qdrant Edge, int8 MaxSim, exhaustive", "qdrant", {"graph": False}),
    "qdrant-hnsw": Entry("Qdrant Edge, int8 MaxSim, HNSW", "qdrant", {"graph": True}),
    "torch-fp32": Entry("torch, exhaustive fp32", "exhaustive", {"dtype": "float32"}),
    "torch-bf16": Entry("torch, exhaustive bf16", "exhaustive", {"dtype": "bfloat16"}),
}
