"""Exact scores of a few candidates, in single precision, from the uncompressed tokens."""

import numpy as np
from search_corpus import BAGS, Corpus, mean_max_sim


class Reranker:
    """Scores candidates by MMS_F + MMS_V."""

    def __init__(self, corpus: Corpus) -> None:
        self._bags = [np.asarray(corpus.bag(name)) for name in BAGS]

    def best(self, query: np.ndarray, videos: np.ndarray, k: int) -> list[int]:
        """The best k of some videos; in ascending order, so that files are read forwards."""
        videos = np.sort(videos)
        scores = sum(mean_max_sim(query[None], bag[videos])[:, 0] for bag in self._bags)
        return videos[np.argsort(-scores, kind="stable")[:k]].tolist()
