"""Sharding an index: every video in one shard, and nothing left of a run that failed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from token_corpus import DIM, random_bags
from window_corpus import VIDEOS, commit_two_segments

from colbert_video import Indexer
from colbert_video.cli.program import app
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.writer_lock import WriterLock
from colbert_video.indexing.upkeep import sharding
from colbert_video.indexing.upkeep.sharding import CORPUS_NAME, ShardedCorpus, cut, shard_index, write_corpus
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "one.index"
    commit_two_segments(path)
    return path


def test_shards_are_whole_indexes_and_keep_windows_together(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "many", shards=3)
    folders = ShardedCorpus.open(tmp_path / "many").folders
    held: list[str] = []
    for folder in folders:
        assert verify_index(folder).intact
        with Catalog.open(folder) as catalog:
            held += sorted({entry.video for entry in catalog.entries()})
            assert catalog.snapshot().removed == {}
    assert sorted(held) == VIDEOS  # each in one shard, none lost
    with Catalog.open(index) as catalog:
        codecs = catalog.codecs()
    for folder in folders:
        with Catalog.open(folder) as catalog:
            assert catalog.codecs() == codecs


def test_whole_segments_are_linked(tmp_path: Path) -> None:
    for number in range(4):
        bags = random_bags(6, seed=number)
        ids = [f"{number}-{row}" for row in range(6)]
        Indexer(tmp_path / "one", dim=DIM).index_tokens(ids, bags, bags, add=number > 0)
    report = shard_index(tmp_path / "one", tmp_path / "two", videos_per_shard=12)
    assert (report.videos, report.rows, report.linked) == ((12, 12), (12, 12), 4)
    for path in (tmp_path / "two").rglob("0.residuals.pt"):
        own = path.relative_to(tmp_path / "two").parts[1:]
        assert path.samefile(tmp_path.joinpath("one", *own))
    assert shard_index(tmp_path / "one", tmp_path / "three", shards=3).linked == 2  # the outer ones stay whole


@given(rows=st.lists(st.integers(1, 9), min_size=1, max_size=40), data=st.data())
def test_cuts_are_successive_and_leave_no_shard_empty(rows: list[int], data: st.DataObject) -> None:
    shards = data.draw(st.integers(1, len(rows)))
    chosen = cut(rows, shards)
    assert chosen == sorted(chosen)
    assert set(chosen) == set(range(shards))


def test_cuts_are_even() -> None:
    assert cut([1] * 9, 3) == [0] * 3 + [1] * 3 + [2] * 3
    assert cut([1, 1, 1, 9, 1, 1, 1], 3) == [0, 0, 0, 1, 2, 2, 2]
    assert cut([50, 1, 1], 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "one of the two"),
        ({"shards": 2, "videos_per_shard": 2}, "one of the two"),
        ({"shards": 0}, "into 0 shards"),
        ({"shards": 99}, f"{len(VIDEOS)} videos cannot be split into 99 shards; choose from 1 to {len(VIDEOS)}"),
        ({"videos_per_shard": 0}, "videos_per_shard=0"),
    ],
)
def test_senseless_numbers_are_refused(index: Path, tmp_path: Path, given: dict[str, int], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        shard_index(index, tmp_path / "many", **given)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_not_copied(index: Path, tmp_path: Path) -> None:
    shutil.copytree(index, tmp_path / "one")
    victim = next((tmp_path / "one" / "segments").rglob("0.residuals.pt"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(IndexFolderError, match="residuals"):
        shard_index(tmp_path / "one", tmp_path / "many", shards=2)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_killed_run_leaves_nothing_that_the_next_one_minds(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill runs no clean-up: here none is run after the last shard was written."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(sharding, "write_corpus", lambda *_: os._exit(9))
        shard_index(index, tmp_path / "many", shards=2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.name for path in tmp_path.iterdir()] == [".many.unfinished"]
    report = shard_index(index, tmp_path / "many", shards=2)
    assert sum(report.videos) == len(VIDEOS)
    assert [path.name for path in tmp_path.iterdir()] == ["many"]
    with pytest.raises(IndexFolderError, match="many exists"):
        shard_index(index, tmp_path / "many", shards=2)


def test_two_runs_for_one_folder_exclude_each_other(index: Path, tmp_path: Path) -> None:
    work = tmp_path / ".many.unfinished"
    work.mkdir()
    lock = WriterLock(work)
    with pytest.raises(IndexFolderError, match="another process is writing"):
        shard_index(index, tmp_path / "many", shards=2)
    lock.release()


def test_a_corpus_is_read_with_suspicion(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "many", shards=2)
    path = tmp_path / "many" / CORPUS_NAME
    whole = json.loads(path.read_text())

    def refused(text: str, **changes: Any) -> None:
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(IndexFolderError, match=text):
            ShardedCorpus.open(tmp_path / "many")

    refused("checksum", shards=["shard-0001", "shard-0000"])
    refused("format version 2", version=2)
    refused("its format is not", format="something else")
    path.write_text("{")
    with pytest.raises(IndexFolderError, match="damaged"):
        ShardedCorpus.open(tmp_path / "many")
    with pytest.raises(SettingsError, match="may hold letters"):
        write_corpus(tmp_path / "many", ["../one.index"])
    with pytest.raises(SettingsError, match="twice"):
        write_corpus(tmp_path / "many", ["shard-0000", "shard-0000"])
    path.write_text(json.dumps(whole))
    shutil.rmtree(tmp_path / "many" / "shard-0001")
    with pytest.raises(IndexFolderError, match="shard-0001 is missing"):
        ShardedSearcher(tmp_path / "many")
    with pytest.raises(IndexFolderError, match="is one index, no sharded corpus"):
        ShardedCorpus.open(index)
    with pytest.raises(IndexFolderError, match="holds no sharded corpus"):
        ShardedCorpus.open(tmp_path)


def test_the_verb_shards_and_says_what_it_made(index: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    made = run(app, ["shard", str(index), "--output", str(tmp_path / "many"), "--shards", "2", "--json"])
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert sum(report["videos"]) == len(VIDEOS)
    assert report["path"] == str(tmp_path / "many")
    assert run(app, ["shard", str(index), "--output", str(tmp_path / "x")]).exit_code == 2
