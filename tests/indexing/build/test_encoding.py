"""Decoding goes on while the model works, within bounds, and what was wrong with a file is told."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import PROGRAMS
from video_writer import FILM_COLOURS, write_clip, write_two_films

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.cli.tables import report_text
from colbert_video.errors import SettingsError
from colbert_video.indexing.build import ingest
from colbert_video.indexing.build.encoding import (
    VIDEOS_AHEAD,
    VIDEOS_PER_BATCH,
    Stopwatch,
    encode_items,
    items_from_record,
    videos_ahead,
)
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index.staging import EncodedVideo
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers import process
from colbert_video.video.workers.pool import FramePool

FAKE = (sys.executable, str(PROGRAMS / "fake_worker.py"))


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colbert_video.video.workers.pool.COMMAND", FAKE)


class Held:
    """Counts the frames that are in memory after decoding and before encoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.most, self.lock = 0, 0, threading.Lock()
        read_answer = process.read_answer

        def counted(*given: Any) -> Any:
            answer = read_answer(*given)
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            return answer

        monkeypatch.setattr(process, "read_answer", counted)

    def release(self, count: int) -> None:
        with self.lock:
            self.now -= count


def items(tmp_path: Path, count: int) -> Iterator[Any]:
    for number in range(count):
        path = tmp_path / f"{number}.mp4"
        path.touch()
        yield from items_from_record(VideoRecord(str(number), str(path), {}, None))


def encode(tmp_path: Path, model: VideoColBERT, count: int, watch: Stopwatch) -> list[Any]:
    sampling = SamplingSettings(num_frames=1, height=8, width=8)
    with FramePool(sampling, workers=2) as processes:
        return list(encode_items(items(tmp_path, count), model, processes, watch=watch))


@pytest.mark.usefixtures("fake_workers")
def test_a_slow_model_finds_its_next_batch_ready_and_holds_no_more_than_that(
    tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, original = Held(monkeypatch), VideoColBERT.encode_videos
    ready: list[int] = []

    def slow(self: VideoColBERT, videos: list, **settings: int) -> Any:
        deadline = time.monotonic() + 20
        while held.now < min(VIDEOS_AHEAD, 96 - len(ready) * VIDEOS_PER_BATCH) and time.monotonic() < deadline:
            time.sleep(0.01)
        ready.append(held.now - len(videos))
        held.release(len(videos))
        return original(self, videos, **settings)

    monkeypatch.setattr(VideoColBERT, "encode_videos", slow)
    assert len(encode(tmp_path, tiny_trained_model, 96, Stopwatch())) == 96
    assert len(ready) == 96 // VIDEOS_PER_BATCH
    assert all(count >= VIDEOS_PER_BATCH for count in ready[:-1])
    assert held.most <= VIDEOS_PER_BATCH + VIDEOS_AHEAD + 2 + 1


@pytest.mark.usefixtures("fake_workers")
def test_time_is_told_apart(tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    read_many, original = FramePool.read_many, VideoColBERT.encode_videos

    def slow_reading(self: FramePool, requests: Any, **settings: int) -> Any:
        for result in read_many(self, requests, **settings):
            time.sleep(0.02)
            yield result

    def slow_encoding(self: VideoColBERT, videos: list, **settings: int) -> Any:
        time.sleep(0.3)
        return original(self, videos, **settings)

    monkeypatch.setattr(FramePool, "read_many", slow_reading)
    monkeypatch.setattr(VideoColBERT, "encode_videos", slow_encoding)
    watch, started = Stopwatch(), time.monotonic()
    encode(tmp_path, tiny_trained_model, 20, watch)
    assert watch.waiting >= 20 * 0.02
    assert watch.encoding >= 3 * 0.3
    assert watch.waiting + watch.encoding <= time.monotonic() - started


def test_large_videos_are_read_ahead_by_fewer() -> None:
    assert videos_ahead(SamplingSettings(num_frames=12)) == VIDEOS_AHEAD
    assert videos_ahead(SamplingSettings(num_frames=64, height=1024, width=1024)) == 2
    assert videos_ahead(SamplingSettings(num_frames=64, height=8192, width=8192)) == 1


@pytest.fixture
def damaged_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of three clips one is damaged and one too short for its frames; two more files are no videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_clip(folder / "whole.mp4", 60)
    write_clip(folder / "short.mp4", 2)
    data = bytearray(write_clip(folder / "broken.mp4", 60).read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + len(data) // 20)
    data[middle] = bytes(middle.stop - middle.start)
    (folder / "broken.mp4").write_bytes(data)
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    return folder


def test_damage_is_reported_and_short_videos_are_not(
    tmp_path: Path, damaged_folder: Path, tiny_trained_model: VideoColBERT, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(1)
    with caplog.at_level(logging.DEBUG, logger=ingest.__name__):
        report = Indexer(tmp_path / "index", model=tiny_trained_model, workers=1).index(damaged_folder)
    assert f"s and waited {report.waited:.1f} s for frames" in caplog.text
    assert report.indexed == 3
    assert list(report.damaged) == ["broken.mp4"]
    assert any("damaged packets or frames" in words for words in report.damaged["broken.mp4"])
    assert report.failures_by_kind == {"empty": 1, "unreadable": 1}
    assert 0 < report.waited <= report.seconds
    values = report.to_dict()
    assert values["damaged"] == dict(report.damaged)
    assert values["failures_by_kind"] == report.failures_by_kind
    text = report_text(report)
    assert "1 video indexed, though a part could not be read:\n  broken.mp4: " in text
    assert "2 videos refused (" in text
    assert "1 unreadable" in text


def test_damage_of_windows_is_that_of_their_video(
    tmp_path: Path, damaged_folder: Path, tiny_trained_model: VideoColBERT
) -> None:
    indexer = Indexer(tmp_path / "index", model=tiny_trained_model, workers=1, window=0.5)
    report = indexer.index([damaged_folder / "broken.mp4", damaged_folder / "whole.mp4"])
    assert report.windows > 2
    assert list(report.damaged) == ["broken.mp4"]
    damage = report.damaged["broken.mp4"]
    assert len(set(damage)) == len(damage)


def test_all_warnings_but_repeats_are_damage() -> None:
    def frames(times: list[float], *warnings: str) -> SampledFrames:
        pixels = np.zeros((len(times), 2, 2, 3), np.uint8)
        return SampledFrames(pixels, np.array(times), 1.0, 1.0, 2, 2, 0, "vp9", "pyav", warnings)

    short = "2 distinct frames of 3; some repeat"
    assert frames([0.0, 0.0, 1.0], short).damage == ()
    assert frames([0.0, 0.0, 1.0], "3 damaged packets or frames", short).damage == ("3 damaged packets or frames",)
    assert frames([0.0, 1.0]).damage == ()


def test_the_index_remembers_snap_and_the_run_its_decoder(
    tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which frames are taken is the index's matter; who decodes them is that of the machine."""
    settings: list[SamplingSettings] = []
    original = FramePool.__init__

    def noted(self: FramePool, sampling: SamplingSettings, **given: Any) -> None:
        settings.append(sampling)
        original(self, sampling, **given)

    monkeypatch.setattr(FramePool, "__init__", noted)
    clips = [write_clip(tmp_path / name, 20) for name in ("a.mp4", "b.mp4", "c.mp4")]
    given: dict[str, Any] = {"model": tiny_trained_model, "workers": 1}
    path = tmp_path / "index"
    Indexer(path, **given, snap=0.25, timeout=50.0).index(clips[0])
    Indexer(path, **given).add(clips[1])
    Indexer(path, **given, snap=0.0, timeout=40.0).compact(retrain="paths")
    assert [(sampling.snap, sampling.timeout) for sampling in settings] == [(0.25, 50), (0.25, 60), (0.25, 40)]
    assert describe_index(path)["snap"] == 0.25
    with Catalog.open(path, writable=True) as catalog:
        stored = catalog.settings()["index"]
        catalog.set_settings(index={name: stored[name] for name in stored.keys() - {"snap"}})
    Indexer(path, **given).add(clips[2])  # an index from before this was remembered
    assert settings[-1].snap is None
    with pytest.raises(SettingsError, match=r"snap is 0\.3; it must be between 0 and 0\.25"):
        Indexer(tmp_path / "other", **given, snap=0.3).index(clips[0])


@pytest.mark.parametrize("stream", [0, 1])
def test_the_index_remembers_the_stream(
    stream: int, tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours: list[np.ndarray] = []
    encode_videos = VideoColBERT.encode_videos

    def noted(self: VideoColBERT, videos: Any, *given: Any) -> Any:
        colours.extend(pixels.reshape(-1, 3).mean(axis=0) for pixels in videos)
        return encode_videos(self, videos, *given)

    monkeypatch.setattr(VideoColBERT, "encode_videos", noted)
    folder, path = tmp_path / "clips", tmp_path / "index"
    folder.mkdir()
    given: dict[str, Any] = {"model": tiny_trained_model, "workers": 1}
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_two_films(folder / name)
    Indexer(path, **given, video_stream=stream).index(folder / "a.mp4")
    Indexer(path, **given).add(folder / "b.mp4")
    Indexer(path, **given, video_stream=stream).sync(folder)
    Indexer(path, **given).compact(retrain="paths")
    with Searcher(path, model=tiny_trained_model) as searcher:
        searcher.search_video(folder / "a.mp4")
    assert len(colours) == 7
    np.testing.assert_allclose(colours, [FILM_COLOURS[stream]] * 7, atol=12)
    for other in (1 - stream, 7):
        with pytest.raises(SettingsError, match=f"video_stream={other} was given, but .* with video_stream={stream}"):
            Indexer(path, **given, video_stream=other).add(folder)
    with pytest.raises(SettingsError, match=r"stream=. needs decoder='pyav'"):
        Indexer(tmp_path / "other", **given, video_stream=stream, decoder="decord").index(folder)


def test_without_a_stream_the_index_is_as_it_was_before(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    clip, path = write_two_films(tmp_path / "a.mp4"), tmp_path / "index"
    Indexer(path, model=tiny_trained_model, workers=1).index(clip)
    with Catalog.open(path) as catalog:
        assert "video_stream" not in catalog.settings()["index"]
    with pytest.raises(SettingsError, match=r"video_stream=1 was given, but .* with video_stream=None"):
        Indexer(path, model=tiny_trained_model, video_stream=1).add(clip)


def test_a_clip_of_one_stream_searches_an_index_of_second_streams(
    tmp_path: Path, tiny_trained_model: VideoColBERT
) -> None:
    path = tmp_path / "index"
    Indexer(path, model=tiny_trained_model, workers=1, video_stream=1).index(write_two_films(tmp_path / "a.mp4"))
    with Searcher(path, model=tiny_trained_model) as searcher:
        assert [hit.id for hit in searcher.search_video(write_clip(tmp_path / "one.mp4", 8))] == ["a.mp4"]


def test_a_file_that_is_written_while_it_is_read_counts_as_changed(
    tmp_path: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", count=6)
    before = VideoRecord("clip", str(clip)).stamp()
    encode_videos = VideoColBERT.encode_videos

    def writing(self: VideoColBERT, *given: Any) -> Any:
        with clip.open("ab") as file:
            file.write(b"more")
        return encode_videos(self, *given)

    monkeypatch.setattr(VideoColBERT, "encode_videos", writing)
    items = items_from_record(VideoRecord("clip", str(clip)))
    with FramePool(SamplingSettings(num_frames=2, height=32, width=32), workers=1) as processes:
        (video,) = encode_items(items, tiny_trained_model, processes, watch=Stopwatch())
    assert isinstance(video, EncodedVideo)
    assert (video.entry.source_size, video.entry.source_mtime_ns) == before
    assert VideoRecord("clip", str(clip)).stamp() != before
