"""Lines of text in the catalog of a stranger: refused or read, never trusted, and never the end of the process."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from hostile import catalog
from operations import add_tokens
from thorough import amount

from colbert_video import Indexer, Searcher
from colbert_video.errors import ColBERTVideoError, IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.schema import SHADOWS, WORDS
from colbert_video.indexing.catalog.spoken_lines import VideoLines
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.video.subtitles.timed_line import TimedLine


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile-lines") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    said = tuple(TimedLine(float(number), number + 1.0, f"penguin number {number} walks") for number in range(50))
    with Catalog.open(path, writable=True) as opened:
        opened.set_lines(VideoLines(name, "subtitles", "", said) for name in "abc")
    return path


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "i")


def use(index: Path) -> list[str]:
    with Searcher(index) as searcher:
        return sorted(hit.id for hit in searcher.search("a penguin walks", text="speech"))


def change(index: Path) -> None:
    with Catalog.open(index, writable=True) as opened:
        opened.set_lines([VideoLines("b", "subtitles", "new", (TimedLine(0.0, 1.0, "penguin"),))])
    Indexer(index).remove("a")
    shard_index(index, index.with_name("shards"), shards=2)


def test_the_original_is_fine(index: Path) -> None:
    assert use(index) == ["a", "b", "c"]
    change(index)
    assert use(index) == ["b", "c"]
    assert verify_index(index).intact


@pytest.mark.parametrize(
    "statements",
    [
        [f"ALTER TABLE {WORDS} RENAME TO other"],
        [f"DROP TABLE {WORDS}", f"CREATE VIRTUAL TABLE {WORDS} USING fts5(words)"],
        [f"DROP TABLE {WORDS}", *(f"CREATE TABLE {name} (id)" for name in SHADOWS)],
        ["CREATE VIRTUAL TABLE more USING fts5(words)"],
        ["CREATE TRIGGER t AFTER INSERT ON timed_lines BEGIN DELETE FROM videos; END"],
        ["DROP INDEX timed_lines_item"],
        ["DROP TABLE staged_lines"],
    ],
)
def test_another_schema_is_refused(index: Path, statements: list[str]) -> None:
    catalog(index, *statements)
    for action in (use, change):
        with pytest.raises(IndexFolderError, match="is not a colbert_video catalog"):
            action(index)


def test_a_shadow_table_that_is_a_view_is_refused(index: Path) -> None:
    connection = sqlite3.connect(index / "catalog.sqlite")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET type = 'view', sql = ? WHERE name = ?",
        [f"CREATE VIEW {SHADOWS[0]} AS SELECT 1 AS id, 2 AS block", SHADOWS[0]],
    )
    connection.commit()
    connection.close()
    with pytest.raises(IndexFolderError, match=r"is not FTS5's own|it is damaged"):
        use(index)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE timed_lines SET text = X'00ff'",
        "UPDATE timed_lines SET start = 'text'",
        'UPDATE timed_lines SET "end" = 9e999',
        "UPDATE timed_lines SET item = X'00ff'",
        "UPDATE timed_lines SET item = 'nobody'",
        "UPDATE timed_lines SET words = 'other words'",
        "UPDATE timed_lines SET words = X'ff'",
        "UPDATE timed_lines SET source = X'ff'",
        "DELETE FROM timed_lines",
        "DELETE FROM line_sources",
        "UPDATE line_sources SET stamp = X'ff', source = X'ff'",
        "INSERT INTO staged_lines VALUES ('b', 'x', '', '{')",
        "INSERT INTO staged_lines VALUES ('b', 'x', '', '{\"lines\": [[NaN, 1, \"x\"]], \"problems\": []}')",
        f"UPDATE {WORDS}_data SET block = X'ffffffffffffffffffff'",
        f"UPDATE {WORDS}_data SET block = 'text'",
        f"UPDATE {WORDS}_data SET block = zeroblob(10000000)",
        f"DELETE FROM {WORDS}_data",
        f"DELETE FROM {WORDS}_idx",
        f"UPDATE {WORDS}_docsize SET sz = X''",
        f"DELETE FROM {WORDS}_docsize",
        f"UPDATE {WORDS}_config SET v = 99",
        f"DELETE FROM {WORDS}_config",
    ],
)
def test_rows_that_cannot_be_end_in_a_result_or_an_error_of_ours(index: Path, statement: str) -> None:
    catalog(index, statement)
    for action in (use, change, verify_index, use):
        try:
            action(index)
        except ColBERTVideoError:
            continue


@pytest.mark.parametrize("number", range(amount(20, thorough=300)))
def test_blocks_that_were_changed_at_random(index: Path, number: int) -> None:
    generator = random.Random(number)
    connection = sqlite3.connect(index / "catalog.sqlite")
    for rowid, block in connection.execute(f"SELECT id, block FROM {WORDS}_data").fetchall():
        changed = bytearray(block)
        for _ in range(generator.randrange(1, 4)):
            if changed:
                changed[generator.randrange(len(changed))] = generator.randrange(256)
        connection.execute(f"UPDATE {WORDS}_data SET block = ? WHERE id = ?", [bytes(changed), rowid])
    connection.commit()
    connection.close()
    for action in (use, change, use):
        try:
            action(index)
        except ColBERTVideoError:
            continue


def test_lines_of_nobody_are_reported(index: Path) -> None:
    catalog(index, "UPDATE timed_lines SET item = 'nobody' WHERE item = 'c'")
    assert use(index) == ["a", "b"]
    (problem,) = verify_index(index).problems
    assert problem.detail == "50 lines of text belong to no video"
