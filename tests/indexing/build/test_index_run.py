"""Who works for a run: a cluster comes from the caller, as an object or by its address."""

from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from video_writer import write_clip

from colbert_video import Indexer, VideoColBERT
from colbert_video.cluster import RayCluster
from colbert_video.errors import DependencyError, SettingsError
from colbert_video.indexing.build import index_run
from colbert_video.indexing.build.index_run import Cluster, Helpers, Work, find_cluster
from colbert_video.indexing.build.ingest import LocalHelpers


class OwnCluster:
    """A cluster of any kind: it needs no base class."""

    def __init__(self, address: str = "") -> None:
        self.address, self.log = address, ["made"]

    def __enter__(self) -> "OwnCluster":
        self.log.append("joined")
        return self

    def __exit__(self, *error: Any) -> None:
        self.log.append("left")

    @contextmanager
    def helpers(self, work: Work, model: VideoColBERT, *, by_name: bool, device: Any) -> Any:
        self.log.append("by name" if by_name else "sent")
        yield LocalHelpers(work, model)
        self.log.append("done")


def found_here(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [EntryPoint("ray", value, "colbert_video.clusters") for value in values]
    monkeypatch.setattr(index_run, "entry_points", lambda **asked: points)


def test_any_object_with_the_methods_is_a_cluster(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    cluster = OwnCluster()
    assert isinstance(cluster, Cluster)
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    clips = [write_clip(tmp_path / name, 6) for name in ("a.mp4", "b.mp4")]
    assert indexer.index(clips[0], cluster=cluster).indexed == 1
    assert cluster.log == ["made", "joined", "sent", "done", "left"]
    assert indexer.add(clips, cluster=cluster).unchanged == 1
    assert indexer.sync(clips, cluster=cluster).unchanged == 2
    assert cluster.log[5:] == 2 * ["joined", "sent", "done", "left"]


def test_ray_satisfies_what_an_indexer_asks_of_a_cluster() -> None:
    assert isinstance(RayCluster("10.0.0.1:6379"), Cluster)
    assert issubclass(LocalHelpers, Helpers)
    with pytest.raises(SettingsError, match="is not the address of a Ray cluster"):
        RayCluster("clips")


def test_an_address_is_opened_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found_here(monkeypatch, "colbert_video.cluster:RayCluster")
    opened = find_cluster("10.0.0.1:6379")
    assert isinstance(opened, RayCluster)
    assert opened.address == "10.0.0.1:6379"
    with find_cluster(None) as nothing:
        assert nothing is None


def test_without_an_entry_point_the_error_says_what_to_do(
    tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_here(monkeypatch)
    clip = write_clip(tmp_path / "a.mp4", 6)
    with pytest.raises(DependencyError, match=r"cluster='auto': .* install colbert_video again, or pass"):
        Indexer(tmp_path / "i", model=tiny_trained_model).index(clip, cluster="auto")
    assert not (tmp_path / "i").exists()
