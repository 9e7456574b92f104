"""Searcher: words in, moments of video out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.explain import Explanation, explain_similarities
from colbert_video.hits import Hits
from colbert_video.hub import HubRepository
from colbert_video.indexing.hub import fetched_index
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.media_queries import Picture, clip_query, image_query
from colbert_video.opened_index import OpenedIndex
from colbert_video.ranking import Ranking
from colbert_video.video.windows import Span

NORM_TOLERANCE = 0.02
"""How far from 1 the length of a given query token may be."""


class Searcher(OpenedIndex):
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

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing.
        SettingsError: If there is no such engine, or the settings contradict each other.
    """

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

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> Hits:
        """Find the videos that a text describes.

        Args:
            query: Words.
            k: Most hits to return; fewer only if fewer videos are eligible.
            where: Search only videos that pass this filter on their metadata, such as {"channel": "news", "duration":
                {">": 60}}; see `colbert_video.indexing.filters`. Of a video that was cut, each window passes or not.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens, instead of the best few hundred.
            group: One hit a video, scored by its best window; False for one hit a window.

        Returns:
            Hits, best first: a list, with `to_pandas`.

        Raises:
            SettingsError: If the query is empty, k < 1, the filter is none, an id is not in the index, or exact with
                engine="colbert".
        """
        check_k(k)
        with self._view() as view:
            encoded = self._model_of(view).encode_queries(query).to("cpu")[0]
            return view.hits(PreparedQuery(encoded), k, where=where, ids=ids, exact=exact, group=group)

    def search_image(
        self,
        image: Picture,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> Hits:
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
        check_k(k)
        with self._view() as view:
            query = image_query(self._model_of(view), image, view.reader.settings)
            return view.hits(query, k, where=where, ids=ids, exact=exact, group=group)

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
    ) -> Hits:
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
        check_k(k)
        with self._view() as view:
            query = clip_query(self._model_of(view), path, view.reader.settings, window=window)
            return view.hits(query, k, where=where, ids=ids, exact=exact, group=group)

    def search_tokens(
        self,
        query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
    ) -> Hits:
        """Find videos by query tokens of any encoder; no model is needed.

        Args:
            query_tokens: The scored tokens of one query, unit vectors.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: Score every eligible video on its decoded tokens.
            group: One hit a video; False for one hit a window.

        Raises:
            SettingsError: If the tokens do not fit the index, k < 1, the filter is none, an id is not in the index, or
                exact with engine="colbert".
        """
        check_k(k)
        with self._view() as view:
            query = PreparedQuery(check_tokens(query_tokens, view.reader.settings.dim))
            return view.hits(query, k, where=where, ids=ids, exact=exact, group=group)

    def search_all(
        self,
        queries: Mapping[str, str],
        k: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> Ranking:
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
        check_k(k)
        if not queries:
            raise SettingsError("no queries were given; at least one is needed.")
        rows = {}
        with self._view() as view:
            encoded = self._model_of(view).encode_queries(list(queries.values())).to("cpu")
            allowed = view.reader.allowed(where, ids)
            for position, name in enumerate(queries):
                best = view.best(
                    PreparedQuery(encoded[position]), k, allowed=allowed, exact=exact, group=True
                )
                rows[name] = [
                    (found[0][1].video, rank, found[0][0].score) for rank, found in enumerate(best, start=1)
                ]
        return Ranking(rows)

    def explain(self, query: str, video_id: str) -> Explanation:
        """Show which frame answers each query token, and how well, in both bags.

        Args:
            query: Words.
            video_id: The video to look into; of one that was cut, the best window is explained.

        Raises:
            SettingsError: If the query is empty or the video is not in the index.
        """
        with self._view() as view:
            model = self._model_of(view)
            prepared = PreparedQuery(model.encode_queries(query).to("cpu")[0])
            segment, ordinal, entry = view.best_window(video_id, prepared)
            similarities = view.similarities(segment, ordinal, entry, prepared)
        return explain_similarities(entry, model.query_token_texts(query), similarities)


def check_tokens(
    query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"], dim: int
) -> Float[Tensor, "query_tokens dim"]:
    """Return the tokens of a query as they are searched with.

    Raises:
        SettingsError: If they are no unit vectors of `dim` dimensions, or there is none.
    """
    query = torch.as_tensor(query_tokens).detach().cpu().float()
    if query.ndim != 2 or query.shape[1] != dim or not len(query):
        raise SettingsError(f"query tokens have shape {tuple(query.shape)}; (query_tokens, {dim}) is needed.")
    if not bool(((query.norm(dim=1) - 1).abs() < NORM_TOLERANCE).all()):
        raise SettingsError("query tokens are not unit vectors; L2-normalise them first.")
    return query


def check_k(k: int) -> None:
    """Refuse to look for nothing.

    Raises:
        SettingsError: If k < 1.
    """
    if k < 1:
        raise SettingsError(f"k={k} must be at least 1.")
