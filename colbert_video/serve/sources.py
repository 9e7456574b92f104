"""What a served index reads: a catalog and a searcher, of one index or of many shards."""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from colbert_video.explain import Explanation
from colbert_video.hits import Hits
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.preload import Preloader
from colbert_video.model import VideoColBERT


@runtime_checkable
class OpenCatalog(Protocol):
    """What is known of videos."""

    @property
    def version(self) -> int:
        """A number that grows with each commit."""
        ...

    def rows_of(self, ids: Iterable[str]) -> dict[str, list[VideoEntry]]:
        """Rows that ids stand for, as `CatalogReader.rows_of` gives them."""
        ...

    def close(self) -> None:
        """Let go of its files."""
        ...


class OpenSearcher(Protocol):
    """What finds videos; arguments are those of `Searcher`."""

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries."""
        ...

    @property
    def search_tokens(self) -> Callable[..., Hits]:
        """Find videos by query tokens."""
        ...

    @property
    def search_image(self) -> Callable[..., Hits]:
        """Find the videos that show what a picture shows."""
        ...

    def explain(self, query: str, video_id: str) -> Explanation:
        """Show which frame answers each query token."""
        ...

    def use_model(self, model: VideoColBERT) -> None:
        """Encode queries with a model that is in memory already."""
        ...

    def preload(self, preloader: Preloader) -> None:
        """Read its files into memory; not asked of shards on a cluster, which do so when they are opened."""
        ...

    def refresh(self) -> bool:
        """See what was committed since."""
        ...

    def close(self) -> None:
        """Let go of its files."""
        ...
