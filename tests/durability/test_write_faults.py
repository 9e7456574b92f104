"""A disk that is full or fails at any write, sync, link, rename or commit: a clear error, and the index is as it was.

Each kind of call fails in turn: the first of them, then a later one, and so on until the operation succeeds. Every time
the error must name the file, what is found must be what was found before, and in the end the operation must succeed. A
file system that is really full, and a real limit on the size of files, do the same.

The default run takes a third of the pairs of operation and fault, and of each every seventh call; the thorough run
takes all pairs and every third call; with `COLBERT_VIDEO_FAULTS=1` every single one fails once.
"""

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_worker import live, preloaded
from operations import add_tokens
from safetensors import SafetensorError
from test_crash_states import stage, staged
from thorough import amount, cases

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build.ingest import prepare_staging
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index import staging
from colbert_video.indexing.index.folder import PENDING_KEY, load_settings
from colbert_video.indexing.segments import segment
from colbert_video.indexing.upkeep.verify import verify_index

STRIDE = int(os.environ.get("COLBERT_VIDEO_FAULTS", amount(7, thorough=3)))
FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
OPERATIONS: dict[str, tuple[Callable[[Path], Any], dict[str, int]]] = {
    "index": (lambda path: add_tokens(path, "xy", seed=3, add=False), {"x": 3, "y": 3}),
    "overwrite": (lambda path: add_tokens(path, "xy", seed=3, add=False, overwrite=True), {"x": 3, "y": 3}),
    "add": (lambda path: add_tokens(path, "bd", seed=1), {"a": 0, "b": 1, "c": 0, "d": 1}),
    "remove": (lambda path: Indexer(path).remove("b"), {"a": 0, "c": 0}),
    "retrain": (lambda path: Indexer(path).compact(retrain="stored"), {"a": 0, "b": 0, "c": 0}),
    "compact": (lambda path: Indexer(path).compact(), {"a": 0, "b": 0, "c": 0}),
}
START = {"a": 0, "b": 0, "c": 0}


class Turn:
    """Lets a number of calls pass, then fails once, then lets all pass."""

    def __init__(self, passing: int) -> None:
        self.left = passing

    def comes(self) -> bool:
        self.left -= 1
        return self.left == -1

    @property
    def came(self) -> bool:
        return self.left < 0


def failing(call: Callable[..., Any], turn: Turn, error: Exception) -> Callable[..., Any]:
    def maybe(*args: Any, **kwargs: Any) -> Any:
        if turn.comes():
            raise error
        return call(*args, **kwargs)

    return maybe


def fail_sync(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    patch.setattr(os, "fsync", failing(os.fsync, turn, BROKEN))


def fail_link(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    """Neither a link nor the copy in its place can be made."""

    def link_or_copy(source: Path, target: Path) -> None:
        if turn.comes():
            raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))
        os.link(source, target)

    patch.setattr(segment, "link_or_copy", link_or_copy)


def fail_rename(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    error = OSError(errno.EIO, "Input/output error", "catalog.new")
    patch.setattr(os, "rename", failing(os.rename, turn, error))


def fail_folder(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    real = os.mkdir

    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        if turn.comes():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, *args, **kwargs)

    patch.setattr(os, "mkdir", mkdir)


def fail_tensors(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    """As torch fails: half of a file, and an error that does not name it."""
    real = torch.save

    def save(value: Any, path: Path) -> None:
        real(value, path)
        if turn.comes():
            os.truncate(path, path.stat().st_size // 2)
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 128 vs 22")

    patch.setattr(torch, "save", save)


class FullFile:
    """A file on a full disk."""

    def __init__(self, file: Any, turn: Turn) -> None:
        self._file, self._turn = file, turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if self._turn.comes():
            raise FULL
        return int(self._file.write(data))


def fail_spools(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    """The files that codes and residuals are collected in."""
    real = segment.BagWriter.__init__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        self._codes, self._residuals = FullFile(self._codes, turn), FullFile(self._residuals, turn)

    patch.setattr(segment.BagWriter, "__init__", begin)


def fail_json(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    real = segment.ujson.dumps
    patch.setattr(segment.ujson, "dumps", failing(real, turn, FULL))


def fail_catalog(patch: pytest.MonkeyPatch, turn: Turn, message: str = "database or disk is full") -> None:
    """SQLite's writes and commits."""

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement.startswith(("INSERT", "DELETE", "COMMIT", "CREATE", "UPDATE")) and turn.comes():
                raise sqlite3.OperationalError(message)
            return super().execute(statement, *values)

    real = sqlite3.connect
    patch.setattr(sqlite3, "connect", lambda *args, **kwargs: real(*args, factory=Connection, **kwargs))


def fail_catalog_disk(patch: pytest.MonkeyPatch, turn: Turn) -> None:
    fail_catalog(patch, turn, "disk I/O error")


FAULTS = {
    "fsync": (fail_sync, r"Input/output error: '/|/i cannot be written: the disk reports an error"),
    "link": (fail_link, r"No space left on device: '/.* -> '/"),
    "rename": (fail_rename, r"/i cannot be written: the disk reports an error"),
    "mkdir": (fail_folder, r"No space left on device: '/|/i cannot be written: the disk is full"),
    "torch.save": (fail_tensors, r"writing failed \(.*unexpected pos.*: '/.*\.pt'"),
    "spool": (fail_spools, r"No space left on device: '/.*\.tmp'"),
    "json": (fail_json, r"No space left on device: '/"),
    "catalog full": (
        fail_catalog,
        r"catalog\.\w+ cannot be read or written \(database or disk is full\): its disk is full: free",
    ),
    "catalog broken": (fail_catalog_disk, r"catalog\.\w+ cannot be read or written \(disk I/O error\)"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "i"
    add_tokens(path, "abcz", seed=0, add=False)
    Indexer(path).remove("z")
    return path


def attempts(operation: Callable[[Path], Any], path: Path, fault: Callable[..., None]) -> Iterator[Exception | None]:
    """How the operation ends when the first call of a kind fails, a later one, and so on until none fails."""
    for passing in count(step=STRIDE):
        turn = Turn(passing)
        with pytest.MonkeyPatch.context() as patch:
            fault(patch, turn)
            try:
                operation(path)
            except Exception as error:
                yield error
                continue
        assert not turn.came, "a failure was swallowed"
        yield None
        return


PAIRS = [(name, fault) for name in OPERATIONS for fault in FAULTS]
SAMPLE = [
    (name, fault)
    for row, name in enumerate(OPERATIONS)
    for column, fault in enumerate(FAULTS)
    if (row + column) % 3 == 0
]
"""Every operation and every fault, but not every pair."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), amount(SAMPLE, thorough=PAIRS))
def test_a_failing_write_changes_nothing_and_is_named(
    name: str, fault: str, original: Path, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    operation, after = OPERATIONS[name]
    path, before, faults = tmp_path / "i", {} if name == "index" else START, 0
    if before:
        shutil.copytree(original, path)
    inject, message = FAULTS[fault]
    for error in attempts(operation, path, inject):
        if error is None:
            break
        faults += 1
        with pytest.raises(IndexFolderError, match=message):
            raise error
        assert live(path) == before
    assert live(path) == after
    assert verify_index(path).problems == ()
    record_property("faults", faults)


def test_staging_on_a_failing_disk(original: Path, tmp_path: Path) -> None:
    path = shutil.copytree(original, tmp_path / "i")

    def fail_chunk(patch: pytest.MonkeyPatch, turn: Turn) -> None:
        error = SafetensorError("I/O error: No space left on device (os error 28)")
        patch.setattr(staging, "save_file", failing(staging.save_file, turn, error))

    for fault in (fail_sync, fail_chunk, fail_catalog):
        shutil.rmtree(path / "staging", ignore_errors=True)
        errors = list(attempts(stage, path, fault))
        assert len(errors) > 1
        for error in errors[:-1]:
            assert isinstance(error, OSError | IndexFolderError)
            assert str(path) in str(error)
        assert set(staged(path) or {}) == {"u", "v"}


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_staged_videos_that_were_lost_are_encoded_again(damage: str, original: Path, tmp_path: Path) -> None:
    """They are merely work that was saved: no run may fail because of them."""
    path = shutil.copytree(original, tmp_path / "i")
    stage(path)
    with Catalog.open(path, writable=True) as catalog:
        settings = load_settings(catalog)
        catalog.set_settings(**{PENDING_KEY: settings.to_dict()})
        prepare_staging(catalog, settings)
        assert catalog.staged_ids() == {"u", "v"}
        (chunk,) = (path / "staging").iterdir()
        content = chunk.read_bytes()
        chunk.unlink()
        if damage == "shorter":
            chunk.write_bytes(content[:-1])
        prepare_staging(catalog, settings)
        assert catalog.staged_ids() == set()


def limited(path: Path, name: str, most: int, pipe: Any) -> None:
    """Run an operation in a process that may not write files beyond a size."""
    import resource

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        OPERATIONS[name][0](path)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send("done")


@pytest.mark.slow
@pytest.mark.parametrize("most", cases([1700], thorough=[1000, 4000, 40_000]))
def test_a_real_limit_on_the_size_of_files(most: int, original: Path, tmp_path: Path) -> None:
    path, context = shutil.copytree(original, tmp_path / "i"), preloaded()
    pipe, end = context.Pipe(duplex=False)
    child = context.Process(target=limited, args=(path, "add", most, end))
    child.start()
    assert pipe.poll(120)
    outcome = pipe.recv()
    child.join()
    assert outcome.startswith("IndexFolderError: ")
    assert str(path) in outcome
    assert live(path) == START
    add_tokens(path, "bd", seed=1)
    assert live(path) == OPERATIONS["add"][1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(original: Path, small_disk: Path) -> None:
    path = shutil.copytree(original, small_disk / "i")
    refused: list[str] = []
    for free in range(4096, 600_000, 5 * 4096):
        space = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(bytes(max(0, space.f_bavail * space.f_bsize - free)))
        try:
            add_tokens(path, "bd", seed=1)
        except IndexFolderError as error:
            refused.append(str(error))
        (small_disk / "ballast").unlink()
        if live(path) != START:
            break
    assert len(refused) >= 3
    assert all(str(small_disk) in message for message in refused)
    assert live(path) == OPERATIONS["add"][1]
    assert verify_index(path).intact
