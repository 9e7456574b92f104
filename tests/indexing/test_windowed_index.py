"""Long files become windows: stored, changed, removed and resumed as one video; found at the right time."""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.cli.tables import report_text
from colbert_video.errors import FailureKind, NothingIndexedError, SettingsError, VideoError
from colbert_video.indexing.build import ingest
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.index import staging
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.training.world import render_moments, sample_scenes
from colbert_video.training.world.scene import Scene
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers.pool import FramePool, FrameRequest

FPS = 6
FRAMES = 18
"""Of each scene: three seconds."""


def write_film(path: Path, scenes: int, *, seed: int = 3) -> list[Scene]:
    drawn = sample_scenes(scenes, seed=seed, split="test", paired_fraction=0.0)
    render_moments(drawn, path, size=48, frames=FRAMES, fps=FPS)
    return drawn


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 15 seconds, one of 9, and a clip of 3."""
    folder = tmp_path_factory.mktemp("films")
    for name, scenes in (("film", 5), ("other", 3), ("clip", 1)):
        write_film(folder / f"{name}.mp4", scenes, seed=scenes)
    return folder


@pytest.fixture
def folder(films: Path, tmp_path: Path) -> Path:
    return shutil.copytree(films, tmp_path / "films")


@pytest.fixture
def indexer(tmp_path: Path, tiny_trained_model: VideoColBERT) -> Indexer:
    return Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, num_frames=4, window=6.0)


def live(path: Path) -> dict[str, tuple[str | None, float, float]]:
    """Parent, start and end of every row."""
    with Catalog.open(path) as catalog:
        return {entry.id: (entry.parent, entry.start, entry.end) for entry in catalog.entries()}


FILM = {f"film.mp4#t={start},{start + 6}": ("film.mp4", start, start + 6) for start in (0, 3, 6, 9)}
OTHER = {f"other.mp4#t={start},{start + 6}": ("other.mp4", start, start + 6) for start in (0, 3)}
CLIP = {"clip.mp4": (None, 0, 3)}


def test_long_files_are_cut_and_short_ones_stay_whole(folder: Path, indexer: Indexer) -> None:
    report = indexer.index(folder)
    assert (report.indexed, report.videos, report.windows) == (3, 3, 6)
    assert "3 in the index with 6 windows" in report_text(report)
    assert live(indexer.path) == FILM | OTHER | CLIP
    description = describe_index(indexer.path)
    assert (description["videos"], description["windows"]) == (3, 6)
    assert (description["window"], description["stride"]) == (6.0, None)
    with Catalog.open(indexer.path) as catalog:
        for entry in catalog.entries():
            assert all(entry.start <= time < entry.end for time in entry.frame_times)
            assert len(set(entry.frame_times)) == 4
    assert indexer.verify().intact


def test_shots(folder: Path, tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, window="shots")
    assert indexer.index(folder / "film.mp4").videos == 1
    starts = sorted(start for _, start, _ in live(indexer.path).values())
    assert len(starts) >= 4  # of five clips, two of which look alike
    assert starts == pytest.approx([3 * round(start / 3) for start in starts], abs=0.26)
    assert describe_index(indexer.path)["window"] == "shots"
    assert indexer.add(folder / "film.mp4").unchanged == 1


def test_the_index_remembers_how_it_cuts(folder: Path, indexer: Indexer, tiny_trained_model: VideoColBERT) -> None:
    indexer.index(folder / "film.mp4")
    plain = Indexer(indexer.path, model=tiny_trained_model, workers=1)
    assert plain.add(folder / "other.mp4").windows == 6
    assert live(indexer.path) == FILM | OTHER


def test_an_index_from_before_windows_opens(folder: Path, tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, num_frames=4)
    indexer.index(folder / "film.mp4")
    with Catalog.open(indexer.path, writable=True) as catalog:
        stored = catalog.settings()["index"]
        catalog.set_settings(index={name: stored[name] for name in stored.keys() - {"window", "stride"}})
    assert len(Searcher(indexer.path, model=tiny_trained_model).search("x")) == 1
    assert indexer.add(folder).windows == 0
    assert live(indexer.path) == {"film.mp4": (None, 0, 15), "other.mp4": (None, 0, 9), **CLIP}


def test_removing_a_video_removes_its_windows(folder: Path, indexer: Indexer) -> None:
    indexer.index(folder)
    assert indexer.remove(["film.mp4", "clip.mp4", "film.mp4"]) == ["film.mp4", "clip.mp4"]
    assert live(indexer.path) == OTHER
    assert describe_index(indexer.path)["videos"] == 1
    with pytest.raises(SettingsError, match=r"'film\.mp4' is not in"):
        indexer.remove(["other.mp4", "film.mp4"])
    assert live(indexer.path) == OTHER


def test_unchanged_files_are_not_encoded_again(folder: Path, indexer: Indexer) -> None:
    indexer.index(folder)
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged, report.windows) == (0, 3, 6)


def test_new_metadata_reaches_every_window(folder: Path, indexer: Indexer, tiny_trained_model: VideoColBERT) -> None:
    indexer.index(folder)
    report = indexer.add([("film.mp4", folder / "film.mp4", {"channel": "news"})])
    assert (report.indexed, report.unchanged) == (0, 1)
    with Searcher(indexer.path, model=tiny_trained_model) as searcher:
        hits = searcher.search("x", where={"channel": "news"}, group=False)
        assert {hit.id for hit in hits} == FILM.keys()


@pytest.mark.parametrize(("scenes", "seconds"), [(7, 21), (3, 9), (1, 3)])
def test_a_changed_file_replaces_all_its_windows(folder: Path, indexer: Indexer, scenes: int, seconds: int) -> None:
    indexer.index(folder)
    write_film(folder / "film.mp4", scenes, seed=40)
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged, report.videos) == (1, 2, 3)
    new = {name: row for name, row in live(indexer.path).items() if name.startswith("film")}
    starts = range(0, seconds - 3, 3)
    expected = {f"film.mp4#t={start},{start + 6}": ("film.mp4", start, start + 6) for start in starts}
    assert new == (expected if scenes > 1 else {"film.mp4": (None, 0, 3)})
    assert live(indexer.path).items() >= (OTHER | CLIP).items()
    assert indexer.compact().dropped == 4
    assert indexer.verify().intact


def test_no_search_ever_sees_half_of_the_windows(
    folder: Path, indexer: Indexer, tiny_trained_model: VideoColBERT
) -> None:
    indexer.index(folder / "film.mp4")
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        with Searcher(indexer.path, model=tiny_trained_model, auto_refresh=True) as searcher:
            query = tiny_trained_model.encode_queries("x")[0]
            while not done.is_set():
                seen.add(len(searcher.search_tokens(query, k=100, group=False)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for scenes in (8, 5, 8):
            write_film(folder / "film.mp4", scenes, seed=40 + scenes)
            indexer.add(folder / "film.mp4")
    finally:
        done.set()
        watcher.join()
    assert seen <= {4, 7}


def test_moved_files_are_known_by_their_content(folder: Path, indexer: Indexer) -> None:
    indexer.index(folder)
    assert indexer.add(folder, checksum=True).unchanged == 3
    moved = folder.rename(folder.with_name("moved"))
    os.utime(moved / "film.mp4", ns=(1, 1))
    report = indexer.add(moved, checksum=True)
    assert (report.indexed, report.unchanged) == (0, 3)
    write_film(moved / "film.mp4", 5, seed=41)
    assert indexer.add(moved, checksum=True).indexed == 1


def test_vanished_films_are_one_video_each(folder: Path, indexer: Indexer) -> None:
    indexer.index(folder)
    (folder / "film.mp4").unlink()
    report = indexer.add(folder)
    assert (report.vanished, report.removed) == (("film.mp4",), ())
    report = indexer.add(folder, sync=True)
    assert (report.removed, report.videos, report.windows) == (("film.mp4",), 2, 2)


def test_ids_that_look_like_windows_are_refused(folder: Path, indexer: Indexer) -> None:
    with pytest.raises(SettingsError, match="looks like that of a window"):
        indexer.index([("film.mp4#t=0,6", folder / "clip.mp4")])
    indexer.index(folder)
    with pytest.raises(SettingsError, match="looks like that of a window"):
        indexer.add([("film.mp4#t=0,6", folder / "clip.mp4")])
    assert live(indexer.path) == FILM | OTHER | CLIP


def test_the_callers_own_part_is_one_row(folder: Path, indexer: Indexer) -> None:
    indexer.index([VideoRecord("part", str(folder / "film.mp4"), window=(2.0, 14.0))])
    assert live(indexer.path) == {"part": (None, 2, 14)}
    assert indexer.add([VideoRecord("part", str(folder / "film.mp4"), window=(2.0, 14.0))]).unchanged == 1
    assert indexer.add([VideoRecord("part", str(folder / "film.mp4"))]).indexed == 1
    assert [parent for parent, _, _ in live(indexer.path).values()] == ["part"] * 4


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[float]]:
    """Windows of the film whose start is in this set cannot be decoded."""
    starts: set[float] = set()
    original = FramePool.read_many

    def read_many(self: FramePool, requests: object, **settings: int) -> Iterator[object]:
        for result in original(self, requests, **settings):
            if result.request.window and result.request.window[0] in starts:
                error = VideoError(result.request.path, FailureKind.UNDECODABLE, "broken here")
                yield type(result)(result.request, None, error)
            else:
                yield result

    monkeypatch.setattr(FramePool, "read_many", read_many)
    return starts


def test_a_window_that_fails_costs_itself_alone(folder: Path, indexer: Indexer, failing: set[float]) -> None:
    failing.add(6.0)
    report = indexer.index(folder)
    assert [(failure.id, failure.kind) for failure in report.failures] == [("film.mp4#t=6,12", "undecodable")]
    assert report.indexed == 3
    assert live(indexer.path).keys() == {*FILM, *OTHER, *CLIP} - {"film.mp4#t=6,12"}
    assert indexer.add(folder).unchanged == 3


def test_a_window_that_failed_is_tried_again(
    folder: Path, indexer: Indexer, failing: set[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it fails it alone is decoded; then its video is encoded again, and the others are left alone."""
    asked: list[tuple[str, object]] = []
    read_many = FramePool.read_many

    def noted(self: FramePool, requests: Iterable[FrameRequest], **settings: int) -> Iterator[object]:
        wanted = list(requests)
        asked.extend((Path(request.path).name, request.window) for request in wanted)
        return read_many(self, wanted, **settings)

    failing.add(6.0)
    indexer.index([(path.name, path, {"n": 1}) for path in sorted(folder.iterdir())])
    monkeypatch.setattr(FramePool, "read_many", noted)
    report = indexer.add(folder)
    assert asked == [("film.mp4", (6.0, 12.0))]
    assert (report.indexed, report.unchanged, report.complete) == (0, 3, False)
    assert [failure.id for failure in report.failures] == failed(indexer.path) == ["film.mp4#t=6,12"]
    failing.clear()
    report = indexer.add([("film.mp4", folder / "film.mp4"), ("clip.mp4", folder / "clip.mp4", {"n": 2})])
    assert (report.indexed, report.unchanged, report.failures) == (1, 1, ())
    assert {name for name, _ in asked} == {"film.mp4"}
    assert (live(indexer.path), failed(indexer.path)) == (FILM | OTHER | CLIP, [])
    with Catalog.open(indexer.path) as catalog:
        metadata = {entry.video: entry.metadata["n"] for entry in catalog.entries()}
    assert metadata == {"film.mp4": 1, "other.mp4": 1, "clip.mp4": 2}
    asked.clear()
    assert (indexer.add(folder).unchanged, asked) == (3, [])


def failed(path: Path) -> list[str]:
    """Ids of the recorded failures."""
    with Catalog.open(path) as catalog:
        return [failure.id for failure in catalog.failures()]


@pytest.mark.parametrize("change", ["recut", "whole", "remove", "window by window", "sync"])
def test_the_failures_of_windows_go_with_the_windows(
    folder: Path, indexer: Indexer, failing: set[float], change: str
) -> None:
    failing |= {3.0, 6.0}
    indexer.index(folder)
    assert failed(indexer.path) == ["film.mp4#t=3,9", "other.mp4#t=3,9"]  # one for each video, its first
    if change == "recut":
        write_film(folder / "film.mp4", 3, seed=40)  # has no window at 6 s; that at 3 s fails once more
        indexer.add(folder / "film.mp4")
    elif change == "whole":
        indexer.add([VideoRecord("film.mp4", str(folder / "film.mp4"), window=(0.0, 5.0))])
    elif change == "remove":
        indexer.remove("film.mp4")
    elif change == "window by window":
        indexer.remove("film.mp4#t=0,6")
        assert "film.mp4#t=3,9" in failed(indexer.path)  # its other windows are there still
        indexer.remove("film.mp4#t=9,15")
    else:
        (folder / "film.mp4").unlink()
        indexer.add(folder, sync=True)
    stays = ["film.mp4#t=3,9"] if change == "recut" else []
    assert failed(indexer.path) == [*stays, "other.mp4#t=3,9"]


def test_a_film_of_which_all_fails_is_one_failure(folder: Path, indexer: Indexer, failing: set[float]) -> None:
    indexer.index(folder / "clip.mp4")
    failing |= {0.0, 3.0, 6.0, 9.0}
    with pytest.raises(NothingIndexedError) as raised:
        indexer.add([folder / "film.mp4", folder / "other.mp4"])
    assert [failure.id for failure in raised.value.failures] == ["film.mp4", "other.mp4"]
    report = indexer.add(folder)
    assert sorted(failure.id for failure in report.failures) == ["film.mp4", "other.mp4"]
    assert live(indexer.path) == CLIP


def test_an_interrupted_run_goes_on_file_by_file(
    folder: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interruption falls between the windows of the second file, whose first ones are encoded again."""
    encoded: list[str] = []
    original = ingest.encode_items

    def stopping(parts: list, *arguments: object, **options: object) -> Iterator[object]:
        for number, result in enumerate(original(parts, *arguments, **options)):
            if stop_after is not None and number == stop_after:
                raise KeyboardInterrupt
            encoded.append(result.entry.id)
            yield result

    monkeypatch.setattr(ingest, "encode_items", stopping)
    monkeypatch.setattr(staging, "VIDEOS_PER_CHUNK", 1)
    stop_after: int | None = 3  # clip, and two windows of the film
    with pytest.raises(KeyboardInterrupt):
        indexer.index(folder)
    with Catalog.open(indexer.path) as catalog:
        assert catalog.staged_ids() == {"clip.mp4"}
    stop_after = None
    encoded.clear()
    report = indexer.index(folder)
    assert (report.indexed, report.resumed) == (3, 1)
    assert encoded == [*FILM, *OTHER]
    assert live(indexer.path) == FILM | OTHER | CLIP


def test_what_an_interrupted_run_saw_is_in_the_report_of_the_next(
    folder: Path, indexer: Indexer, failing: set[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage and windows that failed, of videos that are not read again."""
    read_many = FramePool.read_many

    def damaging(self: FramePool, requests: object, **settings: int) -> Iterator[object]:
        for result in read_many(self, requests, **settings):
            if result.frames is not None and result.request.window in ((0.0, 6.0), (3.0, 9.0)):
                yield replace(result, frames=replace(result.frames, warnings=("2 damaged packets",)))
            else:
                yield result

    monkeypatch.setattr(FramePool, "read_many", damaging)
    failing.add(6.0)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            indexer.index(folder)
    failing.clear()
    report = indexer.index(folder)
    assert (report.indexed, report.resumed, report.complete) == (3, 3, False)
    assert [(failure.id, failure.kind) for failure in report.failures] == [("film.mp4#t=6,12", "undecodable")]
    assert report.damaged == dict.fromkeys(("film.mp4", "other.mp4"), ("2 damaged packets",))
    assert failed(indexer.path) == ["film.mp4#t=6,12"]


def test_windows_staged_of_an_older_version_are_not_committed(
    folder: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        indexer.index(folder)
    monkeypatch.undo()
    write_film(folder / "film.mp4", 3, seed=42)
    report = indexer.index(folder)
    assert (report.indexed, report.resumed) == (3, 2)
    assert live(indexer.path) == {name: row for name, row in FILM.items() if row[1] < 6} | OTHER | CLIP


def test_windows_move_with_the_index(folder: Path, indexer: Indexer, tiny_trained_model: VideoColBERT) -> None:
    indexer.index(folder)
    indexer.remove("other.mp4")
    indexer.add(folder / "other.mp4")
    with Searcher(indexer.path, model=tiny_trained_model) as searcher:
        before = searcher.search("a red circle")
    assert indexer.compact().videos == 3
    archive = indexer.export(indexer.path.with_name("copy.tar")).path
    shutil.rmtree(indexer.path)
    import_index(archive, indexer.path)
    with Searcher(indexer.path, model=tiny_trained_model) as searcher:
        after = searcher.search("a red circle")
    assert [hit.id for hit in after] == [hit.id for hit in before]
    assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=1e-5)
    assert [hit.moments for hit in after] == [hit.moments for hit in before]
    assert live(indexer.path) == FILM | OTHER | CLIP


def test_the_best_window_is_explained(folder: Path, indexer: Indexer, tiny_trained_model: VideoColBERT) -> None:
    indexer.index(folder)
    with Searcher(indexer.path, model=tiny_trained_model) as searcher:
        best = searcher.search("a red circle", ids=["film.mp4"], group=False)[0]
        explanation = searcher.explain("a red circle", "film.mp4")
        assert explanation.id == best.id
        assert sum(explanation.scores.values()) == pytest.approx(best.score, abs=1e-5)
        assert searcher.explain("a red circle", "film.mp4#t=3,9").id == "film.mp4#t=3,9"
        ranking = searcher.search_all({"q": "a red circle"}).todict()["q"]
        assert [name for name, _, _ in ranking] == [hit.id for hit in searcher.search("a red circle")]


def test_a_film_that_is_read_at_last_is_no_failure_any_more(folder: Path, indexer: Indexer) -> None:
    indexer.index(folder)
    with Catalog.open(indexer.path, writable=True) as catalog:
        film = next(entry.video for entry in catalog.entries() if entry.parent is not None)
        catalog.remove([film])
        catalog.record_failures([Failure(film, "", "timeout", "")])
    indexer.add(folder)
    with Catalog.open(indexer.path) as catalog:
        assert catalog.failures() == []
