"""Sharded corpora behind the service: the same addresses and page as for one index."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_video.cluster.cluster_searcher import ClusterSearcher
from colbert_video.indexing.upkeep.sharding import ShardedCorpus, is_corpus
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.sharded.catalogs import CorpusCatalogs, describe_corpus
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.serve.indexes import ServedIndex


class ServedCorpus(ServedIndex):
    """A sharded corpus under its name.

    Args:
        name: What clients call it.
        path: The sharded corpus.
        model: Encodes queries; None for the model that the shards name.
        device: Where that model runs.
        preload: Ask the system to read the shards' files ahead. On a cluster each shard's process has done so when the
            corpus is open.
        cluster: Arguments of `ClusterSearcher`; None to search the shards in this process.

    Raises:
        IndexFolderError: If there is none, or it is damaged.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        model: VideoColBERT | str | None = None,
        device: str | None = None,
        preload: bool = False,
        cluster: Mapping[str, Any] | None = None,
    ) -> None:
        if cluster is not None:
            cluster, preload = {"preload": preload, **cluster}, False
        self._cluster = cluster
        self._corpus = ShardedCorpus.open(path)
        super().__init__(name, path, model=model, device=device, preload=preload)

    def _describe(self) -> Mapping[str, Any]:
        return describe_corpus(self._corpus)

    def _open_catalog(self) -> CorpusCatalogs:
        return CorpusCatalogs(self._corpus)

    def _open_searcher(self, model: VideoColBERT | str | None) -> ShardedSearcher:
        if self._cluster is None:
            return ShardedSearcher(self.path, model=model, device=self._device)
        return ClusterSearcher(self.path, model=model, device=self._device, **self._cluster)


def open_served(
    name: str,
    path: Path,
    *,
    model: VideoColBERT | str | None = None,
    device: str | None = None,
    preload: bool = False,
    cluster: Mapping[str, Any] | None = None,
) -> ServedIndex:
    """Open an index, or a sharded corpus, to be served; arguments as in `ServedCorpus`.

    On a cluster only sharded corpora are served.
    """
    if cluster is not None or is_corpus(path):
        return ServedCorpus(name, path, model=model, device=device, preload=preload, cluster=cluster)
    return ServedIndex(name, path, model=model, device=device, preload=preload)
