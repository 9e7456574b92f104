"""A pessimistic model of a disk: what a folder may look like after a power cut at any moment of a recorded run.

Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), call the method ALICE. A `Recorder` watches a folder
while the library works in it. What was written counts as lost, cut off or kept at the disk's whim until it is synced:

- the content of a file, until `os.fsync` of that file (of any of its hard links);
- a name in a folder, new, changed or removed, until `os.fsync` of that folder;
- what SQLite wrote, until a COMMIT with synchronous=FULL. SQLite syncs its log, and the name of a new log, before COMMIT
  returns, and the database before it removes the log: `strace` shows it doing so.
"""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = 0
DATABASE = "catalog.sqlite"
LOG = f"{DATABASE}-wal"
VOLATILE = ("-shm",)
"""Endings of files that SQLite makes again after a crash."""
FULL = 2
"""The value of PRAGMA synchronous from which on a COMMIT is durable."""

Names = dict[tuple[int, str], int]
"""What each (folder, name) leads to: the number of a file or folder."""
Tree = dict[str, tuple[int, bytes | None]]
"""Number and content of each path; None for a folder."""


@dataclass(frozen=True)
class Disk:
    """Names and contents, as programs see them or as the medium holds them."""

    names: Names = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Disk":
        return Disk(dict(self.names), dict(self.contents))

    def tree(self) -> Tree:
        """Everything that can be reached from the top."""
        children: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), node in self.names.items():
            children.setdefault(folder, []).append((name, node))
        found: Tree = {}
        waiting = [("", ROOT)]
        while waiting:
            path, folder = waiting.pop()
            for name, node in children.get(folder, []):
                inner = f"{path}/{name}" if path else name
                found[inner] = node, self.contents.get(node)
                if node not in self.contents:
                    waiting.append((inner, node))
        return found


@dataclass(frozen=True)
class Synced:
    """One thing that became durable: a file's content, or the names in a folder."""

    path: str
    """Where it lay."""
    node: int
    """Its number."""


@dataclass(frozen=True)
class Moment:
    """A point of the run: what programs see, and what becomes durable right after."""

    cache: Disk
    synced: tuple[Synced, ...]


class Recorder:
    """Watches a folder while the library works in it.

    Args:
        root: A folder that exists and whose content is durable.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.moments: list[Moment] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._count = ROOT
        self.start = self._look()[0]
        self._seen = self.start

    def look(self, *synced: Path, at: bool = True) -> None:
        """Record what the folder looks like now, and that some paths become durable."""
        cache, numbers = self._look()
        self._split_checkpoint(cache)
        self._seen = cache
        if at:
            marks = tuple(Synced(self._name(path), numbers[self._name(path)]) for path in synced)
            self.moments.append(Moment(cache, marks))

    def _split_checkpoint(self, cache: Disk) -> None:
        """A changed database: SQLite wrote and synced it while its log was still there."""
        tree, before = cache.tree(), self._seen.tree()
        for path in [path for path in tree if path.endswith(DATABASE) and path in before]:
            if tree[path] == before[path]:
                continue
            middle = self._seen.copy()
            node, content = tree[path]
            assert content is not None
            middle.contents[node] = content
            self.moments.append(Moment(middle, (Synced(path, node),)))

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else name

    def _look(self) -> tuple[Disk, dict[str, int]]:
        """Read the whole folder; a file keeps its number as long as a name leads to it."""
        disk, numbers, alive = Disk(), {"": ROOT}, {}
        for path in sorted(self.root.rglob("*")):
            name = self._name(path)
            try:
                status = path.stat()
                content = None if path.is_dir() else path.read_bytes()
            except FileNotFoundError:
                continue
            if name.endswith(VOLATILE):
                continue
            key = status.st_dev, status.st_ino
            if key not in self._numbers:
                self._count += 1
                self._numbers[key] = self._count
            alive[key] = numbers[name] = self._numbers[key]
            parent, _, last = name.rpartition("/")
            disk.names[numbers[parent], last] = numbers[name]
            if content is not None:
                disk.contents[numbers[name]] = content
        self._numbers = alive
        return disk, numbers


def record(root: Path, work: Callable[[], Any]) -> Recorder:
    """Run `work` and return the record of what it did below `root`."""
    recorder = Recorder(root)
    with pytest.MonkeyPatch.context() as patch:
        _watch_syncs(patch, recorder)
        _watch_names(patch, recorder)
        _watch_sqlite(patch, recorder)
        work()
    recorder.look()
    return recorder


def _watch_syncs(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        recorder.look(path)

    patch.setattr(os, "fsync", fsync)


def _watch_names(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    """Look after each change of names, so that a number that the system uses again is not mistaken for a file."""
    for call in ("unlink", "rename", "replace", "link"):
        patch.setattr(os, call, _followed_by_a_look(getattr(os, call), recorder))


def _followed_by_a_look(call: Callable[..., None], recorder: Recorder) -> Callable[..., None]:
    def changed(*args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)
        recorder.look(at=False)

    return changed


def _watch_sqlite(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            result = super().execute(statement, *values)
            if statement == "COMMIT" or statement.startswith("PRAGMA journal_mode"):
                self._became_durable()
            return result

        def _became_durable(self) -> None:
            (_, _, file), *_ = super().execute("PRAGMA database_list").fetchall()
            ((level,),) = super().execute("PRAGMA synchronous").fetchall()
            written = [path for path in (Path(file), Path(f"{file}-wal")) if path.is_file()]
            recorder.look(*written if level >= FULL else ())

        def close(self) -> None:
            super().close()
            recorder.look()

    real = sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return real(*args, factory=Connection, **kwargs)

    patch.setattr(sqlite3, "connect", connect)


def without(moments: list[Moment], node: int) -> list[Moment]:
    """The same run by a program that never syncs one file or folder."""
    return [Moment(moment.cache, tuple(mark for mark in moment.synced if mark.node != node)) for moment in moments]


def durable(start: Disk, moments: list[Moment]) -> Iterator[tuple[Disk, Disk]]:
    """What programs see at each moment, and what is durable until then."""
    disk = start.copy()
    for moment in moments:
        yield moment.cache, disk.copy()
        for mark in moment.synced:
            _make_durable(disk, moment.cache, mark)


def _make_durable(disk: Disk, cache: Disk, mark: Synced) -> None:
    node = mark.node
    if node not in cache.contents:  # a folder
        for key in {key for key in (*disk.names, *cache.names) if key[0] == node}:
            _take(disk.names, cache.names, key)
            if disk.names.get(key) in cache.contents:
                disk.contents.setdefault(disk.names[key], b"")  # named, but nothing of it need be written
        return
    disk.contents[node] = cache.contents[node]
    if mark.path.endswith(LOG):  # SQLite syncs the name of its log itself
        for key in [key for key, named in cache.names.items() if named == node]:
            disk.names[key] = node


def _take(target: dict[Any, Any], source: Mapping[Any, Any], key: Any) -> None:
    if key in source:
        target[key] = source[key]
    else:
        target.pop(key, None)


class Pending:
    """What the disk may or may not hold at one moment.

    Args:
        cache: What programs see.
        disk: What is durable.
    """

    def __init__(self, cache: Disk, disk: Disk) -> None:
        self._disk, self._cache = disk, cache
        names = {key for key in (*disk.names, *cache.names) if disk.names.get(key) != cache.names.get(key)}
        files = {node for node, content in cache.contents.items() if disk.contents.get(node) != content}
        self.names, self.files = sorted(names), sorted(files)

    def states(self, generator: random.Random, samples: int) -> Iterator[Tree]:
        """States of the disk: all of what is pending kept, none, all but one, one alone, and random mixtures."""
        everything = [*self.names, *self.files]
        yield self._state(everything, {})
        yield self._state([], {})
        for chosen in everything:
            yield self._state([other for other in everything if other != chosen], {})
            yield self._state([chosen], {})
        for node in self.files:
            for cut in (0.0, 0.5):
                yield self._state(everything, {node: cut})
        for _ in range(samples if len(everything) > 2 else 0):
            kept = [chosen for chosen in everything if generator.random() < 0.7]
            cuts = {node: generator.random() for node in self.files if generator.random() < 0.2}
            yield self._state(kept, cuts)

    def _state(self, kept: list[Any], cuts: Mapping[int, float]) -> Tree:
        """The state in which some pending changes were kept, and some contents cut off where the new part is."""
        state = self._disk.copy()
        for chosen in kept:
            if isinstance(chosen, tuple):
                _take(state.names, self._cache.names, chosen)
            else:
                state.contents[chosen] = self._cache.contents[chosen]
        for node, cut in cuts.items():
            old, new = self._disk.contents.get(node, b""), self._cache.contents[node]
            state.contents[node] = _torn(old, new, cut)
        for node in state.names.values():
            if node in self._cache.contents:
                state.contents.setdefault(node, b"")
        return state.tree()


def _torn(old: bytes, new: bytes, cut: float) -> bytes:
    """The new content up to a point, and the old one from there on."""
    pairs = enumerate(zip(old, new, strict=False))
    same = next((place for place, (left, right) in pairs if left != right), min(len(old), len(new)))
    point = same + int(cut * (len(new) - same))
    return new[:point] + old[point:]


def materialise(tree: Tree, root: Path) -> None:
    """Write a state into an empty folder."""
    for path in sorted(tree):
        content = tree[path][1]
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def fresh_folder(parent: Path) -> Path:
    """An empty folder, in memory where there is such a file system."""
    memory = Path("/dev/shm")
    folder = (memory if memory.is_dir() else parent) / f"crash-{os.getpid()}-{parent.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
