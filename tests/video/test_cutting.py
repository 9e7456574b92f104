"""Windows of real files."""

from pathlib import Path

import pytest
from video_writer import write_clip

from colbert_video.errors import VideoError
from colbert_video.training.world import render_moments, sample_scenes
from colbert_video.video import windows as module
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import Cut, Cutting, cut_videos
from colbert_video.video.workers.pool import FramePool, FrameRequest

SAMPLING = SamplingSettings(num_frames=6, height=48, width=48)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> VideoRecord:
    path = tmp_path_factory.mktemp("cutting") / "film.mp4"
    render_moments(sample_scenes(5, seed=3, split="train", paired_fraction=0.0), path, size=48)
    return VideoRecord("film", str(path))


def cut(*records: VideoRecord, window: float | str, stride: float | None = None) -> dict[str, Cut]:
    found = list(cut_videos(records, Cutting(window, stride), sampling=SAMPLING, workers=1))  # type: ignore[arg-type]
    assert len(found) == len(records)
    return {record.id: spans for record, spans in found}


def test_even_windows(film: VideoRecord) -> None:
    assert cut(film, window=6.0)["film"] == ((0.0, 6.0), (3.0, 9.0), (6.0, 12.0), (9.0, 15.0))


def test_a_short_video_stays_whole(film: VideoRecord) -> None:
    assert cut(film, window=15.0)["film"] == ()


def test_a_named_part_is_left_as_it_is(film: VideoRecord) -> None:
    part = VideoRecord("part", film.path, window=(2.0, 14.0))
    assert cut(part, window=3.0)["part"] == ()


@pytest.mark.parametrize("window", [3.0, "shots"])
def test_a_file_that_cannot_be_read_is_refused(film: VideoRecord, tmp_path: Path, window: float | str) -> None:
    found = cut(film, VideoRecord("gone", str(tmp_path / "gone.mp4")), window=window)
    assert isinstance(found["gone"], VideoError)
    assert found["gone"].kind.value == "missing"
    assert not isinstance(found["film"], VideoError)
    assert len(found["film"]) >= 4


@pytest.mark.parametrize("seconds", [64, 3])
def test_shots_are_the_clips_of_a_film(film: VideoRecord, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a film is looked through in several parts, with cuts at their borders."""
    monkeypatch.setattr(module, "SECTION_SECONDS", seconds)
    spans = cut(film, window="shots")["film"]
    assert not isinstance(spans, VideoError)
    assert [start for start, _ in spans] == pytest.approx([0.0, 3.0, 6.0, 9.0, 12.0], abs=0.26)
    assert spans[-1][1] == 15.0


def write_slides(path: Path, *seconds: float) -> VideoRecord:
    write_clip(path, len(seconds), milliseconds=[round(1000 * second) for second in seconds])
    return VideoRecord("slides", str(path))


def test_slides_are_cut_where_they_change(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "a.mp4", 0, 60, 75, 80, 85, 200, 220)
    spans = cut(slides, window=30.0, stride=30.0)["slides"]
    assert spans[:2] == ((0.0, 30.0), (30.0, 60.0))
    assert 220.0 < spans[-1][1] < 226.0  # what the muxer wrote as length of the last one
    shots = cut(slides, window="shots")["slides"]
    borders = [start for start, _ in shots]
    assert {60.0, 75.0, 80.0, 85.0, 200.0} <= {round(border, 1) for border in borders}
    with FramePool(SAMPLING, workers=1) as pool:
        for result in pool.read_many([FrameRequest(slides.path, window=span) for span in (*spans, *shots)]):
            assert result.frames is not None, result.error
            start, end = result.request.window or (0.0, 0.0)
            assert start <= result.frames.times[0] <= result.frames.times[-1] < end


@pytest.mark.parametrize("window", [30.0, "shots"])
@pytest.mark.parametrize("seconds", [1e6, 2e8])
def test_timestamps_that_cannot_be_true_are_the_files_failure(
    tmp_path: Path, window: float | str, seconds: float
) -> None:
    damaged = write_slides(tmp_path / "a.mkv", 0, 1, 2, seconds)
    found = cut(damaged, window=window)["slides"]
    assert isinstance(found, VideoError)
    assert "too far for a file of" in found.detail


def test_a_lecture_of_few_bytes_is_no_damage(tmp_path: Path) -> None:
    spans = cut(write_slides(tmp_path / "a.mp4", 0, 1800, 5000), window=30.0)["slides"]
    assert len(spans) >= 5000 / 15 - 1


def test_real_cuts(clips: Path) -> None:
    """A clip that was joined from two, and one that was filmed in one go."""
    joined = VideoRecord("joined", str(clips / "sk_scene_cuts.mp4"))
    spans = cut(joined, window="shots")["joined"]
    assert not isinstance(spans, VideoError)
    assert len(spans) == 2
