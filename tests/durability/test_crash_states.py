"""A power cut at any moment leaves the index as it was or as it will be, and once a call has returned, as it will be.

The real run of each operation is recorded; a pessimistic model of the disk (`crash_model`) then gives every state in
which it may be found after a power cut. Each is opened: the found videos and their scores must be exactly those before
or after the operation, an index that is not there must say so, and a writer must be able to go on. That the checker can
fail is shown by runs in which a file or folder is never synced: each of them must be caught.
"""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from crash_model import DATABASE, Moment, Pending, Recorder, Tree, durable, fresh_folder, materialise, record, without
from operations import add_tokens, everything
from thorough import amount, cases
from token_corpus import DIM, unit_tokens

from colbert_video import Indexer
from colbert_video import durable as files
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build import commit
from colbert_video.indexing.catalog import catalog as catalog_module
from colbert_video.indexing.catalog import database
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index import staging
from colbert_video.indexing.index.staging import STAGING, EncodedVideo, StagedSource, StagingWriter, check_chunk
from colbert_video.indexing.upkeep import export
from colbert_video.indexing.upkeep.verify import verify_index

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to tell what is synced")

SAMPLES = amount(2, thorough=6)
"""Random mixtures of pending changes at each moment."""
WRITERS = amount(2, thorough=8)
"""States of each operation in which a writer goes on."""
MIN_STATES = 15
"""Each operation has more states than this; a recorder that misses what happens has fewer."""
LAST_MOMENTS = 4
"""From the commit on: SQLite's COMMIT, its closing, that of the lock, and the return of the call."""
TOP, LOGGED = "i", "i/catalog.sqlite-wal"
UNNOTICED = {
    "stage": {LOGGED},
    "export": {".copy/attempt"},
    "index": {LOGGED},
    "add": {TOP, LOGGED},
    "remove": {LOGGED},
    "compact": {TOP},
    "retrain": {TOP},
    "overwrite": {TOP},
}
"""Syncs whose lack loses nothing: SQLite's log where closing the catalog copies it into the database before anything
is deleted, the names in the index folder where its rooms are there already, and an export's hidden workplace."""
NO_INDEX = "there is no index|is missing|is not finished"

Content = dict[str, Any] | None
"""Everything that can be found; None where there is no index yet."""


def content(path: Path) -> Content:
    """What an index holds, as a user sees it."""
    try:
        return everything(path)
    except IndexFolderError as error:
        if any(text in str(error) for text in NO_INDEX.split("|")) and "damaged" not in str(error):
            return None
        raise


def start(path: Path) -> None:
    """Two segments, with a replaced and a removed video."""
    add_tokens(path, "abc", seed=0, add=False)
    add_tokens(path, "bd", seed=1)
    Indexer(path).remove("a")


def go_on(path: Path) -> Content:
    """What is found besides one more video that a writer adds to whatever is there."""
    found = content(path)
    add_tokens(path, "z", seed=9, add=found is not None)
    report = verify_index(path)
    assert (report.problems, report.leftovers) == ((), ())
    now = everything(path)
    assert now.pop("z")[3] == {"name": "z", "seed": 9}
    return now or found


def stage(path: Path, ids: str = "uv") -> None:
    """Stage encoded videos, as an index run does before it has enough of them."""
    with Catalog.open(path, writable=True) as catalog, StagingWriter(catalog) as writer:
        for name in ids:
            bags = {bag: unit_tokens(2, DIM, seed=ord(name)) for bag in ("frame", "video")}
            writer.add(EncodedVideo(VideoEntry(name), bags))


def staged(path: Path) -> Content:
    """The tokens of every staged video, as an index run that goes on would read them."""
    with Catalog.open(path) as catalog:
        chunks = list(StagedSource(catalog, ids=sorted(catalog.staged_ids())))
        for name in catalog.staged_chunks():
            check_chunk(catalog, name)
    return {
        entry.id: chunk.tokens["frame"].tolist()
        for chunk in chunks
        for entry in chunk.entries
    }  # fmt: skip


def stage_more(path: Path) -> Content:
    """What is staged besides one more video."""
    stage(path, "w")
    found = staged(path)
    assert found is not None
    del found["w"]
    return found


@dataclass(frozen=True)
class Operation:
    """A call that changes what is on disk."""

    run: Callable[[Path], Any]
    prepare: Callable[[Path], Any] = start
    look: Callable[[Path], Content] = content
    """Reads what it changes."""
    go_on: Callable[[Path], Content] | None = go_on
    """Changes something else and reads it again."""
    target: str = "i"
    """The folder that it changes."""


OPERATIONS = {
    "stage": Operation(stage, look=staged, go_on=stage_more),
    "export": Operation(lambda path: Indexer(path).export(path.with_name("copy")), target="copy"),
    "index": Operation(lambda path: add_tokens(path, "ab", seed=0, add=False), lambda path: None),
    "add": Operation(lambda path: add_tokens(path, "ce", seed=2)),
    "remove": Operation(lambda path: Indexer(path).remove("c")),
    "compact": Operation(lambda path: Indexer(path).compact()),
    "retrain": Operation(lambda path: Indexer(path).compact(retrain="stored")),
    "overwrite": Operation(lambda path: add_tokens(path, "xy", seed=3, add=False, overwrite=True)),
}


@dataclass(frozen=True)
class Run:
    """A recorded operation."""

    operation: Operation
    recorder: Recorder
    before: Content
    after: Content


def recorded(operation: Operation, root: Path) -> Run:
    operation.prepare(root / "i")
    before = operation.look(root / operation.target)
    recorder = record(root, lambda: operation.run(root / "i"))
    return Run(operation, recorder, before, operation.look(root / operation.target))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Recorded operations by name, each made once."""
    made: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in made:
            made[name] = recorded(OPERATIONS[name], tmp_path_factory.mktemp(name).resolve())
        return made[name]

    return run


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where states are laid out; syncing them would only take time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    folder = fresh_folder(tmp_path)
    yield folder
    shutil.rmtree(folder)


class Checker:
    """Opens states of the disk; those that differ only in what the catalog does not name are read once."""

    def __init__(self, run: Run, room: Path) -> None:
        self._run, self._room = run, room
        self._named: dict[Any, list[str]] = {}
        self._opened: dict[Any, str | None] = {}

    @property
    def opened(self) -> int:
        """How many states were read as a whole."""
        return len(self._opened)

    def problem(self, tree: Tree, *, returned: bool) -> str | None:
        """What is wrong with a state after the call `returned`, or before."""
        allowed = [self._run.after] if returned else [self._run.before, self._run.after]
        key = returned, self._relevant(tree)
        if key not in self._opened:
            self._lay_out(tree)
            self._opened[key] = self._problem(self._run.operation.look, allowed)
        return self._opened[key]

    def writer_problem(self, tree: Tree) -> str | None:
        """What is wrong once a writer went on from a state."""
        assert self._run.operation.go_on is not None
        self._lay_out(tree)
        return self._problem(self._run.operation.go_on, [self._run.before, self._run.after])

    def _problem(self, look: Callable[[Path], Content], allowed: list[Content]) -> str | None:
        try:
            found = look(self._room / self._run.operation.target)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None if found in allowed else f"found {sorted(found or ())}"

    def _lay_out(self, tree: Tree) -> None:
        for old in self._room.iterdir():
            shutil.rmtree(old)
        materialise(tree, self._room)

    def _relevant(self, tree: Tree) -> Any:
        """What a reader can depend on: the database, and what it names."""
        top = self._run.operation.target
        database = tuple(tree.get(f"{top}/{DATABASE}{end}") for end in ("", "-wal", "-journal"))
        if database not in self._named:
            self._named[database] = self._names(tree, top)
        return database, top in tree, tuple(tree.get(name) for name in self._named[database])

    def _names(self, tree: Tree, top: str) -> list[str]:
        self._lay_out({path: node for path, node in tree.items() if path.count("/") < 2})
        try:
            with Catalog.open(self._room / top) as catalog:
                chunks = [f"{STAGING}/{name}.safetensors" for name in catalog.staged_chunks()]
                return [f"{top}/{name}" for name in (*catalog.files(), *chunks)]
        except IndexFolderError:
            return []


def states(run: Run, moments: list[Moment], *, samples: int, last: int = 0) -> Iterator[tuple[Tree, bool]]:
    """States that the disk may be found in, at all moments or the last few, and whether the call had returned."""
    generator = random.Random(0)
    pairs = list(durable(run.recorder.start, moments))
    for number in range(len(pairs) - last if last else 0, len(pairs)):
        for tree in Pending(*pairs[number]).states(generator, samples):
            yield tree, number == len(pairs) - 1


def frozen(tree: Tree) -> frozenset[Any]:
    return frozenset(tree.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", cases(["stage", "index", "add", "compact", "export"], thorough=["remove", "retrain", "overwrite"])
)
def test_a_power_cut_at_any_moment(
    name: str, runs: Callable[[str], Run], room: Path, record_property: Callable[[str, Any], None]
) -> None:
    run = runs(name)
    assert (run.before == run.after) == (name == "compact")
    checker, seen = Checker(run, room), {}
    for tree, returned in states(run, run.recorder.moments, samples=SAMPLES):
        seen.setdefault((frozen(tree), returned), tree)
        assert checker.problem(tree, returned=returned) is None
    trees = [tree for (_, returned), tree in seen.items() if not returned]
    for tree in random.Random(1).sample(trees, min(WRITERS, len(trees))):
        assert checker.writer_problem(tree) is None
    assert len(seen) >= MIN_STATES
    record_property("states", len(seen))
    record_property("opened", checker.opened)


def needed(run: Run) -> dict[int, str]:
    """Files and folders that a sync of the run made durable: their numbers and where they lay."""
    found: dict[int, str] = {}
    pairs = list(durable(run.recorder.start, run.recorder.moments))
    for moment, (_, before), (_, after) in zip(run.recorder.moments, pairs, pairs[1:], strict=False):
        if before != after:
            found |= {mark.node: mark.path for mark in moment.synced}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", cases(["stage", "index", "add"], thorough=["export", "remove", "compact", "retrain", "overwrite"])
)
def test_every_sync_is_needed_and_its_lack_is_noticed(name: str, runs: Callable[[str], Run], room: Path) -> None:
    """The checker can fail: without any one of the syncs, what was acknowledged can be lost or damaged."""
    run = runs(name)
    syncs = needed(run)
    unnoticed = {_place(path) for node, path in syncs.items() if not noticed(run, node, room)}
    assert unnoticed == UNNOTICED[name], f"of {len(syncs)}"


def _place(path: str) -> str:
    """A path without the random part of a workplace's name."""
    top, slash, rest = path.partition("/")
    return (".copy" if top.startswith(".copy.") else top) + slash + rest


def noticed(run: Run, node: int, room: Path) -> bool:
    """Whether the run without the sync of one file or folder has a state that is wrong."""
    checker = Checker(run, room)
    mutant = without(run.recorder.moments, node)
    return any(
        checker.problem(tree, returned=returned) for tree, returned in states(run, mutant, samples=0, last=LAST_MOMENTS)
    )


def no_sync(*_: Any) -> None:
    """What a faulty program does instead of waiting for the disk."""


def never_synchronous(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


MUTANTS: dict[str, tuple[str, Any, str, Any]] = {
    "files of a tree": ("index", files, "fsync_file", no_sync),
    "folders of a tree": ("index", files, "fsync_folder", no_sync),
    "trees": ("add", commit, "sync_tree", no_sync),
    "the index folder's own name": ("index", catalog_module, "make_folder_durably", lambda path: path.mkdir()),
    "the catalog's log": ("overwrite", database, "_make_durable", never_synchronous),
    "a staged chunk": ("stage", staging, "fsync_file", no_sync),
    "the folder of staged chunks": ("stage", staging, "make_folder_durably", lambda path: path.mkdir()),
    "an export": ("export", export, "sync_tree", no_sync),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_library_that_does_not_sync_is_caught(mutant: str, tmp_path: Path, room: Path) -> None:
    name, module, function, fault = MUTANTS[mutant]
    root = tmp_path.resolve() / "root"
    root.mkdir()
    operation = OPERATIONS[name]
    operation.prepare(root / "i")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, function, fault)
        run = recorded(replace(operation, prepare=no_sync), root)
    checker = Checker(run, room)
    assert any(
        checker.problem(tree, returned=returned)
        for tree, returned in states(run, run.recorder.moments, samples=0, last=LAST_MOMENTS)
    )
