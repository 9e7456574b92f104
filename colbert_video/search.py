"""Searcher: words in, moments of video out."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from colbert_video.errors import ModelError, SettingsError
from colbert_video.explain import Explanation, explain_similarities
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.reader import IndexReader
from colbert_video.indexing.scan import Segment, search_segment, video_similarities
from colbert_video.indexing.settings import check_model
from colbert_video.model import VideoColBERT
from colbert_video.moments import best_moment
from colbert_video.ranking import Ranking

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


@dataclass(frozen=True)
class _Candidate:
    """A scored video before its catalog row is read."""

    score: float
    segment: Segment
    ordinal: int
    bags: Mapping[str, float]


class Searcher:
    """Searches one index.

    Args:
        path: The index folder.
        model: Encodes queries; None for the model that the index names, loaded at the first text query.
        device: Where that model runs; None for the first GPU, else the CPU.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.path = Path(path)
        self._reader = IndexReader.open(self.path)
        self._given_model = model
        self._device = device
        self._model: VideoColBERT | None = None

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index's files."""
        self._reader.close()

    def __len__(self) -> int:
        """Videos that can be found."""
        return self._reader.count

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make this index.
            SettingsError: If the index names no model and none was given.
        """
        if self._model is None:
            self._model = self._load_model()
        return self._model

    def _load_model(self) -> VideoColBERT:
        source = self._given_model or self._reader.settings.model
        if source is None:
            raise SettingsError(
                f"{self.path} names no model: pass Searcher(path, model=...), or search with search_tokens."
            )
        try:
            model = _as_model(source, self._device)
        except ModelError as error:
            if self._given_model is not None:
                raise
            raise ModelError(
                f"the model that made {self.path} cannot be loaded: {error} If it moved, say where it is with model= "
                "(--model)."
            ) from error
        check_model(model, self._reader.settings, self.path)
        return model

    def search(
        self, query: str, k: int = 10, *, ids: Iterable[str] | None = None, exact: bool = False
    ) -> list[Hit]:
        """Find the videos that a text describes.

        Args:
            query: Words.
            k: Most hits to return; fewer only if fewer videos are eligible.
            ids: Search only these videos.
            exact: Score every eligible video on its decoded tokens, instead of the best few hundred.

        Returns:
            Hits, best first.

        Raises:
            SettingsError: If the query is empty, k < 1, or an id is not in the index.
        """
        _check_k(k)
        return self.search_tokens(self._encode(query), k, ids=ids, exact=exact)

    def search_tokens(
        self,
        query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"],
        k: int = 10,
        *,
        ids: Iterable[str] | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Find videos by query tokens of any encoder; no model is needed.

        Args:
            query_tokens: The scored tokens of one query, unit vectors.
            k: Most hits to return.
            ids: Search only these videos.
            exact: Score every eligible video on its decoded tokens.

        Raises:
            SettingsError: If the tokens do not fit the index, k < 1, or an id is not in the index.
        """
        _check_k(k)
        query = self._check_tokens(query_tokens)
        candidates = self._best(query, k, ids, exact)
        entries = self._reader.entries_of(
            (candidate.segment.name, candidate.ordinal) for candidate in candidates
        )
        return [
            self._hit(rank, candidate, entries[candidate.segment.name, candidate.ordinal], query)
            for rank, candidate in enumerate(candidates, start=1)
        ]

    def search_all(self, queries: Mapping[str, str], k: int = 100, *, exact: bool = False) -> Ranking:
        """Search many queries, as ColBERT's `search_all` does.

        Args:
            queries: Text by query id.
            k: Most videos for each query.
            exact: Score every video on its decoded tokens.

        Returns:
            A ranking that can be saved as ColBERT's rows or as a TREC run.
        """
        _check_k(k)
        if not queries:
            raise SettingsError("no queries were given; at least one is needed.")
        encoded = self.model.encode_queries(list(queries.values())).to("cpu")
        rows = {}
        for position, name in enumerate(queries):
            candidates = self._best(encoded[position], k, None, exact)
            entries = self._reader.entries_of(
                (candidate.segment.name, candidate.ordinal) for candidate in candidates
            )
            rows[name] = [
                (entries[candidate.segment.name, candidate.ordinal].id, rank, candidate.score)
                for rank, candidate in enumerate(candidates, start=1)
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
        encoded = self.model.encode_queries(query).to("cpu")
        labels = self.model.query_token_texts(query)
        segment, ordinal, entry = self._reader.locate(video_id)
        similarities = {
            bag: video_similarities(segment, codec, bag, encoded[0], ordinal)
            for bag, codec in self._reader.codecs(segment).items()
        }
        return explain_similarities(entry, labels, similarities)

    def _encode(self, query: str) -> Float[Tensor, "query_tokens dim"]:
        return self.model.encode_queries(query).to("cpu")[0]

    def _check_tokens(
        self, query_tokens: Float[Tensor, "query_tokens dim"] | Float[np.ndarray, "query_tokens dim"]
    ) -> Float[Tensor, "query_tokens dim"]:
        query = torch.as_tensor(query_tokens).detach().cpu().float()
        dim = self._reader.settings.dim
        if query.ndim != 2 or query.shape[1] != dim or not len(query):
            raise SettingsError(
                f"query tokens have shape {tuple(query.shape)}; (query_tokens, {dim}) is needed."
            )
        if not bool(((query.norm(dim=1) - 1).abs() < NORM_TOLERANCE).all()):
            raise SettingsError("query tokens are not unit vectors; L2-normalise them first.")
        return query

    def _best(
        self, query: Float[Tensor, "query_tokens dim"], k: int, ids: Iterable[str] | None, exact: bool
    ) -> list[_Candidate]:
        """The k best videos over all segments."""
        allowed = None if ids is None else self._allowed(list(ids))
        found: list[_Candidate] = []
        for segment in self._reader.segments:
            mask = (
                None
                if allowed is None
                else allowed.get(segment.name, torch.zeros(len(segment), dtype=torch.bool))
            )
            codecs = self._reader.codecs(segment)
            scored = search_segment(segment, codecs, query, k=k, allowed=mask, exact=exact)
            for position, ordinal in enumerate(scored.ordinals.tolist()):
                bags = {bag: float(scores[position]) for bag, scores in scored.bags.items()}
                found.append(_Candidate(float(scored.total[position]), segment, ordinal, bags))
        return sorted(found, key=lambda candidate: -candidate.score)[:k]

    def _allowed(self, ids: list[str]) -> dict[str, Bool[Tensor, "videos"]]:
        """Masks of the segments that hold the given ids."""
        masks: dict[str, Tensor] = {}
        sizes = {segment.name: len(segment) for segment in self._reader.segments}
        for entry in self._reader.known(ids):
            mask = masks.setdefault(
                str(entry.segment), torch.zeros(sizes[str(entry.segment)], dtype=torch.bool)
            )
            mask[int(entry.ordinal or 0)] = True
        return masks

    def _hit(
        self, rank: int, candidate: _Candidate, entry: VideoEntry, query: Float[Tensor, "query_tokens dim"]
    ) -> Hit:
        start, end = self._moment(candidate, entry, query)
        return Hit(
            rank=rank,
            id=entry.id,
            score=candidate.score,
            frame_score=candidate.bags.get("frame"),
            video_score=candidate.bags.get("video"),
            start=start,
            end=end,
            path=entry.path,
            metadata=entry.metadata,
        )

    def _moment(
        self, candidate: _Candidate, entry: VideoEntry, query: Float[Tensor, "query_tokens dim"]
    ) -> tuple[float | None, float | None]:
        """The frames that the query's tokens agree on, over both bags."""
        frames = len(entry.frame_times)
        if not frames or entry.end is None:
            return entry.start, entry.end
        relevance = np.zeros(frames)
        for bag, codec in self._reader.codecs(candidate.segment).items():
            similarity = video_similarities(candidate.segment, codec, bag, query, candidate.ordinal)
            relevance += similarity[:, :frames].mean(dim=0).numpy()  # expansion tokens come after the frames
        return best_moment(relevance, np.asarray(entry.frame_times), entry.start or 0.0, entry.end)


def _as_model(source: VideoColBERT | str | Path, device: str | torch.device | None) -> VideoColBERT:
    return source if isinstance(source, VideoColBERT) else VideoColBERT.from_pretrained(source, device=device)


def _check_k(k: int) -> None:
    if k < 1:
        raise SettingsError(f"k={k} must be at least 1.")
