"""Indexing real files: what is decoded and encoded, what is refused, and what an interruption leaves."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from thorough import amount

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import IndexFolderError, ModelError, NothingIndexedError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.training.world import write_world


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexer") / "clips"
    write_world(folder, count=8, seed=5, split="test", frames=12)
    (folder / "more").mkdir()
    (folder / "clip-0008.mp4").rename(folder / "more" / "ünïcode clip.mp4")
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the videos that go through the model."""
    counts: list[int] = []
    original = VideoColBERT.encode_videos

    def counting(self: VideoColBERT, videos: list, **settings: int) -> object:
        counts.append(len(videos))
        return original(self, videos, **settings)

    monkeypatch.setattr(VideoColBERT, "encode_videos", counting)
    return counts


def test_a_folder_becomes_an_index(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    report = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clips_folder)
    assert (report.indexed, report.videos, report.failures, report.ignored) == (8, 8, (), 1)  # captions.jsonl
    searcher = Searcher(tmp_path / "i", model=tiny_trained_model)
    hits = searcher.search("a red circle", k=20)
    assert {hit.id for hit in hits} == {f"clip-000{n}.mp4" for n in range(1, 8)} | {"more/ünïcode clip.mp4"}
    for hit in hits:
        assert Path(hit.path or "").is_file()
        assert 0 <= hit.start < hit.end <= 1.01  # 12 frames at 12 a second


def test_scores_are_the_models_reference_scores(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT
) -> None:
    from colbert_video.video.decode.read import read_frames
    from colbert_video.video.frames import SamplingSettings

    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, nbits=8).index(clips_folder / "clip-0001.mp4")
    config = tiny_trained_model.config
    sampling = SamplingSettings(
        num_frames=config.num_frames, height=config.preprocess.height, width=config.preprocess.width
    )
    frames = read_frames(str(clips_folder / "clip-0001.mp4"), sampling)
    query = tiny_trained_model.encode_queries("a red circle")
    expected = float(tiny_trained_model.score(query, tiny_trained_model.encode_videos([frames.pixels])))
    hit = Searcher(tmp_path / "i", model=tiny_trained_model).search("a red circle")[0]
    assert hit.score == pytest.approx(expected, abs=0.01)


def test_an_untrained_model_stores_frame_tokens_alone(
    tmp_path: Path, clips_folder: Path, tiny_model: VideoColBERT
) -> None:
    Indexer(tmp_path / "i", model=tiny_model, workers=1).index(clips_folder)
    hit = Searcher(tmp_path / "i", model=tiny_model).search("a red circle", k=1)[0]
    assert hit.video_score is None
    assert describe_index(tmp_path / "i")["bags"] == ["frame"]


def test_the_index_finds_its_model_by_name(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT
) -> None:
    tiny_trained_model.save_pretrained(tmp_path / "model")
    Indexer(tmp_path / "i", model=tmp_path / "model", workers=1).index(clips_folder)
    assert len(Searcher(tmp_path / "i").search("a red circle", k=3)) == 3


def test_a_model_that_moved_is_asked_for(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    tiny_trained_model.save_pretrained(tmp_path / "model")
    Indexer(tmp_path / "i", model=tmp_path / "model", workers=1).index(clips_folder / "clip-0001.mp4")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*model= \(--model\)"):
        Searcher(tmp_path / "i").search("a red circle")
    assert Searcher(tmp_path / "i", model=tmp_path / "moved").search("a red circle")


def test_explain_names_frames_and_times(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, nbits=8).index(clips_folder)
    searcher = Searcher(tmp_path / "i", model=tiny_trained_model)
    hit = searcher.search("a red circle", k=1)[0]
    explanation = searcher.explain("a red circle", hit.id)
    assert [token.token for token in explanation.tokens[:5]] == [
        "<start_of_text>",
        "a",
        "red",
        "circle",
        "<end_of_text>",
    ]
    assert sum(explanation.scores.values()) == pytest.approx(hit.score, abs=1e-5)
    for token in explanation.tokens:
        match = token.matches["frame"]
        assert explanation.times[match.frame] == match.time
    with pytest.raises(SettingsError, match="'nowhere' is not in the index"):
        searcher.explain("a red circle", "nowhere")


def test_broken_files_cost_themselves_alone(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT
) -> None:
    folder = shutil.copytree(clips_folder, tmp_path / "clips")
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.webm").touch()
    (folder / "cut.mp4").write_bytes((folder / "clip-0001.mp4").read_bytes()[:700])
    report = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(folder)
    assert report.indexed == 8
    kinds = {failure.id: failure.kind for failure in report.failures}
    assert kinds.keys() == {"text.mp4", "empty.webm", "cut.mp4"}
    assert kinds["empty.webm"] == "empty"
    assert kinds["text.mp4"] == "unreadable"
    assert {failure["id"] for failure in describe_index(tmp_path / "i")["failures"]} == kinds.keys()


def test_a_missing_file_is_a_failure_not_a_crash(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT
) -> None:
    report = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(
        [clips_folder / "clip-0001.mp4", clips_folder / "gone.mp4"]
    )
    assert [(failure.id, failure.kind) for failure in report.failures] == [("gone.mp4", "missing")]


def test_nothing_but_failures_is_an_error_and_leaves_nothing(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(NothingIndexedError, match=r"a\.mp4: unreadable") as raised:
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(tmp_path / "a.mp4")
    assert len(raised.value.failures) == 1
    assert not (tmp_path / "i").exists()


def test_add_skips_unchanged_and_replaces_changed_files(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, encoded: list[int]
) -> None:
    folder = shutil.copytree(clips_folder, tmp_path / "clips")
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    indexer.index(folder)
    encoded.clear()
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged, report.videos, encoded) == (0, 8, 8, [])
    shutil.copy(folder / "clip-0002.mp4", folder / "clip-0001.mp4")
    os.utime(folder / "clip-0001.mp4", ns=(1, 1))
    report = indexer.add(folder)
    assert (report.indexed, report.unchanged, report.videos, encoded) == (1, 7, 8, [1])
    hits = {hit.id: hit.score for hit in Searcher(tmp_path / "i", model=tiny_trained_model).search("x", k=8)}
    assert hits["clip-0001.mp4"] == pytest.approx(hits["clip-0002.mp4"], abs=0.05)  # one codec, half precision


def test_an_index_of_another_model_is_not_added_to(
    tmp_path: Path, clips_folder: Path, tiny_model: VideoColBERT, tiny_trained_model: VideoColBERT
) -> None:
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clips_folder)
    with pytest.raises(SettingsError, match="was made by another model"):
        Indexer(tmp_path / "i", model=tiny_model, workers=1).add(clips_folder)


def test_overwriting_keeps_the_old_index_until_the_new_one_is_committed(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    indexer.index(clips_folder)
    monkeypatch.setattr(VideoColBERT, "encode_videos", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        indexer.index(clips_folder / "more", overwrite=True)
    monkeypatch.undo()
    assert len(Searcher(tmp_path / "i")) == 8
    indexer.index(clips_folder / "more", overwrite=True)
    assert len(Searcher(tmp_path / "i")) == 1


FLAGS: dict[str, Callable[..., object]] = {
    "overwrite": lambda indexer, flag: _plain("index")(indexer, [("a", "a.mp4")], overwrite=flag),
    "overwrite tokens": lambda indexer, flag: _plain("index_tokens")(indexer, ["a"], [], overwrite=flag),
    "add tokens": lambda indexer, flag: _plain("index_tokens")(indexer, ["a"], [], add=flag),
    "checksum": lambda indexer, flag: _plain("add")(indexer, [("a", "a.mp4")], checksum=flag),
    "sync": lambda indexer, flag: _plain("add")(indexer, [("a", "a.mp4")], sync=flag),
    "checksum of sync": lambda indexer, flag: _plain("sync")(indexer, [("a", "a.mp4")], checksum=flag),
    "keep_paths": lambda indexer, flag: _plain("export")(indexer, "x", keep_paths=flag),
    "private": lambda indexer, flag: _plain("push_to_hub")(indexer, "a/b", private=flag),
}


def _plain(method: str) -> Callable[..., object]:
    return inspect.unwrap(getattr(Indexer, method))


@pytest.mark.parametrize("flag", FLAGS)
def test_the_text_false_is_not_true(tmp_path: Path, flag: str) -> None:
    with pytest.raises(SettingsError, match=f"^{flag.split()[0]}='False' must be True or False"):
        FLAGS[flag](Indexer(tmp_path / "i", dim=64), "False")
    assert not [*tmp_path.iterdir()]


PROGRAM = """
import sys, time
from pathlib import Path
from colbert_video import Indexer, VideoColBERT
from colbert_video.indexing.build import encoding
from colbert_video.indexing.index import staging
staging.VIDEOS_PER_CHUNK = 1
encoding.VIDEOS_PER_BATCH = 1
original = VideoColBERT.encode_videos
def slow(self, videos, **settings):
    time.sleep(0.2)
    return original(self, videos, **settings)
VideoColBERT.encode_videos = slow
Indexer(sys.argv[1], model=sys.argv[2], workers=1).index(sys.argv[3])
"""


def test_a_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, encoded: list[int]
) -> None:
    index, model = tmp_path / "i", tmp_path / "model"
    tiny_trained_model.save_pretrained(model)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(index), str(model), str(clips_folder)])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list((index / "staging").glob("*.safetensors"))) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(IndexFolderError, match="is not finished"):
        Searcher(index)
    with Catalog.open(index) as catalog:
        staged = len(catalog.staged_ids())
    assert 2 <= staged < 8
    report = Indexer(index, model=model, workers=1).index(clips_folder)
    assert (report.indexed, report.resumed, sum(encoded)) == (8, staged, 8 - staged)
    assert len(Searcher(index)) == 8
    assert not list((index / "staging").iterdir())


def test_a_resumed_run_with_other_settings_starts_afresh(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    from colbert_video.indexing.build import ingest as module

    monkeypatch.setattr(module, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clips_folder)
    monkeypatch.undo()
    report = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, num_frames=3).index(clips_folder)
    assert (report.indexed, report.resumed) == (8, 0)


def test_what_another_interrupted_run_staged_is_not_committed(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    from colbert_video.indexing.build import ingest as module

    monkeypatch.setattr(module, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    with pytest.raises(KeyboardInterrupt):
        indexer.index(clips_folder)
    monkeypatch.undo()
    report = indexer.index(clips_folder / "clip-0001.mp4")
    assert (report.indexed, report.resumed, report.videos) == (1, 1, 1)
    assert describe_index(tmp_path / "i")["staged"] == 0


def test_a_file_that_broke_since_it_was_staged_is_a_failure(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    from colbert_video.indexing.build import ingest as module

    folder = shutil.copytree(clips_folder, tmp_path / "clips")
    monkeypatch.setattr(module, "commit_segment", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    with pytest.raises(KeyboardInterrupt):
        indexer.index(folder)
    monkeypatch.undo()
    (folder / "clip-0001.mp4").write_text("no longer a video")
    report = indexer.index(folder)
    assert (report.indexed, report.resumed) == (7, 7)
    assert [failure.id for failure in report.failures] == ["clip-0001.mp4"]


def test_a_report_is_about_its_own_run(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    (tmp_path / "bad.mp4").write_text("not a video")
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1)
    first = indexer.index([tmp_path / "bad.mp4", clips_folder / "clip-0001.mp4"])
    assert [failure.id for failure in first.failures] == ["bad.mp4"]
    assert indexer.add(clips_folder / "clip-0002.mp4").complete
    assert [failure["id"] for failure in describe_index(tmp_path / "i")["failures"]] == ["bad.mp4"]
    with pytest.raises(NothingIndexedError):
        indexer.add(tmp_path / "bad.mp4")
    indexer.index(clips_folder / "clip-0001.mp4", overwrite=True)
    assert describe_index(tmp_path / "i")["failures"] == []


def test_records_with_ids_and_metadata(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    records = [
        ("first", clips_folder / "clip-0001.mp4", {"caption": "x"}),
        ("second", str(clips_folder / "clip-0002.mp4")),
    ]
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(records)
    hits = {hit.id: hit for hit in Searcher(tmp_path / "i", model=tiny_trained_model).search("x")}
    assert hits["first"].metadata == {"caption": "x"}
    assert hits["second"].metadata == {}


def test_decord_is_selectable(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    pytest.importorskip("decord")
    report = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, decoder="decord").index(clips_folder)
    assert report.indexed == 8


def test_an_unwritable_target_is_refused(tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexFolderError, match="file"):
        Indexer(tmp_path / "file" / "i", model=tiny_trained_model, workers=1).index(clips_folder)


def test_every_real_clip_is_indexed_or_refused_by_name(
    tmp_path: Path, clips: Path, tiny_trained_model: VideoColBERT
) -> None:
    broken = {"mp_zero_bytes.webm", "exo_audio_ac3.mp4"}
    names = sorted({path.name for path in clips.iterdir()} - broken - {"SOURCES.md"})
    names = [*broken, *names[:: amount(3, thorough=1)]]
    report = Indexer(tmp_path / "i", model=tiny_trained_model, timeout=60).index([clips / name for name in names])
    assert report.indexed + len(report.failures) == len(names)
    assert {Path(failure.path).name for failure in report.failures} >= broken
    assert all(failure.detail for failure in report.failures)
    assert len(Searcher(tmp_path / "i", model=tiny_trained_model).search("a rabbit", k=100)) == report.indexed


def test_an_index_that_another_run_finished_meanwhile_is_not_replaced(
    tmp_path: Path, clips_folder: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model = Indexer._load_model

    def slow(self: Indexer, *given: object) -> VideoColBERT:
        monkeypatch.setattr(Indexer, "_load_model", load_model)
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clips_folder / "more")
        return load_model(self, *given)

    monkeypatch.setattr(Indexer, "_load_model", slow)
    with pytest.raises(IndexFolderError, match="is an index already"):
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(clips_folder)
    with Searcher(tmp_path / "i", model=tiny_trained_model) as searcher:
        assert len(searcher) == 1
