from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import SettingsError
from colbert_video.search.moments import best_moment, frame_relevance, frame_spans
from colbert_video.training.world import render_moments, sample_scenes

TIMES = np.array([0.5, 1.5, 2.5, 3.5])


def test_each_frame_stands_for_the_time_up_to_halfway_to_its_neighbours() -> None:
    begins, ends = frame_spans(TIMES, 0.0, 4.0)
    assert begins.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert ends.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_peak_gives_its_own_stretch() -> None:
    relevance = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0])
    times = np.arange(10) + 0.5
    start, end = best_moment(relevance, times, 0.0, 10.0)
    assert start <= 5.0
    assert end >= 6.0
    assert end - start <= 3.0


def test_a_plateau_is_found_whole() -> None:
    relevance = np.array([0.0] * 6 + [1.0] * 4 + [0.0] * 6)
    assert best_moment(relevance, np.arange(16) + 0.5, 0.0, 16.0) == (6.0, 10.0)


def test_a_window_that_is_one_moment_is_given_whole() -> None:
    relevance = np.array([0.30, 0.31, 0.30, 0.31, 0.30, 0.02])
    assert best_moment(relevance, np.arange(6) + 10.5, 10.0, 16.0)[0] == 10.0
    nearly_equal = np.array([0.300, 0.301, 0.300, 0.299, 0.300, 0.301])
    assert best_moment(nearly_equal, np.arange(6) + 0.5, 0.0, 6.0) == (0.0, 6.0)


def test_one_frame_is_the_whole_video() -> None:
    assert best_moment(np.array([0.3]), np.array([1.0]), 0.0, 2.0) == (0.0, 2.0)


def test_words_decide_at_least_as_much_as_padding() -> None:
    word, filler = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.3, 0.1])
    similarities = {"frame": np.stack([word] + [filler] * 9)}
    plain = frame_relevance(similarities, 3, {"frame": 1.0})
    assert plain == pytest.approx((word + 9 * filler) / 10)
    assert int(plain.argmax()) == 1  # padding decides
    heard = frame_relevance(similarities, 3, {"frame": 1.0}, [False] + [True] * 9)
    assert heard == pytest.approx((word + filler) / 2)
    assert int(heard.argmax()) == 0
    for padding in ([False] * 10, [True] * 10, [False] * 6 + [True] * 4, [True], []):  # no reason to weigh otherwise
        assert frame_relevance(similarities, 3, {"frame": 1.0}, padding) == pytest.approx(plain)


def test_padding_is_named_for_each_query_token(tmp_path: Path) -> None:
    tokens = np.eye(32, dtype=np.float32)
    Indexer(tmp_path / "i", dim=32).index_tokens([str(n) for n in range(8)], [tokens[n : n + 1] for n in range(8)])
    with Searcher(tmp_path / "i") as searcher:
        assert searcher.search_tokens(tokens[:2], padding=[False, True])
        with pytest.raises(SettingsError, match="padding has 3 values for 2 query tokens"):
            searcher.search_tokens(tokens[:2], padding=[False, True, True])


@given(relevance=hnp.arrays(float, st.integers(1, 30), elements=st.floats(-1, 1)))
def test_the_moment_lies_in_the_video_and_is_not_empty(relevance: np.ndarray) -> None:
    frames = len(relevance)
    start, end = best_moment(relevance, np.arange(frames) + 0.5, 0.0, float(frames))
    assert 0.0 <= start < end <= frames


def overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    shared = min(first[1], second[1]) - max(first[0], second[0])
    return max(0.0, shared) / (max(first[1], second[1]) - min(first[0], second[0]))


Shown = list[tuple[str, str, tuple[float, float]]]
"""Caption, file and time of each clip in joined videos."""


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """Five videos of six clips each."""
    scenes, folder = sample_scenes(30, seed=7, split="test", paired_fraction=0.0), tmp_path_factory.mktemp("joined")
    shown = []
    for number in range(5):
        part, path = scenes[6 * number : 6 * number + 6], folder / f"{number}.mp4"
        times = render_moments(part, path)
        shown += [(scene.caption, path.name, time) for scene, time in zip(part, times, strict=True)]
    return folder, shown


@pytest.mark.slow
@pytest.mark.parametrize("cut", [{"num_frames": 48}, {"num_frames": 12, "window": 6.0}, {"window": "shots"}])
def test_captions_find_their_clip_in_joined_videos(joined: tuple[Path, Shown], tmp_path: Path, cut: dict) -> None:
    """Of the captions that find their video, four of five at least find the time of their clip."""
    folder, shown = joined
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    Indexer(tmp_path / "i", model=model, workers=1, **cut).index(folder)
    with Searcher(tmp_path / "i", model=model) as searcher:
        hits = {
            caption: next(hit for hit in searcher.search(caption, k=5) if hit.id == video)
            for caption, video, _ in shown
        }
    found = [overlap((hits[caption].start, hits[caption].end), time) for caption, _, time in shown]
    assert np.mean(np.array(found) >= 0.5) >= 0.8
    assert sum(hit.rank == 1 for hit in hits.values()) >= 0.6 * len(hits)


@pytest.mark.slow
def test_a_long_file_answers_with_the_right_minute(tmp_path: Path) -> None:
    """Ten minutes of scenes of half a minute; an hour is benchmarks/moments.py."""
    scenes = sample_scenes(20, seed=11, split="test", paired_fraction=0.0)
    times = render_moments(scenes, tmp_path / "long.mp4", size=48, frames=120, fps=4)
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    report = Indexer(tmp_path / "i", model=model, workers=1, num_frames=12, window=30.0).index(tmp_path / "long.mp4")
    assert (report.videos, report.windows) == (1, 39)
    right = []
    with Searcher(tmp_path / "i", model=model) as searcher:
        for scene, (start, end) in zip(scenes, times, strict=True):
            (hit,) = searcher.search(scene.caption)
            assert (hit.id, hit.parent) == ("long.mp4", "long.mp4")
            right.append(hit.start < end and hit.end > start)
    assert np.mean(right) >= 0.9
