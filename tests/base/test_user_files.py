"""What users name: empty, with a tilde, relative to a working folder that changes; and texts of every encoding."""

import os
from pathlib import Path

import pytest

from colbert_video.base.user_files import expand_path, read_text, user_path
from colbert_video.errors import SettingsError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "--index is empty: give a path, or '.' for the working folder"),
        ("  \t", "--index is empty"),
        ("a\0b", r"--index is 'a\\x00b': a path cannot hold a zero byte"),
        (b"a", r"--index is b'a', a value of type bytes: give a path as str or Path"),
        (3, "--index is 3, a value of type int"),
        (None, "--index is None"),
        (
            "~no-such-user/x",
            r"--index is '~no-such-user/x', and there is no user of that name: write ./~no-such-user/x",
        ),
    ],
)
def test_what_names_nothing_is_refused(given: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        user_path(given, "--index")


def test_an_error_shows_no_more_than_200_characters() -> None:
    with pytest.raises(SettingsError) as caught:
        user_path("x" * 5000 + "\0")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", [str, Path])
def test_home_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path(kind("~/a/b")) == tmp_path / "a" / "b"
    assert user_path(kind("~")) == tmp_path
    assert expand_path(kind("a/~/b")) == Path("a/~/b")


def test_a_literal_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert user_path("./~backup.mp4") == tmp_path / "~backup.mp4"
    (tmp_path / "~backup.mp4").touch()
    assert user_path(Path("~backup.mp4")) == tmp_path / "~backup.mp4"


def test_a_path_is_absolute_and_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert user_path("link/x") == tmp_path / "link" / "x"
    assert user_path("../x") == tmp_path / ".." / "x"
    assert user_path(".") == tmp_path


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a working folder")
def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingsError, match="the working folder is missing: give an absolute path"):
        user_path("x")
    assert user_path(tmp_path) == tmp_path


TEXT = "id\twords ä\u2028\x85\x0c\x1c end\n"


@pytest.mark.parametrize(
    "data",
    [TEXT.encode(), TEXT.encode("utf-8-sig"), TEXT.replace("\n", "\r\n").encode("utf-8-sig")],
    ids=["plain", "mark", "Windows"],
)
def test_texts_with_and_without_a_mark(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").write_bytes(data)
    assert read_text(tmp_path / "t") == TEXT
    for marked in (b"\xef\xbb\xbf" + data, b"\xef\xbb\xbf" * 2 + data):
        (tmp_path / "t").write_bytes(marked)
        assert read_text(tmp_path / "t") == TEXT
    (tmp_path / "t").write_bytes(data + data)  # as `cat` puts files together
    assert read_text(tmp_path / "t") == TEXT + TEXT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ä\n".encode("utf-16"), "t cannot be read: it is UTF-16, by its first bytes; save it as UTF-8"),
        ("ä\n".encode("utf-32"), "t cannot be read: it is UTF-32"),
        (b"\xfe\xff\0a", "t cannot be read: it is UTF-16"),
        ("ab\ncd\n".encode("utf-16-le"), "t, line 1: a zero byte, as in UTF-16"),
        (b"a\nb\nc \xe4\n", "t is not UTF-8 at byte 6, line 3; save it as UTF-8"),
        (b"a\nb\0", "t, line 2: a zero byte"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(SettingsError, match=message):
        read_text(tmp_path / "t")
