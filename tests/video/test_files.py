"""Names that are not UTF-8 can be stored as text and opened again."""

import os
import sys
from pathlib import Path

import pytest

from colbert_video.video.files import native_name, readable_name


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
