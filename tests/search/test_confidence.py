"""Confidence: how far a hit stands between a usual video of the corpus and a perfect match."""

import inspect
import itertools
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import amount
from token_corpus import DIM, random_bags, unit_tokens
from window_corpus import VIDEOS, commit_two_segments

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import SettingsError
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search import confidence
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.match_levels import UNANSWERABLE, MatchLevels
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

ITEMS = [
    *("a#t=0,10", "a#t=10,20", "a#t=20,30", "c#t=0,10", "c#t=10,20", "c#t=20,30", "c#t=30,40", "c#t=40,50"),
    *("e#t=0,10", "e#t=10,20", "f", "g#t=0,10"),
    *("i", "b#t=0,10", "b#t=10,20", "j", "k#t=0,10", "k#t=10,20", "k#t=20,30", "k#t=30,40"),
]
"""What is live in the index, in the order of its segments and their rows."""
ROUNDING = 6e-3
"""Error of the sample's median, which is computed in bytes."""
WEIGHTS = st.sampled_from([None, {"frame": 1.0, "video": 0.0}, {"frame": 0.25, "video": 2.0}])


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("confidence") / "one.index"
    commit_two_segments(path)
    return path


@pytest.fixture(scope="module")
def one(index: Path) -> Iterator[Searcher]:
    with Searcher(index) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def split_indexes(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ShardedSearcher]]:
    folder = tmp_path_factory.mktemp("splits")
    for shards in (1, 3, len(VIDEOS)):
        shard_index(index, folder / str(shards), shards=shards)
    opened = [ShardedSearcher(path) for path in sorted(folder.iterdir())]
    yield opened
    for searcher in opened:
        searcher.close()


def commit(path: Path, bags: list[torch.Tensor]) -> None:
    """Index videos v0, v1 and so on."""
    Indexer(path, dim=DIM, nbits=8).index_tokens([f"v{number}" for number in range(len(bags))], bags)


@pytest.fixture
def splits(split_indexes: list[ShardedSearcher]) -> Iterator[list[ShardedSearcher]]:
    yield split_indexes
    for searcher in split_indexes:
        searcher.catalogs._samples.clear()  # some tests change the size of the sample


def near(query: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Tokens on half the way from a query's tokens to random ones."""
    return torch.nn.functional.normalize(query + unit_tokens(*query.shape, seed=seed), dim=-1)


def naive(
    searcher: Searcher, query: torch.Tensor, sample: int, weights: Mapping[str, float] | None
) -> dict[str, float]:
    """The confidence of every item, from scores of all and a sample of them."""
    scores = {
        hit.id: hit.score for hit in searcher.search_tokens(query, 99, exact=True, group=False, bag_weights=weights)
    }
    assert set(scores) == set(ITEMS)
    taken = min(sample, len(ITEMS))
    usual = statistics.median(scores[ITEMS[number * len(ITEMS) // taken]] for number in range(taken))
    length = sum(float(token.norm()) for token in query) / len(query)
    perfect = sum((weights or {}).get(bag, 1.0) for bag in ("frame", "video")) * length
    return {name: min(max((score - usual) / (perfect - usual), 0.0), 1.0) for name, score in scores.items()}


@settings(
    max_examples=amount(20, thorough=100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 99),
    tokens=st.integers(1, 5),
    length=st.sampled_from([1.0, 0.3, 2.5]),
    sample=st.sampled_from([10, 13, 19, 20, 128]),
    weights=WEIGHTS,
    group=st.booleans(),
    where=st.sampled_from([None, {"name": {"in": ["a", "c", "k"]}}, {"name": "f"}]),
    ids=st.none() | st.sampled_from([["k"], ["c#t=10,20", "f"]]),
)
def test_confidence_is_what_it_says_whatever_is_filtered(
    one: Searcher,
    splits: list[ShardedSearcher],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    tokens: int,
    length: float,
    sample: int,
    weights: Mapping[str, float] | None,
    group: bool,
    where: Mapping[str, object] | None,
    ids: list[str] | None,
) -> None:
    monkeypatch.setattr(confidence, "SAMPLE", sample)
    for searcher in splits:
        searcher.catalogs._samples.clear()
    query = length * unit_tokens(tokens, DIM, seed=seed)
    wanted, found = naive(one, query, sample, weights), []
    for searcher in (one, *splits):
        hits = searcher.search_tokens(query, 7, where=where, ids=ids, group=group, bag_weights=weights)
        for hit in hits:
            assert hit.confidence == pytest.approx(wanted[hit.window or hit.id], abs=ROUNDING)
        found.append([hit.confidence for hit in hits])
    assert all(own == pytest.approx(found[0], rel=0, abs=1e-6) for own in found)


def test_a_perfect_match_has_confidence_one_and_a_usual_video_none(tmp_path: Path) -> None:
    query = unit_tokens(4, DIM, seed=5)
    bags = [query, near(query, seed=6), *random_bags(19, seed=7)]
    commit(tmp_path / "index", bags)
    with Searcher(tmp_path / "index") as searcher:
        hits = searcher.search_tokens(query, 21)
    by_id = {hit.id: hit.confidence for hit in hits}
    assert by_id["v0"] == pytest.approx(1.0, abs=0.02)
    assert 0.5 < (by_id["v1"] or 0) < 0.9
    assert hits[10].confidence == pytest.approx(0.0, abs=ROUNDING)  # the median itself
    assert [hit.confidence for hit in hits[11:]] == [0.0] * 10
    values = [hit.confidence or 0 for hit in hits]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("videos", [9, 10])
def test_confidence_is_not_known_below_ten_videos(tmp_path: Path, videos: int) -> None:
    bags = random_bags(videos, seed=3)
    commit(tmp_path / "index", bags)
    with Searcher(tmp_path / "index") as searcher:
        hits = searcher.search_tokens(bags[0], videos)
        assert {hit.confidence is None for hit in hits} == {videos == 9}
        certain = searcher.search_tokens(bags[0], videos, min_confidence=1)
        assert (len(certain) == videos) == (videos == 9)


def test_where_all_videos_are_perfect_nothing_is_known() -> None:
    found = Hits([Hit(1, "a", 1.0, 1.0, None, None, None, None, {})])
    assert confidence.with_confidence(found, [1.0] * 10, 1.0, 0.9) == found
    assert confidence.with_confidence(found, [1.0] * 10, 0.0, 0.9) == found  # query tokens of length 0


def test_threads_change_nothing(index: Path) -> None:
    query = unit_tokens(4, DIM, seed=1)
    found = []
    for threads in (1, 4):
        with Searcher(index, threads=threads) as searcher:
            found.append([hit.confidence for hit in searcher.search_tokens(query, 11)])
    assert found[0] == found[1]
    assert None not in found[0]


def test_min_confidence_cuts_the_list_and_keeps_the_rest_as_it_is(one: Searcher, splits: list[ShardedSearcher]) -> None:
    query = unit_tokens(4, DIM, seed=2)
    hits = one.search_tokens(query, 11)
    least = hits[2].confidence
    assert least is not None
    for searcher in (one, *splits):
        kept = searcher.search_tokens(query, 11, min_confidence=least - 1e-3)
        assert kept == searcher.search_tokens(query, 11)[: len(kept)]
        assert len(kept) >= 3
        assert [hit.id for hit in searcher.search_tokens(query, 11, min_confidence=least + 1e-3)] == [
            hit.id for hit in hits[:2]
        ]
        assert searcher.search_tokens(query, 11, min_confidence=0.99) == []
        assert searcher.search_tokens(query, 11, min_confidence=0) == searcher.search_tokens(query, 11)
    cut = one.search_tokens(query, 11, min_confidence=least)
    assert (cut.bag_weights, cut.video_stream) == (hits.bag_weights, hits.video_stream)


@pytest.mark.parametrize("wrong", [-0.01, 1.5, float("nan"), float("inf"), True])
def test_min_confidence_must_be_a_share(one: Searcher, wrong: object) -> None:
    with pytest.raises(SettingsError, match="min_confidence"):
        inspect.unwrap(Searcher.search_tokens)(one, unit_tokens(2, DIM, seed=1), min_confidence=wrong)


def test_the_sample_is_spread_evenly() -> None:
    assert confidence.sample_positions(0) == ()
    assert confidence.sample_positions(3) == (0, 1, 2)
    assert confidence.sample_positions(128) == tuple(range(128))
    many = confidence.sample_positions(1000)
    assert (len(many), many[0], many[-1]) == (128, 0, 992)
    assert {after - before for before, after in itertools.pairwise(many)} == {7, 8}


def test_a_lost_shard_that_holds_no_wanted_id_is_not_reported(
    splits: list[ShardedSearcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = next(own for own in splits if len(own.catalogs) == 3)
    ask = searcher._ask

    def without_the_first(method: str, asked: dict[int, tuple[object, ...]]) -> object:
        return ask(method, {number: given for number, given in asked.items() if number})[0], ("shard-0000",)

    monkeypatch.setattr(searcher, "_ask", without_the_first)
    found = searcher.search_tokens(unit_tokens(2, DIM, seed=1), ids=["k"])
    assert ([hit.id for hit in found], found.shards_failed) == (["k"], ())


def test_words_for_confidence_are_relative_to_queries_without_an_answer() -> None:
    levels = MatchLevels.from_unanswerable([0.1, 0.3, 0.5, 0.2])
    assert (levels.fair, levels.strong) == (0.5, pytest.approx(0.575))
    assert [levels.label(share) for share in (0.0, 0.5, 0.5001, 0.57, 0.58, 1.0)] == [
        *("weak", "weak", "fair", "fair", "strong", "strong")
    ]
    assert levels.label(None) is None
    assert MatchLevels.from_unanswerable([0.95]).strong == 1.0  # a perfect match is a strong one everywhere


def test_match_levels_are_what_the_searches_find_and_measured_once(
    index: Path, splits: list[ShardedSearcher], tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[str]] = []
    encode = VideoColBERT.encode_queries
    monkeypatch.setattr(
        VideoColBERT,
        "encode_queries",
        lambda model, texts, **more: encoded.append(texts) or encode(model, texts, **more),
    )
    weights = {"video": 0.5}
    with Searcher(index, model=tiny_trained_model) as searcher:
        for given in (None, weights):
            levels = searcher.match_levels(bag_weights=given)
            assert levels == searcher.match_levels(bag_weights=given)
            best = [searcher.search(text, 1, bag_weights=given)[0].confidence for text in UNANSWERABLE]
            assert levels is not None
            assert levels.fair == pytest.approx(max(share or 0.0 for share in best), abs=1e-5)
        assert len(encoded) == 1 + 2 * len(UNANSWERABLE)
        with pytest.raises(SettingsError, match="the weight of bag"):
            searcher.match_levels(bag_weights={"frame": -1.0})
        searcher.use_model(tiny_trained_model)
        assert searcher.match_levels() is not None
        assert len(encoded) == 2 + 2 * len(UNANSWERABLE)
        split = splits[0]
        split.use_model(tiny_trained_model)
        assert split.match_levels(bag_weights=weights) == levels


def test_no_words_are_known_in_a_small_index(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    commit(tmp_path / "index", random_bags(9, seed=3))
    with Searcher(tmp_path / "index", model=tiny_trained_model) as searcher:
        assert searcher.match_levels() is None
    with Searcher(tmp_path / "index") as searcher, pytest.raises(SettingsError, match="names no model"):
        searcher.match_levels()


def test_a_query_of_one_bag_is_judged_by_that_bag(one: Searcher, splits: list[ShardedSearcher]) -> None:
    """As pictures are: their query has tokens for frames alone."""
    query = unit_tokens(3, DIM, seed=4)
    wanted = one.search_tokens(query, 7, bag_weights={"video": 0.0})
    for searcher in (one, *splits):
        with searcher._view() as view:
            found = view.hits({"frame": PreparedQuery(query)}, SearchSettings(7))
        assert [hit.id for hit in found] == [hit.id for hit in wanted]
        assert [hit.confidence for hit in found] == pytest.approx([hit.confidence for hit in wanted], abs=ROUNDING)
        assert found[0].confidence
