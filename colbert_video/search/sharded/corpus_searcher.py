"""Searching a sharded corpus: the query is encoded once, each shard answers, and the best of all are kept."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from colbert_video.indexing.upkeep.sharding import ShardedCorpus
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.base_searcher import BaseSearcher
from colbert_video.search.queries import QueryModel
from colbert_video.search.sharded.catalogs import CorpusCatalogs
from colbert_video.search.sharded.corpus_view import Answers, CorpusView
from colbert_video.search.sharded.sharded_hits import ClusterHits, ClusterRanking


class CorpusSearcher(BaseSearcher[ClusterHits, ClusterRanking]):
    """What every search of a sharded corpus shares: it is called as `Searcher` is.

    Hits name in `shards_failed` the shards that did not answer, rankings those that did not answer a query; if not one
    shard answered in time, `ShardsUnavailableError` is raised. An id is refused if no shard holds it, and only shards that
    hold some of the `ids` are asked. With `exact`, hits and their order are those of one index; without it each shard
    decodes the best few hundred of its own. Of a video in windows, `moments` may name more than one index would, as each
    shard fetches as many windows as that.

    Args:
        path: The sharded corpus.
        model: Encodes queries; None for the model that the shards name, loaded at the first text query.
        device: Where that model runs.

    Raises:
        IndexFolderError: If there is no sharded corpus, or a shard is damaged or does not belong to the others.
    """

    deadline: float | None = None
    """Seconds after which shards that have not answered are given up; None to wait for all."""

    def __init__(
        self, path: str | Path, *, model: VideoColBERT | str | Path | None, device: str | torch.device | None
    ) -> None:
        self.path = Path(path)
        self.corpus = ShardedCorpus.open(path)
        self.catalogs = CorpusCatalogs(self.corpus)
        self._model = QueryModel(self.path, model, device)

    @abstractmethod
    def _ask(self, method: str, asked: Mapping[int, tuple[Any, ...]]) -> Answers:
        """Call a method of some shards, given with its arguments by the shards' numbers."""

    @abstractmethod
    def refresh(self) -> bool:
        """See what was committed to the shards since they were opened or refreshed; return whether there was anything."""

    @contextmanager
    def _view(self) -> Iterator[CorpusView]:
        """The corpus; each shard answers by its own state when it is asked."""
        yield CorpusView(self.catalogs, len(self.corpus.names), self._ask, self.deadline)

    def close(self) -> None:
        """Close the shards."""
        self.catalogs.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Videos that can be found."""
        return self.catalogs.videos
