"""Searcher: words in, moments of video out."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from colbert_video.hub import HubRepository
from colbert_video.indexing.scan.stock import PlaidSettings
from colbert_video.indexing.upkeep.index_hub import fetched_index
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.base_searcher import BaseSearcher
from colbert_video.search.hits import Hits
from colbert_video.search.opened import OpenedIndex, check_engine, open_view
from colbert_video.search.queries import QueryModel
from colbert_video.search.ranking import Ranking


class Searcher(OpenedIndex, BaseSearcher[Hits, Ranking]):
    """Searches one index, as of the last commit when it was opened or refreshed; safe to share between threads.

    Videos that are added, removed or replaced meanwhile change nothing for an open searcher: each search sees one commit
    as a whole. An open searcher on a machine that also writes keeps the disk space of what was replaced.

    Args:
        path: The index folder.
        model: Encodes queries; None for the model that the index names, loaded at the first text query.
        device: Where that model runs; a GPU that is named keeps the index too, in its compressed form, and scores on it.
            None for a model on the first GPU, else on the CPU, and an index on disk.
        engine: "native" looks at every video. "colbert" passes each query to stock colbert-ai's IndexScorer: the
            reference for scores, read in full when the index is opened. On CPUs it counts negative best matches as
            zero; it scores on a GPU if `device` names one. Its C++ is compiled at the first use on a machine.
        plaid: How stock ColBERT looks for candidates; only for engine="colbert".
        auto_refresh: Look for a new commit before every search, which takes a fraction of a millisecond.
        preload: Ask the system to read the index's files into its page cache before the first search, and those of new
            commits before they are searched; otherwise first searches read them from the disk in small pieces. Does nothing
            on a GPU that keeps the index, and on systems without `posix_fadvise`.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing.
        SettingsError: If there is no such engine, or the settings contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        device: str | torch.device | None = None,
        engine: Literal["native", "colbert"] = "native",
        plaid: PlaidSettings | None = None,
        auto_refresh: bool = False,
        preload: bool = False,
    ) -> None:
        check_engine(engine, plaid)
        opened = partial(open_view, Path(path), device=device, engine=engine, plaid=plaid)
        super().__init__(path, opened, auto_refresh=auto_refresh)
        self._model = QueryModel(self.path, model, device)
        if preload:
            self.preload()

    @classmethod
    def from_hub(
        cls,
        repository: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        endpoint: str | None = None,
        **settings: Any,
    ) -> "Searcher":
        """Fetch an index from a dataset repository of the Hugging Face Hub, check every file of it, and open it.

        Args:
            repository: "user/name".
            revision: Branch, tag or commit; None for the main branch.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            cache_dir: Where downloads and indexes are kept; None for huggingface_hub's cache.
            endpoint: Address of another Hub than huggingface.co.
            **settings: Arguments of the class.

        Raises:
            HubError: If there is no such repository, it may not be read, it holds no index, or the Hub cannot be reached.
            IndexFolderError: If the index is damaged.
        """
        where = HubRepository(repository, "dataset", revision, token, endpoint)
        folder = None if cache_dir is None else Path(cache_dir)
        return cls(fetched_index(where, cache_dir=folder), **settings)

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
