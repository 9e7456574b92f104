"""Exports are complete and open read-only; archives that try tricks are refused and leave nothing."""

import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from operations import add_tokens, everything

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.upkeep import export as module
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.indexing.upkeep.verify import verify_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "my.index"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    Indexer(path).remove("a")
    with Catalog.open(path, writable=True) as catalog:
        paths = [f"/secret/{entry.id}.mp4" for entry in catalog.entries()]
        entries = [
            VideoEntry(**{**vars(entry), "path": path}) for entry, path in zip(catalog.entries(), paths, strict=True)
        ]
        catalog.update(entries)
        catalog.record_failures([Failure("bad", "/secret/bad.mp4", "empty", "no bytes")])
        catalog.stage("chunk", [VideoEntry("waiting", path="/secret/w.mp4")])
    (path / "segments" / "left").mkdir()
    return path


@pytest.fixture
def archive(index: Path, tmp_path: Path) -> Path:
    return Indexer(index).export(tmp_path / "out.tar").path


def test_a_folder_export_is_complete_and_minimal(index: Path, tmp_path: Path) -> None:
    report = Indexer(index).export(tmp_path / "copy")
    assert everything(tmp_path / "copy") == everything(index)
    verified = verify_index(tmp_path / "copy")
    assert verified.intact
    assert verified.leftovers == ()
    assert report.files == verified.files + 1
    with Catalog.open(tmp_path / "copy") as catalog:
        assert catalog.staged_ids() == set()
        assert catalog.entries(["b"])[0].path == "/secret/b.mp4"
    add_tokens(tmp_path / "copy", "z", seed=3)  # and may be changed
    assert "z" in everything(tmp_path / "copy")


def test_paths_can_be_dropped_without_a_trace(index: Path, tmp_path: Path) -> None:
    Indexer(index).export(tmp_path / "copy", keep_paths=False)
    assert everything(tmp_path / "copy") == everything(index)
    for path in (tmp_path / "copy").rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()
    with Catalog.open(tmp_path / "copy") as catalog:
        assert catalog.failures() == []


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("toy", True),
        ("ViT-B-32:openai", True),
        ("user/model", True),
        ("/secret/m", False),
        ("ViT-B-32:/secret/w.pt", False),
    ],
)
def test_a_model_that_is_named_by_a_path_is_dropped_with_the_paths(
    index: Path, tmp_path: Path, model: str, kept: bool
) -> None:
    shutil.copytree(index, tmp_path / "i")
    with sqlite3.connect(tmp_path / "i" / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE settings SET value = json_set(value, '$.model', ?) WHERE key = 'index'", (model,))
    Indexer(tmp_path / "i").export(tmp_path / "copy", keep_paths=False)
    with Catalog.open(tmp_path / "copy") as copy:
        assert copy.settings()["index"]["model"] == (model if kept else None)


def test_an_archive_is_unpacked_elsewhere(index: Path, archive: Path, tmp_path: Path) -> None:
    report = import_index(archive, tmp_path / "elsewhere")
    assert everything(tmp_path / "elsewhere") == everything(index)
    assert report.videos == 4
    assert verify_index(tmp_path / "elsewhere").leftovers == ()
    with tarfile.open(archive) as tar:
        assert all(member.isreg() and member.name.startswith("out/") for member in tar)
        assert {member.mtime for member in tar} == {0}


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can look into."""
    if os.name == "nt":
        pytest.skip("folder permissions are POSIX")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_export_opens_where_nothing_can_be_written(index: Path, public: Path) -> None:
    Indexer(index).export(public / "copy")
    expected = everything(index)
    for path in [public / "copy", *(public / "copy").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert everything(public / "copy") == expected
    finally:
        os.seteuid(user)
        for path in [public / "copy", *(public / "copy").rglob("*")]:
            path.chmod(0o755)


def test_existing_targets_and_damaged_files_are_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="exists; choose another path"):
        Indexer(index).export(tmp_path)
    with pytest.raises(IndexFolderError, match="nowhere/x cannot be written"):
        Indexer(index).export(tmp_path / "nowhere" / "x")
    damaged = shutil.copytree(index, tmp_path / "damaged")
    path = next(damaged.glob("segments/*/frame/0.residuals.pt"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    for target in ("copy", "copy.tar"):
        with pytest.raises(IndexFolderError, match=r"0\.residuals\.pt is damaged"):
            Indexer(damaged).export(tmp_path / target)
    path.unlink()
    with pytest.raises(IndexFolderError, match=r"0\.residuals\.pt is missing"):
        Indexer(damaged).export(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def member(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


TRICKS: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "parent": member("out/segments/../../evil"),
    "absolute": member("/etc/cron.d/evil"),
    "hidden": member("out/segments/.evil"),
    "backslash": member("out/segments\\..\\evil"),
    "drive": member("out/segments/c:evil"),
    "top": member("out/evil"),
    "alone": member("evil"),
    "symlink": member("out/segments/a", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hardlink": member("out/segments/a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": member("out/segments/a", b"", type=tarfile.CHRTYPE),
    "fifo": member("out/segments/a", b"", type=tarfile.FIFOTYPE),
    "root": member("other/segments/a"),
    "hidden root": member("../out/segments/a"),
    "twice": member("out/catalog.sqlite"),
    "unnamed": member("out/segments/extra/file"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_in_archives_are_refused_and_leave_nothing(archive: Path, tmp_path: Path, trick: str) -> None:
    info, content = TRICKS[trick]
    with tarfile.open(archive, "a") as tar:
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(IndexFolderError, match=r"is refused|disagree about 'segments/extra/file'"):
        import_index(archive, tmp_path / "elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar"]


def rewritten(archive: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with other contents; None leaves a file out."""
    target = archive.with_name("changed.tar")
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        for info in old:
            content = change(info.name, old.extractfile(info).read())  # type: ignore[union-attr]
            if content is not None:
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))
    return target


def test_damaged_archives_are_refused(archive: Path, tmp_path: Path) -> None:
    def flip(name: str, content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("0.codes.pt") else content

    with pytest.raises(IndexFolderError, match=r"0\.codes\.pt is damaged"):
        import_index(rewritten(archive, flip), tmp_path / "i")
    with pytest.raises(IndexFolderError, match="disagree about"):
        import_index(
            rewritten(archive, lambda name, content: None if name.endswith("0.codes.pt") else content), tmp_path / "i"
        )
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(IndexFolderError, match=r"out\.tar"):
        import_index(archive, tmp_path / "i")
    archive.write_bytes(b"no archive")
    with pytest.raises(IndexFolderError, match="cannot be unpacked"):
        import_index(archive, tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_a_forged_catalog_is_refused(archive: Path, tmp_path: Path) -> None:
    def forge(name: str, content: bytes) -> bytes:
        if not name.endswith("catalog.sqlite"):
            return content
        (tmp_path / "forged").write_bytes(content)
        connection = sqlite3.connect(tmp_path / "forged")
        connection.execute("INSERT INTO files VALUES ('../../evil', 1, '00')")
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        return (tmp_path / "forged").read_bytes()

    with pytest.raises(IndexFolderError, match=r"tampered.*must be relative"):
        import_index(rewritten(archive, forge), tmp_path / "i")
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("target", ["copy", "copy.tar"])
def test_a_compaction_meanwhile_is_no_damage(tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that vanish under an export make it start over with the newer commit."""
    path = tmp_path / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    expected, copied = everything(path), []
    real = module._copy_files

    def copy_slowly(*arguments: Any) -> None:
        copied.append(arguments)
        if len(copied) == 1:
            Indexer(path).compact()
        real(*arguments)

    monkeypatch.setattr(module, "_copy_files", copy_slowly)
    report = Indexer(path).export(tmp_path / target)
    assert (len(copied), report.videos) == (2, 5)
    if target.endswith(".tar"):
        import_index(tmp_path / target, tmp_path / "copy")
    assert everything(tmp_path / "copy") == expected
    assert verify_index(tmp_path / "copy").leftovers == ()
    with Catalog.open(tmp_path / "copy") as catalog:
        assert len(catalog.live_segments()) == 1
    assert not list(tmp_path.glob(".*"))


def test_an_export_may_share_the_files_of_its_index(index: Path, tmp_path: Path) -> None:
    module.export_index(index, tmp_path / "copy", link=True)
    assert everything(tmp_path / "copy") == everything(index)
    for path in (tmp_path / "copy").glob("*/*/*/*"):
        assert path.samefile(index / path.relative_to(tmp_path / "copy"))
    damaged = shutil.copytree(index, tmp_path / "damaged")
    path = next(damaged.glob("segments/*/frame/0.residuals.pt"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(IndexFolderError, match=r"0\.residuals\.pt is damaged"):
        module.export_index(damaged, tmp_path / "other", link=True)
