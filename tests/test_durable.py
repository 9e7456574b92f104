import hashlib
import os
from pathlib import Path

import pytest

from colbert_video import durable as files
from colbert_video.durable import checksum, fsync_folder, link_or_copy, sync_tree, write_bytes_durably

pytestmark = pytest.mark.usefixtures("real_fsync")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths in the order in which they are synced."""
    order: list[Path] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell which file is synced")
    monkeypatch.setattr(os, "fsync", record)
    return order


def test_sync_tree_takes_files_then_folders_from_the_inside(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path.resolve() / "index"
    inner = root / "segments" / "a" / "frame"
    inner.mkdir(parents=True)
    contents = [root / "one", inner / "two", inner.parent / "three"]
    for path in contents:
        path.write_text("x")
    sync_tree(root)
    assert set(synced[:3]) == set(contents)
    assert synced[3:] == [inner, inner.parent, root / "segments", root, root.parent]


def test_checksum_is_that_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(100_000)
    (tmp_path / "a").write_bytes(data)
    monkeypatch.setattr(files, "BLOCK", 4096)
    assert checksum(tmp_path / "a") == (100_000, hashlib.sha256(data).hexdigest())
    (tmp_path / "a").write_bytes(b"")
    assert checksum(tmp_path / "a") == (0, hashlib.sha256(b"").hexdigest())


def test_durable_write_syncs_before_and_after_the_rename(tmp_path: Path, synced: list[Path]) -> None:
    folder = tmp_path.resolve()
    path = folder / "note"
    path.write_bytes(b"old")
    write_bytes_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert synced[0].parent == folder
    assert synced[0] != path
    assert synced[1:] == [folder]
    assert list(folder.iterdir()) == [path]


def test_a_failed_durable_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_bytes_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_not_synced_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(files, "_fsync", lambda path, flags: opened.append(path))
    monkeypatch.setattr(files.os, "name", "nt")
    fsync_folder(tmp_path)
    monkeypatch.setattr(files.os, "name", "posix")
    fsync_folder(tmp_path)
    assert opened == [tmp_path]


def test_link_or_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    link_or_copy(source, tmp_path / "linked")
    assert (tmp_path / "linked").samefile(source)
    with pytest.raises(FileExistsError):
        link_or_copy(source, tmp_path / "linked")
    assert source.read_bytes() == b"content"

    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    link_or_copy(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"content"
    assert not (tmp_path / "copied").samefile(source)
