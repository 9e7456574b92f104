"""`Indexer.sync`: one call brings an index in line with its videos, whatever it holds before."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from video_writer import write_clip

from colbert_video import Indexer, VideoColBERT
from colbert_video.errors import IndexFolderError, NothingIndexedError, SettingsError
from colbert_video.indexing.build import ingest
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.upkeep.verify import verify_index


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sync") / "clips"
    folder.mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        write_clip(folder / name, 10 + number)
    return folder


@pytest.fixture
def folder(tmp_path: Path, written: Path) -> Path:
    return shutil.copytree(written, tmp_path / "clips")


@pytest.fixture
def indexer(tmp_path: Path, tiny_trained_model: VideoColBERT) -> Indexer:
    return Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every run ends just before its commit, until this is undone."""

    def stop(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, "commit_segment", stop)
    return monkeypatch


def found(indexer: Indexer) -> set[str]:
    assert verify_index(indexer.path).intact
    with Catalog.open(indexer.path) as catalog:
        return {entry.id for entry in catalog.entries()}


def test_without_an_index_one_is_made(indexer: Indexer, folder: Path) -> None:
    report = indexer.sync(folder)
    assert (report.indexed, report.unchanged, report.removed, report.videos) == (3, 0, (), 3)
    assert found(indexer) == {"a.mp4", "b.mp4", "c.mp4"}


def test_where_nothing_changed_nothing_is_done(indexer: Indexer, folder: Path) -> None:
    indexer.sync(folder)
    with Catalog.open(indexer.path) as catalog:
        segments = catalog.live_segments()
    report = indexer.sync(folder)
    assert (report.indexed, report.unchanged, report.removed, report.complete) == (0, 3, (), True)
    with Catalog.open(indexer.path) as catalog:
        assert catalog.live_segments() == segments


def test_changed_new_and_missing_files_are_noticed_at_once(indexer: Indexer, folder: Path) -> None:
    indexer.sync(folder)
    write_clip(folder / "a.mp4", 30)
    (folder / "b.mp4").unlink()
    write_clip(folder / "d.mp4", 12)
    report = indexer.sync(folder)
    assert (report.indexed, report.unchanged, report.removed, report.videos) == (2, 1, ("b.mp4",), 3)
    assert found(indexer) == {"a.mp4", "c.mp4", "d.mp4"}
    with Catalog.open(indexer.path) as catalog:
        assert catalog.entries(["a.mp4"])[0].source_size == (folder / "a.mp4").stat().st_size


def test_videos_of_other_folders_stay(indexer: Indexer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write_clip(tmp_path / "more" / "e.mp4", 8)
    indexer.sync([folder, tmp_path / "more"])
    (folder / "a.mp4").unlink()
    report = indexer.sync(folder)
    assert (report.removed, report.unchanged, report.videos) == (("a.mp4",), 2, 3)
    assert "e.mp4" in found(indexer)


def test_an_interrupted_first_run_goes_on(indexer: Indexer, folder: Path, interrupted: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        indexer.sync(folder)
    interrupted.undo()
    report = indexer.sync(folder)
    assert (report.indexed, report.resumed, report.videos) == (3, 3, 3)
    assert found(indexer) == {"a.mp4", "b.mp4", "c.mp4"}


def test_an_interrupted_later_run_goes_on(indexer: Indexer, folder: Path, interrupted: pytest.MonkeyPatch) -> None:
    interrupted.undo()
    indexer.sync(folder)
    write_clip(folder / "d.mp4", 12)
    (folder / "b.mp4").unlink()
    interrupted.setattr(ingest, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        indexer.sync(folder)
    interrupted.undo()
    assert found(indexer) == {"a.mp4", "b.mp4", "c.mp4"}  # as it was before
    report = indexer.sync(folder)
    assert (report.indexed, report.resumed, report.removed) == (1, 1, ("b.mp4",))
    assert found(indexer) == {"a.mp4", "c.mp4", "d.mp4"}


def test_failures_are_listed_and_tried_again(indexer: Indexer, folder: Path, written: Path) -> None:
    (folder / "b.mp4").write_text("no video")
    report = indexer.sync(folder)
    assert (report.indexed, [failure.id for failure in report.failures]) == (2, ["b.mp4"])
    report = indexer.sync(folder)
    assert (report.unchanged, [failure.id for failure in report.failures]) == (2, ["b.mp4"])
    shutil.copy(written / "b.mp4", folder / "b.mp4")
    assert indexer.sync(folder).complete
    assert found(indexer) == {"a.mp4", "b.mp4", "c.mp4"}


def test_where_nothing_can_be_done_the_error_says_so(indexer: Indexer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.mp4").write_text("no video")
    with pytest.raises(NothingIndexedError, match=r"x\.mp4: unreadable"):
        indexer.sync(tmp_path / "bad")
    assert not indexer.path.exists()
    indexer.sync(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match="no video"):
        indexer.sync(folder)  # an empty folder may be a disk that is not mounted
    assert len(found(indexer)) == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("x")
    with pytest.raises(IndexFolderError, match="is not an index"):
        Indexer(tmp_path / "other", model=indexer._model.given, workers=1).sync(tmp_path / "bad")


def test_checksums_are_remembered_from_the_first_run(indexer: Indexer, folder: Path) -> None:
    indexer.sync(folder, checksum=True)
    os.utime(folder / "a.mp4", ns=(1, 1))
    assert indexer.sync(folder, checksum=True).unchanged == 3
    os.utime(folder / "a.mp4", ns=(2, 2))
    assert indexer.sync(folder).indexed == 1
