"""A sharded corpus in one process, without Ray: for one machine, and as the reference for the cluster."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.sharded.corpus_searcher import CorpusSearcher
from colbert_video.search.sharded.corpus_view import Answers
from colbert_video.search.sharded.shard import Shard


class ShardedSearcher(CorpusSearcher):
    """Opens all shards of a corpus and searches one after the other; safe to share between threads.

    Args:
        path: The sharded corpus.
        model: Encodes queries; None for the model that the shards name, loaded at the first text query.
        device: Where that model runs; a GPU that is named keeps the shards too.
        preload: Ask the system to read the shards' files ahead; see `Searcher`.

    Raises:
        IndexFolderError: If there is no sharded corpus, or a shard is damaged or does not belong to the others.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        device: str | torch.device | None = None,
        preload: bool = False,
    ) -> None:
        super().__init__(path, model=model, device=device)
        with ExitStack() as stack:
            stack.callback(self.catalogs.close)
            self._shards: list[Shard] = []
            for folder in self.corpus.folders:
                self._shards.append(Shard(folder, device=device))
                stack.callback(self._shards[-1].close)
            self._open = stack.pop_all()
        if preload:
            self.preload()

    def __enter__(self) -> "ShardedSearcher":
        return self

    def close(self) -> None:
        """Close the shards' files."""
        self._open.close()

    def refresh(self) -> bool:
        """See what was committed to the shards since they were opened or refreshed.

        Returns:
            Whether there was anything new.

        Raises:
            IndexFolderError: If a shard can no longer be opened; then its older state stays searchable.
        """
        changed = [shard.refresh() for shard in self._shards]  # every one, not just up to the first
        return any(changed)

    def preload(self) -> None:
        """Ask the system to read the shards' files ahead, and those of new commits; as `Searcher.preload`."""
        for shard in self._shards:
            shard.preload()

    def _ask(self, method: str, asked: Mapping[int, tuple[Any, ...]]) -> Answers:
        return {number: getattr(self._shards[number], method)(*given) for number, given in asked.items()}, ()
