"""Compaction from the videos' files: the index that a first run on the same files would have made."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operations import everything

from colbert_video import Indexer, VideoColBERT
from colbert_video.cli.tables import compact_text
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.build import commit, ingest
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.training.world import write_world
from colbert_video.video.sources import VideoRecord


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: VideoColBERT) -> Path:
    """A folder with clips and their index, which was begun with two and has two segments."""
    folder = tmp_path_factory.mktemp("reencode")
    write_world(folder / "clips", count=8, seed=5, split="test", frames=6)
    indexer = Indexer(folder / "i", model=tiny_trained_model, workers=1)
    indexer.index([folder / "clips" / "clip-0001.mp4", folder / "clips" / "clip-0002.mp4"])
    indexer.add([(f"clip-{n:04}.mp4", folder / "clips" / f"clip-{n:04}.mp4", {"n": n}) for n in range(3, 9)])
    indexer.add(folder / "clips", checksum=True)
    return folder


@pytest.fixture
def clips(original: Path, tmp_path: Path) -> Path:
    """A copy of the clips beside one of the index, which looks for them there."""
    shutil.copytree(original / "i", tmp_path / "i")
    folder = shutil.copytree(original / "clips", tmp_path / "clips")
    with Catalog.open(tmp_path / "i", writable=True) as catalog:
        entries = [type(entry)(**{**vars(entry), "path": str(folder / entry.id)}) for entry in catalog.entries()]
        catalog.update(entries)
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the videos that go through the model."""
    counts: list[int] = []
    real = VideoColBERT.encode_videos

    def counting(self: VideoColBERT, videos: list, **settings: int) -> Any:
        counts.append(len(videos))
        return real(self, videos, **settings)

    monkeypatch.setattr(VideoColBERT, "encode_videos", counting)
    return counts


def test_it_is_the_index_of_a_first_run(clips: Path, tiny_trained_model: VideoColBERT, encoded: list[int]) -> None:
    path = clips.parent / "i"
    before = everything(path)
    with Catalog.open(path) as catalog:
        rows, checksums = catalog.entries(), catalog.checksums(list(before))
    report = Indexer(path, model=tiny_trained_model, workers=1).compact(retrain="paths")
    assert (report.compacted, report.retrained, report.reencoded, report.kept) == (True, True, 8, ())
    assert (report.merged, report.videos, sum(encoded)) == (2, 8, 8)
    records = [(row.id, row.path, dict(row.metadata)) for row in rows]
    Indexer(clips.parent / "scratch", model=tiny_trained_model, workers=1).index(records)
    after, scratch = everything(path), everything(clips.parent / "scratch")
    assert after == scratch
    assert after.keys() == before.keys()
    assert after != before  # the codec of two videos served the others badly
    with Catalog.open(path) as catalog:
        assert catalog.checksums(list(before)) == checksums
        assert len(checksums) == 8
        assert catalog.staged_ids() == set()
        assert len(catalog.live_segments()) == 1
    assert verify_index(path).leftovers == ()
    assert describe_index(path)["codec_drift"] is None
    assert Indexer(path, model=tiny_trained_model, workers=1).add(clips).unchanged == 8


def test_stored_tokens_serve_where_files_do_not(clips: Path, tiny_trained_model: VideoColBERT) -> None:
    path = clips.parent / "i"
    before = everything(path)
    (clips / "clip-0001.mp4").unlink()
    os.utime(clips / "clip-0004.mp4", ns=(1, 1))
    broken = clips / "clip-0005.mp4"
    status = broken.stat()
    broken.write_bytes(bytes(status.st_size))
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Catalog.open(path, writable=True) as catalog:
        catalog.update([type(entry)(**{**vars(entry), "path": None}) for entry in catalog.entries(["clip-0006.mp4"])])
        refused = Failure("clip-0004.mp4", str(clips / "clip-0004.mp4"), "undecodable", "its newer version", 5.0)
        catalog.record_failures([refused])
    report = Indexer(path, model=tiny_trained_model, workers=1).compact(retrain="paths")
    kinds = {failure.id: failure.kind for failure in report.kept}
    assert kinds == {
        "clip-0001.mp4": "missing",
        "clip-0004.mp4": "changed",
        "clip-0005.mp4": "unreadable",
        "clip-0006.mp4": "no_path",
    }
    assert report.reencoded == 4
    assert "4 videos encoded again; stored tokens kept of 4 videos:" in compact_text(report)
    assert report.to_dict()["kept"][0]["id"] == "clip-0001.mp4"
    after = everything(path)
    assert after.keys() == before.keys()
    for name in kinds:
        assert after[name][0] == pytest.approx(before[name][0], abs=0.05)
        assert after[name][3] == before[name][3]
    assert verify_index(path).intact
    with Catalog.open(path) as catalog:
        assert catalog.failures() == [refused]  # as before: what was kept is no new failure, and none is forgotten


def test_an_interruption_leaves_the_index_and_what_was_encoded(
    clips: Path, tiny_trained_model: VideoColBERT, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.parent / "i"
    before, indexer = everything(path), Indexer(path, model=tiny_trained_model, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "sync_tree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            indexer.compact(retrain="paths")
    assert everything(path) == before
    assert sum(encoded) == 8
    report = indexer.compact(retrain="paths")
    assert (report.reencoded, sum(encoded)) == (8, 8)  # nothing is encoded twice
    assert len(list((path / "segments").iterdir())) == len(list((path / "codec").iterdir())) == 1


def test_what_an_interrupted_run_staged_otherwise_is_not_taken(
    clips: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another part of the same file, and other metadata, which that run never committed."""
    path, file = clips.parent / "i", str(clips / "clip-0003.mp4")
    indexer = Indexer(path, model=tiny_trained_model, workers=1)
    before = everything(path)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            indexer.add([VideoRecord("clip-0003.mp4", file, {"n": -1}, (0.0, 0.2))])
    assert indexer.compact(retrain="paths").reencoded == 8
    with Catalog.open(path) as catalog:
        entry = catalog.entries(["clip-0003.mp4"])[0]
    assert (entry.metadata, entry.start, entry.end) == ({"n": 3}, 0.0, entry.duration)
    assert everything(path).keys() == before.keys()


def test_windows_are_cut_as_they_were(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    write_world(tmp_path / "clips", count=3, seed=5, split="test", frames=36)
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, window=1.0)
    indexer.index(tmp_path / "clips")
    before = describe_index(tmp_path / "i")
    with Catalog.open(tmp_path / "i") as catalog:
        windows = [entry.id for entry in catalog.entries() if entry.parent == "clip-0002.mp4"]
    assert len(windows) > 1
    indexer.remove(windows[0])
    report = indexer.compact(retrain="paths")
    assert report.reencoded == 2
    assert [(failure.id, failure.kind) for failure in report.kept] == [("clip-0002.mp4", "changed")]
    with Catalog.open(tmp_path / "i") as catalog:
        ids = {entry.id for entry in catalog.entries()}
    assert windows[0] not in ids  # what was removed stays removed
    assert set(windows[1:]) < ids
    assert describe_index(tmp_path / "i")["bags"] == before["bags"]


def test_without_a_model_or_a_way_nothing_is_done(tmp_path: Path) -> None:
    tokens = np.eye(64, dtype=np.float32)[None, :3].repeat(2, axis=0)
    Indexer(tmp_path / "i", dim=64).index_tokens(["a", "b"], tokens)
    with pytest.raises(SettingsError, match="made from precomputed tokens"):
        Indexer(tmp_path / "i").compact(retrain="paths")
    with pytest.raises(IndexFolderError, match="holds no index"):
        Indexer(tmp_path / "nowhere").compact(retrain="paths")
