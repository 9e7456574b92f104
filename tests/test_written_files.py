"""Results on disk: replaced whole or not at all, whoever else writes, and wherever the name leads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from colbert_video.durable import check_file_writable, check_folder_writable, write_bytes_durably, write_text
from colbert_video.errors import SettingsError

posix = pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and permissions of POSIX")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.txt"
    path.write_bytes(b"good")
    return path


def test_a_text_that_is_no_text_leaves_the_old_file(result: Path) -> None:
    with pytest.raises(SettingsError, match=r"result.txt cannot be written: its line 2 would hold '\\udcff'"):
        write_text(result, "a\nb\udcff\n")
    assert result.read_bytes() == b"good"
    assert [*result.parent.iterdir()] == [result]


def test_a_full_disk_leaves_the_old_file(result: Path) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    program = f"{limit}from pathlib import Path\nfrom colbert_video.durable import write_text\n"
    program += f"write_text(Path({str(result)!r}), 'x' * 10000)"
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "SettingsError" in done.stderr
    assert "result.txt cannot be written: File too large" in done.stderr
    assert result.read_bytes() == b"good"
    assert [*result.parent.iterdir()] == [result]


def test_two_writers_leave_one_whole_file(result: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    errors = []

    def write(content: bytes) -> None:
        try:
            for _ in range(5):
                write_bytes_durably(result, content)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert result.read_bytes() in contents
    assert [*result.parent.iterdir()] == [result]


@posix
def test_a_link_is_followed(result: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    links = [tmp_path / "runs" / "link", tmp_path / "chain"]
    links[0].symlink_to(result)
    links[1].symlink_to("runs/link")
    for link, content in zip(links, (b"new", b"newer"), strict=True):
        write_bytes_durably(link, content)
        assert link.is_symlink()
        assert result.read_bytes() == content
    (tmp_path / "dangling").symlink_to("runs/later")
    write_bytes_durably(tmp_path / "dangling", b"x")
    assert (tmp_path / "runs" / "later").read_bytes() == b"x"


@posix
def test_permissions_are_those_of_the_file_or_of_the_umask(result: Path, tmp_path: Path) -> None:
    result.chmod(0o640)
    write_bytes_durably(result, b"new")
    assert result.stat().st_mode & 0o777 == 0o640
    before = os.umask(0o027)
    try:
        write_bytes_durably(tmp_path / "new", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@posix
def test_a_read_only_file_is_not_replaced(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # for root too
    for write in (lambda: write_text(result, "x"), lambda: check_file_writable(result)):
        with pytest.raises(
            SettingsError, match=r"result.txt cannot be written: Permission denied; choose another place"
        ):
            write()
    assert result.read_bytes() == b"good"


@posix
def test_pipes_and_devices_are_written_and_not_replaced(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    check_file_writable(pipe)
    write_bytes_durably(pipe, b"through")
    reader.join()
    assert received == [b"through"]
    assert pipe.is_fifo()
    check_file_writable(Path("/dev/null"))
    write_bytes_durably(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("into_file", [True, False], ids=["file", "pipe"])
def test_the_standard_output_is_written_in_turn(tmp_path: Path, name: str, into_file: bool) -> None:
    if not os.path.exists(name):  # noqa: PTH110 - of this process
        pytest.skip("no such name here")
    program = (
        "import sys\nfrom pathlib import Path\nfrom colbert_video.durable import check_file_writable, write_text\n"
    )
    program += f"path = Path({name!r}); check_file_writable(path)\n"
    program += "sys.stdout.write('before\\n'); write_text(path, 'run\\n'); sys.stdout.write('after\\n')"
    target = tmp_path / "out"
    with target.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=file if into_file else subprocess.PIPE, check=True
        )
    assert (target.read_bytes() if into_file else done.stdout) == b"before\nrun\nafter\n"


def test_what_cannot_be_written_is_known_before(tmp_path: Path, result: Path) -> None:
    check_file_writable(result)
    check_file_writable(tmp_path / "new")
    check_folder_writable(tmp_path)
    check_folder_writable(tmp_path / "a" / "b")
    assert [*tmp_path.iterdir()] == [result]
    wrong = [
        (check_file_writable, tmp_path, "Is a directory; choose another place"),
        (check_file_writable, tmp_path / "gone" / "x", "No such file or directory"),
        (check_file_writable, result / "x", "Not a directory"),
        (check_file_writable, tmp_path / ("x" * 300), "File name too long"),
        *([] if os.name == "nt" else [(check_file_writable, Path("/dev/fd/987654321"), "Bad file descriptor")]),
        (check_folder_writable, result, "Not a directory; choose another folder"),
        (check_folder_writable, result / "a" / "b", "Not a directory"),
    ]
    for check, path, reason in wrong:
        with pytest.raises(SettingsError, match=f"cannot be written: {reason}"):
            check(path)
    assert [*tmp_path.iterdir()] == [result]
