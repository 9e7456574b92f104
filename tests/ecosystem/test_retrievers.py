"""Retrievers of LangChain and LlamaIndex: the suite that LangChain publishes for retrievers, and right values of both."""

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError

QUERY = "a red circle"
HAS_LANGCHAIN, HAS_LLAMA_INDEX = find_spec("langchain_core"), find_spec("llama_index")
langchain = pytest.mark.skipif(not HAS_LANGCHAIN, reason="needs langchain-core")
llama_index = pytest.mark.skipif(not HAS_LLAMA_INDEX, reason="needs llama-index-core")


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory, rendered_clips: Path, tiny_model: Any) -> Any:
    path = tmp_path_factory.mktemp("retrievers") / "my.index"
    clips = sorted(rendered_clips.glob("*.mp4"))[:4]
    records = [
        (clip.stem, clip, {"caption": f"what {clip.stem} shows", "even": row % 2 == 0})
        for row, clip in enumerate(clips)
    ]
    records[3][2]["caption"] = 7
    Indexer(path, model=tiny_model, num_frames=2, workers=1).index(records)
    with Searcher(path, model=tiny_model) as opened:
        yield opened


def check(found: list[tuple[str, str, dict[str, Any]]], hits: Any) -> None:
    assert [name for name, _, _ in found] == [hit.id for hit in hits]
    for (name, text, metadata), hit in zip(found, hits, strict=True):
        assert text == (hit.metadata["caption"] if isinstance(hit.metadata["caption"], str) else name)
        assert metadata == {
            **hit.metadata, "id": hit.id, "path": hit.path, "start": hit.start, "end": hit.end, "score": hit.score,
        }  # fmt: skip


@langchain
def test_langchain_finds_what_the_searcher_finds(searcher: Searcher) -> None:
    from colbert_video.ecosystem import LangChainRetriever

    retriever = LangChainRetriever(searcher=searcher, k=4)
    documents = retriever.invoke(QUERY)
    found = [(document.id, document.page_content, document.metadata) for document in documents]
    check(found, searcher.search(QUERY, k=4))
    assert asyncio.run(retriever.ainvoke(QUERY)) == documents
    assert retriever.batch([QUERY, "a blue square"])[0] == documents
    even = retriever.invoke(QUERY, where={"even": True})
    assert [document.id for document in even] == [hit.id for hit in searcher.search(QUERY, k=4, where={"even": True})]
    assert LangChainRetriever(searcher=searcher, settings={"where": {"even": True}}).invoke(QUERY) == even
    with pytest.raises(SettingsError, match="k"):
        retriever.invoke(QUERY, k=0)
    with pytest.raises(ValueError, match="searcher"):
        LangChainRetriever(searcher=3)


@llama_index
def test_llama_index_finds_what_the_searcher_finds(searcher: Searcher) -> None:
    from llama_index.core.base.base_retriever import BaseRetriever

    from colbert_video.ecosystem import LlamaIndexRetriever

    retriever = LlamaIndexRetriever(searcher, k=4)
    nodes = retriever.retrieve(QUERY)
    assert isinstance(retriever, BaseRetriever)
    found = [(node.node.id_, node.node.get_content(), node.node.metadata) for node in nodes]
    check(found, searcher.search(QUERY, k=4))
    assert [node.score for node in nodes] == [hit.score for hit in searcher.search(QUERY, k=4)]
    again = asyncio.run(retriever.aretrieve(QUERY))
    assert [node.node.id_ for node in again] == [node.node.id_ for node in nodes]
    filtered = LlamaIndexRetriever(searcher, settings={"where": {"even": True}}).retrieve(QUERY)
    assert {node.node.metadata["even"] for node in filtered} == {True}
    with pytest.raises(SettingsError, match="k"):
        LlamaIndexRetriever(searcher, k=0)


@llama_index
def test_a_query_engine_answers_from_what_was_found(searcher: Searcher) -> None:
    from llama_index.core.llms.mock import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    from colbert_video.ecosystem import LlamaIndexRetriever

    engine = RetrieverQueryEngine.from_args(LlamaIndexRetriever(searcher, k=2), llm=MockLLM())
    answer = engine.query(QUERY)
    hits = searcher.search(QUERY, k=2)
    assert [node.node.id_ for node in answer.source_nodes] == [hit.id for hit in hits]
    assert hits[0].id in str(answer)


if HAS_LANGCHAIN and find_spec("langchain_tests"):
    from langchain_tests.integration_tests import RetrieversIntegrationTests

    class TestLangChainsContract(RetrieversIntegrationTests):
        """LangChain's own tests of a retriever."""

        test_ainvoke_returns_documents = pytest.mark.asyncio(RetrieversIntegrationTests.test_ainvoke_returns_documents)

        @pytest.fixture(autouse=True)
        def _opened(self, searcher: Searcher) -> None:
            self._searcher = searcher

        @property
        def retriever_constructor(self) -> type[Any]:
            from colbert_video.ecosystem import LangChainRetriever

            return LangChainRetriever

        @property
        def retriever_constructor_params(self) -> dict[str, Any]:
            return {"searcher": self._searcher}

        @property
        def retriever_query_example(self) -> str:
            return QUERY
