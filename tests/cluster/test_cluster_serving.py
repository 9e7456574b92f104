"""Searching shards on a cluster: what one index finds, whatever dies meanwhile, and nothing missing unsaid."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from thorough import thorough_only
from token_corpus import DIM, random_bags, unit_tokens
from window_corpus import commit_windows

from colbert_video import Indexer, Searcher
from colbert_video.cluster.cluster_searcher import ClusterSearcher
from colbert_video.errors import IndexFolderError, SettingsError, ShardsUnavailableError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.hit import Hit

pytest_plugins = ("cluster_fixture",)
pytestmark = thorough_only

EXPENSIVE = pytest.mark.skipif(
    not os.environ.get("COLBERT_VIDEO_CLUSTER_TESTS"),
    reason="wants a quiet machine, for clusters of its own or where processes come to run: COLBERT_VIDEO_CLUSTER_TESTS=1",
)
VIDEOS = {f"v{number:02d}": number % 4 for number in range(24)}
QUERY = unit_tokens(4, DIM, seed=3)
PATIENT = 120.0
"""Seconds; more than any restart takes on a busy machine."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    commit_windows(folder / "one", VIDEOS, seed=1, add=False)
    shard_index(folder / "one", folder / "many", shards=2)
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Searcher]:
    with Searcher(folder / "one") as searcher:
        yield searcher


@pytest.fixture(scope="module")
def opened(folder: Path, ray_cluster: str) -> Iterator[ClusterSearcher]:
    """Two replicas of two shards on three machines."""
    with ClusterSearcher(folder / "many", cluster=ray_cluster, replicas=2, deadline=PATIENT, preload=True) as searcher:
        yield searcher


@pytest.fixture
def many(opened: ClusterSearcher) -> Iterator[ClusterSearcher]:
    """Whatever a test did, the next one finds all replicas at work."""
    opened.deadline, opened._hedge = PATIENT, 0.5
    yield opened
    for shard in opened.shards:
        for replica in shard.replicas:
            process(opened, replica)


def process(searcher: ClusterSearcher, replica: Any) -> int:
    """The process of a replica, once it is there."""
    assert searcher._session is not None
    return searcher._session.ray.get(replica.handle.ready.options(max_task_retries=-1).remote())


@contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """Processes that hang."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def told(hits: list[Hit]) -> list[tuple[Any, ...]]:
    return [(hit.rank, hit.id, hit.score, hit.start, hit.end, hit.metadata) for hit in hits]


def shard_of(folder: Path) -> dict[str, int]:
    """Which shard holds a video."""
    held = {}
    for number in range(2):
        with Catalog.open(folder / "many" / f"shard-{number:04d}") as catalog:
            held |= {entry.video: number for entry in catalog.entries()}
    return held


@pytest.mark.parametrize(
    "options",
    [
        {"k": 5},
        {"k": 100, "exact": True},
        {"k": 3, "group": False},
        {"k": 9, "where": {"name": {">": "v10"}}},
        {"k": 9, "ids": ["v01", "v22", "v03#t=10,20"]},
        {"k": 9, "ids": []},
    ],
    ids=str,
)
def test_a_cluster_finds_what_one_index_finds(many: ClusterSearcher, one: Searcher, options: dict[str, Any]) -> None:
    for seed in range(3):
        query = unit_tokens(4, DIM, seed=seed)
        found = many.search_tokens(query, **options)
        assert told(found) == told(one.search_tokens(query, **options))
        assert found.shards_failed == ()


def test_words_explanations_and_rankings(many: ClusterSearcher, folder: Path, tiny_trained_model: Any) -> None:
    many.use_model(tiny_trained_model)
    with Searcher(folder / "one", model=tiny_trained_model) as one:
        assert told(many.search("red", k=4)) == told(one.search("red", k=4))
        assert many.search_all({"q": "red"}, k=4).todict() == one.search_all({"q": "red"}, k=4).todict()
        assert many.explain("red", "v23").to_dict() == one.explain("red", "v23").to_dict()


def test_what_cannot_be_asked_is_refused_before_any_shard_is(many: ClusterSearcher) -> None:
    with pytest.raises(SettingsError, match="id 'nobody' is not in the corpus"):
        many.search_tokens(QUERY, ids=["v01", "nobody"])
    with pytest.raises(SettingsError, match="is not an operator"):
        many.search_tokens(QUERY, where={"name": {"~": 1}})


@EXPENSIVE
def test_replicas_of_a_shard_are_on_different_machines(many: ClusterSearcher) -> None:
    import ray

    for shard in many.shards:
        asked = [
            replica.handle.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
            for replica in shard.replicas
        ]
        assert len(set(ray.get(asked))) == 2


@thorough_only
def test_killed_actors_cost_no_answer(many: ClusterSearcher, one: Searcher) -> None:
    """First one replica of a shard, then both: the other one answers, then one that was started again."""
    wanted = told(one.search_tokens(QUERY, k=9))
    for victims in (many.shards[0].replicas[:1], many.shards[1].replicas):
        before = [process(many, replica) for replica in victims]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for _ in range(4):
            found = many.search_tokens(QUERY, k=9)
            assert told(found) == wanted
            assert found.shards_failed == ()
        assert not {process(many, replica) for replica in victims} & set(before)


def test_a_replica_that_hangs_is_passed_over(many: ClusterSearcher, one: Searcher) -> None:
    many._hedge = 0.2
    hanging = many.shards[0].replicas[1]
    with stopped([process(many, hanging)]):
        for _ in range(4):
            assert told(many.search_tokens(QUERY, k=9)) == told(one.search_tokens(QUERY, k=9))
        assert not hanging.trusted
    process(many, hanging)
    until(lambda: hanging.trusted)


def test_an_answer_in_part_says_so(many: ClusterSearcher, one: Searcher, folder: Path) -> None:
    held = shard_of(folder)
    every = one.search_tokens(QUERY, k=len(VIDEOS))
    with stopped([process(many, replica) for replica in many.shards[1].replicas]):
        many.deadline = 1.5
        begun = time.monotonic()
        found = many.search_tokens(QUERY, k=len(VIDEOS))
        assert time.monotonic() - begun < 10
        assert found.shards_failed == ("shard-0001",)
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in every if held[hit.id] == 0]
        with pytest.raises(ShardsUnavailableError, match=r"no shard answered within 1.5 s \(shard-0001\)"):
            many.search_tokens(QUERY, ids=["v23"])
    many.deadline = PATIENT
    assert told(many.search_tokens(QUERY, k=len(VIDEOS))) == told(every)


def test_every_replica_sees_new_commits(many: ClusterSearcher, folder: Path) -> None:
    bags = random_bags(1, seed=9)
    Indexer(folder / "many" / "shard-0001").index_tokens(["new"], bags, bags, add=True)
    assert many.refresh()
    for _ in range(4):
        assert many.search_tokens(bags[0], k=1)[0].id == "new"
    Indexer(folder / "many" / "shard-0001").remove(["new"])
    assert many.refresh()
    assert not many.refresh()


def test_a_shard_that_cannot_be_opened_is_named(folder: Path, ray_cluster: str, tmp_path: Path) -> None:
    shard_index(folder / "one", tmp_path / "damaged", shards=1)
    next((tmp_path / "damaged").rglob("0.codes.pt")).unlink()
    with pytest.raises(IndexFolderError, match=r"0\.codes\.pt"):
        ClusterSearcher(tmp_path / "damaged", cluster=ray_cluster)
    with pytest.raises(SettingsError, match="replicas=0"):
        ClusterSearcher(folder / "many", cluster=ray_cluster, replicas=0)


def until(holds: Any, seconds: float = PATIENT) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@EXPENSIVE
def test_the_loss_of_a_machine_costs_no_answer(folder: Path, one: Searcher, tmp_path: Path) -> None:
    """In a process of its own: this one is connected to the shared cluster."""
    run_alone(partial(_lose_a_machine, folder, told(one.search_tokens(QUERY, k=9))))


def _lose_a_machine(folder: Path, wanted: list[tuple[Any, ...]]) -> None:
    from cluster_fixture import kill_machine, start_cluster

    cluster = start_cluster()
    with ClusterSearcher(folder / "many", cluster=cluster.address, replicas=2, deadline=PATIENT) as many:
        for node in list(cluster.worker_nodes):
            kill_machine(cluster, node)
            for _ in range(5):
                begun = time.monotonic()
                assert told(many.search_tokens(QUERY, k=9)) == wanted
                assert time.monotonic() - begun < PATIENT
    cluster.shutdown()


@EXPENSIVE
def test_ray_serve_runs_the_same_service(folder: Path, tmp_path: Path) -> None:
    run_alone(partial(_serve, folder))


def _serve(folder: Path) -> None:
    import httpx2
    from cluster_fixture import start_cluster
    from ray import serve

    from colbert_video.cluster.deployment import serve_deployment
    from colbert_video.cluster.session import connect
    from colbert_video.serve.service_settings import ServeSettings

    cluster = start_cluster()
    with connect(cluster.address):
        app = serve_deployment([str(folder / "many")], settings=ServeSettings(token="a-long-secret-of-the-tests"))
        serve.run(app, route_prefix="/videos")
        client = httpx2.Client(
            base_url="http://127.0.0.1:8000/videos", headers={"Authorization": "Bearer a-long-secret-of-the-tests"}
        )
        assert client.get("/healthz").json() == {"status": "alive"}
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/api/indexes").json()["indexes"][0]["videos"] == len(VIDEOS)
        assert client.get("/api/video", params={"id": "v01"}).json()["id"] == "v01"
        assert client.get("/api/search", params={"query": "red"}).status_code == 422  # tokens without a model
        assert "Video search" in client.get("/").text
        serve.shutdown()
    cluster.shutdown()


def run_alone(call: Any) -> None:
    """Run a call in a fresh process."""
    import multiprocessing

    child = multiprocessing.get_context("spawn").Process(target=call)
    child.start()
    child.join()
    assert child.exitcode == 0
