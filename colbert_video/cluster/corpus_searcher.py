"""Searching a sharded corpus: the query is encoded once, each shard answers, and the best of all are kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.cluster.catalogs import CorpusCatalogs
from colbert_video.cluster.hits import (
    ClusterHits,
    ClusterRanking,
    ShardsUnavailableError,
    merge_hits,
    merge_scores,
)
from colbert_video.cluster.shards import ShardQuery, plain
from colbert_video.errors import SettingsError
from colbert_video.explain import Explanation, explain_similarities
from colbert_video.indexing.corpus import ShardedCorpus
from colbert_video.indexing.filters import compile_filter
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.media_queries import Picture, clip_query, image_query
from colbert_video.model import VideoColBERT
from colbert_video.query_model import QueryModel
from colbert_video.search import check_k, check_tokens
from colbert_video.video.windows import Span
from colbert_video.view import Query

Answers = tuple[dict[int, Any], tuple[str, ...]]
"""What the asked shards answered, by their numbers, and the names of those that did not answer."""


class CorpusSearcher(ABC):
    """What every search of a sharded corpus shares: it is called as `Searcher` is.

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
        self._device = device
        self._model = QueryModel(self.path, model, device)

    @abstractmethod
    def _ask(self, method: str, asked: Mapping[int, tuple[Any, ...]]) -> Answers:
        """Call a method of some shards, given with its arguments by the shards' numbers."""

    @abstractmethod
    def refresh(self) -> bool:
        """See what was committed to the shards since they were opened or refreshed; return whether there was anything."""

    def close(self) -> None:
        """Let go of the shards."""
        self.catalogs.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Videos that can be found."""
        return self.catalogs.videos

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make the shards.
            SettingsError: If they name no model and none was given.
        """
        return self._model.of(self.catalogs.settings)

    def use_model(self, model: VideoColBERT) -> None:
        """Encode queries with a model that is in memory already."""
        self._model = QueryModel(self.path, model, self._device)

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> ClusterHits:
        """Find the videos that a text describes.

        Args:
            query: Words.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows; only the shards that hold them are asked.
            exact: Score every eligible video on its decoded tokens: then hits and their order are those of one index.
                Without it each shard decodes the best few hundred of its own.
            group: One hit a video; False for one hit a window. Of a video in windows, `moments` may name more than one
                index would, as each shard fetches as many windows as that.

        Returns:
            Hits, best first, and in `shards_failed` the names of shards that did not answer.

        Raises:
            SettingsError: As `Searcher.search`; an id is refused if no shard holds it.
            ShardsUnavailableError: If not one shard answered in time.
        """
        check_k(k)
        tokens = PreparedQuery(self.model.encode_queries(query).to("cpu")[0])
        return self._hits(tokens, k, where=where, ids=ids, exact=exact, group=group)

    def search_image(
        self,
        image: Picture,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> ClusterHits:
        """Find the videos that show what a picture shows; see `Searcher.search_image` and `search`."""
        check_k(k)
        tokens = image_query(self.model, image, self.catalogs.settings)
        return self._hits(tokens, k, where=where, ids=ids, exact=exact, group=group)

    def search_video(
        self,
        path: str | Path,
        k: int = 10,
        *,
        window: Span | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> ClusterHits:
        """Find the videos that show what a clip shows; see `Searcher.search_video` and `search`."""
        check_k(k)
        tokens = clip_query(self.model, path, self.catalogs.settings, window=window)
        return self._hits(tokens, k, where=where, ids=ids, exact=exact, group=group)

    def search_tokens(
        self,
        query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> ClusterHits:
        """Find videos by query tokens of any encoder; see `Searcher.search_tokens` and `search`."""
        check_k(k)
        tokens = PreparedQuery(check_tokens(query_tokens, self.catalogs.settings.dim))
        return self._hits(tokens, k, where=where, ids=ids, exact=exact, group=group)

    def search_all(
        self,
        queries: Mapping[str, str],
        k: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> ClusterRanking:
        """Search many queries, one after the other; see `Searcher.search_all`.

        Returns:
            A ranking, and in `shards_failed` which shards did not answer which query.

        Raises:
            SettingsError: As `Searcher.search_all`.
            ShardsUnavailableError: If a query had no answer at all.
        """
        check_k(k)
        if not queries:
            raise SettingsError("no queries were given; at least one is needed.")
        encoded = self.model.encode_queries(list(queries.values())).to("cpu")
        chosen = None if ids is None else list(ids)
        rows, missing = {}, {}
        for position, name in enumerate(queries):
            tokens = PreparedQuery(encoded[position])
            answers, failed = self._answers("scores", tokens, k, where, chosen, exact, True)
            rows[name] = merge_scores(answers, k)
            if failed:
                missing[name] = failed
        return ClusterRanking(rows, missing)

    def explain(self, query: str, video_id: str) -> Explanation:
        """Show which frame answers each query token, and how well, in both bags; see `Searcher.explain`.

        Raises:
            SettingsError: If the query is empty or no shard holds the video.
            ShardsUnavailableError: If the shard that holds it did not answer in time.
        """
        model = self.model
        tokens = model.encode_queries(query).to("cpu")[0].numpy()
        holders = self.catalogs.holders([video_id])
        answers, failed = self._ask("similarities", dict.fromkeys(holders, (tokens, video_id)))
        if not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        entry, similarities = next(iter(answers.values()))
        labels = model.query_token_texts(query)
        return explain_similarities(
            entry, labels, {bag: torch.tensor(own) for bag, own in similarities.items()}
        )

    def _hits(
        self,
        query: Query,
        k: int,
        *,
        where: Mapping[str, Any] | None,
        ids: Iterable[str] | None,
        exact: bool,
        group: bool,
    ) -> ClusterHits:
        answers, failed = self._answers("hits", query, k, where, ids, exact, group)
        return ClusterHits(merge_hits(answers, k), failed)

    def _answers(
        self,
        method: str,
        query: Query,
        k: int,
        where: Mapping[str, Any] | None,
        ids: Iterable[str] | None,
        exact: bool,
        group: bool,
    ) -> tuple[list[Any], tuple[str, ...]]:
        """Ask the shards that may hold results; return their answers in their order, and who did not answer."""
        if where is not None:
            compile_filter(where)  # refused here, once
        every = dict.fromkeys(range(len(self.corpus.names)))
        chosen: Mapping[int, tuple[str, ...] | None] = every if ids is None else self.catalogs.holders(ids)
        tokens = plain(query)
        asked = {number: (ShardQuery(tokens, k, where, own, exact, group),) for number, own in chosen.items()}
        answers, failed = self._ask(method, asked)
        if asked and not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        return [answers[number] for number in sorted(answers)], failed
