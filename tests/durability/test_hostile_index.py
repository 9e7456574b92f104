"""An index folder from a stranger is refused or read, but never trusted.

Whatever its files hold, opening, searching, verifying and changing the index end normally or with a ColBERTVideoError:
nothing in it is executed, nothing outside the folder is read, changed or deleted, and memory is only read within
bounds. Forged files come with a catalog that names their true size and checksum, as a stranger would write it.
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crash_model import fresh_folder
from hostile import catalog, change, codec_folder, forge, forge_json, forge_tensors, frame, mutated, use
from kill_worker import preloaded
from operations import add_tokens
from thorough import amount

from colbert_video import Indexer
from colbert_video.errors import ColBERTVideoError, IndexFolderError
from colbert_video.indexing.codec.packing import NBITS
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.export import export_index
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.indexing.upkeep.verify import verify_index

EXAMPLES = int(os.environ.get("COLBERT_VIDEO_FUZZ", amount(24, thorough=300)))
"""Mutated index folders that are opened: by default each file a little more than once."""
FOUND = list("bbccddee")
"""What `use` finds in the index as it was written."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    Indexer(path).remove("a")
    return path


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "i")


def refused(index: Path, message: str) -> None:
    with pytest.raises(ColBERTVideoError, match=message):
        use(index)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["0.codes.pt", "0.residuals.pt", "centroids.pt"])
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_pickles_are_not_executed(index: Path, tmp_path: Path, name: str, form: str) -> None:
    bomb = Bomb(tmp_path / "exploded")
    if form == "torch":
        forge_tensors(frame(index) / name, bomb)
    else:
        forge(frame(index) / name, pickle.dumps(bomb))
    refused(index, f"{name} cannot be read as tensors")
    assert not verify_index(index).intact
    with pytest.raises(ColBERTVideoError):
        Indexer(index).compact()
    assert not (tmp_path / "exploded").exists()


TENSORS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "codes beyond the centroids": ("0.codes.pt", lambda codes: codes + 10_000, "codes run from"),
    "negative codes": ("0.codes.pt", lambda codes: codes - 10_000, "codes run from -"),
    "codes of another type": ("0.codes.pt", lambda codes: codes.long(), "holds torch.int64"),
    "too few codes": ("0.codes.pt", lambda codes: codes[:-1].clone(), "of shape"),
    "repeated codes": ("0.codes.pt", lambda codes: codes[:1].clone().expand(len(codes)), "of shape"),
    "no tensor": ("0.codes.pt", lambda codes: {"codes": codes}, "holds a dict"),
    "sparse codes": ("0.codes.pt", lambda codes: codes.to_sparse(), "holds|cannot be read"),
    "wide residuals": ("0.residuals.pt", lambda bytes_: torch.cat([bytes_, bytes_], dim=1), "of shape"),
    "narrow residuals": ("0.residuals.pt", lambda bytes_: bytes_[:, 1:].clone(), "of shape"),
    "other centroids": ("centroids.pt", lambda centroids: centroids[:-1].clone(), "of shape"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit_are_refused(index: Path, case: str) -> None:
    name, change, message = TENSORS[case]
    path = frame(index) / name
    forge_tensors(path, change(torch.load(path, weights_only=True)))
    refused(index, message)
    assert not verify_index(index).intact


CODECS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "NaN centroids": ("centroids.pt", lambda value: (value.float() * float("nan")).to(value.dtype), "NaN or infinity"),
    "infinite rotation": ("rotation.pt", lambda value: value / 0, "NaN or infinity"),
    "more centroids": ("centroids.pt", lambda value: torch.cat([value, value]), "is damaged"),
    "another dimension": ("centroids.pt", lambda value: value[:, :32].clone(), "of shape"),
    "three weights": ("buckets.pt", lambda value: (value[0][:2].clone(), value[1][:3].clone()), "is damaged"),
    "falling cutoffs": ("buckets.pt", lambda value: (value[0].flip(0), value[1]), "not ascending"),
}


@pytest.mark.parametrize("case", CODECS)
def test_codecs_that_make_no_sense_are_refused(index: Path, case: str) -> None:
    name, change, message = CODECS[case]
    path = codec_folder(index) / name
    forge_tensors(path, change(torch.load(path, weights_only=True)))
    refused(index, message)
    assert not verify_index(index).intact
    if case != "more centroids":  # which encode well, but not what is there already
        with pytest.raises(ColBERTVideoError):
            add_tokens(index, "z", seed=3)


def test_a_damaged_codec_is_not_used_to_add_videos(index: Path) -> None:
    """Else the damage would be written into new segments, and its checksum into the catalog."""
    path = codec_folder(index) / "centroids.pt"
    content = bytearray(path.read_bytes())
    place = content.index(torch.load(path, weights_only=True).view(torch.uint8).numpy().tobytes())
    content[place + 20] ^= 1
    path.write_bytes(content)
    before = verify_index(index).problems
    with pytest.raises(IndexFolderError, match=r"codec/\w+/frame/centroids\.pt is damaged: its content"):
        add_tokens(index, "z", seed=3)
    assert verify_index(index).problems == before != ()


def test_a_bag_with_more_centroids_than_its_codec_is_refused(index: Path) -> None:
    """Its codes would lead beyond the codec's centroids, though they are within the bag's own."""
    bag = frame(index)
    own = torch.load(bag / "centroids.pt", weights_only=True)
    forge_tensors(bag / "centroids.pt", torch.cat([own] * 1000))
    codes = torch.load(bag / "0.codes.pt", weights_only=True)
    forge_tensors(bag / "0.codes.pt", codes + 900 * len(own))
    forge_json(bag / "metadata.json", num_partitions=1000 * len(own))
    refused(index, "metadata.json is damaged: dim, nbits, centroids and codec")
    with pytest.raises(ColBERTVideoError, match="is damaged"):
        Indexer(index).compact()


@pytest.mark.parametrize(
    "content",
    ["[-1, 2]", "[9223372036854775807, 1]", "[1e3]", "[[1], [2, 3]]", "{}", "[" * 5000, "[]", "null", "[1", "[true]"],
)
def test_lengths_that_cannot_be_are_refused(index: Path, content: str) -> None:
    forge(frame(index) / "doclens.0.json", content.encode())
    refused(index, r"doclens\.0\.json is damaged")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_embeddings": 2**47},
        {"num_embeddings": -1},
        {"num_partitions": 2**40},
        {"num_chunks": 2},
        {"config": {"dim": 2**40}},
        {"config": {"nbits": 3}},
        {"config": {"nbits": next(bits for bits in NBITS if bits != 4)}},
        {"config": {"colbert_video": None}},
    ],
)
def test_metadata_that_cannot_be_is_refused(index: Path, changes: dict[str, Any]) -> None:
    forge_json(frame(index) / "metadata.json", **changes)
    refused(index, "is damaged|of shape")


def test_files_larger_than_they_can_be_are_not_read(index: Path) -> None:
    for name in ("metadata.json", "doclens.0.json"):
        path = frame(index) / name
        forge(path, b"[" + b" " * 3 * 2**20)
        refused(index, "more than the .* such a file can have")


def test_a_header_that_promises_more_than_the_file_holds(index: Path) -> None:
    """The record says 2**40 bytes; the tensor's header asks for as many."""
    path = frame(index) / "0.codes.pt"
    tensor = torch.load(path, weights_only=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (head,) = [name for name in members if name.endswith("data.pkl")]
    count = len(tensor)
    members[head] = members[head].replace(bytes([ord("K"), count]), b"\x8a\x06" + (2**40).to_bytes(6, "little"))
    forged = path.with_name("forged")
    with zipfile.ZipFile(forged, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = forged.read_bytes()
    forged.unlink()
    forge(path, content)
    refused(index, r"0\.codes\.pt")


NAMES = ["../../x", "/etc", "..", ".", "", "a/b", "a\\b", "C:", "a\0b", 7, b"x", None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", ["segments.name", "segments.codec", "codecs.name", "files.path"])
def test_names_that_lead_elsewhere_are_refused(index: Path, name: Any, column: str) -> None:
    table, field = column.split(".")
    try:
        first = f"rowid = (SELECT MIN(rowid) FROM {table})"
        catalog(index, f"UPDATE {table} SET {field} = ? WHERE {first}", values=(name,))
    except sqlite3.IntegrityError:
        pytest.skip("the schema refuses it")
    if (column, name) == ("codecs.name", 7):  # becomes the text "7", a name that readers do not look for
        assert use(index) == FOUND
    else:
        refused(index, "the catalog is damaged or was tampered with|is damaged|is not named|is missing")
    before = sorted(index.parent.iterdir())
    with pytest.raises(ColBERTVideoError):
        change(index)
    assert sorted(index.parent.iterdir()) == before


def linked(path: Path, outside: Path) -> None:
    """Move a part of an index out of it and leave a link."""
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("part", ["codec", "segments", "catalog.sqlite", "writer.lock", "segment", "bag", "file"])
def test_links_out_of_the_folder_are_not_followed(index: Path, tmp_path: Path, part: str) -> None:
    places = {"segment": frame(index).parent, "bag": frame(index), "file": frame(index) / "0.codes.pt"}
    linked(places.get(part, index / part), tmp_path / "outside")
    if part != "writer.lock":
        refused(index, "is a link")
        assert not verify_index(index).intact
        with pytest.raises(ColBERTVideoError, match="is a link"):
            export_index(index, tmp_path / "exported")
    with pytest.raises(ColBERTVideoError, match="is a link"):
        change(index)


@pytest.mark.parametrize("name", ["0.codes.pt", "metadata.json", "0.metadata.json"])
def test_what_a_link_leads_to_is_not_opened(index: Path, tmp_path: Path, name: str) -> None:
    """Opening a pipe or a device can have effects of its own; an error that names what it is would have opened it."""
    os.mkfifo(tmp_path / "pipe")
    (frame(index) / name).unlink()
    (frame(index) / name).symlink_to(tmp_path / "pipe")
    refused(index, f"{name} is damaged: it is a link")
    with pytest.raises(ColBERTVideoError, match=f"{name} is a link"):
        export_index(index, tmp_path / "exported")


@pytest.mark.parametrize("room", ["segments", "codec", "staging"])
def test_nothing_outside_is_deleted_through_a_link(index: Path, tmp_path: Path, room: str) -> None:
    """A writer sweeps these folders; one that leads elsewhere would cost the user's files."""
    precious = tmp_path / "home" / "documents"
    precious.mkdir(parents=True)
    (precious / "thesis.txt").write_text("x")
    (tmp_path / "home" / "letter.txt").write_text("x")
    shutil.rmtree(index / room, ignore_errors=True)
    (index / room).symlink_to(tmp_path / "home")
    with pytest.raises(IndexFolderError, match="is a link"):
        add_tokens(index, "z", seed=3)
    assert (precious / "thesis.txt").exists()
    assert (tmp_path / "home" / "letter.txt").exists()


def test_files_that_the_catalog_does_not_name_are_not_read(index: Path) -> None:
    catalog(index, "DELETE FROM files WHERE path LIKE '%0.codes.pt'")
    refused(index, r"0\.codes\.pt is not named in the catalog")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON segments BEGIN DELETE FROM videos; END",
        "ALTER TABLE videos RENAME TO hidden",
        "CREATE INDEX i ON videos (hex(zeroblob(length(id) * 1000)))",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = 0",
    ],
)
def test_a_catalog_with_another_schema_is_refused(index: Path, statement: str) -> None:
    catalog(index, statement)
    refused(index, "is not a colbert_video catalog|has format version 99")
    with pytest.raises(ColBERTVideoError):
        add_tokens(index, "z", seed=3)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE videos SET id = X'00ff' WHERE id = 'b'",
        "UPDATE videos SET path = X'00ff'",
        "UPDATE videos SET metadata = '[1]'",
        "UPDATE videos SET metadata = '" + "[" * 100_000 + "'",
        "UPDATE videos SET metadata = 'NaN'",
        "UPDATE videos SET frame_times = X'00'",
        "UPDATE videos SET frame_times = 'text'",
        "UPDATE videos SET start = 'text'",
        "UPDATE videos SET duration = 1e999",
        "UPDATE videos SET ordinal = ordinal + 1000000000000",
        "UPDATE videos SET ordinal = 'text' WHERE id = 'b'",
        "UPDATE segments SET count = 1000000000000",
        "UPDATE segments SET count = -1",
        "INSERT INTO tombstones SELECT name, 99 FROM segments",
        "INSERT INTO tombstones SELECT name, -1 FROM segments",
        "UPDATE files SET size = 'text'",
        "UPDATE files SET size = -1",
        "UPDATE files SET size = 0.5",
        "UPDATE files SET sha256 = X'00ff'",
        "DELETE FROM generation",
        "DELETE FROM codecs",
        "DELETE FROM settings",
        "UPDATE settings SET value = '{'",
        "UPDATE settings SET value = '[]'",
        "UPDATE settings SET value = X'ff'",
        "UPDATE settings SET value = json_set(value, '$.dim', 'x') WHERE key = 'index'",
        "UPDATE settings SET value = json_set(value, '$.dim', 128) WHERE key = 'index'",
        "UPDATE settings SET value = json_set(value, '$.bags', 7) WHERE key = 'index'",
        "UPDATE settings SET value = json_set(value, '$.bags', json('[[1]]')) WHERE key = 'index'",
        "UPDATE settings SET value = json_set(value, '$.nbits', 1e308) WHERE key = 'index'",
    ],
)
def test_rows_that_cannot_be_are_refused(index: Path, statement: str) -> None:
    """Some are noticed only when they are read: then searching refuses them."""
    catalog(index, statement)
    if "codecs" not in statement:  # readers do without that table
        refused(index, ".")
    assert not verify_index(index).intact or "codecs" in statement


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tombstones SET ordinal = 'x' WHERE ordinal = 0",
        "UPDATE tombstones SET ordinal = 0.5 WHERE ordinal = 0",
        "UPDATE tombstones SET ordinal = X'00' WHERE ordinal = 0",
        "UPDATE tombstones SET ordinal = 99 WHERE ordinal = 0",
        "UPDATE tombstones SET ordinal = -1 WHERE ordinal = 0",
        "UPDATE tombstones SET ordinal = 3 WHERE ordinal = 0",
        "UPDATE videos SET ordinal = 9 WHERE id = 'c'",
    ],
)
@pytest.mark.parametrize("use", [lambda path: Indexer(path).compact(), lambda path: shard_index(path, "s", shards=2)])
def test_tokens_are_not_copied_to_other_videos(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], Any], statement: str
) -> None:
    """Rows that a catalog confuses would leave an index that looks whole and finds the wrong videos."""
    monkeypatch.chdir(tmp_path)
    catalog(index, statement)
    before = sorted(index.rglob("*.pt"))
    with pytest.raises(IndexFolderError, match=r"catalog\.sqlite is damaged: .*; restore it"):
        use(index)
    assert sorted(index.rglob("*.pt")) == before
    assert not Path("s").exists()


def test_a_schema_that_is_no_text_is_refused(index: Path) -> None:
    """SQLite's message repeats its bytes, and Python raises UnicodeDecodeError instead of that message."""
    connection = sqlite3.connect(index / "catalog.sqlite")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET name = CAST(X'ff61' AS TEXT)")
    connection.commit()
    connection.close()
    refused(index, "catalog.sqlite cannot be read or written .*: it is damaged")
    assert not verify_index(index).intact
    with pytest.raises(ColBERTVideoError, match="it is damaged"):
        change(index)


def test_large_metadata_is_no_trouble(index: Path) -> None:
    catalog(index, "UPDATE videos SET metadata = ?", values=(json.dumps({"x": "y" * 2**22}),))
    assert use(index) == FOUND


def fuzz(original: Path, work: Path, start: int, stop: int, pipe: Any) -> None:
    """Open mutated indexes and report each before and after, so that a crash is known by its number."""
    torch.set_num_threads(1)
    names = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    names += [Path("catalog.sqlite")] * (len(names) // 3)
    for number in range(start, stop):
        generator = random.Random(number)
        name = names[number % len(names)]
        pipe.send((number, f"{name}: begun"))
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(original, work)
        if name.suffix in (".sqlite", ".lock") or "sqlite" in name.name:
            (work / name).write_bytes(mutated((work / name).read_bytes(), generator))
        else:
            forge(work / name, mutated((work / name).read_bytes(), generator))
        pipe.send((number, _outcome(work, name, number)))


def _outcome(work: Path, name: Path, number: int) -> str:
    for action in (use, verify_index, change) if number % 4 == 0 else (use,):
        try:
            action(work)
        except ColBERTVideoError:
            continue
        except Exception as error:
            return f"{name}: {type(error).__name__}: {error}"
    return "fine"


@pytest.mark.slow
def test_mutated_files_end_in_a_result_or_an_error_of_ours(original: Path, tmp_path: Path) -> None:
    """In a child process: a crash of the interpreter would be told by the number of the example."""
    room = fresh_folder(tmp_path)
    pipe, end = preloaded().Pipe(duplex=False)
    child = preloaded().Process(target=fuzz, args=(original, room / "i", 0, EXAMPLES, end))
    child.start()
    end.close()
    outcomes: dict[int, str] = {}
    try:
        while True:
            number, outcome = pipe.recv()
            outcomes[number] = outcome
    except EOFError:
        child.join()
    shutil.rmtree(room)
    assert {number: outcome for number, outcome in outcomes.items() if outcome != "fine"} == {}
    assert (len(outcomes), child.exitcode) == (EXAMPLES, 0)


RENAMED = {
    "codec": ("UPDATE codecs SET name = 'other'", "does not name codec/"),
    "no codec": ("DELETE FROM codecs", "does not name codec/"),
    "codec of a segment": ("UPDATE segments SET codec = 'other'", "does not name codec/other"),
    "segment": ("UPDATE segments SET name = 'other' WHERE rowid = 1", "tombstones outside segment"),
    "segment without removed videos": ("UPDATE segments SET name = 'other' WHERE rowid = 2", "does not name segments/"),
    "files of a codec": ("DELETE FROM files WHERE path LIKE 'codec/%'", "does not name the files of codec/"),
    "files of a segment": ("DELETE FROM files WHERE path LIKE 'segments/%'", "does not name the files of segments/"),
    "one file": ("DELETE FROM files WHERE path LIKE '%/frame/0.residuals.pt'", "the catalog does not name it"),
    "all files": ("DELETE FROM files", "does not name the files of"),
}


@pytest.mark.parametrize("case", RENAMED)
def test_a_catalog_that_lost_a_name_deletes_nothing(index: Path, case: str) -> None:
    statement, message = RENAMED[case]
    before = {path for path in index.rglob("*") if path.suffix in (".pt", ".json")}
    catalog(index, statement)
    report = verify_index(index)
    assert not report.intact
    assert any(message in problem.detail for problem in report.problems)
    with contextlib.suppress(ColBERTVideoError):
        Indexer(index).remove("b")  # a writer sweeps first
    assert {path for path in index.rglob("*") if path.suffix in (".pt", ".json")} >= before


def fold_pages(path: Path, table: str) -> None:
    """Chain the interior pages of a table: each names the next as all of its children, the last a page of rows."""
    with sqlite3.connect(path) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchall()
        ((size,),) = connection.execute("PRAGMA page_size").fetchall()
    connection.close()
    data = bytearray(path.read_bytes())

    def children(page: int) -> list[int]:
        """Where a page names its children."""
        start = (page - 1) * size
        cells = int.from_bytes(data[start + 3 : start + 5], "big")
        places = [int.from_bytes(data[start + 12 + 2 * i : start + 14 + 2 * i], "big") for i in range(cells)]
        return [start + 8, *(start + place for place in places)]

    def number(place: int) -> int:
        return int.from_bytes(data[place : place + 4], "big")

    interior, rows = [root], 0
    for page in interior:
        below = [number(place) for place in children(page)]
        interior += [child for child in below if data[(child - 1) * size] == 5]
        rows = next((child for child in below if data[(child - 1) * size] == 13), rows)
    for page, child in zip(interior[:12], [*interior[1:12], rows], strict=False):
        for place in children(page):
            data[place : place + 4] = child.to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize("table", ["failures", "videos", "staged"])
def test_rows_without_end_are_refused_soon(index: Path, table: str) -> None:
    """Pages that each name one child dozens of times give a few kilobytes more rows than any memory holds."""
    path = index / "catalog.sqlite"
    statements = {
        "failures": "INSERT INTO failures SELECT 'f' || value, 'p', 'empty', 'd', 0 FROM numbers",
        "videos": "INSERT INTO videos SELECT 'v' || value, 's', value, NULL, NULL, NULL, NULL, NULL, x'', '{}', NULL, "
        "NULL "
        "FROM numbers",
        "staged": "INSERT INTO staged SELECT 's' || value, 'c', value, NULL, NULL, NULL, NULL, NULL, x'', '{}', NULL, "
        "NULL "
        "FROM numbers",
    }
    numbers = "WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 20000) "
    catalog(index, "PRAGMA journal_mode = DELETE", "PRAGMA page_size = 512", "VACUUM", numbers + statements[table])
    fold_pages(path, table)
    begun = time.monotonic()
    with contextlib.suppress(ColBERTVideoError):
        describe_index(index)
    with contextlib.suppress(ColBERTVideoError):
        use(index)
    assert not verify_index(index).intact
    assert time.monotonic() - begun < 20
