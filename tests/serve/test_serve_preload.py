"""A service that has its indexes read ahead: each of them, new commits too, and on a cluster by the actors."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run
from operations import add_tokens
from serving import wait_until
from starlette.testclient import TestClient

from colbert_video.cluster import cluster_searcher, deployment
from colbert_video.cluster.actor import ShardActor
from colbert_video.cluster.cluster_searcher import PRELOAD_SECONDS, START_SECONDS, ClusterSearcher
from colbert_video.cluster.deployment import cluster_opener
from colbert_video.indexing.scan.index_reader import IndexReader, mapped_files
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.serve.app import create_app
from colbert_video.serve.indexes import IndexRegistry, ServedIndex
from colbert_video.serve.service_settings import ServeSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve-preload")
    add_tokens(folder / "one", "abcd", seed=0, add=False)
    shard_index(folder / "one", folder / "many", shards=2)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read ahead."""
    asked: list[Path] = []
    monkeypatch.setattr(IndexReader, "preload", lambda self: asked.extend(mapped_files(self.segments)))
    return asked


def files(*indexes: Path) -> set[Path]:
    return {
        path
        for index in indexes
        for path in index.glob("segments/*/*/0.*.pt")
        if path.name in ("0.codes.pt", "0.residuals.pt")
    }


def test_all_indexes_of_a_service_are_read_ahead(folder: Path, read: list[Path]) -> None:
    indexes = [str(folder / "one"), str(folder / "many")]
    registry = IndexRegistry.open(indexes, refresh_seconds=0.05, opened=partial(ServedIndex, preload=True))
    with TestClient(create_app(registry, ServeSettings()), base_url="http://127.0.0.1") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        shards = (folder / "many" / f"shard-{number:04d}" for number in range(2))
        assert set(read) == files(folder / "one", *shards)
        assert len(read) == len(set(read)) == 12


def test_new_commits_are_read_ahead(tmp_path: Path, read: list[Path]) -> None:
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    index = ServedIndex("i", tmp_path / "i", preload=True)
    index.preload()
    assert set(read) == files(tmp_path / "i")
    read.clear()
    add_tokens(tmp_path / "i", "c", seed=1)
    assert index.refresh()
    assert set(read) == files(tmp_path / "i")
    assert len(read) == 8
    index.close()


def test_unless_it_is_wanted_nothing_is_read_ahead(folder: Path, read: list[Path]) -> None:
    index = ServedIndex("one", folder / "one")
    index.preload()
    index.close()
    assert read == []


def test_searchers_of_shards_and_actors_read_theirs(folder: Path, read: list[Path]) -> None:
    shards = [folder / "many" / f"shard-{number:04d}" for number in range(2)]
    with ShardedSearcher(folder / "many", preload=True):
        assert set(read) == files(*shards)
    read.clear()
    ShardActor(str(shards[1]))
    assert read == []
    ShardActor(str(shards[1]), True).ready()
    assert set(read) == files(shards[1])


@pytest.mark.parametrize(("wanted", "seconds"), [(True, PRELOAD_SECONDS), (False, START_SECONDS)])
def test_on_a_cluster_the_actors_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool, seconds: float
) -> None:
    told: list[Any] = []
    session = SimpleNamespace(ray=None, close=lambda: None)
    monkeypatch.setattr(cluster_searcher, "connect", lambda cluster: session)
    monkeypatch.setattr(
        cluster_searcher, "start_replicas", lambda shards, **options: told.append(options["preload"]) or []
    )
    monkeypatch.setattr(cluster_searcher, "_wait_until_open", lambda *given: told.append(given[-1]))
    ClusterSearcher(folder / "many", preload=wanted).close()
    assert told == [wanted, seconds]


def test_a_corpus_on_a_cluster_leaves_reading_to_the_actors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    class Recorded(ShardedSearcher):
        def __init__(self, path: Path, *, preload: bool, **options: Any) -> None:
            opened.append(preload)
            super().__init__(path, **options)

        def preload(self) -> None:
            raise AssertionError("the actors read for themselves")

    monkeypatch.setattr(deployment, "ClusterSearcher", Recorded)
    for preload in (True, False):
        corpus = cluster_opener(preload=preload)("many", folder / "many")
        corpus.preload()
        corpus.close()
    assert opened == [True, False]


def test_the_command_line_asks_for_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("colbert_video.serve.launch.serve", lambda *_, opened, **options: given.append(opened))
    for flags in ([], ["--preload"]):
        assert run(["serve", str(folder / "one"), *flags], capsys)[0] == 0
    assert [one.keywords["preload"] for one in given] == [False, True]
