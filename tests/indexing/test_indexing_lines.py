"""Lines of text follow their videos: read with them, committed with them, renewed, replaced and removed with them."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from subtitled_clips import srt, vtt, write_subtitled
from video_writer import write_clip

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.cli.tables import report_text
from colbert_video.errors import SettingsError
from colbert_video.indexing.build import ingest, line_reading
from colbert_video.indexing.build.line_reading import check_sources
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.schema import LINES, WORDS
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.video.workers.pool import FramePool


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, and one with a text stream."""
    folder = tmp_path_factory.mktemp("lines") / "clips"
    folder.mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4")):
        write_clip(folder / name, 50 + number)
    write_subtitled(folder / "c.mkv", [("srt", [(0.5, 1.5, "inside")])])
    return folder


@pytest.fixture
def folder(tmp_path: Path, written: Path) -> Path:
    copied = shutil.copytree(written, tmp_path / "clips")
    (copied / "a.srt").write_text(srt([(0.2, 1.0, "beside"), (1.2, 1.8, "<i>Zwei</i>")]))
    return copied


@pytest.fixture
def indexer(tmp_path: Path, tiny_trained_model: VideoColBERT) -> Indexer:
    return Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the videos whose text streams were read."""
    names: list[str] = []
    read = FramePool.read_texts
    monkeypatch.setattr(
        FramePool, "read_texts", lambda pool, path: (names.append(Path(path).name), read(pool, path))[1]
    )
    return names


def lines(path: Path) -> dict[str, list[str]]:
    """The texts of each video's lines; the index is intact, and finds every one of them."""
    assert verify_index(path).intact
    with Catalog.open(path) as catalog:
        ids = [entry.video for entry in catalog.entries()]
        stored = {one.video: [line.text for line in one.lines] for one in catalog.lines_of(ids) if one.lines}
        assert catalog.count_lines() == sum(map(len, stored.values()))
    with Searcher(path) as searcher:
        for video, texts in stored.items():
            for text in texts:
                assert video in {hit.id for hit in searcher.search(text, text="speech")}
    return stored


def test_files_beside_videos_and_streams_inside_are_read(
    indexer: Indexer, folder: Path, looked_into: list[str]
) -> None:
    report = indexer.index(folder)
    assert (report.indexed, report.damaged) == (3, {})
    assert lines(indexer.path) == {"a.mp4": ["beside", "Zwei"], "c.mkv": ["inside"]}
    assert looked_into == ["c.mkv"]  # the others were seen to have no text when their frames were read
    assert describe_index(indexer.path)["lines"] == 3


def test_off_reads_none(tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path, looked_into: list[str]) -> None:
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off")
    indexer.index(folder)
    indexer.add(folder)
    assert lines(indexer.path) == {}
    assert looked_into == []
    with sqlite3.connect(indexer.path / "catalog.sqlite") as catalog:
        assert not catalog.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [WORDS]).fetchall()


def test_a_broken_file_is_named_and_fails_nothing(indexer: Indexer, folder: Path) -> None:
    (folder / "a.srt").write_bytes(b"\x00\xff no subtitles")
    report = indexer.index(folder)
    assert (report.indexed, report.failures) == (3, ())
    assert report.damaged == {"a.mp4": ("a.srt: no line with times is in it",)}
    assert "a.mp4: a.srt: no line with times is in it" in report_text(report)


def test_new_changed_and_removed_files_are_seen_without_encoding(
    indexer: Indexer, folder: Path, looked_into: list[str]
) -> None:
    indexer.index(folder)
    looked_into.clear()
    assert indexer.add(folder).unchanged == 3
    assert looked_into == []
    (folder / "b.en.vtt").write_text(vtt([(0.1, 0.9, "later")]))
    (folder / "a.srt").write_text(srt([(0.2, 1.0, "other")]))
    os.utime(folder / "a.srt", ns=(1, 1))
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged) == (0, 3)
    assert lines(indexer.path) == {"a.mp4": ["other"], "b.mp4": ["later"], "c.mkv": ["inside"]}
    (folder / "a.srt").unlink()
    (folder / "b.en.vtt").write_text("broken")
    report = indexer.sync(folder)
    assert report.damaged == {"b.mp4": ("b.en.vtt: no line with times is in it",)}
    assert lines(indexer.path) == {"c.mkv": ["inside"]}


def test_a_changed_or_missing_video_takes_its_lines_along(indexer: Indexer, folder: Path) -> None:
    indexer.index(folder)
    (folder / "c.mkv").unlink()
    write_clip(folder / "a.mp4", 30, first=7)
    (folder / "a.srt").write_text(srt([(0.2, 1.0, "new")]))
    report = indexer.sync(folder)
    assert (report.indexed, report.removed) == (1, ("c.mkv",))
    assert lines(indexer.path) == {"a.mp4": ["new"]}
    indexer.remove("a.mp4")
    with pytest.raises(SettingsError, match="no lines of text"), Searcher(indexer.path) as searcher:
        searcher.search("new", text="speech")


def test_overwriting_forgets_and_encoding_again_keeps(indexer: Indexer, folder: Path) -> None:
    indexer.index(folder)
    before = lines(indexer.path)
    assert indexer.compact(retrain="paths").reencoded == 3
    assert lines(indexer.path) == before
    (folder / "a.srt").unlink()
    indexer.index(folder, overwrite=True)
    assert lines(indexer.path) == {"c.mkv": ["inside"]}


class Maker:
    """A caller's function: says its video's name, or fails."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, path: str) -> Iterator[tuple[float, float, str]]:
        name = Path(path).stem
        self.made.append(name)
        yield 0.0, 1.0, f"I am {name}"
        if name == "b":
            raise OSError("no sound")


def test_a_callers_function_makes_lines_once(tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path) -> None:
    make = Maker()
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, lines=make)
    report = indexer.index(folder)
    assert report.damaged == {"b.mp4": ("its lines could not be made: no sound",)}
    assert make.made == ["a", "b", "c"]
    indexer.add(folder)
    Indexer(indexer.path, model=tiny_trained_model, workers=1).add(folder)  # keeps them
    (folder / "a.srt").unlink()
    indexer.add(folder)
    assert make.made == ["a", "b", "c"]
    with Catalog.open(indexer.path) as catalog:
        found = {
            (one.video, one.source): [line.text for line in one.lines] for one in catalog.lines_of(["a.mp4", "c.mkv"])
        }
    assert found == {
        ("a.mp4", "subtitles"): [],
        ("a.mp4", "caller"): ["I am a"],
        ("c.mkv", "subtitles"): ["inside"],
        ("c.mkv", "caller"): ["I am c"],
    }


def test_lines_are_made_for_videos_that_were_indexed_before(
    tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path
) -> None:
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off").index(folder)
    make = Maker()
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off", lines=make).add(folder)
    assert make.made == ["a", "b", "c"]
    assert lines(tmp_path / "i") == {"a.mp4": ["I am a"], "c.mkv": ["I am c"]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ((0.0, 1.0), "not enough values to unpack (expected 3, got 2)"),
        ((0.0, 1.0, b"x"), "the text of a line is b'x'"),
        (("x", 1.0, "x"), "could not convert string to float: 'x'"),
        (None, "cannot unpack non-iterable NoneType object"),
    ],
)
def test_what_is_no_line_is_reported(
    tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path, line: Any, problem: str
) -> None:
    make: Any = lambda path: [line]  # noqa: E731
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off", lines=make)
    assert indexer.index(folder / "a.mp4").damaged == {"a.mp4": (f"its lines could not be made: {problem}",)}


def test_times_that_cannot_be_are_counted(tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path) -> None:
    given = [(-1.0, 1.0, "x"), (float("nan"), 1.0, "x"), (2.0, 1.0, "x"), (0.0, 1.0, "good\ud800")]
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off", lines=lambda path: given)
    assert indexer.index(folder / "a.mp4").damaged == {"a.mp4": ("3 lines without usable times",)}
    assert lines(indexer.path) == {"a.mp4": ["good?"]}


def test_an_interrupted_run_keeps_what_was_read_and_shows_nothing(
    tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, lines=make)

    def stop(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "commit_segment", stop)
        with pytest.raises(KeyboardInterrupt):
            indexer.index(folder)
    with Catalog.open(indexer.path) as catalog:
        assert (catalog.count_lines(), catalog.has_lines()) == (0, False)
        assert {one.video for one in catalog.staged_lines(["a.mp4", "b.mp4", "c.mkv"])} == {"a.mp4", "b.mp4", "c.mkv"}
    report = indexer.index(folder)
    assert (report.resumed, make.made) == (3, ["a", "b", "c"])
    assert report.damaged == {"b.mp4": ("its lines could not be made: no sound",)}  # said again
    with Searcher(indexer.path) as searcher:
        assert {hit.id for hit in searcher.search("beside inside am", text="speech")} == {"a.mp4", "c.mkv"}
    with Catalog.open(indexer.path) as catalog:
        assert catalog._rows("SELECT * FROM staged_lines") == []


def test_a_run_that_ends_while_lines_are_made_keeps_those_that_are(
    tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path
) -> None:
    made: list[str] = []

    def make(path: str) -> list[tuple[float, float, str]]:
        made.append(Path(path).stem)
        if made == ["a", "b"]:
            raise KeyboardInterrupt
        return [(0.0, 1.0, f"I am {Path(path).stem}")]

    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, subtitles="off", lines=make)
    with pytest.raises(KeyboardInterrupt):
        indexer.index(folder)
    indexer.index(folder)
    assert made == ["a", "b", "b", "c"]
    assert lines(indexer.path) == {"a.mp4": ["I am a"], "b.mp4": ["I am b"], "c.mkv": ["I am c"]}


def test_an_index_of_the_format_before_gets_lines_with_the_next_run(indexer: Indexer, folder: Path) -> None:
    Indexer(indexer.path, model=indexer._model.given, workers=1, subtitles="off").index(folder)
    tables = [statement.split()[2] for statement in LINES.split(";") if "CREATE TABLE" in statement]
    with sqlite3.connect(indexer.path / "catalog.sqlite") as catalog:
        for name in tables:
            catalog.execute(f"DROP TABLE {name}")
        catalog.execute("PRAGMA user_version = 2")
    with Searcher(indexer.path) as searcher, pytest.raises(SettingsError, match="no lines of text"):
        searcher.search("beside", text="speech")
    assert describe_index(indexer.path)["lines"] == 0
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged) == (0, 3)
    assert lines(indexer.path) == {"a.mp4": ["beside", "Zwei"], "c.mkv": ["inside"]}


def test_windows_get_their_own_lines(tmp_path: Path, tiny_trained_model: VideoColBERT, folder: Path) -> None:
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, num_frames=4, window=1.0, stride=1.0)
    indexer.index(folder)
    with Searcher(indexer.path) as searcher:
        (hit,) = searcher.search("Zwei", text="speech")
        assert (hit.id, hit.window, hit.start) == ("a.mp4", "a.mp4#t=1,2", 1.2)
    write_clip(folder / "a.mp4", 60, first=7)
    indexer.add(folder)
    assert lines(indexer.path)["a.mp4"] == ["beside", "Zwei"]


def test_a_python_without_fts5_indexes_without_lines(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(line_reading, "fts5_is_there", lambda: False)
    assert indexer.index(folder).indexed == 3
    assert "no FTS5: subtitles and other lines of text are not read" in caplog.text
    assert lines(indexer.path) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [(("on", None), "subtitles='on' must be 'auto' or 'off'"), (("auto", 3), "lines=3 must be a function that takes")],
)
def test_settings_are_checked(given: tuple[Any, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_sources(*given)
