"""An open searcher keeps one state of the index, and takes the next when it is asked to, or by itself."""

import shutil
import threading
from pathlib import Path

import pytest
from operations import QUERY, add_tokens
from thorough import amount

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, SettingsError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refresh") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "i")


def ids(searcher: Searcher) -> set[str]:
    return {hit.id for hit in searcher.search_tokens(QUERY, k=99)}


def test_a_searcher_keeps_its_state_until_it_is_refreshed(index: Path) -> None:
    with Searcher(index) as searcher:
        before = searcher.search_tokens(QUERY, k=99)
        add_tokens(index, "ae", seed=1)
        Indexer(index).remove(["b"])
        assert searcher.search_tokens(QUERY, k=99) == before
        assert searcher.search_tokens(QUERY, k=9, ids=["b"])[0].id == "b"
        assert {hit.id for hit in searcher.search_tokens(QUERY, where={"seed": 0})} == set("abcd")
        assert len(searcher) == 4
        assert searcher.refresh()
        assert ids(searcher) == set("acde")
        assert {hit.id for hit in searcher.search_tokens(QUERY, where={"seed": 1})} == set("ae")
        with pytest.raises(SettingsError, match="'b' is not in the index"):
            searcher.search_tokens(QUERY, ids=["b"])
        assert not searcher.refresh()


def test_automatic_refreshing_sees_every_commit(index: Path) -> None:
    with Searcher(index, auto_refresh=True) as searcher:
        assert ids(searcher) == set("abcd")
        best = searcher.search_tokens(QUERY, k=1)[0].id
        Indexer(index).remove(best)
        assert ids(searcher) == set("abcd") - {best}
        Indexer(index).compact()
        assert ids(searcher) == set("abcd") - {best}
        add_tokens(index, "xy", seed=2, add=False, overwrite=True)
        assert ids(searcher) == set("xy")
        assert len(searcher) == 2


def test_a_folder_that_was_made_again_is_seen(index: Path) -> None:
    with Searcher(index) as searcher:
        shutil.rmtree(index)
        assert not searcher.path.exists()
        add_tokens(index, "xyz", seed=2, add=False)
        assert searcher.refresh()
        assert ids(searcher) == set("xyz")
        assert not searcher.refresh()
        add_tokens(index, "w", seed=3)
        assert searcher.refresh()
        assert ids(searcher) == set("wxyz")


def test_an_index_that_broke_leaves_the_open_state_searchable(index: Path) -> None:
    with Searcher(index) as searcher:
        add_tokens(index, "e", seed=1)
        newest = max(index.glob("segments/*"), key=lambda path: path.stat().st_mtime)
        (newest / "frame" / "doclens.0.json").unlink()
        with pytest.raises(IndexFolderError, match=r"doclens\.0\.json is damaged: it is missing"):
            searcher.refresh()
        assert ids(searcher) == set("abcd")


def test_searches_in_many_threads_survive_commits(index: Path) -> None:
    problems: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                hits = searcher.search_tokens(QUERY, k=99)
                assert {hit.id for hit in hits} >= {"a", "b"}
                assert len({hit.metadata["seed"] for hit in hits if hit.id in "cd"}) <= 1  # one commit at a time
        except BaseException as error:
            problems.append(error)

    with Searcher(index, auto_refresh=True) as searcher:
        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seed in range(1, 1 + amount(2, thorough=4)):
            add_tokens(index, "cd", seed=seed)
            Indexer(index).remove(["c", "d"]) if seed % 2 else Indexer(index).compact()
        done.set()
        for thread in threads:
            thread.join()
        assert problems == []
        assert len(searcher._index._borrowers) <= 1  # all older states were closed


def test_filters_and_ids_narrow_the_search_together(index: Path) -> None:
    add_tokens(index, "efg", seed=1)
    with Searcher(index) as searcher:
        by_filter = searcher.search_tokens(QUERY, k=99, where={"seed": 1})
        assert {hit.id for hit in by_filter} == set("efg")
        alone = {hit.id: hit.score for hit in searcher.search_tokens(QUERY, k=99)}
        assert {hit.id: hit.score for hit in by_filter} == pytest.approx({name: alone[name] for name in "efg"})
        both = searcher.search_tokens(QUERY, where={"name": {"in": ["a", "e", "g"]}}, ids=["a", "b", "e"])
        assert {hit.id for hit in both} == {"a", "e"}
        assert searcher.search_tokens(QUERY, where={"seed": 7}) == []
        assert searcher.search_tokens(QUERY, where={"seed": 1}, ids=["a"]) == []
        assert len(searcher.search_tokens(QUERY, where={})) == 7
        with pytest.raises(SettingsError, match="is not an operator"):
            searcher.search_tokens(QUERY, where={"seed": {"like": 1}})


def test_a_filter_hands_the_scan_only_what_may_be_found(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from colbert_video.search import opened as module

    seen: list[int] = []
    original = module.search_segment

    def counting(segment: object, *args: object, allowed: object = None, **settings: object) -> object:
        seen.append(int(allowed.sum()))  # type: ignore[attr-defined]
        return original(segment, *args, allowed=allowed, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "search_segment", counting)
    add_tokens(index, "efg", seed=1)
    add_tokens(index, "h", seed=2)
    with Searcher(index) as searcher:
        searcher.search_tokens(QUERY, where={"seed": 1})
        searcher.search_tokens(QUERY, where={"name": {"in": ["a", "h"]}})
        searcher.search_tokens(QUERY, ids=["b", "c"])
    assert seen == [3, 1, 1, 2]  # segments without eligible videos are not looked at
