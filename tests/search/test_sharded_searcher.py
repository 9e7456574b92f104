"""Searching shards in one process: always what the one index finds."""

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import amount
from token_corpus import DIM, random_bags, unit_tokens
from window_corpus import VIDEOS, commit_two_segments

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, SettingsError, ShardsUnavailableError
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.sharded.corpus_view import merge_hits
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

TOLERANCE = 0.0 if compiled_kernels() is not None else 1e-6
"""The kernels score a video alike wherever it is stored; torch multiplies it together with others."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "one.index"
    commit_two_segments(path)
    return path


@pytest.fixture(scope="module")
def one(index: Path) -> Iterator[Searcher]:
    with Searcher(index) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def splits(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, ShardedSearcher]]:
    folder = tmp_path_factory.mktemp("splits")
    opened = {}
    for shards in (1, 2, 3, len(VIDEOS)):
        shard_index(index, folder / str(shards), shards=shards)
        opened[shards] = ShardedSearcher(folder / str(shards))
    yield opened
    for searcher in opened.values():
        searcher.close()


def without_score(hits: list[Hit]) -> list[tuple[Any, ...]]:
    """All of each hit that must agree, but for its score."""
    return [(hit.rank, hit.id, hit.parent, hit.start, hit.end, hit.path, hit.metadata) for hit in hits]


def assert_same(found: Hits, wanted: list[Hit]) -> None:
    assert without_score(found) == without_score(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=0, abs=TOLERANCE)
        assert set(theirs.moments) <= set(ours.moments)
    assert found.shards_failed == ()


filters = st.sampled_from([None, {"name": {"in": ["a", "c", "k"]}}, {"name": {">": "e"}}, {"name": "nobody"}])


@settings(
    max_examples=amount(13, thorough=40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shards=st.sampled_from([1, 2, 3, len(VIDEOS)]),
    k=st.integers(1, 40),
    where=filters,
    ids=st.none() | st.lists(st.sampled_from([*VIDEOS, "c#t=10,20", "k#t=0,10"]), max_size=5),
    exact=st.booleans(),
    group=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_split_finds_what_one_index_finds(
    one: Searcher, splits: dict[int, ShardedSearcher], shards: int, k: int, seed: int, **options: Any
) -> None:
    query = unit_tokens(4, DIM, seed=seed)
    assert_same(splits[shards].search_tokens(query, k, **options), one.search_tokens(query, k, **options))


def test_equal_scores_keep_the_order_of_the_index(tmp_path: Path) -> None:
    """Twins everywhere: only the order of storage can tell them apart."""
    bags = random_bags(3, seed=1) * 4
    names = [f"v{number:02}" for number in (7, 2, 9, 4, 11, 0, 5, 10, 1, 8, 3, 6)]
    Indexer(tmp_path / "one", dim=DIM, nbits=8).index_tokens(names, bags, bags)
    shard_index(tmp_path / "one", tmp_path / "many", shards=5)
    query = unit_tokens(3, DIM, seed=3)
    with Searcher(tmp_path / "one") as one, ShardedSearcher(tmp_path / "many") as many:
        for k in (1, 5, 12, 20):
            found, wanted = many.search_tokens(query, k), one.search_tokens(query, k)
            assert [hit.id for hit in found] == [hit.id for hit in wanted]
    assert len({hit.score for hit in wanted}) == 3


def test_a_shard_takes_new_videos_and_open_searchers_see_them(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "many", shards=2)
    bags = random_bags(1, seed=9)
    with ShardedSearcher(tmp_path / "many") as many:
        version, videos = many.catalogs.version, len(many)
        Indexer(tmp_path / "many" / "shard-0001").index_tokens(["new"], bags, bags, add=True)
        assert many.search_tokens(bags[0], k=1)[0].id != "new"
        assert many.refresh()
        assert not many.refresh()
        assert many.search_tokens(bags[0], k=1)[0].id == "new"
        assert (many.catalogs.version, len(many)) == (version + 1, videos + 1)


def test_an_id_of_another_shard_is_fine_and_one_of_none_is_not(splits: dict[int, ShardedSearcher]) -> None:
    query = unit_tokens(4, DIM, seed=1)
    assert {hit.id for hit in splits[3].search_tokens(query, ids=["a", "k"])} == {"a", "k"}
    assert splits[3].search_tokens(query, ids=[]) == []
    with pytest.raises(SettingsError, match="id 'nobody' is not in the corpus"):
        splits[3].search_tokens(query, ids=["a", "nobody"])
    with pytest.raises(SettingsError, match="id 'd' is not"):
        splits[3].search_tokens(query, ids=["d"])
    with pytest.raises(SettingsError, match="k=0"):
        splits[3].search_tokens(query, k=0)
    with pytest.raises(SettingsError, match="query tokens have shape"):
        splits[3].search_tokens(query[:, :3])
    with pytest.raises(SettingsError, match="is not an operator"):
        splits[3].search_tokens(query, where={"name": {"~": 3}})


def test_shards_of_different_models_are_refused(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "many", shards=2)
    bags = random_bags(2, seed=1)
    shutil.rmtree(tmp_path / "many" / "shard-0001")
    Indexer(tmp_path / "many" / "shard-0001", dim=DIM).index_tokens(["x", "y"], bags)
    with pytest.raises(IndexFolderError, match="shard-0001 has bags"):
        ShardedSearcher(tmp_path / "many")


def test_words_explanations_and_rankings(tmp_path: Path, tiny_trained_model: Any) -> None:
    from serving import build_index

    index = build_index(tmp_path / "my.index", tiny_trained_model, tmp_path / "clips")
    shard_index(index, tmp_path / "many", shards=2)
    with (
        Searcher(index, model=tiny_trained_model) as one,
        ShardedSearcher(tmp_path / "many", model=tiny_trained_model) as many,
    ):
        assert_same(many.search("a red circle", k=3), one.search("a red circle", k=3))
        picture = tmp_path / "clips" / "red.mp4"
        assert_same(many.search_video(picture, k=3), one.search_video(picture, k=3))
        queries = {"q1": "red", "q2": "a blue picture"}
        assert many.search_all(queries, k=3).todict() == one.search_all(queries, k=3).todict()
        assert many.search_all(queries, k=3, ids=["blue"]).shards_failed == {}
        assert many.explain("red", "blue").to_dict() == one.explain("red", "blue").to_dict()
        with pytest.raises(SettingsError, match="id 'nobody'"):
            many.explain("red", "nobody")
        with pytest.raises(SettingsError, match="no queries"):
            many.search_all({})
        numbered = many.search_all(list(queries.values()), k=3).todict()
        assert numbered == dict(zip("01", many.search_all(queries, k=3).todict().values(), strict=True))
        with pytest.raises(SettingsError, match="a list of 2 was given: use search_all for several"):
            inspect.unwrap(ShardedSearcher.search)(many, ["red", "blue"])


def test_merging_ranks_again_and_keeps_shards_in_order_at_equal_scores() -> None:
    def hit(name: str, score: float) -> Hit:
        return Hit(1, name, score, score, None, None, None, None, {})

    merged = merge_hits([[hit("b", 2.0), hit("c", 1.0)], [hit("a", 2.0), hit("d", 1.5)]], 3)
    assert [(found.rank, found.id) for found in merged] == [(1, "b"), (2, "a"), (3, "d")]


def test_shards_that_do_not_answer_are_named(
    splits: dict[int, ShardedSearcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster, where shards may be lost."""
    searcher, ask = splits[3], splits[3]._ask
    queries = dict(zip("ab", unit_tokens(8, DIM, seed=1).split(4), strict=True))

    def without_the_first(method: str, asked: dict[int, Any]) -> tuple[dict[int, Any], tuple[str, ...]]:
        answers, _ = ask(method, {number: given for number, given in asked.items() if number})
        return answers, ("shard-0000",)

    whole = [hit.id for hit in searcher.search_tokens(queries["a"], k=99)]
    monkeypatch.setattr(searcher, "_ask", without_the_first)
    found = searcher.search_tokens(queries["a"], k=99)
    assert found.shards_failed == ("shard-0000",)
    held = searcher.catalogs.holders(whole)
    assert [hit.id for hit in found] == [name for name in whole if name not in held[0]]
    with searcher._view() as view:
        ranking = view.ranking(queries, SearchSettings(k=99))
    assert ranking.shards_failed == dict.fromkeys("ab", ("shard-0000",))
    assert [name for name, _, _ in ranking.todict()["a"]] == [hit.id for hit in found]
    monkeypatch.setattr(searcher, "_ask", lambda method, asked: ({}, ("shard-0000", "shard-0001", "shard-0002")))
    with pytest.raises(ShardsUnavailableError, match=r"no shard answered \(shard-0000, shard-0001, shard-0002\)"):
        searcher.search_tokens(queries["a"])
