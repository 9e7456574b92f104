"""Indexing on a cluster: the index that one machine makes, whatever befalls workers, videos and the run itself."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_clips import write_counting_clip
from thorough import thorough_only

from colbert_video import Indexer, VideoColBERT
from colbert_video.cluster.indexing.cluster_worker import Receipt
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.video.sources import VideoRecord

pytest.importorskip("ray")
pytest_plugins = ("cluster_fixture",)  # shared with test_cluster_serving: imported twice, it would be two clusters

GOOD = 20


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRecord]:
    """Videos that are all right."""
    folder = tmp_path_factory.mktemp("cluster") / "clips"
    folder.mkdir()
    names = [f"{number:02}.mp4" for number in range(GOOD)]
    return [
        VideoRecord(name, str(write_counting_clip(folder / name, frames=3, first=2 * number)), {"n": number})
        for number, name in enumerate(names)
    ]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers that come to harm."""
    import poison_encoder
    from ray import cloudpickle

    from colbert_video.cluster.indexing import cluster_run as indexing
    from colbert_video.cluster.indexing import retries

    monkeypatch.setattr(indexing, "Encoder", poison_encoder.PoisonEncoder)
    monkeypatch.setattr(retries, "LONE_TRIES", 1)
    cloudpickle.register_pickle_by_value(poison_encoder)
    yield
    cloudpickle.unregister_pickle_by_value(poison_encoder)


def rows(path: Path) -> list[dict[str, Any]]:
    """What the catalog keeps of each video, in order, but for the random name of the segment."""
    with Catalog.open(path) as catalog:
        return [{**vars(entry), "segment": None} for entry in catalog.entries()]


def arrays(path: Path) -> dict[str, bytes]:
    """Content of every array of an index of one segment."""
    (segment,) = (path / "segments").iterdir()
    files = [file for file in segment.rglob("*") if file.is_file()]
    return {file.relative_to(segment).as_posix(): file.read_bytes() for file in files}


def bad_videos(folder: Path) -> dict[str, str]:
    """Paths of videos that harm who reads them, by id."""
    folder.mkdir()
    paths = {"torn": folder / "torn.mp4", "aborts": folder / "signal-SIGABRT", "hangs": folder / "sleep-99"}
    for path in paths.values():
        path.write_bytes(b"no video")
    return {name: str(path) for name, path in paths.items()}


@thorough_only
def test_the_index_is_that_of_one_machine_and_poison_costs_itself_alone(
    tmp_path: Path, videos: list[VideoRecord], tiny_trained_model: VideoColBERT, ray_cluster: str, poison: None
) -> None:
    bad = bad_videos(tmp_path / "bad")
    doomed = [VideoRecord(name, path) for name, path in bad.items()]
    doomed += [VideoRecord(name, videos[0].path) for name in ("fatal", "bug")]
    unlucky = VideoRecord("unlucky", videos[1].path)
    (tmp_path / "run").mkdir()
    mixed = [*videos[:3], doomed[0], *videos[3:9], unlucky, *doomed[1:3], *videos[9:15], *doomed[3:], *videos[15:]]
    report = Indexer(tmp_path / "run" / "i", model=tiny_trained_model, timeout=8).index(mixed, cluster=ray_cluster)
    reasons = {failure.id: (failure.kind, failure.detail) for failure in report.failures}
    assert reasons.keys() == {record.id for record in doomed}
    assert reasons["torn"][0] == "unreadable"
    assert reasons["aborts"][0] == "crashed"
    assert "SIGABRT" in reasons["aborts"][1]
    assert reasons["hangs"][0] == "timeout"
    assert reasons["fatal"][0] == "crashed"
    assert "1 workers were lost while they encoded it" in reasons["fatal"][1]
    assert reasons["bug"] == ("error", "RuntimeError: a worker's own bug")
    assert (report.indexed, report.resumed) == (GOOD + 1, 0)

    here = [record for record in mixed if record not in doomed]
    Indexer(tmp_path / "local", model=tiny_trained_model, workers=1).index(here)
    assert rows(tmp_path / "run" / "i") == rows(tmp_path / "local")
    assert arrays(tmp_path / "run" / "i") == arrays(tmp_path / "local")
    assert verify_index(tmp_path / "run" / "i").problems == ()
    assert not list((tmp_path / "run" / "i" / "staging").iterdir())
    tries = Counter((tmp_path / "run" / "encoded.txt").read_text().split())
    assert tries["fatal"] == 2  # with its block, and alone
    assert max(tries.values()) <= 3


@thorough_only
def test_an_interrupted_run_goes_on_where_it_was_and_add_adds(
    tmp_path: Path,
    videos: list[VideoRecord],
    tiny_trained_model: VideoColBERT,
    ray_cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from colbert_video.cluster.indexing.cluster_run import ClusterHelpers

    keep, given = ClusterHelpers._keep, []

    def interrupted(self: ClusterHelpers, catalog: Catalog, receipt: Receipt) -> None:
        keep(self, catalog, receipt)
        given.extend(entry.id for entry in receipt.entries)
        if len(given) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(ClusterHelpers, "_keep", interrupted)
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model)
    with pytest.raises(KeyboardInterrupt):
        indexer.index(videos[:16], cluster=ray_cluster)
    report = indexer.index(videos[:16], cluster=ray_cluster)
    assert (report.indexed, report.resumed, report.failures) == (16, 8, ())
    assert sorted(given) == [record.id for record in videos[:16]]  # each of them once
    report = indexer.add(videos, cluster=ray_cluster)
    assert (report.indexed, report.unchanged, report.videos) == (4, 16, 20)
    assert report.drift is not None

    local = Indexer(tmp_path / "local", model=tiny_trained_model, workers=1)
    local.index(videos[:16])
    assert local.add(videos).drift == report.drift
    assert rows(tmp_path / "i") == rows(tmp_path / "local")
    assert verify_index(tmp_path / "i").problems == ()
