"""An index begun in vain is removed while its writer still holds the lock, so that no other writer's work goes with it."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from operations import add_tokens, everything

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import LOCK_NAME, WriterLock
from colbert_video.indexing.index import folder as module
from colbert_video.indexing.index.folder import writing


def begin(path: Path) -> None:
    """Begin an index and fail."""
    with writing(path, create=True) as catalog:
        catalog.set_settings(pending={})
        (path / "codec").mkdir()
        (path / "codec" / "half").touch()
        raise SettingsError("in vain")


def begin_in_vain(path: Path) -> None:
    with pytest.raises(SettingsError, match="in vain"):
        begin(path)


@pytest.mark.parametrize("existed", [False, True])
def test_nothing_is_left_of_an_index_begun_in_vain(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "i"
    if existed:
        path.mkdir()
    begin_in_vain(path)
    assert path.exists() == existed
    assert not existed or list(path.iterdir()) == []


@pytest.mark.parametrize("room", ["codec", "catalog.sqlite"])
def test_no_other_writer_begins_while_it_is_removed(tmp_path: Path, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    rmtree, unlink = shutil.rmtree, Path.unlink

    def try_to_write(path: Path) -> None:
        if path.name.startswith(room) and not refused:
            with pytest.raises(IndexFolderError) as raised:
                add_tokens(tmp_path / "i", "ab", seed=0, add=False)
            refused.append(str(raised.value))

    def remove_folder(path: Path) -> None:
        try_to_write(path)
        rmtree(path)

    def remove_file(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        try_to_write(path)  # there is no catalog now, so that another writer would begin again

    monkeypatch.setattr(module.shutil, "rmtree", remove_folder)
    monkeypatch.setattr(Path, "unlink", remove_file)
    begin_in_vain(tmp_path / "i")
    monkeypatch.undo()
    assert len(refused) == 1
    assert "another process is writing" in refused[0]
    assert not (tmp_path / "i").exists()
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    assert set(everything(tmp_path / "i")) == {"a", "b"}


def test_an_index_of_another_writer_is_never_removed(tmp_path: Path) -> None:
    """A writer that finds the folder taken must not clear it."""
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    with writing(tmp_path / "i", create=False), pytest.raises(IndexFolderError, match="another process"):
        Indexer(tmp_path / "i").remove("a")
    assert set(everything(tmp_path / "i")) == {"a", "b"}
    Catalog.create(tmp_path / "begun").close()
    begin_in_vain(tmp_path / "begun")
    assert (tmp_path / "begun" / "catalog.sqlite").exists()  # begun by someone else


def test_a_lock_whose_file_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened the file just before its holder removed it locks a file that no one else will see."""
    connect = sqlite3.connect

    def connect_too_late(path: Path, **settings: object) -> sqlite3.Connection:
        connection = connect(path, **settings)
        path.unlink()
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_too_late)
    with pytest.raises(IndexFolderError, match="cannot be locked"):
        WriterLock(tmp_path)
    monkeypatch.undo()
    WriterLock(tmp_path).release()
    assert (tmp_path / LOCK_NAME).exists()
