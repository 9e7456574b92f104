"""What can be searched, and how: the terms in which searchers ask an index, or the shards of a corpus."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.hits import Hits
from colbert_video.search.ranking import Ranking

Query = PreparedQuery | Mapping[str, PreparedQuery]
"""The same query tokens for all bags, or those of each bag that is to be scored."""
AnyHits = TypeVar("AnyHits", bound=Hits)
"""`Hits` of an index; of a sharded corpus `ClusterHits`, which name the shards that did not answer."""
AnyRanking = TypeVar("AnyRanking", bound=Ranking)
"""`Ranking`, or `ClusterRanking`."""


@dataclass(frozen=True)
class SearchSettings:
    """How many videos are wanted, and among which; see `Searcher.search`."""

    k: int
    """Most hits to return."""
    where: Mapping[str, Any] | None = None
    """A filter on metadata."""
    ids: Iterable[str] | None = None
    """The only videos or windows that may be found."""
    exact: bool = False
    """Whether every eligible video is scored on its decoded tokens."""
    group: bool = True
    """Whether windows of a video are one hit."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise SettingsError(f"k={self.k} must be at least 1.")


class Searchable(ABC, Generic[AnyHits, AnyRanking]):
    """One state of an index or of a sharded corpus, which takes encoded queries."""

    @property
    @abstractmethod
    def settings(self) -> IndexSettings:
        """How it was made; queries are encoded for it."""

    @abstractmethod
    def hits(self, query: Query, wanted: SearchSettings) -> AnyHits:
        """Search, and say of each result what it is and where its best moment lies."""

    @abstractmethod
    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"]], wanted: SearchSettings) -> AnyRanking:
        """Search for query tokens by query id, without looking for moments."""

    @abstractmethod
    def similarities_of(
        self, video_id: str, query: PreparedQuery
    ) -> tuple[VideoEntry, Mapping[str, Float[Tensor, "query_tokens _"]]]:
        """Every query token against every token of a video, or of its best window, by bag.

        Raises:
            SettingsError: If the video is not there.
        """
