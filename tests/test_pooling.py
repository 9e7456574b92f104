"""Token pooling: which frames share a token, and what that token is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.errors import SettingsError
from colbert_video.pooling import Pooling, pool

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
