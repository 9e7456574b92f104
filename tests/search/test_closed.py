"""What is closed says so, by one kind of error; closing twice is fine, and searches that run end first."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operations import QUERY, add_tokens

from colbert_video import ClosedError, Searcher
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.opened import OpenIndex
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

USES: dict[str, Callable[[Searcher], Any]] = {
    "search_tokens": lambda searcher: searcher.search_tokens(QUERY),
    "filter": lambda searcher: searcher.search_tokens(QUERY, where={"name": "a"}),
    "search": lambda searcher: searcher.search("a dog"),
    "search_all": lambda searcher: searcher.search_all(["a dog"]),
    "search_image": lambda searcher: searcher.search_image("picture.png"),
    "search_video": lambda searcher: searcher.search_video("clip.mp4"),
    "explain": lambda searcher: searcher.explain("a dog", "a"),
    "model": lambda searcher: searcher.model,
    "refresh": lambda searcher: searcher.refresh(),
    "preload": lambda searcher: searcher.preload(),
    "len": len,
    "with": lambda searcher: searcher.__enter__().search_tokens(QUERY),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("closed") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    shard_index(path, path.with_name("shards"), shards=2)
    return path


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", [Searcher, ShardedSearcher])
def test_a_closed_searcher_says_so(index: Path, kind: type[Searcher], use: str) -> None:
    with kind(index if kind is Searcher else index.with_name("shards")) as searcher:
        assert len(searcher.search_tokens(QUERY)) == 4
    searcher.close()
    with pytest.raises(ClosedError, match=f"^this {kind.__name__} is closed: open a new one.$"):
        USES[use](searcher)
    with searcher:  # leaving it once more does no harm
        pass


@pytest.mark.parametrize("auto_refresh", [False, True])
def test_a_closed_index_says_so(index: Path, auto_refresh: bool) -> None:
    opened = OpenIndex(index, auto_refresh=auto_refresh)
    opened.close()
    opened.close()
    for use in (opened.refresh, opened.preload, opened.view().__enter__, opened.__len__):
        with pytest.raises(ClosedError, match=r"i was closed here: open it again"):
            use()


def test_a_closed_catalog_and_reader_say_so(index: Path) -> None:
    catalog, reader = Catalog.open(index), IndexReader.open(index)
    for opened in (catalog, catalog, reader, reader):
        opened.close()
    uses = (catalog.count, catalog.settings, catalog.hold, catalog.snapshot, catalog.files, catalog.check_integrity)
    for use in (*uses, lambda: reader.known(["a"]), lambda: reader.allowed({"name": "a"}, None)):
        with pytest.raises(ClosedError, match=r"i was closed here: open it again"):
            use()


def test_a_search_that_runs_ends_before_the_files_are_closed(index: Path) -> None:
    opened = OpenIndex(index)
    with opened.view() as view:
        closing = threading.Thread(target=opened.close)
        closing.start()
        closing.join()
        assert view.reader.known(["a"])[0].id == "a"
    with pytest.raises(ClosedError):
        view.reader.known(["a"])
