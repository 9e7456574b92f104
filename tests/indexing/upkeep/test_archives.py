"""Archives of every kind, and what people make of them: packed again, unpacked, or something else altogether."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from operations import add_tokens, everything

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.writer_lock import LOCK_NAME, WriterLock
from colbert_video.indexing.upkeep import archives
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.indexing.upkeep.workplace import workplace

posix = pytest.mark.skipif(os.name == "nt", reason="named pipes are POSIX")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archives") / "my.index"
    add_tokens(path, "abcd", seed=0, add=False)
    Indexer(path).remove("a")
    return path


def imported(source: Path, index: Path, tmp_path: Path) -> None:
    """Check that a source is imported whole, into a folder whose parent is missing."""
    target = tmp_path / "new" / "folder" / "i"
    assert import_index(source, target).videos == 3
    assert everything(target) == everything(index)
    report = verify_index(target)
    assert (report.problems, report.leftovers) == ((), ())
    assert [path.name for path in target.parent.iterdir()] == ["i"]


@pytest.mark.parametrize("suffix", [*archives.SUFFIXES, ".TAR.GZ", ".Zip"])
def test_every_kind_is_written_and_read(index: Path, tmp_path: Path, suffix: str) -> None:
    report = Indexer(index).export(tmp_path / f"out{suffix}")
    assert report.path.is_file()
    assert report.kind == archives.SUFFIXES[suffix.lower()] == report.to_dict()["kind"]
    shutil.move(report.path, tmp_path / "renamed.bin")  # the content counts, not the name
    imported(tmp_path / "renamed.bin", index, tmp_path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_the_same_index_makes_the_same_bytes(index: Path, tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Indexer(index).export(tmp_path / name / f"o{suffix}")
    assert (tmp_path / "a" / f"o{suffix}").read_bytes() == (tmp_path / "b" / f"o{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".tar.zst", ".gz", ".7z", ".rar", ".tgz.xz"])
def test_other_archives_are_not_written_as_folders(index: Path, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(IndexFolderError, match=r"archives of this kind are not written; end the name in \.tar"):
        Indexer(index).export(tmp_path / f"out{suffix}")
    assert not list(tmp_path.iterdir())


def test_any_other_name_is_a_folder(index: Path, tmp_path: Path) -> None:
    assert Indexer(index).export(tmp_path / "copy.v2").kind == "folder"
    assert (tmp_path / "copy.v2").is_dir()


def by_tar(folder: Path, target: Path, *, name: str) -> None:
    with tarfile.open(target, "w:gz") as tar:
        tar.add(folder, name)


def by_zip(folder: Path, target: Path, *, name: str) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("__MACOSX/._my.index", b"clutter")
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


@pytest.mark.parametrize("pack", [by_tar, by_zip])
@pytest.mark.parametrize("name", ["my.index", "home/me/segments/my.index", "."])
def test_an_index_that_was_packed_by_hand_is_imported(
    index: Path, tmp_path: Path, pack: Callable[..., None], name: str
) -> None:
    """With its lock, with staged videos, whose tokens are left out, and with what Finder leaves."""
    own = shutil.copytree(index, tmp_path / "own")
    with Catalog.open(own, writable=True) as catalog:
        catalog.stage("chunk", [VideoEntry("waiting")])
    (own / "staging").mkdir(exist_ok=True)
    (own / "staging" / "chunk.safetensors").write_bytes(b"x")
    (own / ".DS_Store").touch()
    if name == "." and pack is by_zip:
        pytest.skip("zip programs leave the dot out")
    pack(own, tmp_path / "packed", name=name)
    imported(tmp_path / "packed", index, tmp_path)


def test_an_index_that_was_packed_in_the_middle_of_a_commit_is_refused(index: Path, tmp_path: Path) -> None:
    own = shutil.copytree(index, tmp_path / "own")
    (own / "catalog.sqlite-wal").write_bytes(b"x" * 100)
    by_tar(own, tmp_path / "packed.tgz", name="own")
    with pytest.raises(IndexFolderError, match="was packed while the index was open"):
        import_index(tmp_path / "packed.tgz", tmp_path / "i")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_that_was_compressed_is_imported(index: Path, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    plain = Indexer(index).export(tmp_path / "out.tar").path
    plain.write_bytes(compress(plain.read_bytes()))
    imported(plain, index, tmp_path)


def test_folders_are_imported(index: Path, tmp_path: Path) -> None:
    Indexer(index).export(tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        tar.extractall(tmp_path / "unpacked")
    imported(tmp_path / "unpacked", index, tmp_path)
    imported(tmp_path / "unpacked" / "out", index, tmp_path / "2")
    imported(index, index, tmp_path / "3")


def test_folders_without_one_index_are_refused(index: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexFolderError, match="empty holds no index: give one folder"):
        import_index(tmp_path / "empty", tmp_path / "new" / "i")
    for name in "ab":
        (tmp_path / "two").mkdir(exist_ok=True)
        Indexer(index).export(tmp_path / "two" / name)
    with pytest.raises(IndexFolderError, match=r"holds several indexes \(a, b\)"):
        import_index(tmp_path / "two", tmp_path / "new" / "i")
    assert not (tmp_path / "new").exists()


OTHERS: dict[str, tuple[bytes, str]] = {
    "zstd": (b"\x28\xb5\x2f\xfd", "compressed with zstd: uncompress it with `zstd -d` first"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    "database": (b"SQLite format 3\0", "perhaps an index's catalog"),
    "empty": (b"", "cannot be unpacked: empty file"),
    "text": (b"hello " * 200, "cannot be unpacked"),
    "half a gzip": (gzip.compress(os.urandom(1000))[:500], "cannot be unpacked"),
    "half a zip": (b"PK\x03\x04" + b"x" * 100, "cannot be unpacked"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_files_are_named(tmp_path: Path, case: str) -> None:
    content, message = OTHERS[case]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(IndexFolderError, match=message):
        import_index(tmp_path / "file", tmp_path / "new" / "i")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def packed_tar(members: list[tarfile.TarInfo], size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(bytes(size)))
    return gzip.compress(buffer.getvalue())


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MIN_EXPANDED", 2**18)
    info = tarfile.TarInfo("i/catalog.sqlite")
    info.size = 2**24
    (tmp_path / "bomb.tgz").write_bytes(packed_tar([info], info.size))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("i/catalog.sqlite", bytes(2**24))
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "header.tgz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    for name in ("bomb.tgz", "bomb.zip", "header.tgz"):
        with pytest.raises(IndexFolderError, match=r"it is refused|names a size of 1099511627776 bytes"):
            import_index(tmp_path / name, tmp_path / "new" / "i")
    assert not (tmp_path / "new").exists()


def test_links_in_zip_files_and_lying_sizes_are_refused(index: Path, tmp_path: Path) -> None:
    path = Indexer(index).export(tmp_path / "out.zip").path
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("out/segments/a")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(IndexFolderError, match="not a plain file; it is refused"):
        import_index(path, tmp_path / "i")


@posix
@pytest.mark.parametrize("target", ["copy", "copy.tar"])
def test_named_pipes_are_not_waited_for(index: Path, tmp_path: Path, target: str) -> None:
    own = shutil.copytree(index, tmp_path / "own")
    path = next(own.glob("segments/*/frame/0.residuals.pt"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        IndexFolderError, match=r"0\.residuals\.pt cannot be read: it is a named pipe|it is a named pipe"
    ):
        Indexer(own).export(tmp_path / target)
    assert any("it is a named pipe" in problem.detail for problem in verify_index(own).problems)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(IndexFolderError, match="it is a named pipe, not a plain file"):
        import_index(tmp_path / "pipe.tar", tmp_path / "i")


def test_what_killed_ones_left_is_removed_and_what_others_make_is_not(index: Path, tmp_path: Path) -> None:
    for name in (".a.unfinished", ".b.tar.unfinished", ".own.unfinished"):
        (tmp_path / name / "attempt").mkdir(parents=True)
    for name in (".a.unfinished", ".b.tar.unfinished"):
        WriterLock(tmp_path / name).release()
    with workplace(tmp_path / "c") as busy:
        Indexer(index).export(tmp_path / "b.tar")
        assert {path.name for path in tmp_path.iterdir()} == {"b.tar", busy.name, ".own.unfinished"}
        with pytest.raises(IndexFolderError, match="another process is writing"):
            Indexer(index).export(tmp_path / "c")
        assert (busy / LOCK_NAME).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"b.tar", ".own.unfinished"}


def test_what_an_administrator_added_is_not_exported(index: Path, tmp_path: Path) -> None:
    own = shutil.copytree(index, tmp_path / "own")
    connection = sqlite3.connect(own / "catalog.sqlite")
    connection.executescript(
        "CREATE TABLE notes (t); INSERT INTO notes VALUES ('secret'); CREATE INDEX p ON videos (path); ANALYZE"
    )
    connection.close()
    Indexer(own).export(tmp_path / "copy", keep_paths=False)
    assert everything(tmp_path / "copy") == everything(own)
    assert b"secret" not in (tmp_path / "copy" / "catalog.sqlite").read_bytes()


def test_a_member_without_a_name_is_refused(index: Path, tmp_path: Path) -> None:
    path = Indexer(index).export(tmp_path / "out.zip").path
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")  # the first entry of the directory: its name's length lies at byte 28
    name = int.from_bytes(data[start + 28 : start + 30], "little")
    extra = int.from_bytes(data[start + 30 : start + 32], "little")
    data[start + 28 : start + 32] = (0).to_bytes(2, "little") + (name + extra).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(IndexFolderError, match=r"it is refused|cannot be unpacked"):
        import_index(path, tmp_path / "in")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_negative_size_ends_in_a_sentence(kind: bytes, index: Path, tmp_path: Path) -> None:
    """Python's `tarfile` follows it backwards, without end."""
    path = Indexer(index).export(tmp_path / "out.tar").path
    block = bytearray(tarfile.TarInfo("out/segments/a").tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = b"\xff" * 4 + (-512).to_bytes(8, "big", signed=True), kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with tarfile.open(path) as archive:
        end = max(member.offset_data + (member.size + 511) // 512 * 512 for member in archive)
    path.write_bytes(path.read_bytes()[:end] + bytes(block) + bytes(1024))
    with pytest.raises(IndexFolderError, match=r"cannot be unpacked|it is refused"):
        import_index(path, tmp_path / "in")
