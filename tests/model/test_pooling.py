"""Token pooling: which frames share a token, and what that token is."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.model.pooling import Pooling, pool
from colbert_video.search.view import _frame_by_frame
from colbert_video.training.world import write_world

DIM = 16


def _scenes(pattern: str, noise: float = 0.05, seed: int = 0) -> Tensor:
    """One token a letter; equal letters are noisy copies of one direction."""
    generator = torch.Generator().manual_seed(seed)
    letters = sorted(set(pattern))
    directions = normalize(torch.randn(len(letters), DIM, generator=generator), dim=1)
    tokens = directions[[letters.index(letter) for letter in pattern]]
    return normalize(tokens + noise * torch.randn(len(pattern), DIM, generator=generator) / DIM**0.5, dim=1)


@pytest.mark.parametrize("rule", [{"factor": 4.0}, {"similarity": 0.9}])
def test_scenes_become_groups_wherever_they_return(rule: dict[str, float]) -> None:
    groups = Pooling(**rule).group({"frame": _scenes("aaaabbbbccaa")}, 12)
    assert groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 0, 0]


def test_still_videos_shrink_to_one_token() -> None:
    assert Pooling(similarity=0.9).group({"frame": _scenes("aaaaaaaa")}, 8).tolist() == [0] * 8


def test_a_similarity_of_one_keeps_what_differs() -> None:
    assert Pooling(similarity=1.0).group({"frame": _scenes("abcdef")}, 6).tolist() == list(range(6))


@given(frames=st.integers(1, 20), factor=st.floats(1, 25), seed=st.integers(0, 99))
def test_a_factor_says_how_many_are_left(frames: int, factor: float, seed: int) -> None:
    tokens = normalize(torch.randn(frames, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)
    groups = Pooling(factor=factor).group({"frame": tokens}, frames)
    assert int(groups.max()) + 1 == math.ceil(frames / factor)
    first_seen = list(dict.fromkeys(groups.tolist()))
    assert first_seen == list(range(len(first_seen)))


@given(seed=st.integers(0, 99), similarity=st.floats(0.2, 0.95))
def test_groups_left_are_less_alike_than_the_threshold(seed: int, similarity: float) -> None:
    tokens = _scenes("aabbccddeeff", noise=0.8, seed=seed)
    groups = Pooling(similarity=similarity).group({"frame": tokens}, 12)
    cosines = (tokens @ tokens.T).double()
    for one in range(int(groups.max()) + 1):
        for other in range(one):
            between = cosines[groups == one][:, groups == other].mean()
            assert between < similarity + 1e-6


def test_all_bags_decide_together() -> None:
    frame, video = _scenes("aabb"), _scenes("abab")
    assert Pooling(factor=2).group({"frame": frame}, 4).tolist() == [0, 0, 1, 1]
    assert Pooling(factor=2).group({"frame": video}, 4).tolist() == [0, 1, 0, 1]
    both = Pooling(factor=2).group({"frame": frame, "video": torch.cat([frame, _scenes("z")])}, 4)
    assert both.tolist() == [0, 0, 1, 1]


def test_pooled_tokens_are_means_and_expansion_tokens_stay() -> None:
    tokens = _scenes("aabcz", noise=0.4)
    pooled = pool(tokens, torch.tensor([0, 0, 1, 0]))
    assert pooled.shape == (3, DIM)
    torch.testing.assert_close(pooled[0], normalize(tokens[[0, 1, 3]].sum(0), dim=0))
    torch.testing.assert_close(pooled[1], tokens[2])
    assert torch.equal(pooled[2], tokens[4])
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(3))


def test_one_group_a_frame_changes_nothing() -> None:
    tokens = _scenes("abcdz")
    torch.testing.assert_close(pool(tokens, torch.arange(4)), tokens)


def test_an_index_of_pooled_frames_is_smaller_and_knows_its_frames(
    tmp_path: Path, tiny_trained_model: VideoColBERT
) -> None:
    write_world(tmp_path / "clips", count=5, seed=5, split="test", frames=12)
    whole = Indexer(tmp_path / "whole", model=tiny_trained_model, workers=1)
    pooled = Indexer(tmp_path / "pooled", model=tiny_trained_model, workers=1, pool_factor=3)
    for indexer in (whole, pooled):
        indexer.index(tmp_path / "clips")
    frames = tiny_trained_model.config.num_frames
    with Searcher(tmp_path / "whole", model=tiny_trained_model) as searcher:
        before = searcher.explain("a red circle", "clip-0001.mp4")
    with Searcher(tmp_path / "pooled", model=tiny_trained_model) as searcher:
        after = searcher.explain("a red circle", "clip-0001.mp4")
        hit = next(hit for hit in searcher.search("a red circle", k=5) if hit.id == "clip-0001.mp4")
    assert after.times == before.times
    for bag, matrix in after.similarities.items():
        assert matrix.shape == before.similarities[bag].shape  # every frame has its column
        assert len(np.unique(matrix[0, :frames].round(5))) <= math.ceil(frames / 3)
    assert sum(after.scores.values()) == pytest.approx(hit.score, abs=1e-5)
    assert 0 <= hit.start < hit.end <= 1.01
    stored = {name: IndexReader.open(tmp_path / name).segments[0].bags for name in ("whole", "pooled")}
    assert stored["whole"]["frame"].doclens.tolist() == [frames] * 5
    assert stored["pooled"]["frame"].doclens.tolist() == [math.ceil(frames / 3)] * 5
    expansion = stored["whole"]["video"].doclens - frames
    assert torch.equal(stored["pooled"]["video"].doclens, expansion + math.ceil(frames / 3))


def test_an_index_pools_what_is_added_as_it_did(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    write_world(tmp_path / "clips", count=2, seed=5, split="test", frames=12)
    write_world(tmp_path / "more", count=1, seed=6, split="test", frames=12)
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, pool_factor=4).index(tmp_path / "clips")
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).add([("new", tmp_path / "more" / "clip-0001.mp4")])
    lengths = {int(n) for segment in IndexReader.open(tmp_path / "i").segments for n in segment.bags["frame"].doclens}
    assert lengths == {math.ceil(tiny_trained_model.config.num_frames / 4)}


def test_a_catalog_that_names_tokens_that_are_not_there_is_refused() -> None:
    entry = VideoEntry("v", frame_times=(0.5, 1.5), frame_tokens=(0, 1))
    with pytest.raises(IndexFolderError, match="video 'v' has 2 frame tokens, its segment has 1"):
        _frame_by_frame("frame", torch.zeros(3, 1), entry)


@pytest.mark.parametrize("bag", ["frame", "video", "speech"])
def test_tokens_that_are_no_frames_stay_as_they_are(bag: str) -> None:
    similarity = torch.rand(3, 2)
    assert _frame_by_frame(bag, similarity, VideoEntry("w", frame_times=(0.5, 1.5, 2.5))) is similarity
    if bag == "speech":
        pooled = VideoEntry("v", frame_times=(0.5, 1.5, 2.5), frame_tokens=(0, 0, 1))
        assert _frame_by_frame(bag, similarity, pooled) is similarity


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "a factor or a similarity"),
        ({"factor": 0.5}, r"factor=0\.5 must be at least 1"),
        ({"factor": math.nan}, "factor=nan"),
        ({"factor": math.inf}, "factor=inf"),
        ({"similarity": 1.5}, r"similarity=1\.5 is a cosine"),
    ],
)
def test_contradictions_are_refused(rule: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Pooling(**rule)
