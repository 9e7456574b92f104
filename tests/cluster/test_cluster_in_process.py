"""The whole of an index run on a cluster, with workers that live in this process instead of Ray's."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from counting_clips import write_counting_clip

from colbert_video import Indexer, VideoColBERT
from colbert_video.cluster import RayCluster
from colbert_video.cluster.indexing import cluster_run as indexing
from colbert_video.cluster.indexing.cluster_worker import _loaded
from colbert_video.cluster.session import Session
from colbert_video.errors import ClusterError, ModelError
from colbert_video.indexing.build.index_run import Decoding, Work
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.verify import verify_index


@dataclass(eq=False)
class Call:
    """A reference to what a call came to."""

    value: Any


class HereRay:
    """Ray with actors that are objects here; a call is what it returned, or raised."""

    class RayError(Exception):
        """As Ray's."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayError, RayTaskError=RayError)

    def remote(self, **resources: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda *arguments: self.actor(kind(*arguments)))

    def actor(self, worker: Any) -> Any:
        methods = ("ready", "progress", "encode", "compress")
        return SimpleNamespace(
            worker=worker, **{name: SimpleNamespace(remote=self.call(getattr(worker, name))) for name in methods}
        )

    def call(self, method: Any) -> Any:
        return lambda *arguments: Call(method(*arguments))

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2

    def wait(self, calls: list[Any], *, num_returns: int = 1, timeout: float) -> Any:
        return calls[::-1][:num_returns], []  # the last one is done first

    def get(self, call: Any) -> Any:
        return call.value

    def kill(self, actor: Any) -> None:
        actor.worker._processes.close()


class HereCluster(RayCluster):
    """A cluster that is this process."""

    def __init__(self, ray: HereRay) -> None:
        super().__init__()
        self._ray = ray

    def __enter__(self) -> "HereCluster":
        self._sessions.append(Session(self._ray, "", started=False, ours=False))
        return self


def contents(path: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Rows of the catalog, and every file of the segments in their order."""
    with Catalog.open(path) as catalog:
        rows = [{**vars(entry), "segment": None} for entry in catalog.entries()]
        segments = [path / "segments" / segment.name for segment in catalog.live_segments()]
    files = {
        f"{number}/{file.relative_to(segment).as_posix()}": file.read_bytes()
        for number, segment in enumerate(segments)
        for file in segment.rglob("*.*")
    }
    return rows, files


def test_index_and_add_give_the_files_of_a_local_run(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(20):
        write_counting_clip(tmp_path / "clips" / f"{number:02}.mp4", frames=3, first=2 * number)
    (tmp_path / "clips" / "99.mp4").write_bytes(b"no video")
    videos = sorted(str(path) for path in (tmp_path / "clips").iterdir())
    made = {}
    for name, cluster in (("here", None), ("there", HereCluster(HereRay()))):
        run = Indexer(tmp_path / name, model=tiny_trained_model, workers=1)
        report = run.index([*videos[:16], videos[20]], cluster=cluster)
        assert (report.indexed, [failure.id for failure in report.failures]) == (16, ["99.mp4"])
        assert report.failures[0].kind == "unreadable"
        report = run.add(videos[:20], cluster=cluster)
        assert (report.indexed, report.unchanged, report.videos) == (4, 16, 20)
        assert verify_index(tmp_path / name).problems == ()
        assert not list((tmp_path / name / "staging").iterdir())
        made[name] = (*contents(tmp_path / name), report.drift)
    assert made["there"] == made["here"]


def test_an_index_folder_that_is_not_shared_is_noticed(
    tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(HereRay):
        def actor(self, worker: Any) -> Any:
            (tmp_path / "elsewhere" / "staging").mkdir(parents=True)
            worker._work = replace(worker._work, folder=tmp_path / "elsewhere")
            return super().actor(worker)

    monkeypatch.setattr(indexing, "SEEN_SECONDS", 0.2)
    clip = write_counting_clip(tmp_path / "clip.mp4", frames=3)
    with pytest.raises(ClusterError, match=r"must lie on storage\s+that all machines of the cluster share"):
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clip, cluster=HereCluster(Elsewhere()))


def test_a_worker_refuses_another_model_of_the_same_name() -> None:
    settings = IndexSettings(dim=64, bags=("frame", "video"), model="toy", model_fingerprint="another")
    with pytest.raises(ModelError, match="toy is another model on this machine than on the one that runs"):
        _loaded("toy", "cpu", Work(Path("i"), settings, Decoding("pyav", 60.0, 1, 2**20, 2**30)))
