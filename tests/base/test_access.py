"""What keeps files and indexes from being opened is named: which file, who may not, and what to do."""

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operations import QUERY, add_tokens

from colbert_video import Indexer, Searcher
from colbert_video.base.access import access_problem, open_plain, os_problem, problem_of, reason_of
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.sqlite_errors import MESSAGES, explained, primary_code

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
NOBODY = 65534


@pytest.fixture
def index() -> Iterator[Path]:
    """An index that every user can look into; the fixture's user may be root."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    add_tokens(base / "i", "abc", seed=0, add=False)
    yield base / "i"
    os.seteuid(os.getuid())
    for path in (base, base / "i"):
        path.chmod(0o755)
    shutil.rmtree(base)


def as_nobody(call: Callable[[], object]) -> str:
    """Return the error of a call that an ordinary user makes."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(IndexFolderError) as caught:
            call()
    finally:
        os.seteuid(os.getuid())
    return str(caught.value)


def test_a_folder_that_may_not_be_entered(index: Path) -> None:
    index.chmod(0o600)
    for use in (lambda: Searcher(index), lambda: Indexer(index).remove("a"), lambda: Indexer(index).verify()):
        message = as_nobody(use)
        assert f"may not enter the folder {index} of " in message
        assert "change its permissions, or run as another user" in message
        assert "index again" not in message


def test_files_that_may_not_be_read(index: Path) -> None:
    residuals = next(index.glob("segments/*/frame/0.residuals.pt"))
    for path in (index / "catalog.sqlite", residuals):
        path.chmod(0o000)
        message = as_nobody(lambda: Searcher(index).search_tokens(QUERY))
        assert f"may not read {path} of " in message
        assert "index again" not in message
        path.chmod(0o644)


def test_a_folder_that_may_not_be_written_is_searched_but_not_changed(index: Path) -> None:
    index.chmod(0o555)
    message = as_nobody(lambda: Indexer(index).remove("a"))
    assert f"may not write to {index} of " in message
    assert "index again" not in message


NOT_AN_INDEX: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: (path / "catalog.sqlite").mkdir(parents=True), "is a folder, not the file of an index"),
    "empty": (lambda path: _file(path / "catalog.sqlite", b""), "is empty: it was not finished"),
    "pipe": (lambda path: (path.mkdir(), os.mkfifo(path / "catalog.sqlite")), "is a named pipe, not the file"),
    "file": (lambda path: _file(path, b"x"), "is a file, not an index folder"),
    "text": (lambda path: _file(path / "catalog.sqlite", b"x" * 5000), "it is no SQLite database"),
    "other": (lambda path: _database(path / "catalog.sqlite"), "not a colbert_video catalog: it has format version 0"),
}


def _file(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _database(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")


@pytest.mark.parametrize("case", NOT_AN_INDEX)
def test_what_is_no_index_says_what_it_is(tmp_path: Path, case: str) -> None:
    make, message = NOT_AN_INDEX[case]
    make(tmp_path / "i")
    for use in (
        Searcher,
        lambda path: Indexer(path).remove("a"),
        lambda path: add_tokens(path, "a", seed=0, add=False),
    ):
        with pytest.raises(IndexFolderError, match=message):
            use(tmp_path / "i")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (5, "stayed locked for 3 s; end other programs using it"),
        (6, "stayed locked for 3 s"),
        (10, "its disk reports an error: check the disk"),
        (13, "its disk is full: free space on it"),
        (11, "it is damaged: restore it from a copy"),
        (26, "no SQLite database"),
        (1032, "was moved or replaced while it was open"),
        (None, r"cannot be used \(theirs\)$"),
    ],
)
def test_each_error_of_sqlite_has_its_own_words(tmp_path: Path, code: int | None, message: str) -> None:
    error = sqlite3.OperationalError("theirs")
    if code is not None:
        error.sqlite_errorcode = code
    with pytest.raises(IndexFolderError, match=message):
        raise explained(error, tmp_path / "catalog.sqlite", seconds=3)


@pytest.mark.parametrize("text", MESSAGES)
def test_errors_without_a_number_are_known_by_their_text(text: str) -> None:
    assert primary_code(sqlite3.OperationalError(f"{text} file")) == MESSAGES[text]


def test_problems_of_the_system_come_with_a_remedy(tmp_path: Path) -> None:
    assert os_problem(OSError(errno.ENOSPC, "x")) == "the disk is full: free space on it, or choose another"
    assert "ulimit -n" in os_problem(OSError(errno.EMFILE, "x"))
    assert os_problem(OSError("their words")) == "their words"
    (tmp_path / "file").touch()
    assert access_problem(tmp_path / "file" / "x") == f"{tmp_path / 'file'} is a file, not a folder: check the path"
    assert (
        access_problem(tmp_path / "none" / "x") == f"there is no folder {tmp_path / 'none'}: check the path, or make it"
    )
    assert access_problem(tmp_path / "file") is None
    missing = tmp_path / "none" / "x"  # was not made: the disk is full
    assert problem_of(OSError(errno.ENOSPC, "x"), missing, write=True).startswith("the disk is full")
    assert problem_of(OSError(errno.EIO, "x"), missing).startswith("the disk reports an error")
    assert problem_of(OSError(errno.ENOENT, "x"), missing).startswith(f"there is no folder {tmp_path / 'none'}")
    with pytest.raises(OSError, match="it is a folder, not a plain file"):
        open_plain(tmp_path)


def test_a_reason_keeps_the_systems_words_and_adds_the_remedy() -> None:
    assert reason_of(FileNotFoundError(errno.ENOENT, "No such file or directory")) == (
        "No such file or directory; check the path"
    )
    assert reason_of(PermissionError(errno.EACCES, "Permission denied")).startswith("Permission denied; ask for")
    assert reason_of(IsADirectoryError(errno.EISDIR, "Is a directory")) == "Is a directory"
    assert reason_of(OSError("their words")) == "their words"
