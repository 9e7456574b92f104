"""Which files are encoded again: changed ones, by stamp or by content; and which videos are gone."""

import os
import shutil
from pathlib import Path

import pytest

from colbert_video import Indexer, VideoColBERT
from colbert_video.cli.tables import report_text
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.training.world import write_world
from colbert_video.video.sources import VideoRecord


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_model: VideoColBERT) -> Path:
    """A folder with clips and their index beside it."""
    folder = tmp_path_factory.mktemp("changes")
    write_world(folder / "clips", count=3, seed=5, split="test", frames=6)
    Indexer(folder / "i", model=tiny_model, workers=1).index(folder / "clips")
    return folder


@pytest.fixture
def clips(original: Path, tmp_path: Path, tiny_model: VideoColBERT) -> Path:
    """A copy of it, in which the clips have new paths but the old times."""
    shutil.copytree(original / "i", tmp_path / "i")
    folder = shutil.copytree(original / "clips", tmp_path / "clips")
    with Catalog.open(tmp_path / "i", writable=True) as catalog:
        for entry in catalog.entries():
            values = {**vars(entry), "path": str(folder / entry.id)}
            catalog.update([type(entry)(**values)])
    return folder


def indexer(clips: Path, model: VideoColBERT) -> Indexer:
    return Indexer(clips.parent / "i", model=model, workers=1)


def test_touched_and_moved_files_are_kept_when_content_decides(clips: Path, tiny_model: VideoColBERT) -> None:
    first = indexer(clips, tiny_model).add(clips, checksum=True)  # remembers the checksums
    assert (first.indexed, first.unchanged) == (0, 3)
    os.utime(clips / "clip-0001.mp4", ns=(1, 1))
    moved = clips.rename(clips.with_name("moved"))
    report = indexer(moved, tiny_model).add(moved, checksum=True)
    assert (report.indexed, report.unchanged) == (0, 3)
    with Catalog.open(clips.parent / "i") as catalog:
        entry = catalog.entries(["clip-0001.mp4"])[0]
        assert (entry.path, entry.source_mtime_ns) == (str(moved / "clip-0001.mp4"), 1)
    assert indexer(moved, tiny_model).add(moved).unchanged == 3  # stamps were brought up to date


def test_a_change_that_keeps_size_and_time_is_found_by_content_alone(clips: Path, tiny_model: VideoColBERT) -> None:
    indexer(clips, tiny_model).add(clips, checksum=True)
    path = clips / "clip-0002.mp4"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert indexer(clips, tiny_model).add(clips).indexed == 0
    assert indexer(clips, tiny_model).add(clips, checksum=True).indexed == 1
    assert indexer(clips, tiny_model).add(clips, checksum=True).indexed == 0


def test_without_a_checksum_the_stamp_decides_once_more(clips: Path, tiny_model: VideoColBERT) -> None:
    os.utime(clips / "clip-0001.mp4", ns=(1, 1))
    assert indexer(clips, tiny_model).add(clips, checksum=True).indexed == 1
    os.utime(clips / "clip-0001.mp4", ns=(2, 2))
    assert indexer(clips, tiny_model).add(clips, checksum=True).indexed == 0


def test_a_checksum_is_never_that_of_older_content(clips: Path, tiny_model: VideoColBERT) -> None:
    indexer(clips, tiny_model).add(clips, checksum=True)
    path = clips / "clip-0001.mp4"
    old = path.read_bytes()
    path.write_bytes((clips / "clip-0002.mp4").read_bytes())
    assert indexer(clips, tiny_model).add(clips).indexed == 1  # no checksum is known now
    path.write_bytes(old)
    assert indexer(clips, tiny_model).add(clips, checksum=True).indexed == 1


def test_vanished_files_are_reported_and_removed_on_demand(clips: Path, tiny_model: VideoColBERT) -> None:
    (clips / "clip-0003.mp4").unlink()
    report = indexer(clips, tiny_model).add(clips)
    assert (report.vanished, report.removed, report.videos) == (("clip-0003.mp4",), (), 3)
    assert "add --sync" in report_text(report)
    report = indexer(clips, tiny_model).add([clips], sync=True)
    assert (report.vanished, report.removed, report.videos) == (("clip-0003.mp4",), ("clip-0003.mp4",), 2)
    assert indexer(clips, tiny_model).add(clips, sync=True).vanished == ()


def test_videos_elsewhere_are_left_alone(clips: Path, tiny_model: VideoColBERT) -> None:
    other = clips.parent / "clips-other"
    other.mkdir()
    shutil.copy(clips / "clip-0001.mp4", other / "one.mp4")
    indexer(clips, tiny_model).add(other)
    (other / "one.mp4").unlink()
    assert indexer(clips, tiny_model).add(clips, sync=True).removed == ()
    assert indexer(clips, tiny_model).add(clips / "clip-0001.mp4", sync=True).removed == ()


def test_new_metadata_and_new_cuts(clips: Path, tiny_model: VideoColBERT) -> None:
    path = str(clips / "clip-0001.mp4")
    report = indexer(clips, tiny_model).add([("clip-0001.mp4", path, {"channel": "news"})])
    assert (report.indexed, report.unchanged) == (0, 1)
    assert indexer(clips, tiny_model).add(clips).indexed == 0  # a folder gives no metadata
    with Catalog.open(clips.parent / "i") as catalog:
        assert catalog.entries(["clip-0001.mp4"])[0].metadata == {"channel": "news"}
    cut = VideoRecord("clip-0001.mp4", path, window=(0.0, 0.25))
    assert indexer(clips, tiny_model).add([cut]).indexed == 1
    assert indexer(clips, tiny_model).add([cut]).indexed == 0
    assert indexer(clips, tiny_model).add(clips).indexed == 1  # whole again


def test_a_changed_file_keeps_its_metadata_unless_others_are_given(clips: Path, tiny_model: VideoColBERT) -> None:
    path = clips / "clip-0001.mp4"
    indexer(clips, tiny_model).add([("clip-0001.mp4", path, {"channel": "news"})])
    os.utime(path, ns=(1, 1))
    assert indexer(clips, tiny_model).add(clips).indexed == 1
    with Catalog.open(clips.parent / "i") as catalog:
        assert catalog.entries(["clip-0001.mp4"])[0].metadata == {"channel": "news"}
