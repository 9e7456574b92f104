"""An index begun in vain is removed while its writer holds the lock, so that no other writer's work goes too."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from operations import add_tokens, everything

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME, WriterLock
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


needs_flock = pytest.mark.skipif(os.name == "nt", reason="flock is of POSIX")


@needs_flock
@pytest.mark.parametrize("held_by", ["this process", "another process"])
def test_a_lock_file_that_is_read_only_lets_in_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_by: str
) -> None:
    """As SQLite sees a file of another user: it can be read alone, and an exclusive transaction then locks nothing."""
    (tmp_path / LOCK_NAME).touch()
    connect = sqlite3.connect

    def connect_for_reading(path: Path, **settings: Any) -> sqlite3.Connection:
        if Path(path).name != LOCK_NAME:
            return connect(path, **settings)
        return connect(f"file:{path}?mode=ro", uri=True, **settings)

    monkeypatch.setattr(sqlite3, "connect", connect_for_reading)
    holder = _holding(tmp_path) if held_by == "another process" else _held_here(tmp_path)
    with holder, pytest.raises(IndexFolderError, match="another process is writing"):
        WriterLock(tmp_path)
    WriterLock(tmp_path).release()


@needs_flock
def test_a_lock_outlives_a_copy_of_its_folder(tmp_path: Path) -> None:
    """Closing any descriptor of a file ends the POSIX locks that SQLite holds on it."""
    folder = tmp_path / "index"
    folder.mkdir()
    lock = WriterLock(folder)
    shutil.copytree(folder, tmp_path / "copy")
    program = (
        f"from pathlib import Path; from {WriterLock.__module__} import WriterLock; WriterLock(Path({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "another process is writing" in done.stderr
    with pytest.raises(IndexFolderError, match="another process is writing"):
        WriterLock(folder)
    lock.release()
    WriterLock(folder).release()


@needs_flock
def test_writers_that_know_one_lock_alone_are_excluded(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / LOCK_NAME, isolation_level=None)) as older:
        older.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexFolderError, match="another process is writing"):
            WriterLock(tmp_path)
    lock = WriterLock(tmp_path)
    with (
        closing(sqlite3.connect(tmp_path / LOCK_NAME, timeout=0, isolation_level=None)) as older,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        older.execute("BEGIN EXCLUSIVE")
    lock.release()


@needs_flock
def test_without_flock_a_read_only_lock_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_flock(descriptor: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", no_flock)
    WriterLock(tmp_path).release()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root too
    with pytest.raises(IndexFolderError, match="is read-only, so it would keep no other writer out; make it writable"):
        WriterLock(tmp_path)


@needs_flock
def test_a_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    running, ready = os.pipe()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.write(ready, b"x")
        os.read(read, 1)  # lives until the parent has taken the lock again
        os._exit(0)
    os.close(read)
    try:
        os.read(running, 1)
        lock._connection.close()
        os.close(lock._folder)  # as when the parent dies
        lock._folder = None
        WriterLock(tmp_path).release()
    finally:
        for descriptor in (running, ready, write):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_a_forgotten_lock_is_released(tmp_path: Path) -> None:
    WriterLock(tmp_path)
    gc.collect()
    WriterLock(tmp_path).release()


def test_an_error_of_the_sweep_keeps_no_lock(tmp_path: Path) -> None:
    add_tokens(tmp_path, "a", seed=0, add=False)
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as catalog:
        catalog.execute("UPDATE files SET size = 'text'")
    with pytest.raises(IndexFolderError, match=r"row of file .* is damaged") as kept, writing(tmp_path, create=False):
        pass
    WriterLock(tmp_path).release()
    assert kept.value.__traceback__ is not None  # its frames live, and with them all that they did not close


@contextmanager
def _held_here(folder: Path) -> Iterator[None]:
    lock = WriterLock(folder)
    yield
    lock.release()


@contextmanager
def _holding(folder: Path) -> Iterator[None]:
    program = (
        f"import sys; from pathlib import Path; from {WriterLock.__module__} import WriterLock\n"
        f"lock = WriterLock(Path({str(folder)!r})); print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield
        process.communicate()
