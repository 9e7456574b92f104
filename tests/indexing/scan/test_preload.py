"""Reading ahead: the files that searches map, all of them, once, in order, and only if they would stay in memory."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from operations import QUERY, add_tokens

from colbert_video import Indexer, Searcher
from colbert_video.indexing.scan import preload
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.preload import Preloader, blocks, mapped_files
from colbert_video.progress import show_progress

FILES = ("frame/0.codes.pt", "frame/0.residuals.pt", "video/0.codes.pt", "video/0.residuals.pt")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    add_tokens(tmp_path / "i", "abcd", seed=0, add=False)
    return tmp_path / "i"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """Each block that is read: its file, and its bytes."""
    done: list[tuple[Path, int]] = []

    def counted(path: Path, buffer: bytearray) -> Iterator[int]:
        for count in blocks(path, buffer):
            done.append((path, count))
            yield count

    monkeypatch.setattr(preload, "blocks", counted)
    return done


def segments(index: Path) -> set[Path]:
    return set((index / "segments").iterdir())


def whole(segment: Path) -> list[tuple[Path, int]]:
    """What reading a segment of small files comes to."""
    return [(segment / name, (segment / name).stat().st_size) for name in FILES]


def bytes_of(index: Path) -> int:
    """Bytes that an index needs to stay in memory."""
    with closing(IndexReader.open(index)) as reader:
        return sum(mapped_files(reader.segments).values())


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How much memory the system is said to have; the last number counts."""
    given: list[int | None] = []
    monkeypatch.setattr(preload, "available_memory", lambda: given[-1])
    return given


def test_nothing_is_read_ahead_unless_it_is_wanted(index: Path, read: list[tuple[Path, int]]) -> None:
    with Searcher(index) as searcher:
        add_tokens(index, "e", seed=1)
        assert searcher.refresh()
    assert read == []


def test_every_byte_is_read_once_and_in_order(index: Path, read: list[tuple[Path, int]]) -> None:
    with Searcher(index, preload=True) as searcher:
        assert read == whole(*segments(index))
        assert {hit.id for hit in searcher.search_tokens(QUERY)} == set("abcd")
        searcher.preload()  # again, as the system may have dropped them since
        assert read == 2 * whole(*segments(index))


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


def test_of_a_new_commit_new_segments_are_read(index: Path, read: list[tuple[Path, int]]) -> None:
    with Searcher(index, preload=True) as searcher:
        (first,) = segments(index)
        read.clear()
        assert not searcher.refresh()
        add_tokens(index, "ef", seed=1)
        assert searcher.refresh()
        (second,) = segments(index) - {first}
        assert read == whole(second)
        Indexer(index).remove(["a"])
        assert searcher.refresh()
        assert read == whole(second)
        read.clear()
        Indexer(index).compact()
        assert searcher.refresh()
        (third,) = segments(index) - {first, second}
        assert read == whole(third)
        assert searcher._preloader is not None
        assert searcher._preloader._read == {third / name for name in FILES}


def test_searchers_that_refresh_themselves_read_before_they_search(
    index: Path, read: list[tuple[Path, int]]
) -> None:
    with Searcher(index, auto_refresh=True) as searcher:
        before = segments(index)
        searcher.preload()
        add_tokens(index, "e", seed=1)
        read.clear()
        assert "e" in {hit.id for hit in searcher.search_tokens(QUERY)}
        assert read == whole(*(segments(index) - before))


def test_what_would_not_stay_in_memory_is_not_read(
    index: Path, read: list[tuple[Path, int]], memory: list[int | None], caplog: pytest.LogCaptureFixture
) -> None:
    memory.append(bytes_of(index) - 1)
    with Searcher(index, preload=True) as searcher:
        assert read == []
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"{index} is not read into memory: that would take 0.000 GB" in record.getMessage()
        assert len(searcher.search_tokens(QUERY)) == 4
        assert not searcher.refresh()
        assert len(caplog.records) == 1
        add_tokens(index, "e", seed=1)
        memory.append(bytes_of(index))
        assert searcher.refresh()
        assert {path.parent.parent for path, _ in read} == segments(index)
        assert len(caplog.records) == 1


def test_indexes_with_one_preloader_must_fit_together(
    index: Path,
    tmp_path: Path,
    read: list[tuple[Path, int]],
    memory: list[int | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_tokens(tmp_path / "j", "abcd", seed=1, add=False)
    with closing(IndexReader.open(index)) as one, closing(IndexReader.open(tmp_path / "j")) as other:
        memory.append(2 * bytes_of(index) - 1)
        together = Preloader()
        together.read(index, one.segments)
        together.read(tmp_path / "j", other.segments)
        assert read == whole(*segments(index))
        assert [record.getMessage().split()[0] for record in caplog.records] == [str(tmp_path / "j")]
        Preloader().read(tmp_path / "j", other.segments)
        assert read[len(FILES) :] == whole(*segments(tmp_path / "j"))


def test_where_the_system_says_nothing_all_is_read(
    index: Path, read: list[tuple[Path, int]], memory: list[int | None]
) -> None:
    memory.append(None)
    Searcher(index, preload=True).close()
    assert read == whole(*segments(index))


def test_a_file_that_is_gone_costs_a_warning(
    index: Path, read: list[tuple[Path, int]], caplog: pytest.LogCaptureFixture
) -> None:
    with Searcher(index) as searcher:
        (segment,) = segments(index)
        gone = segment / "frame" / "0.residuals.pt"
        gone.unlink()
        searcher.preload()
        assert f"{gone} cannot be read into memory: [Errno 2]" in caplog.text
        assert [path for path, _ in read] == [segment / name for name in FILES if segment / name != gone]


def test_reading_goes_block_by_block_and_can_be_stopped(
    index: Path, read: list[tuple[Path, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preload, "BLOCK", 512)
    preloader = Preloader()
    with closing(IndexReader.open(index)) as reader:
        counted = preload.blocks

        def interrupted(path: Path, buffer: bytearray) -> Iterator[int]:
            for count in counted(path, buffer):
                if len(read) == 2:
                    preloader.stop()
                yield count

        monkeypatch.setattr(preload, "blocks", interrupted)
        preloader.read(index, reader.segments)
        preloader.read(index, reader.segments)
    assert read == [(next(iter(segments(index))) / FILES[0], 512)] * 2


def test_one_buffer_takes_every_block(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdefg")
    buffer = bytearray(3)
    seen = [(count, bytes(buffer)) for count in blocks(tmp_path / "file", buffer)]
    assert seen == [(3, b"abc"), (3, b"def"), (1, b"gef")]


def test_what_a_gpu_keeps_needs_no_file(index: Path) -> None:
    with closing(IndexReader.open(index)) as reader:
        assert mapped_files([segment.to("meta") for segment in reader.segments]) == {}


def test_progress_and_log_say_what_is_read(
    index: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="colbert_video")
    show_progress()
    try:
        Searcher(index, preload=True).close()
    finally:
        show_progress(False)
    shown = capsys.readouterr().err
    assert "reading i (MiB)" in shown
    assert " 1/1 " in shown
    assert f"GB of {index} into memory in 0." in caplog.text
