"""The list of an index's videos over HTTP: page by page, within limits, without paths."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import ODD_ID, build_index, error_of, serving
from window_corpus import commit_windows

from colbert_video import Indexer
from colbert_video.indexing.upkeep.sharding import shard_index


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Iterator[Any]:
    """Serves an index of clips, one with windows, and shards of that one."""
    folder = tmp_path_factory.mktemp("serve-list")
    build_index(folder / "clips.index", tiny_trained_model, folder / "clips")
    commit_windows(folder / "cut", {"long": 3, "short": 0, "other": 2}, seed=0, add=False)
    shard_index(folder / "cut", folder / "shards", shards=2)
    indexes = [folder / name for name in ("clips.index", "cut", "shards")]
    with serving(*indexes, model=tiny_trained_model, most_listed=50) as client:
        yield client


def listed(client: Any, **parameters: Any) -> dict[str, Any]:
    answer = client.get("/api/videos", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_page_holds_what_is_known(client: Any) -> None:
    page = listed(client)
    assert (page["index"], page["next"]) == ("clips.index", None)
    assert page["version"] == client.get("/api/indexes/clips.index").json()["version"]
    assert [video["id"] for video in page["videos"]] == ["blue", "green", ODD_ID]
    assert page["videos"][1] == {
        "id": "green",
        "parent": None,
        "start": 0.0,
        "end": pytest.approx(3.0),
        "duration": pytest.approx(3.0),
        "metadata": {"channel": "sport"},
        "windows": 0,
        "thumbnail": None,
        "media": None,
        "playable": False,
    }
    assert page["videos"][0]["metadata"]["odd"] == "\ud800"


@pytest.mark.parametrize("index", ["cut", "shards"])
def test_pages_follow_one_another(client: Any, index: str) -> None:
    first = listed(client, index=index, limit=2)
    assert [(video["id"], video["windows"]) for video in first["videos"]] == [("long", 3), ("other", 2)]
    assert first["next"] == "other"
    second = listed(client, index=index, limit=2, after=first["next"])
    assert ([video["id"] for video in second["videos"]], second["next"]) == (["short"], None)
    assert listed(client, index=index, limit=3)["next"] is None  # full, and the last
    rows = listed(client, index=index, windows=True, where='{"parent": "long", "start": {">": 5}}')["videos"]
    assert [(row["id"], row["parent"], row["start"], row["end"]) for row in rows] == [
        ("long#t=10,20", "long", 10, 20),
        ("long#t=20,30", "long", 20, 30),
    ]


def test_filters_and_the_known_of_each(client: Any) -> None:
    news = listed(client, where='{"channel": "news"}', limit=1)
    assert ([video["id"] for video in news["videos"]], news["next"]) == (["blue"], "blue")
    assert [video["id"] for video in listed(client, where='{"channel": "news"}', after="blue")["videos"]] == [ODD_ID]


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"limit": 0}, (422, "bad_parameter")),
        ({"limit": 51}, (422, "limit_too_large")),
        ({"index": "nobody"}, (404, "no_such_index")),
        ({"where": "[]"}, (422, "bad_parameter")),
        ({"where": '{"not": {"path": "/etc"}}'}, (422, "no_paths")),
        ({"where": f'{{"a": "{"x" * 20_000}"}}'}, (422, "filter_too_long")),
    ],
)
def test_what_cannot_be_listed_is_refused(client: Any, parameters: dict[str, Any], error: tuple[int, str]) -> None:
    assert error_of(client.get("/api/videos", params=parameters)) == error


def test_limits_are_told_and_commits_seen(tmp_path: Path, tiny_trained_model: Any) -> None:
    commit_windows(tmp_path / "i", {"a": 0, "b": 2}, seed=0, add=False)
    with serving(tmp_path / "i", model=tiny_trained_model) as client:
        assert client.get("/api/indexes/i").json()["limits"]["most_listed"] == 1000
        Indexer(tmp_path / "i").remove(["b"])
        assert [video["id"] for video in listed(client)["videos"]] == ["a"]
