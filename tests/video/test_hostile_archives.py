"""Archives whose headers lie end in a sentence, soon, and keep the members before the lie."""

import struct
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tar_writer import write_tar

from colbert_video.video import files
from colbert_video.video.files import read_archive
from colbert_video.video.sources import find_videos

BLOCK = 512
VIDEO = b"\0\0\0\x20ftypisom" * 50


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytearray:
    """A block of a tar archive that names any size, negative ones too."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", size) if size < 0 else b"%011o " % size  # base 256
    return signed(block)


def signed(block: bytearray) -> bytearray:
    """The block with its right checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def pax(keyword: str, value: str, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A pax header with one record."""
    length = len(keyword) + len(value) + 3
    length += len(str(length + len(str(length))))
    record = f"{length} {keyword}={value}\n".encode()
    return bytes(header("pax", len(record), kind)) + padded(record)


def sparse_without_end() -> bytes:
    """A header of a sparse file which says that another follows, and none does."""
    block = header("s.mp4", 0, tarfile.GNUTYPE_SPARSE)
    block[257:265] = b"ustar  \0"
    block[482] = 1
    return bytes(signed(block))


LIES: dict[str, Callable[[], bytes]] = {
    "negative size": lambda: bytes(header("b.mp4", -BLOCK)),
    "size that leads to the first member": lambda: bytes(header("b.mp4", -4 * BLOCK)),
    "negative long name": lambda: bytes(header("n", -BLOCK, tarfile.GNUTYPE_LONGNAME)),
    "negative long link": lambda: bytes(header("n", -1, tarfile.GNUTYPE_LONGLINK)),
    "negative pax header": lambda: bytes(header("n", -BLOCK, tarfile.XHDTYPE)),
    "negative global header": lambda: bytes(header("n", -BLOCK, tarfile.XGLTYPE)),
    "huge long name": lambda: bytes(header("n", 8**10, tarfile.GNUTYPE_LONGNAME)),
    "huge pax header": lambda: bytes(header("n", 8**10, tarfile.XHDTYPE)),
    "negative size in pax": lambda: pax("size", str(-2 * BLOCK)) + bytes(header("b.mp4", 0)),
    "vast size in pax": lambda: pax("size", "9" * 40) + bytes(header("b.mp4", 0)),
    "sparse map that is no number": lambda: pax("GNU.sparse.map", "a,b") + bytes(header("b.mp4", 0)),
    "sparse header without end": sparse_without_end,
    "thousands of headers": lambda: pax("comment", "x") * 5000 + bytes(header("b.mp4", 0)),
    "negative directory": lambda: bytes(header("d", -BLOCK, b"Z")),  # of no known kind: read as a file
}


@pytest.fixture(params=LIES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A whole member, then the lie."""
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(header("a.mp4", len(VIDEO))) + padded(VIDEO) + LIES[request.param]())
    return path


def test_listing_stops_at_a_lie(archive: Path) -> None:
    begun = time.monotonic()
    listed = read_archive(archive)
    assert listed.members["a.mp4"] == (BLOCK, len(VIDEO))
    assert time.monotonic() - begun < 5
    assert listed.damage is not None
    assert "what follows is lost" in listed.damage or "before its last member does" in listed.damage
    assert find_videos(archive).records[0].id == "a.mp4"


def test_a_lie_in_the_first_header(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(header("a.mp4", -BLOCK)) + bytes(BLOCK * 2))
    listed = read_archive(path)
    assert listed.members == {}
    assert "no tar archive that can be read (a header names a size of -512 bytes)" in str(listed.damage)


def test_listing_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": b"x", "b.mp4": b"y"})
    monkeypatch.setattr(files, "MAX_LISTING_SECONDS", -1.0)
    assert "listing its members takes more than" in str(read_archive(path).damage)
