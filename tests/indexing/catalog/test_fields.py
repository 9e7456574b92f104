"""Filters name keys that exist, text can be looked into, and an index says which keys it has."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from token_corpus import DIM, random_bags, unit_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.upkeep.contents import list_metadata, list_videos
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

METADATA: list[dict[str, Any]] = [
    {"title": "Snow in Zürich", "channel": "news", "tags": ["Winter", "city"], "year": 2020},
    {"title": "ZÜRICH by night", "channel": "news", "camera": {"make": "Sony"}, "year": None},
    {"title": "Straße", "channel": 7, "a.b": True},
    {"title": "zürich", "id": "own"},  # with a combining accent
    {},
]
IDS = ["v0", "v1", "v2", "v3", "v4"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fields") / "one.index"
    bags = random_bags(len(IDS), seed=3)
    Indexer(path, dim=DIM).index_tokens(IDS, {"frame": bags}, metadata=METADATA)
    return path


@pytest.fixture(scope="module")
def searchers(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    corpus = tmp_path_factory.mktemp("field-shards") / "three"
    shard_index(index, corpus, shards=3)
    with Searcher(index) as one, ShardedSearcher(corpus) as several:
        yield one, several


def found(searcher: Searcher, where: dict[str, Any]) -> set[str]:
    return {hit.id for hit in searcher.search_tokens(unit_tokens(2, DIM, seed=1), k=10, where=where)}


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"title": {"contains": "zürich"}}, {"v0", "v1", "v3"}),
        ({"title": {"contains": "ZURICH"}}, set()),
        ({"title": {"contains": "STRASSE"}}, {"v2"}),
        ({"title": {"contains": "snow in"}}, {"v0"}),
        ({"title": {"contains": "100%_"}}, set()),
        ({"tags": {"contains": "Winter"}}, {"v0"}),
        ({"tags": {"contains": "wint"}}, set()),
        ({"channel": {"contains": "NEW"}}, {"v0", "v1"}),
        ({"channel": {"contains": 7}}, set()),
        ({"camera.make": {"contains": "son"}}, {"v1"}),
        ({"id": {"contains": "V1"}}, {"v1"}),
        ({"not": {"title": {"contains": "zürich"}}}, {"v2", "v4"}),
        ({"a\\.b": True}, {"v2"}),
        ({"metadata.id": "own"}, {"v3"}),
        ({"year": {"!=": 2020}}, {"v1", "v2", "v3", "v4"}),
        ({"nobody": {"exists": False}}, set(IDS)),
        ({"nobody": {"exists": True}}, set()),
        ({"path": {"exists": False}}, set(IDS)),
    ],
)
def test_text_is_looked_into_and_known_keys_are_compared(
    searchers: Any, where: dict[str, Any], wanted: set[str]
) -> None:
    for searcher in searchers:
        assert found(searcher, where) == wanted


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"chanel": "news"}, "no video has 'chanel', which the filter compares; the nearest there are: 'channel'"),
        ({"Title": "x"}, "'title'"),
        ({"camera.mke": "Sony"}, "'camera.make'"),
        ({"or": [{"title": "x"}, {"not": {"yeer": {">": 3}}}]}, "no video has 'yeer'.*'year'"),
        ({"duraton": {">": 3}}, "'duration'"),
        ({"qqqqqq": {"exists": True, "=": 1}}, "there are 'title', 'channel'"),
        ({"metadata.chanel": {"in": ["a"]}}, "no video has 'metadata.chanel'"),
        ({"a.b": True}, "no video has 'a.b'"),
    ],
)
def test_a_key_that_no_video_has_is_refused(searchers: Any, index: Path, where: dict[str, Any], says: str) -> None:
    for searcher in searchers:
        with pytest.raises(SettingsError, match=says):
            found(searcher, where)
    with pytest.raises(SettingsError, match=says):
        list_videos(index, limit=3, where=where)


@pytest.mark.parametrize(
    "where", [{"duration": {"contains": "1"}}, {"id": {"contains": 1}}, {"title": {"contains": ["a"]}}]
)
def test_what_cannot_be_looked_for_is_refused(searchers: Any, where: dict[str, Any]) -> None:
    for searcher in searchers:
        with pytest.raises(SettingsError):
            found(searcher, where)


def test_an_index_without_videos_has_no_keys_to_check(tmp_path: Path, index: Path) -> None:
    path = tmp_path / "empty.index"
    Indexer(path, dim=DIM).index_tokens(["a"], {"frame": random_bags(1, seed=3)}, metadata=[{"title": "x"}])
    Indexer(path).remove(["a"])
    with Searcher(path) as searcher:
        assert found(searcher, {"channel": "news"}) == set()


def test_the_keys_are_listed_with_kinds_and_counts(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {one.name: (dict(one.kinds), one.videos) for one in list_metadata(index)}
    assert listed == {
        "title": ({"text": 4}, 4),
        "channel": ({"text": 2, "number": 1}, 3),
        "year": ({"number": 1, "null": 1}, 2),
        "tags": ({"list": 1}, 1),
        "camera": ({"object": 1}, 1),
        "camera.make": ({"text": 1}, 1),
        "a\\.b": ({"boolean": 1}, 1),
        "metadata.id": ({"text": 1}, 1),
    }
    code, out, _ = run(["info", str(index), "--json"], capsys)
    assert (code, json.loads(out)["fields"][0]) == (0, {"name": "title", "kinds": {"text": 4}, "videos": 4})
    code, out, _ = run(["info", str(index)], capsys)
    assert (code, "channel: text, number in 3 videos" in out) == (0, True)
