"""Stock colbert-ai: an index a bag, built and searched by its own code.

Its CollectionIndexer does everything from the sample to the inverted lists; only its text encoder is replaced by one
that hands over tokens. Its IndexScorer ranks each bag; a video that only one bag retrieved is scored in the other one
too, and the sums decide, or the union is scored exactly in single precision. ColBERT's own search defaults are made
for the cosines of BERT tokens, of which its thresholds prune all where similarities stay below 0.4.
"""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_corpus import BAGS, Corpus

from rivals.rerank import Reranker


class TokenEncoder:
    """Takes the place of ColBERT's text encoder."""

    def __init__(self, tokens: np.ndarray) -> None:
        self._tokens = tokens

    def encode_passages(self, passages: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
        """Tokens of some videos, and how many each has."""
        numbers = np.asarray(passages)
        contiguous = len(numbers) and numbers[-1] - numbers[0] == len(numbers) - 1
        part = self._tokens[numbers[0] : numbers[-1] + 1] if contiguous else self._tokens[numbers]
        tokens = torch.from_numpy(np.array(part)).flatten(0, 1)
        return tokens, [self._tokens.shape[1]] * len(numbers)


class Rival:
    """One PLAID index a bag."""

    settings: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "k<=10 defaults": {"ncells": 1, "threshold": 0.5, "ndocs": 256, "exact": False},
        "k>100 defaults": {"ncells": 4, "threshold": 0.4, "ndocs": 4096, "exact": False},
        "ncells 2, ndocs 256, fp32": {"ncells": 2, "threshold": -1.0, "ndocs": 256, "exact": True},
        "ncells 2, ndocs 1024, fp32": {"ncells": 2, "threshold": -1.0, "ndocs": 1024, "exact": True},
        "ncells 4, ndocs 256, fp32": {"ncells": 4, "threshold": -1.0, "ndocs": 256, "exact": True},
        "ncells 4, ndocs 1024": {"ncells": 4, "threshold": -1.0, "ndocs": 1024, "exact": False},
        "ncells 4, ndocs 1024, fp32": {"ncells": 4, "threshold": -1.0, "ndocs": 1024, "exact": True},
        "ncells 16, ndocs 2048": {"ncells": 16, "threshold": -1.0, "ndocs": 2048, "exact": False},
        "ncells 16, ndocs 2048, fp32": {"ncells": 16, "threshold": -1.0, "ndocs": 2048, "exact": True},
    }
    reads_tokens = [name for name in settings if "fp32" in name]  # noqa: RUF012
    value_bytes = 4
    retrieved = 50
    """Videos of each bag that single precision scores again."""

    def __init__(self, nbits: int) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(1)
        self._nbits = nbits
        self._scorers: list[Any] = []

    def versions(self) -> str:
        """Package and version."""
        return f"colbert-ai {version('colbert-ai')}, torch {torch.__version__}"

    def build(self, corpus: Corpus, folder: Path) -> None:
        """Index both bags with stock's own indexer."""
        for bag in BAGS:
            (folder / bag).mkdir(parents=True)
            index_bag(corpus.bag(bag), folder / bag, self._nbits)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Load both indexes, and compile stock's C++ if that has not been done on this machine."""
        from colbert.modeling.colbert import ColBERT
        from colbert.search.index_storage import IndexScorer

        ColBERT.try_load_torch_extensions(False)
        self._scorers = [IndexScorer(str(folder / bag), use_gpu=False) for bag in BAGS]
        self._reranker = Reranker(corpus)

    @torch.inference_mode()
    def search(
        self, query: np.ndarray, k: int, *, ncells: int, threshold: float, ndocs: int, exact: bool
    ) -> Sequence[int]:
        """Rank each bag, score the union."""
        from colbert.infra import ColBERTConfig

        config = ColBERTConfig(query_maxlen=len(query), ncells=ncells, centroid_score_threshold=threshold, ndocs=ndocs)
        tokens = torch.from_numpy(query)[None]
        found = [dict(zip(*scorer.rank(config, tokens), strict=True)) for scorer in self._scorers]
        if exact:
            best = {video for scores in found for video in list(scores)[: self.retrieved]}
            return self._reranker.best(query, np.array(list(best)), k)
        union = sorted(set().union(*found))
        for scorer, scores in zip(self._scorers, found, strict=True):
            missing = [video for video in union if video not in scores]
            if missing:
                values, _ = scorer.score_pids(config, tokens, torch.tensor(missing, dtype=torch.int32), None)
                scores.update(zip(missing, values.tolist(), strict=True))
        total = {video: sum(scores[video] for scores in found) for video in union}
        return sorted(union, key=lambda video: -total[video])[:k]


def index_bag(tokens: np.ndarray, folder: Path, nbits: int) -> None:
    """Run stock's CollectionIndexer over the tokens of one bag."""
    from colbert.data import Collection
    from colbert.indexing.collection_indexer import CollectionIndexer
    from colbert.indexing.index_saver import IndexSaver
    from colbert.infra import ColBERTConfig, Run, RunConfig

    class TokenIndexer(CollectionIndexer):
        """Stock's indexer without its checkpoint."""

        def __init__(self, config: ColBERTConfig) -> None:
            self.verbose, self.config = 0, config
            self.rank, self.nranks, self.use_gpu = 0, 1, False
            self.collection = Collection.cast(list(range(len(tokens))))
            self.encoder = TokenEncoder(tokens)
            self.saver = IndexSaver(config)

    config = ColBERTConfig(dim=tokens.shape[2], nbits=nbits, index_path=str(folder), checkpoint=None)
    with Run().context(RunConfig(nranks=1)):
        TokenIndexer(config).run([[]])
