"""Pages of an index's videos: together they are all of them, once each, whatever the page's length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import amount
from window_corpus import commit_windows

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.filters import Condition
from colbert_video.indexing.upkeep.contents import ListedVideo, list_videos
from colbert_video.indexing.upkeep.sharding import shard_index

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments, a video that was replaced by a longer one, and one that was removed."""
    path = tmp_path_factory.mktemp("listing") / "i"
    commit_windows(path, {"film": 3, "b": 0, "é": 0, "c": 2}, seed=1, add=False)
    commit_windows(path, {"a": 2, "film#1": 0, "c": 4, "film-2": 0}, seed=2, add=True)
    Indexer(path).remove(["b"])
    return path


def pages(path: Path, limit: int, **options: Any) -> list[ListedVideo]:
    """All pages, one after the other."""
    listed: list[ListedVideo] = []
    while page := list_videos(path, limit=limit, after=listed[-1].id if listed else "", **options):
        assert len(page) <= limit
        listed += page
    return listed


def test_a_page_tells_of_each_video_once(index: Path) -> None:
    listed = list_videos(index, limit=100)
    assert [(video.id, video.windows) for video in listed] == [
        ("a", 2),
        ("c", 4),
        ("film", 3),
        ("film#1", 0),
        ("film-2", 0),
        ("é", 0),
    ]
    assert listed[2] == ListedVideo("film", None, 0.0, 30.0, None, {"name": "film"}, 3)
    rows = list_videos(index, limit=100, windows=True)
    assert len(rows) == 12
    assert rows[2] == ListedVideo("c#t=0,10", "c", 0.0, 10.0, None, {"name": "c"}, 0)
    assert [row.id for row in rows] == sorted(row.id for row in rows)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_are_the_whole_in_parts(index: Path, tmp_path: Path, limit: int, windows: bool) -> None:
    whole = list_videos(index, limit=100, windows=windows)
    assert pages(index, limit, windows=windows) == whole
    shard_index(index, tmp_path / "shards", shards=3)
    assert pages(tmp_path / "shards", limit, windows=windows) == whole


def test_filters_are_those_of_a_search(index: Path) -> None:
    listed = pages(index, 1, where={"start": {">=": 10}})
    assert [(video.id, video.start, video.end, video.windows) for video in listed] == [
        ("a", 10, 20, 1),
        ("c", 10, 40, 3),
        ("film", 10, 30, 2),
    ]
    named = pages(index, 2, where={"name": {"in": ["c", "é"]}})
    assert [video.id for video in named] == ["c", "é"]
    assert pages(index, 2, where={"name": "b"}) == []


def test_commits_between_two_pages_shift_nothing(tmp_path: Path) -> None:
    path = tmp_path / "i"
    commit_windows(path, {"b": 0, "d": 2, "f": 0}, seed=1, add=False)
    first = list_videos(path, limit=2)
    commit_windows(path, {"a": 0, "e": 0}, seed=2, add=True)
    Indexer(path).remove(["b"])
    rest = list_videos(path, limit=2, after=first[-1].id)
    assert [video.id for video in [*first, *rest]] == ["b", "d", "e", "f"]


def test_what_makes_no_page_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="limit=0 must be at least 1"):
        list_videos(index, limit=0)
    with pytest.raises(SettingsError, match="'like' for 'name' is not an operator"):
        list_videos(index, limit=1, where={"name": {"like": "x"}})
    with pytest.raises(IndexFolderError, match="there is no index"):
        list_videos(tmp_path / "nowhere", limit=1)


@settings(
    max_examples=amount(10, thorough=25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.tuples(IDS, st.integers(0, 3)), min_size=1, unique_by=lambda pair: pair[0]), single=st.booleans()
)
def test_any_ids_come_in_the_order_of_their_code_points(
    names: Sequence[tuple[str, int]], single: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = []
    for name, windows in names:
        parts = [VideoEntry(f"{name}#t={n},{n + 1}", parent=name) for n in range(windows)]
        rows += parts or [VideoEntry(name)]
    with Catalog.create(tmp_path_factory.mktemp("ids")) as catalog:
        catalog.commit_segment("s", "c", rows, {})
        listed: list[str] = []
        while page := catalog.page(
            Condition("1"), after=listed[-1] if listed else "", limit=1 if single else 3, windows=False
        ):
            listed += [entry.id for entry, _ in page]
    assert listed == sorted(name for name, _ in names)
