"""Many queries at a time: tokens by id, and the same rankings whatever the number of threads."""

import copy
import inspect
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thorough import cases
from token_corpus import DIM, random_bags, unit_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.model.tokens import TokenBags
from colbert_video.search import opened
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.serve.indexes import ServedIndex

VIDEOS = 900
QUERIES = {f"q{number}": unit_tokens(1 + number % 7, DIM, seed=number) for number in range(40)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More videos than are decoded at once, in two segments, some of them removed."""
    path, ids = tmp_path_factory.mktemp("many") / "index", [f"v{number}" for number in range(VIDEOS)]
    frame, video = random_bags(VIDEOS, seed=1), random_bags(VIDEOS, seed=2)
    indexer = Indexer(path, dim=DIM)
    indexer.index_tokens(ids[:700], frame[:700], video[:700], metadata=[{"n": n} for n in range(700)])
    indexer.index_tokens(ids[700:], frame[700:], video[700:], add=True)
    indexer.remove(ids[5:50])
    return path


@pytest.fixture(scope="module")
def shards(index: Path) -> Path:
    shard_index(index, index.with_name("shards"), shards=3)
    return index.with_name("shards")


def one_by_one(searcher: Searcher, **settings: Any) -> dict[str, list[tuple[str, int, float]]]:
    """The ranking of each query by a search of its own."""
    found = {name: searcher.search_tokens(tokens, **settings) for name, tokens in QUERIES.items()}
    return {name: [(hit.id, hit.rank, hit.score) for hit in hits] for name, hits in found.items()}


ASKED = [{}, {"exact": True}, {"where": {"n": {"<": 300}}}, {"bag_weights": {"video": 0.3}}]


@pytest.mark.parametrize(
    ("threads", "settings"),
    cases(
        list(zip([5, 2, None, 2], ASKED, strict=True)),
        thorough=[(threads, asked) for threads in (1, 3) for asked in ASKED],
    ),
)
def test_rankings_are_the_same_to_the_bit(index: Path, threads: int | None, settings: dict[str, Any]) -> None:
    with Searcher(index, threads=1) as single, Searcher(index, threads=threads) as searcher:
        expected = one_by_one(single, k=12, **settings)
        assert searcher.search_all(QUERIES, k=12, **settings).todict() == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_shards_too(shards: Path, threads: int) -> None:
    with ShardedSearcher(shards, threads=threads) as searcher:
        assert searcher.search_all(QUERIES, k=9).todict() == one_by_one(searcher, k=9)


def forms() -> dict[str, Any]:
    """The same queries in every form, with their ids where those are "0", "1" and so on."""
    tokens = [unit_tokens(3, DIM, seed=seed) for seed in range(4)]
    return {
        "tensors": tokens,
        "arrays": [each.numpy() for each in tokens],
        "rows": [each.tolist() for each in tokens],
        "one tensor": torch.stack(tokens),
        "one array": torch.stack(tokens).numpy(),
        "bags": TokenBags.from_list(tokens),
        "by number": dict(enumerate(tokens)),
        "generator": iter(tokens),
        "half": torch.stack(tokens).half().float(),
    }


@pytest.mark.parametrize("form", forms())
def test_tokens_come_in_any_form(index: Path, form: str) -> None:
    with Searcher(index) as searcher:
        ranking = inspect.unwrap(Searcher.search_all)(searcher, forms()[form], k=5).todict()
        expected = searcher.search_all(forms()["tensors"], k=5).todict()
    assert list(ranking) == ["0", "1", "2", "3"]
    for name, rows in expected.items():
        assert [video for video, *_ in ranking[name]] == [video for video, *_ in rows]


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"a": np.ones((2, 32), np.float32)}, r"the tokens of query 'a' have shape \(2, 32\); \(query_tokens, 64\)"),
        ({"a": np.ones(64, np.float32)}, r"the tokens of query 'a' have shape \(64,\)"),
        ({"a": np.zeros((2, 64), np.float32)}, "the longest of the tokens of query 'a' has length 0"),
        ({"a": np.full((2, 64), np.nan, np.float32)}, "the tokens of query 'a' hold NaN"),
        (
            {"a": unit_tokens(2, DIM, seed=1), "b": "a dog"},
            "query 'a' is a value of type Tensor: give the text of each",
        ),
        ({"a": 3}, "query 'a' is a value of type int"),
        ({"a": ["a dog"]}, "the tokens of query 'a'"),
    ],
)
def test_what_are_no_tokens_is_refused(index: Path, queries: Mapping[str, Any], message: str) -> None:
    with Searcher(index) as searcher, pytest.raises(SettingsError, match=message):
        inspect.unwrap(Searcher.search_all)(searcher, queries)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_threads_are_a_whole_number(index: Path, threads: Any) -> None:
    with pytest.raises(SettingsError, match="threads="):
        inspect.unwrap(Searcher.__init__)(object.__new__(Searcher), index, threads=threads)


def test_copies_have_as_many_threads(index: Path) -> None:
    with Searcher(index, threads=3, bag_weights={"video": 0.5}) as searcher:
        for other in (pickle.loads(pickle.dumps(searcher)), copy.copy(searcher)):
            assert other.search_all(QUERIES, k=3).todict() == searcher.search_all(QUERIES, k=3).todict()
            assert (other._threads, other._bag_weights) == (3, {"video": 0.5})
            other.close()


@pytest.mark.skipif(compiled_kernels() is None, reason="needs the compiled kernels")
def test_queries_are_spread(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def noted(*given: Any, **settings: Any) -> Any:
        seen.add(threading.get_ident())
        assert settings["threads"] == 1
        return opened_search(*given, **settings)

    opened_search = opened.search_segment
    monkeypatch.setattr(opened, "search_segment", noted)
    with Searcher(index, threads=2) as searcher:
        searcher.search_all(QUERIES, k=3)
    assert threading.get_ident() not in seen
    seen.clear()
    with Searcher(index, threads=1) as searcher:
        searcher.search_all(QUERIES, k=3)
    assert seen == {threading.get_ident()}


def test_where_torch_scores_queries_follow_one_another(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "compiled_kernels", lambda: None)
    with Searcher(index, threads=2) as searcher, searcher._view() as view:
        assert not view.spreads


def test_a_served_index_uses_one_core_a_search(index: Path, shards: Path) -> None:
    for path in (index, shards):
        served = ServedIndex("name", path)
        assert served.searcher._threads == 1
        served.close()
