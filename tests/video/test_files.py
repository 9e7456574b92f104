"""Names that are not UTF-8 can be stored as text and opened again."""

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from colbert_video.video.files import locate, native_name, open_range, read_archive, readable_name


@pytest.mark.parametrize("name", ["a.mp4", "é 🎬.mp4", "back\\x41slash.mp4", ""])
def test_valid_names_stay(name: str) -> None:
    assert readable_name(name) == name
    assert native_name(name) == name


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
def test_invalid_bytes_are_written_out_and_found_again(tmp_path: Path) -> None:
    native = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    Path(native).write_bytes(b"x")
    text = readable_name(native)
    assert text.endswith("/caf\\xe9.mp4")
    text.encode("utf-8")
    assert native_name(text) == native


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
def test_a_file_that_is_really_called_so_wins(tmp_path: Path) -> None:
    text = str(tmp_path / "caf\\xe9.mp4")
    Path(text).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"y")
    assert native_name(text) == text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
@pytest.mark.parametrize(
    "names",
    [
        [b"\xff\xfe.mp4", rb"\xff\xfe.mp4"],
        [b"\xff\\xfe.mp4", b"\\xff\xfe.mp4", b"\xff\xfe.mp4", rb"\xff\xfe.mp4"],
        [b"\xe9/a.mp4", rb"\xe9/a.mp4"],
        [rb"\xe9/\xe8.mp4", b"\\xe9/\xe8.mp4"],
        [b"\x80\x99.mp4", rb"\x80\x99.mp4"],
        [b"\xff\\X5c.mp4", b"\xff\\x5c.mp4"],
    ],
)
def test_files_that_would_be_called_the_same_have_names_of_their_own(tmp_path: Path, names: list[bytes]) -> None:
    native = [os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in names]
    for path in native:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(b"x")
    whole = [readable_name(path) for path in native]
    assert len(set(whole)) == len(names)
    assert [native_name(path) for path in whole] == native
    parts = [readable_name(os.fsdecode(name), folder=tmp_path) for name in names]
    assert len(set(parts)) == len(names)
    assert [native_name(f"{tmp_path}/{part}") for part in parts] == native


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"\xff\xfe.mp4", rb"\xff\xfe.mp4", rb"\X5c.mp4", rb"\x5c.mp4"])
def test_a_file_alone_is_called_as_before(tmp_path: Path, name: bytes) -> None:
    native = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    Path(native).write_bytes(b"x")
    shown = name.decode("utf-8", "backslashreplace")
    assert readable_name(native) == f"{tmp_path}/{shown}"
    assert readable_name(os.fsdecode(name), folder=tmp_path) == shown
    assert native_name(f"{tmp_path}/{shown}") == native


def test_members_that_would_be_called_the_same_have_names_of_their_own(tmp_path: Path) -> None:
    names = [b"\xff\xfe.mp4", rb"\xff\xfe.mp4", b"./\xff\\xfe.mp4", b"plain.mp4", b"caf\xe9.mp4"]
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            member.size = number + 1
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    archive = read_archive(path)
    assert (archive.repeated, archive.damage) == ((), None)
    shown = [r"\Xff\Xfe.mp4", r"\xff\xfe.mp4", r"\Xff\X5cxfe.mp4", "plain.mp4", r"caf\xe9.mp4"]
    assert list(archive.members) == shown
    for number, name in enumerate(shown):
        with open_range(locate(f"{path}/{name}")) as file:
            assert file.read() == bytes([number]) * (number + 1)
