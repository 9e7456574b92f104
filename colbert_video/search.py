"""Searcher: words in, moments of video out."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.device import resolve_device
from colbert_video.errors import ModelError, SettingsError
from colbert_video.explain import Explanation, explain_similarities
from colbert_video.indexing.colbert import PlaidSettings, StockEngine
from colbert_video.indexing.current import CurrentView
from colbert_video.indexing.eligible import Masks
from colbert_video.indexing.prepared import PreparedQuery
from colbert_video.indexing.reader import IndexReader
from colbert_video.indexing.scan import search_segment, video_similarities
from colbert_video.indexing.settings import IndexSettings, check_model
from colbert_video.model import VideoColBERT
from colbert_video.ranking import Ranking
from colbert_video.view import SearchView

NORM_TOLERANCE = 0.02
"""How far from 1 the length of a given query token may be."""


@dataclass(frozen=True)
class Hit:
    """One found video and its best moment."""

    rank: int
    """1 for the best."""
    id: str
    """The video's id."""
    score: float
    """MMS_F + MMS_V, the sum of the two below."""
    frame_score: float | None
    """MeanMaxSim over frame tokens; None if the index stores none."""
    video_score: float | None
    """MeanMaxSim over video tokens; None if the index stores none."""
    start: float | None
    """Begin of the best moment [start, end), in seconds; None if the index knows no times."""
    end: float | None
    """End of the best moment, in seconds."""
    path: str | None
    """The video file; None for precomputed tokens."""
    metadata: Mapping[str, Any]
    """What was stored with the video."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Searcher:
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

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        device: str | torch.device | None = None,
        engine: Literal["native", "colbert"] = "native",
        plaid: PlaidSettings | None = None,
        auto_refresh: bool = False,
    ) -> None:
        _check_engine(engine, plaid)
        self.path = Path(path)
        self._engine, self._plaid = engine, plaid
        self._given_model = model
        self._device = device
        self._loaded: tuple[IndexSettings, VideoColBERT] | None = None
        self._auto_refresh = auto_refresh
        self._current = CurrentView(self.path, self._open_view)

    def _open_view(self) -> SearchView:
        reader = IndexReader.open(self.path, device=self._index_device())
        try:
            if self._engine == "native":
                return SearchView(reader, search_segment)
            stock = StockEngine(reader, device=self._device, settings=self._plaid)
            return SearchView(reader, stock.search_segment)
        except BaseException:
            reader.close()
            raise

    def _index_device(self) -> torch.device | None:
        """The GPU that keeps the index; None to leave it on disk."""
        if self._device is None or self._engine != "native":
            return None
        device = resolve_device(self._device)
        return None if device.type == "cpu" else device

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index's files."""
        self._current.close()

    def refresh(self) -> bool:
        """See what was committed since the searcher was opened or refreshed.

        Returns:
            Whether there was anything new.

        Raises:
            IndexFolderError: If the index can no longer be opened; then the older state stays searchable.
        """
        return self._current.refresh()

    @contextmanager
    def _view(self) -> Iterator[SearchView]:
        """One state of the index for all of a search."""
        if self._auto_refresh:
            self._current.refresh()
        with self._current.lend() as view:
            yield view

    def __len__(self) -> int:
        """Videos that can be found."""
        with self._view() as view:
            return view.reader.count

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make this index.
            SettingsError: If the index names no model and none was given.
        """
        with self._view() as view:
            return self._model_of(view)

    def _model_of(self, view: SearchView) -> VideoColBERT:
        settings = view.reader.settings
        if self._loaded is None or self._loaded[0] != settings:
            model = self._load_model(settings)
            check_model(model, settings, self.path)
            self._loaded = settings, model
        return self._loaded[1]

    def _load_model(self, settings: IndexSettings) -> VideoColBERT:
        source = self._given_model or settings.model
        if source is None:
            raise SettingsError(
                f"{self.path} names no model: pass Searcher(path, model=...), or search with search_tokens."
            )
        try:
            return _as_model(source, self._device)
        except ModelError as error:
            if self._given_model is not None:
                raise
            raise ModelError(
                f"the model that made {self.path} cannot be loaded: {error} If it moved, say where it is with model= "
                "(--model)."
            ) from error

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Find the videos that a text describes.

        Args:
            query: Words.
            k: Most hits to return; fewer only if fewer videos are eligible.
            where: Search only videos that pass this filter on their metadata, such as {"channel": "news", "duration":
                {">": 60}}; see `colbert_video.indexing.filters`.
            ids: Search only these videos.
            exact: Score every eligible video on its decoded tokens, instead of the best few hundred.

        Returns:
            Hits, best first.

        Raises:
            SettingsError: If the query is empty, k < 1, the filter is none, an id is not in the index, or exact with
                engine="colbert".
        """
        _check_k(k)
        with self._view() as view:
            encoded = self._model_of(view).encode_queries(query).to("cpu")[0]
            return _hits(view, encoded, k, allowed=view.reader.allowed(where, ids), exact=exact)

    def search_tokens(
        self,
        query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Find videos by query tokens of any encoder; no model is needed.

        Args:
            query_tokens: The scored tokens of one query, unit vectors.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos.
            exact: Score every eligible video on its decoded tokens.

        Raises:
            SettingsError: If the tokens do not fit the index, k < 1, the filter is none, an id is not in the index, or
                exact with engine="colbert".
        """
        _check_k(k)
        with self._view() as view:
            query = _check_tokens(query_tokens, view.reader.settings.dim)
            return _hits(view, query, k, allowed=view.reader.allowed(where, ids), exact=exact)

    def search_all(
        self,
        queries: Mapping[str, str],
        k: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> Ranking:
        """Search many queries, as ColBERT's `search_all` does.

        Args:
            queries: Text by query id.
            k: Most videos for each query.
            where: Search only videos that pass this filter.
            ids: Search only these videos.
            exact: Score every video on its decoded tokens.

        Returns:
            A ranking that can be saved as ColBERT's rows or as a TREC run.
        """
        _check_k(k)
        if not queries:
            raise SettingsError("no queries were given; at least one is needed.")
        rows = {}
        with self._view() as view:
            encoded = self._model_of(view).encode_queries(list(queries.values())).to("cpu")
            allowed = view.reader.allowed(where, ids)
            for position, name in enumerate(queries):
                best = view.best(PreparedQuery(encoded[position]), k, allowed=allowed, exact=exact)
                rows[name] = [
                    (entry.id, rank, video.score) for rank, (video, entry) in enumerate(best, start=1)
                ]
        return Ranking(rows)

    def explain(self, query: str, video_id: str) -> Explanation:
        """Show which frame answers each query token, and how well, in both bags.

        Args:
            query: Words.
            video_id: The video to look into.

        Raises:
            SettingsError: If the query is empty or the video is not in the index.
        """
        with self._view() as view:
            model = self._model_of(view)
            encoded = model.encode_queries(query).to("cpu")
            segment, ordinal, entry = view.reader.locate(video_id)
            similarities = {
                bag: video_similarities(segment, codec, bag, encoded[0], ordinal)
                for bag, codec in view.reader.codecs(segment).items()
            }
        return explain_similarities(entry, model.query_token_texts(query), similarities)


def _hits(
    view: SearchView,
    query: Float[Tensor, "query_tokens dim"],
    k: int,
    *,
    allowed: Masks | None,
    exact: bool,
) -> list[Hit]:
    prepared = PreparedQuery(query)
    hits: list[Hit] = []
    for video, entry in view.best(prepared, k, allowed=allowed, exact=exact):
        start, end = view.moment(video, entry, prepared)
        hit = Hit(
            rank=len(hits) + 1,
            id=entry.id,
            score=video.score,
            frame_score=video.bags.get("frame"),
            video_score=video.bags.get("video"),
            start=start,
            end=end,
            path=entry.path,
            metadata=entry.metadata,
        )
        hits.append(hit)
    return hits


def _check_tokens(
    query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"], dim: int
) -> Float[Tensor, "query_tokens dim"]:
    query = torch.as_tensor(query_tokens).detach().cpu().float()
    if query.ndim != 2 or query.shape[1] != dim or not len(query):
        raise SettingsError(f"query tokens have shape {tuple(query.shape)}; (query_tokens, {dim}) is needed.")
    if not bool(((query.norm(dim=1) - 1).abs() < NORM_TOLERANCE).all()):
        raise SettingsError("query tokens are not unit vectors; L2-normalise them first.")
    return query


def _as_model(source: VideoColBERT | str | Path, device: str | torch.device | None) -> VideoColBERT:
    return source if isinstance(source, VideoColBERT) else VideoColBERT.from_pretrained(source, device=device)


def _check_engine(engine: str, plaid: PlaidSettings | None) -> None:
    if engine not in ("native", "colbert"):
        raise SettingsError(f"engine={engine!r} must be 'native' or 'colbert'.")
    if plaid is not None and engine != "colbert":
        raise SettingsError(f"plaid settings are for engine='colbert'; engine={engine!r} has none.")


def _check_k(k: int) -> None:
    if k < 1:
        raise SettingsError(f"k={k} must be at least 1.")
