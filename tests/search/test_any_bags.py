"""Bags of any names, weights of bags and of query tokens: every score against the naive one."""

import inspect
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount
from token_corpus import DIM, naive_scores, random_bags, unit_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.model.interaction import SCORE_RESOLUTION
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

VIDEOS = 24
IDS = [f"v{number:02}" for number in range(VIDEOS)]
BAGS = {bag: random_bags(VIDEOS, seed=seed) for seed, bag in enumerate(("frame", "video", "speech"), start=1)}
LOST = 0.04
"""What 8 bits lose of a MeanMaxSim of unit tokens at most, by codecs that were made of ten videos and store others."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bags in two segments, one of whose videos was replaced and one removed."""
    path = tmp_path_factory.mktemp("bags") / "index"
    first = {bag: tokens[:10] for bag, tokens in BAGS.items()}
    rest = {bag: tokens[9:] for bag, tokens in reversed(BAGS.items())}  # in any order
    indexer = Indexer(path, dim=DIM, nbits=8)
    metadata = [{"even": number % 2 == 0} for number in range(VIDEOS)]
    indexer.index_tokens(IDS[:10], {**first, "speech": BAGS["speech"][10:20]}, metadata=metadata[:10])
    indexer.index_tokens([*IDS[:9], "gone"], first, metadata=metadata[:10], add=True)
    indexer.remove("gone")
    indexer.index_tokens(IDS[9:], rest, metadata=metadata[9:], add=True)
    return path


@pytest.fixture(scope="module")
def searcher(index: Path) -> Iterator[Searcher]:
    with Searcher(index) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An index of each bag by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for bag, tokens in BAGS.items():
        Indexer(folder / bag, dim=DIM, nbits=8).index_tokens(IDS, {bag: tokens})
    return {bag: folder / bag for bag in BAGS}


def expected(query: torch.Tensor, weights: Mapping[str, float]) -> dict[str, float]:
    """Naive weighted score of each video."""
    each = {bag: naive_scores(query, BAGS[bag]) for bag in weights}
    return {name: sum(weights[bag] * each[bag][row] for bag in weights) for row, name in enumerate(IDS)}


def found(hits: Any) -> list[tuple[str, float, dict[str, float]]]:
    return [(hit.id, hit.score, dict(hit.bag_scores)) for hit in hits]


@settings(max_examples=amount(12, thorough=300), deadline=None)
@given(
    weights=st.fixed_dictionaries({}, optional={bag: st.floats(0.01, 10) | st.just(0.0) for bag in BAGS}),
    seed=st.integers(0, 10**6),
    exact=st.booleans(),
    even=st.none() | st.booleans(),
)
def test_scores_are_the_weighted_sum(
    searcher: Searcher, weights: dict[str, float], seed: int, exact: bool, even: bool | None
) -> None:
    complete = {bag: weights.get(bag, 1.0) for bag in BAGS}
    query = unit_tokens(4, DIM, seed=seed)
    where = None if even is None else {"even": even}
    if not any(complete.values()):
        with pytest.raises(SettingsError, match="no bag counts"):
            searcher.search_tokens(query, bag_weights=weights)
        return
    hits = searcher.search_tokens(query, k=VIDEOS, bag_weights=weights, exact=exact, where=where)
    naive = expected(query, complete)
    eligible = {name for row, name in enumerate(IDS) if even is None or (row % 2 == 0) == even}
    assert {hit.id for hit in hits} == eligible
    counting = {bag: weight for bag, weight in complete.items() if weight}
    assert hits.bag_weights == counting
    for hit in hits:
        assert hit.score == pytest.approx(naive[hit.id], abs=LOST * sum(complete.values()))
        assert set(hit.bag_scores) == set(counting)
        total = sum(weight * hit.bag_scores[bag] for bag, weight in counting.items())
        assert hit.score == pytest.approx(total, rel=1e-5, abs=1e-5)
        assert (hit.frame_score, hit.video_score) == (hit.bag_scores.get("frame"), hit.bag_scores.get("video"))
    scores = [hit.score for hit in hits]
    assert all(after - before <= SCORE_RESOLUTION for before, after in pairwise(scores))  # closer ones are tied


def test_scores_are_those_of_the_stored_tokens(index: Path) -> None:
    query, weights = unit_tokens(4, DIM, seed=5), {"frame": 1.0, "video": 0.5, "speech": 2.0}
    with Searcher(index) as searcher, searcher._view() as view:
        for hit in searcher.search_tokens(query, k=VIDEOS, bag_weights=weights):
            _, similarities = view.similarities(hit.id, PreparedQuery(query), weights)
            own = {bag: float(found.max(axis=1).mean()) for bag, found in similarities.items()}
            assert hit.bag_scores == pytest.approx(own, abs=1e-6)
            assert hit.score == pytest.approx(sum(weights[bag] * score for bag, score in own.items()), abs=1e-5)


@settings(max_examples=amount(10, thorough=300), deadline=None)
@given(seed=st.integers(0, 10**6), exact=st.booleans())
def test_weights_of_one_change_nothing(index: Path, searcher: Searcher, seed: int, exact: bool) -> None:
    query = unit_tokens(3, DIM, seed=seed)
    with Searcher(index, bag_weights={"video": 1}) as named:
        same = searcher.search_tokens(query, k=9, exact=exact)
        ones = searcher.search_tokens(query, k=9, exact=exact, bag_weights=dict.fromkeys(BAGS, 1.0))
        assert found(same) == found(ones) == found(named.search_tokens(query, k=9, exact=exact))


@pytest.mark.parametrize("bag", BAGS)
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_bag_of_weight_0_is_as_if_it_were_not_there(
    index: Path, alone: dict[str, Path], bag: str, weight: float
) -> None:
    query = unit_tokens(5, DIM, seed=77)
    weights = {**dict.fromkeys(BAGS, 0.0), bag: weight}
    with Searcher(index) as searcher, Searcher(alone[bag]) as single:
        hits = searcher.search_tokens(query, k=VIDEOS, bag_weights=weights)
        others = {hit.id: hit for hit in single.search_tokens(query, k=VIDEOS)}
        ranking = searcher.search_all({"q": query}, k=VIDEOS, bag_weights=weights).todict()["q"]
    assert [name for name, *_ in ranking] == [hit.id for hit in hits]
    for hit in hits:  # another codec, of the same tokens
        assert set(hit.bag_scores) == {bag}
        assert hit.score == pytest.approx(weight * others[hit.id].score, abs=LOST)


@settings(max_examples=amount(10, thorough=300), deadline=None)
@given(
    lengths=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=6).filter(lambda all_: max(all_) > 1e-3),
    seed=st.integers(0, 10**6),
    exact=st.booleans(),
)
def test_a_token_of_length_w_counts_w_times(searcher: Searcher, lengths: list[float], seed: int, exact: bool) -> None:
    unit = unit_tokens(len(lengths), DIM, seed=seed)
    hits = searcher.search_tokens(unit * torch.tensor(lengths)[:, None], k=VIDEOS, exact=exact)
    each = [{hit.id: hit.score for hit in searcher.search_tokens(token[None], k=VIDEOS, exact=True)} for token in unit]
    for hit in hits:
        total = math.fsum(length * scores[hit.id] for length, scores in zip(lengths, each, strict=True))
        assert hit.score == pytest.approx(total / len(lengths), rel=1e-4, abs=1e-4)


def test_a_whole_length_ranks_as_repeated_tokens_do(index: Path) -> None:
    first, second = unit_tokens(2, DIM, seed=5)
    with Searcher(index) as searcher:
        scaled = searcher.search_tokens(torch.stack([3 * first, second]), k=VIDEOS)
        repeated = searcher.search_tokens(torch.stack([first, first, first, second]), k=VIDEOS)
    assert [hit.id for hit in scaled] == [hit.id for hit in repeated]
    for one, other in zip(scaled, repeated, strict=True):
        assert 2 * one.score == pytest.approx(4 * other.score, rel=1e-5)


def test_one_long_token_does_not_hide_the_others(tmp_path: Path) -> None:
    """All videos are equal for the long token; the short ones decide, before anything is scored exactly too."""
    count = 3000
    common = unit_tokens(DIM, seed=1)
    own = torch.nn.functional.normalize(unit_tokens(count, DIM, seed=2) * 0.9, dim=1)
    bags = torch.stack([common.expand(count, DIM), own], dim=1)  # (videos, 2, dim)
    Indexer(tmp_path / "i", dim=DIM, nbits=8).index_tokens([str(row) for row in range(count)], bags)
    short = torch.nn.functional.normalize(own[:8] + 0.05 * unit_tokens(8, DIM, seed=3), dim=1)
    with Searcher(tmp_path / "i") as searcher:
        for row, token in enumerate(short):
            assert searcher.search_tokens(torch.stack([20 * common, token]), k=1)[0].id == str(row)


def test_defaults_are_of_the_call_then_of_the_searcher_then_of_the_index(tmp_path: Path) -> None:
    path, query = tmp_path / "i", unit_tokens(4, DIM, seed=8)
    Indexer(path, dim=DIM, bag_weights={"speech": 0.0, "video": 0.5}).index_tokens(IDS, BAGS)
    assert describe_index(path)["bag_weights"] == {"speech": 0.0, "video": 0.5}
    cases_ = [
        ({}, {}, {"frame": 1.0, "video": 0.5}),
        ({"speech": 2}, {}, {"frame": 1.0, "video": 0.5, "speech": 2.0}),
        ({"speech": 2}, {"speech": 1, "frame": 0}, {"video": 0.5, "speech": 1.0}),
    ]
    for own, call, weights in cases_:
        with Searcher(path, bag_weights=own) as searcher:
            hits = searcher.search_tokens(query, k=3, bag_weights=call)
            assert hits.bag_weights == hits[:1].bag_weights == weights
            naive = expected(query, weights)
            assert hits[0].score == pytest.approx(naive[hits[0].id], abs=0.1)
    with pytest.raises(SettingsError, match=r"bag_weights=.*was made with bag_weights="):
        Indexer(path, bag_weights={"video": 1.0}).index_tokens(["new"], {b: t[:1] for b, t in BAGS.items()}, add=True)
    same = Indexer(path, bag_weights={"video": 0.5})
    assert same.index_tokens(["new"], {b: t[:1] for b, t in BAGS.items()}, add=True).videos == VIDEOS + 1


def test_weights_stay_with_the_index(tmp_path: Path) -> None:
    weights, query = {"frame": 0.5, "video": 1.0, "speech": 3.0}, unit_tokens(4, DIM, seed=8)
    indexer = Indexer(tmp_path / "i", dim=DIM, nbits=8, bag_weights=weights)
    indexer.index_tokens(IDS, BAGS)
    indexer.remove(IDS[3])
    indexer.export(tmp_path / "i.tar")
    import_index(tmp_path / "i.tar", tmp_path / "copy")
    shard_index(tmp_path / "i", tmp_path / "shards", shards=3)
    before = found(Searcher(tmp_path / "i").search_tokens(query, k=VIDEOS, exact=True))
    assert indexer.compact().compacted
    assert indexer.verify().intact
    for searcher in (Searcher(tmp_path / "i"), Searcher(tmp_path / "copy")):
        assert found(searcher.search_tokens(query, k=VIDEOS, exact=True)) == before
    with ShardedSearcher(tmp_path / "shards") as shards:
        assert found(shards.search_tokens(query, k=VIDEOS, exact=True)) == before
        other = {"frame": 0, "speech": 0.5}
        hits = shards.search_tokens(query, k=VIDEOS, exact=True, bag_weights=other)
        single = Searcher(tmp_path / "i").search_tokens(query, k=VIDEOS, exact=True, bag_weights=other)
        assert found(hits) == found(single)
        assert hits.bag_weights == {"video": 1.0, "speech": 0.5}
        queries = {"a": query, "b": unit_tokens(2, DIM, seed=4).numpy()}
        assert (
            shards.search_all(queries, exact=True).todict()
            == Searcher(tmp_path / "i").search_all(queries, exact=True).todict()
        )
    indexer.compact(retrain="stored")
    after = Searcher(tmp_path / "i").search_tokens(query, k=VIDEOS, exact=True)
    assert {hit.id: hit.score for hit in after} == pytest.approx({name: score for name, score, _ in before}, abs=0.1)


def test_an_older_index_weighs_all_bags_the_same() -> None:
    stored = IndexSettings(dim=DIM, bags=("frame", "video")).to_dict()
    assert "bag_weights" not in stored  # what older releases read
    opened = IndexSettings.from_dict(stored)
    assert opened.weights() == {"frame": 1.0, "video": 1.0}
    assert opened == IndexSettings(dim=DIM, bags=("frame", "video"), bag_weights={"video": 1})
    assert IndexSettings.from_dict({**stored, "bag_weights": {"video": 0.5}}).weights()["video"] == 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"audio": 1.0}, "bag_weights names 'audio', and the bags of the index are frame, video, speech"),
        ({"frame": -0.1}, r"the weight of bag 'frame'=-0\.1 must be at least 0"),
        ({"frame": math.nan}, "must be a finite number"),
        ({"frame": math.inf}, "must be a finite number"),
        ({"frame": 1e7}, r"must be at most 1000000\.0"),
        ({"frame": "1"}, "must be a finite number"),
        ({"frame": True}, "must be a finite number"),
        (dict.fromkeys(BAGS, 0), "no bag counts: bag_weights gives 0 to frame, video, speech"),
        ([1.0, 0.5], r"bag_weights=\[1\.0, 0\.5\] must be weights by bag"),
        (0.5, "must be weights by bag"),
    ],
)
def test_weights_that_make_no_sense_are_refused(index: Path, weights: Any, message: str) -> None:
    query = unit_tokens(2, DIM, seed=0)
    with Searcher(index) as searcher:
        for search in (Searcher.search_tokens, Searcher.search_all):
            with pytest.raises(SettingsError, match=message):
                inspect.unwrap(search)(
                    searcher, query[None] if search is Searcher.search_all else query, bag_weights=weights
                )
    with pytest.raises(SettingsError, match=message):
        inspect.unwrap(Searcher.__init__)(object.__new__(Searcher), index, bag_weights=weights)
    with pytest.raises(SettingsError, match=message):
        inspect.unwrap(IndexSettings.__post_init__)(_settings(bags=tuple(BAGS), bag_weights=weights))


def _settings(**values: Any) -> IndexSettings:
    made = IndexSettings(dim=DIM, bags=values["bags"])
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    ("bags", "message"),
    [
        ({}, "1 to 4 different names"),
        (dict.fromkeys("abcde", BAGS["frame"]), "1 to 4 different names"),
        *(
            ({name: BAGS["frame"]}, "cannot name a bag")
            for name in ("", "Frame", "a-b", "../x", "aux", "é", "x" * 33, "1")
        ),
        ({"frame": BAGS["frame"], "speech": BAGS["speech"][:3]}, "24 ids but 3 speech tokens"),
    ],
)
def test_bags_that_cannot_be_stored_are_refused(tmp_path: Path, bags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Indexer(tmp_path / "i", dim=DIM).index_tokens(IDS, bags)
    assert not (tmp_path / "i").exists()


def test_bags_are_given_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name the bag 'video' with the others"):
        Indexer(tmp_path / "i", dim=DIM).index_tokens(IDS, {"frame": BAGS["frame"]}, BAGS["video"])
    Indexer(tmp_path / "i", dim=DIM).index_tokens(IDS, {"speech": BAGS["speech"]})
    with pytest.raises(SettingsError, match=r"stores the bags \('speech',\), but \('frame',\) were given"):
        Indexer(tmp_path / "i").index_tokens(["x"], BAGS["frame"][:1], add=True)


def test_named_bags_are_what_positions_are(tmp_path: Path) -> None:
    Indexer(tmp_path / "a", dim=DIM).index_tokens(IDS, BAGS["frame"], BAGS["video"])
    Indexer(tmp_path / "b", dim=DIM).index_tokens(IDS, {"frame": BAGS["frame"], "video": BAGS["video"]})
    query = unit_tokens(4, DIM, seed=2)
    assert found(Searcher(tmp_path / "a").search_tokens(query)) == found(Searcher(tmp_path / "b").search_tokens(query))


def test_arrays_of_a_file_are_bags(tmp_path: Path) -> None:
    np.savez(tmp_path / "tokens.npz", frame=unit_tokens(5, 3, DIM, seed=1), ocr=unit_tokens(5, 2, DIM, seed=2))
    with np.load(tmp_path / "tokens.npz") as tokens:
        Indexer(tmp_path / "i", dim=DIM).index_tokens(list("abcde"), tokens)
    assert set(Searcher(tmp_path / "i").search_tokens(unit_tokens(1, DIM, seed=0))[0].bag_scores) == {"frame", "ocr"}


def test_pandas_has_a_column_for_each_bag(index: Path) -> None:
    table = Searcher(index).search_tokens(unit_tokens(1, DIM, seed=0), k=3).to_pandas()
    for bag in BAGS:
        assert table[f"bag_scores.{bag}"].notna().all()
    assert "bag_scores" not in table.columns


def test_a_picture_needs_a_bag_of_frames(index: Path, tiny_trained_model: Any, tmp_path: Path) -> None:
    Indexer(tmp_path / "i", dim=DIM).index_tokens(IDS, {"speech": BAGS["speech"]})
    picture = np.zeros((8, 8, 3), np.uint8)
    with Searcher(tmp_path / "i", model=tiny_trained_model) as searcher:
        with pytest.raises(
            SettingsError, match=r"compared with the bags 'frame' and 'video', .* in this search are speech"
        ):
            searcher.search_image(picture)
        explained = searcher.explain("a red circle", IDS[0])
        match = explained.tokens[0].matches["speech"]
        assert (match.frame, match.time) == (None, None)
        assert match.score == explained.similarities["speech"][0, match.token]
    with Searcher(index, model=tiny_trained_model) as searcher:
        for weights, bags in (({}, {"frame"}), ({"frame": 0}, {"video"})):
            hits = searcher.search_image(picture, bag_weights=weights)
            assert {bag for hit in hits for bag in hit.bag_scores} == bags
        twice = searcher.search_image(picture, bag_weights={"frame": 2.0})
        once = searcher.search_image(picture)
        assert [hit.id for hit in twice] == [hit.id for hit in once]
        assert twice[0].score == pytest.approx(2 * once[0].score)
        explained = searcher.explain("a red circle", IDS[0], bag_weights={"video": 0, "speech": 0.5})
        assert explained.to_dict()["weights"] == {"frame": 1.0, "speech": 0.5}
        hit = searcher.search("a red circle", ids=IDS[0], bag_weights={"video": 0, "speech": 0.5})[0]
        assert explained.scores == pytest.approx(dict(hit.bag_scores), abs=1e-5)
        total = sum(explained.weights[bag] * score for bag, score in explained.scores.items())
        assert hit.score == pytest.approx(total, abs=1e-5)


def test_a_view_without_weights_takes_the_indexs(tmp_path: Path) -> None:
    Indexer(tmp_path / "i", dim=DIM, bag_weights={"frame": 0.0}).index_tokens(IDS, BAGS)
    with Searcher(tmp_path / "i") as searcher, searcher._view() as view:
        assert view.settings.weights() == {"video": 1.0, "speech": 1.0}
        ranking = view.ranking({"q": unit_tokens(2, DIM, seed=1)}, SearchSettings(3))
        assert ranking.todict()["q"] == searcher.search_all([unit_tokens(2, DIM, seed=1)], k=3).todict()["0"]
    assert IndexReader.open(tmp_path / "i").settings.bags == tuple(BAGS)
