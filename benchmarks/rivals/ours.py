"""This package, through its public interface and with its default settings."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_corpus import Corpus

from colbert_video import Indexer, Searcher

TYPICAL_QUERIES, TYPICAL_STREAM = 48, 4
"""Queries that the codec sees, as many as it takes of a model's own, and none of those that are asked later."""


class Rival:
    """Both bags in one index; residuals of `nbits` bits."""

    settings: dict[str, dict[str, Any]] = {"default": {}}  # noqa: RUF012
    reads_tokens = ()
    value_bytes = 4

    def __init__(self, nbits: int) -> None:
        torch.set_num_threads(1)
        self._nbits = nbits
        self._searcher: Searcher | None = None

    def versions(self) -> str:
        """Package and version."""
        try:
            return f"colbert_video {version('colbert_video')}"
        except PackageNotFoundError:
            return "colbert_video, not installed"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Index precomputed tokens."""
        indexer = Indexer(folder, dim=corpus.world.dim, nbits=self._nbits)  # type: ignore[arg-type]
        ids = [str(number) for number in range(corpus.world.size)]
        typical, _ = corpus.world.queries(TYPICAL_QUERIES, stream=TYPICAL_STREAM)
        indexer.index_tokens(ids, corpus.bag("frame"), corpus.bag("video"), query_tokens=typical, overwrite=True)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the searcher."""
        self._searcher = Searcher(folder)

    def search(self, query: np.ndarray, k: int) -> Sequence[int]:
        """Ordinals, which the ids are."""
        return [int(hit.id) for hit in self._searcher.search_tokens(query, k=k)]
