"""Sharding an index, and searching the shards in one process: always what the one index finds."""

import inspect
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import amount
from token_corpus import DIM, random_bags, unit_tokens
from window_corpus import commit_windows

from colbert_video import Indexer, Searcher
from colbert_video.cli.program import app
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import WriterLock
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.upkeep import sharding
from colbert_video.indexing.upkeep.sharding import CORPUS_NAME, ShardedCorpus, cut, shard_index, write_corpus
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.sharded.corpus_view import merge_hits
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

FIRST = {"a": 3, "b": 0, "c": 5, "d": 0, "e": 2, "f": 0, "g": 1}
SECOND = {"h": 2, "i": 0, "b": 2, "j": 0, "k": 4}
REMOVED = ["d", "h"]
VIDEOS = sorted({*FIRST, *SECOND} - {*REMOVED})
TOLERANCE = 0.0 if compiled_kernels() is not None else 1e-6
"""The kernels score a video alike wherever it is stored; torch multiplies it together with others."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments with windows, a replaced video and removed ones."""
    path = tmp_path_factory.mktemp("shard") / "one.index"
    commit_windows(path, FIRST, seed=1, add=False)
    commit_windows(path, SECOND, seed=2, add=True)
    Indexer(path).remove(REMOVED)
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


def told(hits: list[Hit]) -> list[tuple[Any, ...]]:
    """What must agree, but for the score."""
    return [(hit.rank, hit.id, hit.parent, hit.start, hit.end, hit.path, hit.metadata) for hit in hits]


def assert_same(found: Hits, wanted: list[Hit]) -> None:
    assert told(found) == told(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=0, abs=TOLERANCE)
        assert set(theirs.moments) <= set(ours.moments)
    assert found.shards_failed == ()


filters = st.sampled_from([None, {"name": {"in": ["a", "c", "k"]}}, {"name": {">": "e"}}, {"name": "nobody"}])


@settings(
    max_examples=amount(13, thorough=40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
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


def test_shards_are_whole_indexes_and_keep_windows_together(
    index: Path, splits: dict[int, ShardedSearcher]
) -> None:
    held: list[str] = []
    for folder in splits[3].corpus.folders:
        assert verify_index(folder).intact
        with Catalog.open(folder) as catalog:
            held += sorted({entry.video for entry in catalog.entries()})
            assert not any(catalog.removed_rows(segment.name) for segment in catalog.live_segments())
    assert sorted(held) == VIDEOS  # each in one shard, none lost
    with Catalog.open(index) as catalog:
        codecs = catalog.codecs()
    for folder in splits[3].corpus.folders:
        with Catalog.open(folder) as catalog:
            assert catalog.codecs() == codecs


def test_whole_segments_are_linked(tmp_path: Path) -> None:
    for number in range(4):
        bags = random_bags(6, seed=number)
        ids = [f"{number}-{row}" for row in range(6)]
        Indexer(tmp_path / "one", dim=DIM).index_tokens(ids, bags, bags, add=number > 0)
    report = shard_index(tmp_path / "one", tmp_path / "two", videos_per_shard=12)
    assert (report.videos, report.rows, report.linked) == ((12, 12), (12, 12), 4)
    for path in (tmp_path / "two").rglob("0.residuals.pt"):
        own = path.relative_to(tmp_path / "two").parts[1:]
        assert path.samefile(tmp_path.joinpath("one", *own))
    assert (
        shard_index(tmp_path / "one", tmp_path / "three", shards=3).linked == 2
    )  # the outer ones stay whole


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
    with pytest.raises(SettingsError, match="is no operator"):
        splits[3].search_tokens(query, where={"name": {"~": 3}})


@given(rows=st.lists(st.integers(1, 9), min_size=1, max_size=40), data=st.data())
def test_cuts_are_successive_and_leave_no_shard_empty(rows: list[int], data: st.DataObject) -> None:
    shards = data.draw(st.integers(1, len(rows)))
    chosen = cut(rows, shards)
    assert chosen == sorted(chosen)
    assert set(chosen) == set(range(shards))


def test_cuts_are_even() -> None:
    assert cut([1] * 9, 3) == [0] * 3 + [1] * 3 + [2] * 3
    assert cut([1, 1, 1, 9, 1, 1, 1], 3) == [0, 0, 0, 1, 2, 2, 2]
    assert cut([50, 1, 1], 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "one of the two"),
        ({"shards": 2, "videos_per_shard": 2}, "one of the two"),
        ({"shards": 0}, "into 0 shards"),
        (
            {"shards": 99},
            f"{len(VIDEOS)} videos cannot be split into 99 shards; choose from 1 to {len(VIDEOS)}",
        ),
        ({"videos_per_shard": 0}, "videos_per_shard=0"),
    ],
)
def test_senseless_numbers_are_refused(index: Path, tmp_path: Path, given: dict[str, int], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        shard_index(index, tmp_path / "many", **given)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_not_copied(index: Path, tmp_path: Path) -> None:
    shutil.copytree(index, tmp_path / "one")
    victim = next((tmp_path / "one" / "segments").rglob("0.residuals.pt"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(IndexFolderError, match="residuals"):
        shard_index(tmp_path / "one", tmp_path / "many", shards=2)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_killed_run_leaves_nothing_that_the_next_one_minds(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill runs no clean-up: here none is run after the last shard was written."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(sharding, "write_corpus", lambda *_: os._exit(9))
        shard_index(index, tmp_path / "many", shards=2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.name for path in tmp_path.iterdir()] == [".many.unfinished"]
    report = shard_index(index, tmp_path / "many", shards=2)
    assert sum(report.videos) == len(VIDEOS)
    assert [path.name for path in tmp_path.iterdir()] == ["many"]
    with pytest.raises(IndexFolderError, match="many exists"):
        shard_index(index, tmp_path / "many", shards=2)


def test_two_runs_for_one_folder_exclude_each_other(index: Path, tmp_path: Path) -> None:
    work = tmp_path / ".many.unfinished"
    work.mkdir()
    lock = WriterLock(work)
    with pytest.raises(IndexFolderError, match="another process is writing"):
        shard_index(index, tmp_path / "many", shards=2)
    lock.release()


def test_a_corpus_is_read_with_suspicion(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "many", shards=2)
    path = tmp_path / "many" / CORPUS_NAME
    whole = json.loads(path.read_text())

    def refused(text: str, **changes: Any) -> None:
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(IndexFolderError, match=text):
            ShardedCorpus.open(tmp_path / "many")

    refused("checksum", shards=["shard-0001", "shard-0000"])
    refused("format version 2", version=2)
    refused("its format is not", format="something else")
    path.write_text("{")
    with pytest.raises(IndexFolderError, match="damaged"):
        ShardedCorpus.open(tmp_path / "many")
    with pytest.raises(SettingsError, match="may hold letters"):
        write_corpus(tmp_path / "many", ["../one.index"])
    with pytest.raises(SettingsError, match="twice"):
        write_corpus(tmp_path / "many", ["shard-0000", "shard-0000"])
    path.write_text(json.dumps(whole))
    shutil.rmtree(tmp_path / "many" / "shard-0001")
    with pytest.raises(IndexFolderError, match="shard-0001 is missing"):
        ShardedSearcher(tmp_path / "many")
    with pytest.raises(IndexFolderError, match="is one index, no sharded corpus"):
        ShardedCorpus.open(index)
    with pytest.raises(IndexFolderError, match="holds no sharded corpus"):
        ShardedCorpus.open(tmp_path)


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


def test_merging_ranks_anew_and_keeps_shards_in_order_at_equal_scores() -> None:
    def hit(name: str, score: float) -> Hit:
        return Hit(1, name, score, score, None, None, None, None, {})

    merged = merge_hits([[hit("b", 2.0), hit("c", 1.0)], [hit("a", 2.0), hit("d", 1.5)]], 3)
    assert [(found.rank, found.id) for found in merged] == [(1, "b"), (2, "a"), (3, "d")]
    partial = Hits(merged, ["shard-0002"])
    assert partial[:2].shards_failed == ("shard-0002",)
    assert partial[1].id == "a"


def test_the_verb_shards_and_says_what_it_made(index: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    made = run(app, ["shard", str(index), "--output", str(tmp_path / "many"), "--shards", "2", "--json"])
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert sum(report["videos"]) == len(VIDEOS)
    assert report["path"] == str(tmp_path / "many")
    assert run(app, ["shard", str(index), "--output", str(tmp_path / "x")]).exit_code == 2
