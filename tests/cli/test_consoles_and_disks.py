"""Full and forbidden disks, closed pipes and consoles of few characters: one line, an exit code, never a traceback."""

import codecs
import errno
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import exit_code, run
from thorough import cases, thorough_only

from colbert_video.cli import main, program
from colbert_video.cli.console import PLAIN, failure_text
from colbert_video.training.world import write_world

NOBODY = 65534
QUERY = "a red circle"
unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def place(tiny_trained_model: Any) -> Iterator[Path]:
    """Clips, a model, an index, a manifest, runs and a recipe, in a folder that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        write_world(base / "clips", count=4, seed=1, split="test")
        (base / "clips" / "clip-0001.mp4").rename(base / "clips" / "éß ✓ 漢.mp4")
        tiny_trained_model.save_pretrained(base / "model")
        names = ["--index", str(base / "i"), "--model", str(base / "model"), "--device", "cpu", "--workers", "1"]
        assert exit_code(["index", str(base / "clips"), *names]) == 0
        assert exit_code(["export", str(base / "i.tar"), "--index", str(base / "i")]) == 0
        (base / "run.txt").write_text("q Q0 a 1 0.5 x\n")
        (base / "queries.tsv").write_text(f"q\t{QUERY}\n")
        rows = [f"{path},{path.stem} moves,train\n" for path in sorted((base / "clips").iterdir())]
        (base / "rows.csv").write_text("video,caption,split\n" + "".join(rows), encoding="utf-8")
        (base / "recipe.yaml").write_text(
            f"model: {{checkpoint: {base / 'model'}}}\ndata: {{manifest: {base / 'rows.csv'}, workers: 1, validation_split: null}}\n"
            "training: {batch_size: 2, epochs: 1, precision: fp32}\n"
        )
        yield base


@pytest.fixture
def target(place: Path) -> Iterator[Path]:
    """A folder beside, with an index that verbs may change."""
    folder = place / "target"
    folder.mkdir()
    shutil.copytree(place / "i", folder / "i")
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


VERBS: dict[str, Callable[[Path, Path], list[Any]]] = {
    "demo": lambda place, target: ["demo", "--keep", target / "new", "--clips", 4],
    "index": lambda place, target: [
        *("index", place / "clips", "--index", target / "new", "--model", place / "model", "--device", "cpu")
    ],
    "add": lambda place, target: ["add", place / "clips", "--index", target / "i", "--checksum", "--device", "cpu"],
    "remove": lambda place, target: ["remove", "clip-0002.mp4", "--index", target / "i"],
    "compact": lambda place, target: ["compact", "--index", target / "i", "--retrain", "--device", "cpu"],
    "export": lambda place, target: ["export", target / "new", "--index", place / "i"],
    "export tar": lambda place, target: ["export", target / "new.tar", "--index", place / "i"],
    "import": lambda place, target: ["import", place / "i.tar", "--index", target / "new"],
    "shard": lambda place, target: ["shard", place / "i", "--output", target / "new", "--shards", 2],
    "search": lambda place, target: [
        *("search", "--index", place / "i", "--queries", place / "queries.tsv", "--trec", target / "run"),
        *("--device", "cpu"),
    ],
    "fuse": lambda place, target: ["fuse", place / "run.txt", place / "run.txt", "--output", target / "run"],
    "train": lambda place, target: ["train", place / "recipe.yaml", "--output", target / "new", "--device", "cpu"],
    "train cache": lambda place, target: [
        *("train", place / "recipe.yaml", "--output", place / "trained", "--cache", target / "new", "--device", "cpu")
    ],
    "evaluate": lambda place, target: [
        *("evaluate", "--model", place / "model", "--data", place / "rows.csv", "--split", "train"),
        *("--trec", target / "new", "--device", "cpu"),
    ],
    "evaluate cache": lambda place, target: [
        *("evaluate", "--model", place / "model", "--data", place / "rows.csv", "--split", "train"),
        *("--cache", target / "new", "--device", "cpu"),
    ],
    "serve": lambda place, target: ["serve", target / "none", "--port", "0"],
}
QUICK = ["index", "remove", "export tar", "search", "train"]


def forked(arguments: list[Any], prepare: Callable[[], None]) -> tuple[int, str]:
    """Exit code and output of the command line in a forked process; a limit on files does not hold for its pipe."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.close(read)
            sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(write, "w"), "utf-8", line_buffering=True)
            prepare()
            main(["--quiet", *map(str, arguments)])
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


def forbid_large_files() -> None:
    """A disk that takes no byte."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def become_nobody() -> None:
    codecs.lookup("utf-8-sig")  # while the folder of the Python that runs this can be read
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@unix
@pytest.mark.parametrize("fault", ["full", "forbidden"])
@pytest.mark.parametrize("verb", cases(QUICK, thorough=[verb for verb in VERBS if verb not in QUICK]))
def test_what_a_disk_refuses_is_one_line(verb: str, fault: str, place: Path, target: Path) -> None:
    if fault == "forbidden":
        for path in [target, *target.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    prepare = forbid_large_files if fault == "full" else become_nobody
    code, said = forked(VERBS[verb](place, target), prepare)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    assert (code, len(lines)) == (2, 1), said
    assert str(place) in lines[0]


def streams(kind: str) -> Any:
    """A standard output of some kind."""
    if kind == "full":
        return Path("/dev/full").open("w", encoding="utf-8")
    if kind == "closed":
        read, write = os.pipe()
        os.close(read)
        return os.fdopen(write, "w", encoding="utf-8")
    return io.TextIOWrapper(io.BytesIO(), encoding=kind)


SHOWING: dict[str, list[Any]] = {
    "info": ["info", "--index", "i"],
    "info json": ["info", "--index", "i", "--json"],
    "search": ["search", QUERY, "--index", "i", "--explain", "--device", "cpu"],
    "search json": ["search", "漢 ✓", "--index", "i", "--json", "--device", "cpu"],
    "verify": ["verify", "--index", "i"],
    "add": ["add", "clips", "--index", "i", "--device", "cpu", "--workers", "1"],
    "evaluate": ["evaluate", "--index", "i", "--data", "rows.csv", "--split", "train", "--device", "cpu"],
    "demo": ["demo", "--clips", "4"],
    "help": ["search", "--help"],
    "version": ["--version"],
    "bad usage": ["search", "✓", "--index", "漢"],
    "no arguments": [],
}
SHOWN_QUICK = ["info", "search", "help", "bad usage"]
verbs_that_show = pytest.mark.parametrize(
    "verb", cases(SHOWN_QUICK, thorough=[verb for verb in SHOWING if verb not in SHOWN_QUICK])
)


def test_marks_are_written_in_plain_letters_and_everything_else_is_escaped() -> None:
    assert "✓ 0:01–0:02 … é ☃".encode("ascii", PLAIN) == rb"* 0:01-0:02 ... \xe9 \u2603"
    assert "✓ 0:01–0:02 é".encode("cp1252", PLAIN).decode("cp1252") == "* 0:01–0:02 é"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", PLAIN)


@verbs_that_show
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_a_console_shows_what_it_can(verb: str, encoding: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    out, err = streams(encoding), streams(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    code = exit_code(SHOWING[verb])
    out.flush(), err.flush()
    shown = out.buffer.getvalue().decode(encoding) + err.buffer.getvalue().decode(encoding)
    assert code == (2 if verb in ("bad usage", "no arguments") else 0)
    assert "Traceback" not in shown
    if verb == "search":
        assert "clip-0002.mp4" in shown
        assert ("éß" in shown) == (encoding != "ascii")
        assert ("漢" in shown) == (encoding == "utf-8")
        assert ("\\u6f22" in shown) == (encoding != "utf-8")


@unix
@verbs_that_show
@pytest.mark.parametrize(("kind", "code"), [("full", 2), ("closed", 1)])
def test_output_that_nobody_takes(
    verb: str, kind: str, code: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.chdir(place)
    out, err = streams(kind), streams("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    found = exit_code(SHOWING[verb])
    err.flush()
    said = err.buffer.getvalue().decode()
    with suppress(BrokenPipeError):  # click leaves it so
        out.close()
    if verb in ("bad usage", "no arguments") and not said.startswith("error: the disk"):
        assert found in (1, 2)
        return
    assert found == code
    assert said == ("error: the disk is full: free space on it, or choose another.\n" if code == 2 else "")


@unix
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("{program} info --index {index} | head -c 1 > /dev/null", 0, ""),
        pytest.param("{program} info --index {index} > /dev/full", 2, "error: the disk is full", marks=thorough_only),
        pytest.param("{program} info --index {index} >&-", 0, "", marks=thorough_only),
        pytest.param("{program} info --index {index} 2>&-", 0, "", marks=thorough_only),
        ("{program} info --index none 2> /dev/full", 2, ""),
        pytest.param("{program} info --index none 2>&-", 2, "", marks=thorough_only),
        pytest.param(
            "PYTHONIOENCODING=ascii {program} search x --index {index} --device cpu", 0, "", marks=thorough_only
        ),
        pytest.param(
            "PYTHONIOENCODING=latin-1 {program} search x --index {index} --device cpu", 0, "", marks=thorough_only
        ),
        ("PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C {program} search x --index {index} --device cpu", 0, ""),
    ],
)
def test_in_a_shell(shell: str, code: int, said: str, place: Path) -> None:
    program = f"{sys.executable} -m colbert_video -q"
    done = subprocess.run(
        shell.format(program=program, index=place / "i"),
        shell=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    err = done.stderr.decode()
    assert done.returncode == code, err
    assert err.startswith(said) if said else err == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: the disk is full: free space on it"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "your quota of the disk is used up: free space"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: the disk is mounted read-only: choose another"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: the user "),
        (OSError(errno.EIO, "Input/output error", "/x"), "/x: the disk reports an error: check it"),
        (OSError(errno.EFBIG, "File too large", "/x"), "/x: the file is larger than the disk or `ulimit -f` allows"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), "/x: the name is too long"),
        (OSError(errno.EMFILE, "Too many open files"), "this process has too many files open"),
        (OSError("no number"), "error: no number."),
        (MemoryError(), "memory is full (MemoryError): close other programs"),
        (sqlite3.OperationalError("database or disk is full"), "a catalog cannot be read or written (database or disk"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), "characters that cannot be read or written"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 128"), "a file cannot be written ("),
    ],
)  # fmt: skip
def test_failures_of_the_system_are_one_line_with_a_remedy(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setitem(program.app.commands, "broken", broken)
    code, out, err = run(["broken"], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert expected in err


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def broken() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(program.app.commands, "index", broken)
    code, _, err = run(["index"], capsys)
    assert code == 130
    assert "run the same command again to go on where it stopped" in err


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise KeyError("a bug")

    monkeypatch.setitem(program.app.commands, "broken", broken)
    with pytest.raises(KeyError, match="a bug"):
        main(["broken"])
    assert failure_text(KeyError("a bug")) is None
