"""Every token of every video against every query token, in torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_corpus import BAGS, Corpus

VIDEOS_AT_ONCE = 1024
"""Their similarities stay in the processor's cache."""


class Rival:
    """All tokens in memory, in one number format."""

    settings: dict[str, dict[str, Any]] = {"exhaustive": {}}  # noqa: RUF012
    reads_tokens = ("exhaustive",)

    def __init__(self, dtype: str) -> None:
        torch.set_num_threads(1)
        self._dtype = getattr(torch, dtype)
        self.value_bytes = self._dtype.itemsize
        self._bags: list[torch.Tensor] = []

    def versions(self) -> str:
        """Package and version."""
        return f"torch {torch.__version__}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Nothing to build."""
        folder.mkdir(parents=True)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Read and convert all tokens."""
        for name in BAGS:
            stored = corpus.bag(name)
            bag = torch.empty(stored.shape, dtype=self._dtype)
            for start in range(0, len(bag), VIDEOS_AT_ONCE):
                part = slice(start, start + VIDEOS_AT_ONCE)
                bag[part] = torch.from_numpy(np.array(stored[part]))
            self._bags.append(bag)

    @torch.inference_mode()
    def search(self, query: np.ndarray, k: int) -> Sequence[int]:
        """Score everything."""
        wanted = torch.from_numpy(query).to(self._dtype).T.contiguous()  # (dim, query_tokens)
        total = torch.zeros(len(self._bags[0]))
        for bag in self._bags:
            for start in range(0, len(bag), VIDEOS_AT_ONCE):
                part = slice(start, start + VIDEOS_AT_ONCE)
                similarity = bag[part].flatten(0, 1) @ wanted
                best = similarity.unflatten(0, (-1, bag.shape[1])).amax(1)  # (videos, query_tokens)
                total[part] += best.float().mean(1)
        return total.topk(min(k, len(total))).indices.tolist()
