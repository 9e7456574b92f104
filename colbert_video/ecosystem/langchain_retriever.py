"""A searcher as a retriever of LangChain."""

from typing import Any

from colbert_video.base.checks import whole_number
from colbert_video.ecosystem.retrieved import TEXT_KEYS, Searches, hit_metadata, hit_text
from colbert_video.errors import DependencyError

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field, InstanceOf
except ImportError as missing:
    raise DependencyError(
        'LangChainRetriever needs langchain-core; install it with: pip install "colbert_video[langchain]".'
    ) from missing


class LangChainRetriever(BaseRetriever):
    """Finds moments of videos: `LangChainRetriever(searcher=Searcher("my.index"), k=5).invoke("a red circle")`.

    A document has the hit's id, a text of its metadata, and as metadata those of the video with id, path, start and end
    (seconds) and score. `invoke(query, k=3, where={...})` passes what `Searcher.search` takes.

    Args:
        searcher: The searcher; it stays open.
        k: How many documents at most.
        settings: Further settings of each search, such as `where`.
        text_keys: Keys of the metadata, of which the first that is a text is that of the document; else the id is.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    searcher: InstanceOf[Searches]
    k: int = 5
    settings: dict[str, Any] = Field(default_factory=dict)
    text_keys: tuple[str, ...] = TEXT_KEYS

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **settings: Any
    ) -> list[Document]:
        count = whole_number("k", self.k if k is None else k, least=1)
        hits = self.searcher.search(query, k=count, **{**self.settings, **settings})
        return [
            Document(id=hit.id, page_content=hit_text(hit, self.text_keys), metadata=hit_metadata(hit)) for hit in hits
        ]
