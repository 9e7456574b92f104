"""Reading ahead: the system is asked for the files that searches map, each from front to back."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from operations import QUERY, add_tokens

from colbert_video import Indexer, Searcher
from colbert_video.indexing.scan import index_reader
from colbert_video.indexing.scan.index_reader import IndexReader, mapped_files

FILES = ("frame/0.codes.pt", "frame/0.residuals.pt", "video/0.codes.pt", "video/0.residuals.pt")
Hint = tuple[Path, int, int]
"""File, first byte and number of bytes."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preload") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "i")


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[Hint]:
    """Each hint that is given."""
    given: list[Hint] = []
    if not Path("/proc/self/fd").exists():
        pytest.skip("a system that does not say which file is open")

    def noted(file: int, start: int, count: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        given.append((Path(f"/proc/self/fd/{file}").readlink(), start, count))

    monkeypatch.setattr(os, "posix_fadvise", noted)
    return given


def segments(index: Path) -> set[Path]:
    return set((index.resolve() / "segments").iterdir())


def whole(*segments: Path) -> list[Hint]:
    """The hints for segments of small files."""
    files = (segment / name for segment in segments for name in FILES)
    return [(file, 0, file.stat().st_size) for file in files]


def test_nothing_is_read_ahead_unless_it_is_wanted(index: Path, hints: list[Hint]) -> None:
    with Searcher(index) as searcher:
        add_tokens(index, "e", seed=1)
        assert searcher.refresh()
    assert hints == []


def test_every_file_is_asked_for_before_the_first_search(index: Path, hints: list[Hint]) -> None:
    with Searcher(index, preload=True) as searcher:
        assert hints == whole(*segments(index))
        assert {hit.id for hit in searcher.search_tokens(QUERY)} == set("abcd")
        searcher.preload()  # again, as the system may have dropped them since
        assert hints == 2 * whole(*segments(index))


def test_the_files_are_those_that_searches_map(index: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("a system that does not say what is mapped")
    with Searcher(index) as searcher, searcher._view() as view:
        searcher.search_tokens(QUERY, k=2)
        searcher.search_tokens(QUERY, exact=True)
        paths = {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines()}
        mapped = {path for path in paths if path.startswith(str(index.resolve())) and path.endswith(".pt")}
        assert {str(path.resolve()) for path in mapped_files(view.reader.segments)} == mapped


@pytest.mark.parametrize("auto_refresh", [False, True])
def test_new_commits_are_read_ahead_too(index: Path, hints: list[Hint], auto_refresh: bool) -> None:
    with Searcher(index, preload=True, auto_refresh=auto_refresh) as searcher:
        hints.clear()
        assert not searcher.refresh()
        assert hints == []
        add_tokens(index, "ef", seed=1)
        assert auto_refresh or searcher.refresh()
        assert len(searcher.search_tokens(QUERY)) == 6
        assert sorted(hints) == sorted(whole(*segments(index)))
        hints.clear()
        Indexer(index).compact()
        before = segments(index)
        assert searcher.refresh()
        assert {file.parents[1] for file, _, _ in hints} <= before
        assert len(hints) == len(FILES)


def test_large_files_are_asked_for_piece_by_piece(
    index: Path, hints: list[Hint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_reader, "READ_AHEAD_BYTES", 512)
    with closing(IndexReader.open(index)) as reader:
        asked = reader.preload()
    files = [file for file, _, _ in whole(*segments(index))]
    assert asked == sum(file.stat().st_size for file in files)
    for file in files:
        own = [(start, count) for path, start, count in hints if path == file]
        assert [start for start, _ in own] == list(range(0, file.stat().st_size, 512))
        assert sum(count for _, count in own) == file.stat().st_size


def test_a_closed_index_asks_for_nothing_more(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_reader, "READ_AHEAD_BYTES", 512)
    reader = IndexReader.open(index)
    monkeypatch.setattr(os, "posix_fadvise", lambda *hint: reader.close(), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    assert reader.preload() == 512


def test_systems_without_hints_read_nothing_ahead(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    with closing(IndexReader.open(index)) as reader:
        assert reader.preload() == 0
    with Searcher(index, preload=True) as searcher:
        assert len(searcher.search_tokens(QUERY)) == 4


def test_a_missing_file_costs_a_warning(index: Path, hints: list[Hint], caplog: pytest.LogCaptureFixture) -> None:
    with Searcher(index) as searcher:
        (segment,) = segments(index)
        missing = segment / "frame" / "0.residuals.pt"
        wanted = [hint for hint in whole(segment) if hint[0] != missing]
        missing.unlink()
        searcher.preload()
        assert "frame/0.residuals.pt cannot be read ahead: [Errno 2]" in caplog.text
        assert hints == wanted


def test_what_a_gpu_keeps_needs_no_file(index: Path) -> None:
    with closing(IndexReader.open(index)) as reader:
        assert mapped_files([segment.to("meta") for segment in reader.segments]) == []
