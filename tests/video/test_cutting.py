"""Windows of real files."""

from pathlib import Path

import pytest

from colbert_video.errors import VideoError
from colbert_video.training.world import render_moments, sample_scenes
from colbert_video.video import windows as module
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import Cut, Cutting, cut_videos

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


def test_real_cuts(clips: Path) -> None:
    """A clip that was joined from two, and one that was filmed in one go."""
    joined = VideoRecord("joined", str(clips / "sk_scene_cuts.mp4"))
    spans = cut(joined, window="shots")["joined"]
    assert not isinstance(spans, VideoError)
    assert len(spans) == 2
