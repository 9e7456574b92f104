"""A sharded corpus behind the service: the same answers as for one index, and missing shards are named."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from serving import ODD_ID, build_index, error_of, serving
from starlette.testclient import TestClient
from token_corpus import random_bags

from colbert_video import Indexer
from colbert_video.cli.serve_verbs import cluster_options, split_address
from colbert_video.cluster.deployment import cluster_opener
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.serve.indexes import ServedIndex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-shards")
    index = build_index(folder / "one", tiny_trained_model, folder / "clips")
    shard_index(index, folder / "many", shards=2)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path, tiny_trained_model: Any) -> Iterator[TestClient]:
    """Serves the index and the shards made of it side by side."""
    with serving(folder / "one", folder / "many", model=tiny_trained_model) as client:
        yield client


def asked(client: TestClient, address: str, index: str, **parameters: Any) -> Any:
    answer = client.get(address, params={"index": index, **parameters})
    assert answer.status_code == 200, answer.text
    return answer


def without_name(value: Any) -> Any:
    """An answer, whatever the index is called and however long it took."""
    if isinstance(value, Mapping):
        kept = {key: without_name(part) for key, part in value.items()}
        return {key: part for key, part in kept.items() if key not in ("index", "version", "milliseconds")}
    if isinstance(value, list):
        return [without_name(part) for part in value]
    return value.replace("index=many", "index=one") if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("address", "parameters"),
    [
        ("/api/search", {"query": "a red circle"}),
        ("/api/search", {"query": "red", "k": 1, "exact": True, "where": '{"channel": "news"}'}),
        ("/api/search", {"query": "red", "ids": [ODD_ID, "blue"], "windows": True}),
        ("/api/explain", {"query": "red", "id": "blue"}),
        ("/api/video", {"id": ODD_ID}),
    ],
)
def test_answers_are_those_of_one_index(client: TestClient, address: str, parameters: dict[str, Any]) -> None:
    one, many = (asked(client, address, name, **parameters).json() for name in ("one", "many"))
    assert without_name(many) == without_name(one)


def test_files_and_pictures_of_every_shard_are_served(client: TestClient) -> None:
    for name in (ODD_ID, "blue"):
        whole = asked(client, "/api/video/media", "many", id=name)
        assert whole.content == asked(client, "/api/video/media", "one", id=name).content
        picture = asked(client, "/api/video/thumbnail", "many", id=name, t=1)
        assert picture.headers["content-type"] == "image/jpeg"
    missing = client.get("/api/video", params={"index": "many", "id": "nobody"})
    assert error_of(missing) == (404, "no_such_video")


def test_the_corpus_is_described_as_one(client: TestClient) -> None:
    one, many = (client.get(f"/api/indexes/{name}").json() for name in ("one", "many"))
    for key in ("videos", "windows", "model", "dim", "bags", "state", "failures"):
        assert many[key] == one[key]
    assert (one["segments"], many["segments"]) == (1, 2)


def test_missing_shards_are_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, lost = ShardedSearcher._ask, {0}

    def partial(self: Any, method: str, asked: Any) -> Any:
        answers, _ = ask(self, method, {number: own for number, own in asked.items() if number not in lost})
        return answers, tuple(f"shard-{number:04d}" for number in sorted(lost))

    every = asked(client, "/api/search", "many", query="red").json()["topk"]
    monkeypatch.setattr(ShardedSearcher, "_ask", partial)
    answer = asked(client, "/api/search", "many", query="red").json()
    assert answer["shards_failed"] == ["shard-0000"]
    assert 0 < len(answer["topk"]) < len(every)
    lost.add(1)
    refused = client.get("/api/search", params={"index": "many", "query": "red"})
    assert error_of(refused) == (503, "shards_unavailable")
    assert refused.headers["Retry-After"] == "2"


def test_commits_to_shards_are_seen(folder: Path, tmp_path: Path, tiny_trained_model: Any) -> None:
    shard_index(folder / "one", tmp_path / "many", shards=2)
    served = ServedIndex("many", tmp_path / "many", model=tiny_trained_model)
    served.load_model({})
    assert not served.refresh()
    bags = random_bags(1, seed=1)
    Indexer(tmp_path / "many" / "shard-0001", model=tiny_trained_model).index_tokens(["new"], bags, bags, add=True)
    assert served.refresh()
    assert [hit.id for hit in served.search_tokens(bags[0], served.made_by, k=1)] == ["new"]
    assert served.description["videos"] == 4
    served.close()


def test_models_are_shared_without_opening_shards_again(folder: Path, tiny_trained_model: Any) -> None:
    served = ServedIndex("many", folder / "many")
    searcher = served.searcher
    searcher.use_model(tiny_trained_model)
    assert served.searcher is searcher
    assert searcher.model is tiny_trained_model
    served.close()


def test_clusters_serve_sharded_corpora_alone(folder: Path) -> None:
    with pytest.raises(
        IndexFolderError, match="one is one index, no sharded corpus; make one with `colbert-video shard"
    ):
        cluster_opener()("one", folder / "one")


def test_an_address_is_told_from_an_index(tmp_path: Path) -> None:
    corpus = tmp_path / "a:b"
    corpus.mkdir()
    assert split_address("10.0.0.1:6379", ("x",)) == ("10.0.0.1:6379", ("x",))
    assert split_address("auto", ("x",)) == ("auto", ("x",))
    assert split_address("corpus.shards", ()) == ("auto", ("corpus.shards",))
    assert split_address(str(corpus), ("x",)) == ("auto", (str(corpus), "x"))
    assert split_address(f"n={corpus}", ("x",)) == ("auto", (f"n={corpus}", "x"))
    assert split_address(None, ("x",)) == (None, ("x",))
    for cluster in ("auto", None):
        with pytest.raises(click.UsageError, match="Missing argument"):
            split_address(cluster, ())
    assert cluster_options("auto", replicas=2, deadline=None) == {"cluster": "auto", "replicas": 2}
    assert cluster_options(None, replicas=None) is None
    with pytest.raises(click.UsageError, match="--replicas is for"):
        cluster_options(None, replicas=2)
