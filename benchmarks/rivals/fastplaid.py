"""fast-plaid: one index a bag, in its own compression.

Each bag's best videos are retrieved; the union is scored exactly in single precision, or ("own scores") by fast-plaid
itself, where a video that only one bag retrieved is scored in the other one by a second search of those videos alone.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fast_plaid.search import FastPlaid
from search_corpus import BAGS, Corpus

from rivals.rerank import Reranker


class Rival:
    """One FastPlaid a bag."""

    settings: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "default, own scores": {"probes": 8, "full_scores": 4096, "own": True},
        "default, fp32": {"probes": 8, "full_scores": 4096, "own": False},
        "probe 4, fp32": {"probes": 4, "full_scores": 4096, "own": False},
        "probe 2, 1024 scores, fp32": {"probes": 2, "full_scores": 1024, "own": False},
    }
    reads_tokens = [name for name in settings if "fp32" in name]  # noqa: RUF012
    value_bytes = 4
    retrieved = 50
    """Videos taken from each bag."""

    def __init__(self, nbits: int) -> None:
        torch.set_num_threads(1)
        self._nbits = nbits
        self._bags: dict[str, FastPlaid] = {}

    def versions(self) -> str:
        """Package and version."""
        return f"fast-plaid {version('fast-plaid')}, torch {torch.__version__}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Default settings of `create`, which takes a list: its three-dimensional form fails in 1.7.0."""
        for bag in BAGS:
            stored = corpus.bag(bag)
            tokens = [torch.from_numpy(np.array(stored[video])) for video in range(len(stored))]
            FastPlaid(str(folder / bag), device="cpu").create(tokens, nbits=self._nbits)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open both indexes."""
        self._bags = {bag: FastPlaid(str(folder / bag), device="cpu") for bag in BAGS}
        self._reranker = Reranker(corpus)

    def search(self, query: np.ndarray, k: int, *, probes: int, full_scores: int, own: bool) -> Sequence[int]:
        """Retrieve from both bags, score the union."""
        found = {bag: self._retrieve(bag, query, probes, full_scores) for bag in self._bags}
        union = set().union(*found.values())
        if not own:
            return self._reranker.best(query, np.array(list(union)), k)
        for bag, scores in found.items():
            missing = sorted(union - scores.keys())
            if missing:
                scores.update(self._retrieve(bag, query, probes, full_scores, missing))
        total = {video: sum(scores.get(video, 0.0) for scores in found.values()) for video in union}
        return sorted(union, key=lambda video: -total[video])[:k]

    def _retrieve(
        self, bag: str, query: np.ndarray, probes: int, full_scores: int, among: list[int] | None = None
    ) -> dict[int, float]:
        (hits,) = self._bags[bag].search(
            torch.from_numpy(query)[None],
            top_k=len(among) if among else self.retrieved,
            n_full_scores=full_scores,
            n_ivf_probe=probes,
            show_progress=False,
            subset=among,
        )
        return dict(hits)
