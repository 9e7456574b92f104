"""The searches of an index and of a sharded corpus: queries of every kind are encoded, what is searched answers them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.explain import Explanation, explain_similarities
from colbert_video.search.queries import Picture, QueryModel, clip_query, image_query
from colbert_video.search.searchable import AnyHits, AnyRanking, Searchable, SearchSettings
from colbert_video.video.windows import Span

NORM_TOLERANCE = 0.02
"""How far from 1 the length of a given query token may be."""


class BaseSearcher(ABC, Generic[AnyHits, AnyRanking]):
    """What `Searcher` and the searchers of sharded corpora share; a class that follows it opens what is searched."""

    _model: QueryModel
    """Encodes text, pictures and clips."""

    @abstractmethod
    def _view(self) -> AbstractContextManager[Searchable[AnyHits, AnyRanking]]:
        """One state of what is searched, for all of a search."""

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> AnyHits:
        """Find the videos that a text describes.

        Args:
            query: Words.
            k: Most hits to return; fewer only if fewer videos are eligible.
            where: Search only videos that pass this filter on their metadata, such as {"channel": "news", "duration":
                {">": 60}}; see `colbert_video.indexing.catalog.filters`. Of a video that was cut, each window passes or not.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens, instead of the best few hundred.
            group: One hit a video, scored by its best window; False for one hit a window.

        Returns:
            Hits, best first: a list, with `to_pandas`.

        Raises:
            SettingsError: If the query is empty, k < 1, the filter is not valid, an id is not in the index, or exact with
                engine="colbert".
        """
        wanted = SearchSettings(k, where, ids, exact, group)
        with self._view() as view:
            encoded = self._model.of(view.settings).encode_queries(query).to("cpu")[0]
            return view.hits(PreparedQuery(encoded), wanted)

    def search_image(
        self,
        image: Picture,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> AnyHits:
        """Find the videos that show what a picture shows.

        The picture's frame token is compared with the frame bag alone, so hits have no `video_score`; a video that holds
        the very picture scores about 1.

        Args:
            image: An image file, RGB pixels uint8 (height, width, 3), or a PIL image.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens.
            group: One hit a video; False for one hit a window.

        Raises:
            SettingsError: As `search`, or if it is no image.
        """
        wanted = SearchSettings(k, where, ids, exact, group)
        with self._view() as view:
            return view.hits(image_query(self._model.of(view.settings), image, view.settings), wanted)

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
    ) -> AnyHits:
        """Find the videos that show what a clip shows.

        Its frame tokens are compared with the frame bag, its frames in context with the video bag where there is one. It
        is decoded in a process of its own.

        Args:
            path: The clip; it need not be in the index.
            window: Look only for this part of the clip, [start, end) in seconds.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens.
            group: One hit a video; False for one hit a window.

        Raises:
            SettingsError: As `search`.
            VideoError: If the clip cannot be read.
        """
        wanted = SearchSettings(k, where, ids, exact, group)
        with self._view() as view:
            query = clip_query(self._model.of(view.settings), path, view.settings, window=window)
            return view.hits(query, wanted)

    def search_tokens(
        self,
        query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> AnyHits:
        """Find videos by query tokens of any encoder; no model is needed.

        Args:
            query_tokens: The scored tokens of one query, unit vectors.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens.
            group: One hit a video; False for one hit a window.

        Raises:
            SettingsError: If the tokens do not fit the index, k < 1, the filter is not valid, an id is not in the index, or
                exact with engine="colbert".
        """
        wanted = SearchSettings(k, where, ids, exact, group)
        with self._view() as view:
            return view.hits(PreparedQuery(_checked(query_tokens, view.settings.dim)), wanted)

    def search_all(
        self,
        queries: Mapping[str, str],
        k: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> AnyRanking:
        """Search many queries, as ColBERT's `search_all` does; videos that were cut into windows rank once.

        Args:
            queries: Text by query id.
            k: Most videos for each query.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: Score every video on its decoded tokens.

        Returns:
            A ranking that can be saved as ColBERT's rows or as a TREC run.
        """
        wanted = SearchSettings(k, where, ids, exact)
        if not queries:
            raise SettingsError("no queries were given; at least one is needed.")
        with self._view() as view:
            encoded = self._model.of(view.settings).encode_queries(list(queries.values())).to("cpu")
            tokens = {name: encoded[position] for position, name in enumerate(queries)}
            return view.ranking(tokens, wanted)

    def explain(self, query: str, video_id: str) -> Explanation:
        """Show which frame answers each query token, and how well, in both bags.

        Args:
            query: Words.
            video_id: The video to look into; of one that was cut, the best window is explained.

        Raises:
            SettingsError: If the query is empty or the video is not in the index.
        """
        with self._view() as view:
            model = self._model.of(view.settings)
            encoded = PreparedQuery(model.encode_queries(query).to("cpu")[0])
            entry, similarities = view.similarities_of(video_id, encoded)
        return explain_similarities(entry, model.query_token_texts(query), similarities)

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make this index.
            SettingsError: If the index names no model and none was given.
        """
        with self._view() as view:
            return self._model.of(view.settings)

    def use_model(self, model: VideoColBERT) -> None:
        """Encode queries with a model that is in memory already."""
        self._model.use(model)


def _checked(
    query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"], dim: int
) -> Float[Tensor, "query_tokens dim"]:
    """Return the tokens of a query as they are searched with.

    Raises:
        SettingsError: If they are no unit vectors of `dim` dimensions, or there is none.
    """
    query = torch.as_tensor(query_tokens).detach().cpu().float()
    if query.ndim != 2 or query.shape[1] != dim or not len(query):
        raise SettingsError(f"query tokens have shape {tuple(query.shape)}; (query_tokens, {dim}) is needed.")
    shortest, longest = (float(length) for length in torch.linalg.vector_norm(query, dim=1).aminmax())
    if not (shortest > 1 - NORM_TOLERANCE and longest < 1 + NORM_TOLERANCE):  # NaN is refused too
        raise SettingsError("query tokens are not unit vectors; L2-normalise them first.")
    return query
