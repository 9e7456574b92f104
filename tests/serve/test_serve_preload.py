"""A service that reads its indexes into memory: it lives at once, is ready when they are read, and stops meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run
from operations import add_tokens
from serving import error_of, wait_until
from starlette.testclient import TestClient

from colbert_video.cluster import cluster_searcher, served
from colbert_video.cluster.actor import ShardActor
from colbert_video.cluster.cluster_searcher import PRELOAD_SECONDS, START_SECONDS, ClusterSearcher
from colbert_video.cluster.served import open_served
from colbert_video.indexing.scan import preload
from colbert_video.indexing.scan.preload import Preloader
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
    """The files that were begun."""
    begun: list[Path] = []
    original = preload.blocks

    def noted(path: Path, buffer: bytearray) -> Iterator[int]:
        begun.append(path)
        return original(path, buffer)

    monkeypatch.setattr(preload, "blocks", noted)
    return begun


def files(*indexes: Path) -> set[Path]:
    return {
        path
        for index in indexes
        for path in index.glob("segments/*/*/0.*.pt")
        if path.name in ("0.codes.pt", "0.residuals.pt")
    }


def client_of(*indexes: Path, preloader: Preloader) -> TestClient:
    def opened(name: str, path: Path, **options: Any) -> ServedIndex:
        return open_served(name, path, preloader=preloader, **options)

    registry = IndexRegistry.open([str(index) for index in indexes], refresh_seconds=0.05, opened=opened)
    return TestClient(create_app(registry, ServeSettings()), base_url="http://127.0.0.1")


def test_the_service_lives_at_once_and_is_ready_when_all_is_read(
    folder: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, noted = threading.Event(), preload.blocks

    def waiting(path: Path, buffer: bytearray) -> Iterator[int]:
        for count in noted(path, buffer):
            assert go_on.wait(60)
            yield count

    monkeypatch.setattr(preload, "blocks", waiting)
    with client_of(folder / "one", folder / "many", preloader=Preloader()) as client:
        try:
            wait_until(lambda: read)
            assert client.get("/healthz").status_code == 200
            assert error_of(client.get("/readyz")) == (503, "not_ready")
            assert len(read) == 1
        finally:
            go_on.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        shards = (folder / "many" / f"shard-{number:04d}" for number in range(2))
        assert set(read) == files(folder / "one", *shards)
        assert len(read) == len(set(read)) == 12


def test_a_service_that_is_stopped_reads_no_further(
    folder: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    preloader, noted = Preloader(), preload.blocks
    stopped = threading.Event()
    monkeypatch.setattr(preloader, "stop", lambda: (Preloader.stop(preloader), stopped.set()))

    def waiting(path: Path, buffer: bytearray) -> Iterator[int]:
        for count in noted(path, buffer):
            assert stopped.wait(60)
            yield count

    monkeypatch.setattr(preload, "blocks", waiting)
    with client_of(folder / "one", preloader=preloader):
        wait_until(lambda: read)
    assert len(read) == 1


def test_new_commits_are_read_before_they_are_searched(tmp_path: Path, read: list[Path]) -> None:
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    index = open_served("i", tmp_path / "i", preloader=Preloader())
    index.preload()
    before = files(tmp_path / "i")
    assert set(read) == before
    add_tokens(tmp_path / "i", "c", seed=1)
    assert index.refresh()
    assert set(read[len(before) :]) == files(tmp_path / "i") - before
    assert len(read) == 8
    index.close()


def test_an_index_that_cannot_be_read_ahead_is_served_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(path: Path, buffer: bytearray) -> Iterator[int]:
        raise RuntimeError("the terminal is gone")

    monkeypatch.setattr(preload, "blocks", failing)
    index = open_served("one", folder / "one", preloader=Preloader())
    index.preload()
    index.load_model()
    assert index.state == "ready"
    assert "index one is not read into memory" in caplog.text
    assert "the terminal is gone" in caplog.text
    index.close()


def test_without_a_preloader_nothing_is_read(folder: Path, read: list[Path]) -> None:
    index = open_served("one", folder / "one")
    index.preload()
    index.close()
    assert read == []


def test_searchers_of_shards_and_actors_read_theirs(folder: Path, read: list[Path]) -> None:
    shards = [folder / "many" / f"shard-{number:04d}" for number in range(2)]
    with ShardedSearcher(folder / "many", preload=True) as searcher:
        assert set(read) == files(*shards)
        assert len({id(shard._preloader) for shard in searcher._shards}) == 1
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


def test_a_corpus_on_a_cluster_leaves_reading_to_the_actors(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []

    class Recorded(ShardedSearcher):
        def __init__(self, path: Path, *, preload: bool, **options: Any) -> None:
            opened.append(preload)
            super().__init__(path, **options)

        def preload(self, preloader: Preloader | None = None) -> None:
            raise AssertionError("the actors read for themselves")

    monkeypatch.setattr(served, "ClusterSearcher", Recorded)
    for preloader, cluster in ((Preloader(), {}), (None, {}), (None, {"preload": True})):
        corpus = open_served("many", folder / "many", preloader=preloader, cluster=cluster)
        assert corpus._preloader is None
        corpus.preload()
        corpus.close()
    assert opened == [True, False, True]


def test_the_command_line_gives_all_indexes_one_preloader(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        "colbert_video.serve.launch.serve", lambda *_, opened, **options: given.append(opened)
    )
    for flags in ([], ["--preload"]):
        assert run(["serve", str(folder / "one"), *flags], capsys)[0] == 0
    assert given[0].keywords["preloader"] is None
    assert isinstance(given[1].keywords["preloader"], Preloader)
