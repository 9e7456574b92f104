"""A searcher as a retriever of LlamaIndex."""

from collections.abc import Mapping, Sequence
from typing import Any

from colbert_video.base.checks import whole_number
from colbert_video.ecosystem.retrieved import TEXT_KEYS, Searches, hit_metadata, hit_text
from colbert_video.errors import DependencyError

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as missing:
    raise DependencyError(
        'LlamaIndexRetriever needs llama-index-core; install it with: pip install "colbert_video[llama-index]".'
    ) from missing


class LlamaIndexRetriever(BaseRetriever):
    """Finds moments of videos: `LlamaIndexRetriever(Searcher("my.index"), k=5).retrieve("a red circle")`.

    A node has the hit's id, a text of its metadata, and as metadata those of the video with id, path, start and end
    (seconds) and score.

    Args:
        searcher: The searcher; it stays open.
        k: How many nodes at most.
        settings: Further settings of each search, such as `where`.
        text_keys: Keys of the metadata, of which the first that is a text is that of the node; else the id is.
        **given: What every retriever of LlamaIndex takes, such as `callback_manager`.
    """

    def __init__(
        self,
        searcher: Searches,
        *,
        k: int = 5,
        settings: Mapping[str, Any] | None = None,
        text_keys: Sequence[str] = TEXT_KEYS,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self.searcher, self.k = searcher, whole_number("k", k, least=1)
        self.settings, self.text_keys = dict(settings or {}), tuple(text_keys)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self.searcher.search(query_bundle.query_str, k=self.k, **self.settings)
        nodes = (TextNode(id_=hit.id, text=hit_text(hit, self.text_keys), metadata=hit_metadata(hit)) for hit in hits)
        return [NodeWithScore(node=node, score=hit.score) for node, hit in zip(nodes, hits, strict=True)]
