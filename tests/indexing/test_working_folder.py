"""A path is what it was when it was given, though the working folder changes to one with the same names."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operations import DIM, QUERY, add_tokens, everything

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, ModelError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.upkeep.contents import describe_index, list_videos
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.indexing.upkeep.sharding import ShardedCorpus, shard_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.search.opened import OpenIndex
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.video.sources import VideoRecord, find_videos

Place = tuple[Path, Path]
HERE, THERE = list("abcdefgh"), list("stuvwxyz")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    for name, ids in (("here", HERE), ("there", THERE)):
        add_tokens(root / name / "i", ids, seed=0, add=False)
        shard_index(root / name / "i", root / name / "shards", shards=2)
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Two folders with an index "i" and a corpus "shards" in each; the first one is the working folder."""
    shutil.copytree(made, tmp_path / "two")
    monkeypatch.chdir(tmp_path / "two" / "here")
    return tmp_path / "two" / "here", tmp_path / "two" / "there"


def ids(folder: Path) -> list[str]:
    return sorted(everything(folder))


CHANGES: dict[str, tuple[Callable[[Indexer], Any], list[str]]] = {
    "remove": (lambda indexer: indexer.remove("a"), HERE[1:]),
    "compact": (lambda indexer: indexer.compact(), HERE),
    "add": (lambda indexer: _add(indexer, "k"), [*HERE, "k"]),
    "verify": (lambda indexer: indexer.verify(), HERE),
}


def _add(indexer: Indexer, name: str) -> None:
    bag = QUERY[:2].numpy()
    indexer.index_tokens([name], [bag], [bag], add=True)


@pytest.mark.parametrize("change", CHANGES)
def test_an_indexer_edits_the_index_that_it_was_given(place: Place, change: str) -> None:
    here, there = place
    indexer = Indexer("i", dim=DIM) if change == "add" else Indexer("i")
    os.chdir(there)
    act, left = CHANGES[change]
    act(indexer)
    assert (ids(here / "i"), ids(there / "i")) == (left, THERE)


def test_a_searcher_refreshes_the_index_that_it_was_given(place: Place) -> None:
    here, there = place
    opened = OpenIndex(Path("i"))
    with Searcher("i") as searcher, Searcher("i", auto_refresh=True) as fresh:
        os.chdir(there)
        Indexer(here / "i").remove("a")
        assert searcher.refresh()
        assert opened.refresh()
        assert len(opened) == len(HERE) - 1
        for one in (searcher, fresh):
            assert sorted(hit.id for hit in one.search_tokens(QUERY, k=100)) == HERE[1:]
    opened.close()
    assert searcher.path == here / "i"


def test_a_sharded_searcher_refreshes_the_corpus_that_it_was_given(place: Place) -> None:
    here, there = place
    with ShardedSearcher("shards") as searcher:
        os.chdir(there)
        Indexer(here / "shards" / "shard-0000").remove("a")
        assert searcher.refresh()
        assert sorted(hit.id for hit in searcher.search_tokens(QUERY, k=100)) == HERE[1:]
    corpus = ShardedCorpus.open(here / "shards")
    assert all(folder.is_absolute() for folder in corpus.folders)


def test_readers_and_catalogs_keep_their_folder(place: Place) -> None:
    here, there = place
    catalog, reader = Catalog.open(Path("i")), IndexReader.open(Path("i"))
    os.chdir(there)
    assert catalog.folder == here / "i"
    assert reader.preload() > 0
    catalog.close()
    reader.close()


CALLS: dict[str, Callable[[str], Any]] = {
    "Indexer": lambda name: Indexer(name),
    "Searcher": lambda name: Searcher(name),
    "ShardedSearcher": lambda name: ShardedSearcher(name),
    "shard": lambda name: shard_index("i", name, shards=2),
    "shard source": lambda name: shard_index(name, "new", shards=2),
    "export": lambda name: Indexer("i").export(name),
    "videos": lambda name: find_videos(name),
    "one of videos": lambda name: find_videos([name]),
    "a pair": lambda name: find_videos([("id", name)]),
    "a record": lambda name: find_videos([VideoRecord("id", name)]),
}


@pytest.mark.parametrize("name", ["", "  ", "a\0b"], ids=["empty", "blank", "zero"])
@pytest.mark.parametrize("call", CALLS)
def test_names_of_nothing_are_refused(place: Place, call: str, name: str) -> None:
    before = sorted(place[0].parent.rglob("*"))
    with pytest.raises(SettingsError, match=r"is empty: give a path|a path cannot hold a zero byte"):
        CALLS[call](name)
    assert sorted(place[0].parent.rglob("*")) == before


def test_home_is_found_everywhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = place
    monkeypatch.setenv("HOME", str(there))
    with Searcher("~/i") as searcher:
        assert (searcher.path, len(searcher)) == (there / "i", len(THERE))
    assert Indexer("~/i").verify().intact
    assert describe_index(Path("~/i"))["videos"] == len(THERE)
    assert [video.id for video in list_videos(Path("~/i"), limit=1)] == ["s"]
    assert verify_index(Path("~/i")).videos == len(THERE)
    Indexer("i").export("~/copy.tar")
    import_index(Path("~/copy.tar"), Path("~/imported"))
    assert ids(there / "imported") == HERE
    shard_index("~/i", "~/new", shards=2)
    with ShardedSearcher("~/new") as searcher:
        assert len(searcher) == len(THERE)
    assert sorted(path.name for path in here.iterdir()) == ["i", "shards"]


def test_a_model_by_folder_is_the_one_that_was_named(
    place: Place, tiny_model: Any, tiny_trained_model: Any, rendered_clips: Path
) -> None:
    here, there = place
    tiny_model.save_pretrained(here / "model")
    tiny_trained_model.save_pretrained(there / "model")
    indexer = Indexer("videos.index", model="model", workers=1)
    os.chdir(there)
    indexer.index(rendered_clips)
    os.chdir(here)
    searcher = Searcher("videos.index", model="model")
    os.chdir(there)
    assert searcher.model.fingerprint() == tiny_model.fingerprint()
    searcher.close()
    with pytest.raises(ModelError, match="the model is empty"):
        Indexer("x", model="")
    with pytest.raises(ModelError, match="the model is empty"):
        Searcher(here / "videos.index", model="")


def test_videos_are_found_in_home_and_stored_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    there = place[1]
    (there / "v").mkdir()
    (there / "v" / "a.mp4").touch()
    monkeypatch.setenv("HOME", str(there))
    whole = str(there / "v" / "a.mp4")
    for named in ("~/v", "~/v/*.mp4", "~/v/a.mp4", [("a.mp4", "~/v/a.mp4")], [VideoRecord("a.mp4", "~/v/a.mp4")]):
        assert [(record.id, record.path) for record in find_videos(named).records] == [("a.mp4", whole)]
    os.chdir(there)
    assert find_videos([VideoRecord("x", "v/a.mp4")]).records[0].path == whole


@pytest.mark.parametrize("wrong", ["file", "other"])
def test_an_index_that_cannot_be_begun_is_known_before_the_model_is_loaded(
    place: Place, rendered_clips: Path, wrong: str
) -> None:
    target = Path("taken") / "i" if wrong == "file" else Path("taken")
    (Path("taken") if wrong == "file" else Path("taken") / "x").parent.mkdir(exist_ok=True)
    Path("taken" if wrong == "file" else "taken/x").touch()
    message = "cannot be written: Not a directory" if wrong == "file" else "exists and is not an index"
    with pytest.raises(IndexFolderError, match=message):
        Indexer(target, model="no-such/model").index(rendered_clips)
