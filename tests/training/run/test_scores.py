"""The trained score matrices: the reference scores, and the same gradients in chunks."""

from typing import Any

import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.model.interaction import fuse, mean_max_sim
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.training.run import batch_encoding as module
from colbert_video.training.run.batch_encoding import level_scores, reads_video_tokens, training_mean_max_sim


def bags(count: int, tokens: int, *, dim: int = 6) -> TokenBags:
    mask = torch.rand(count, tokens) < 0.8
    mask[:, 0] = True
    vectors = torch.nn.functional.normalize(torch.randn(count, tokens, dim), dim=-1)
    return TokenBags(vectors.requires_grad_(), mask)


@pytest.fixture
def queries() -> QueryTokens:
    batch = bags(4, 5)
    return QueryTokens(batch.tokens, batch.mask, torch.zeros(4, dtype=torch.long))


@pytest.fixture
def videos() -> VideoTokens:
    return VideoTokens(bags(7, 3), bags(7, 5))


@pytest.mark.parametrize("interaction", ["mms_fv", "mms_f", "mms_v", "mp_f", "mp_v"])
def test_levels_sum_to_the_reference(queries: QueryTokens, videos: VideoTokens, interaction: Any) -> None:
    levels = [level for level in level_scores(queries, videos, interaction) if level is not None]
    assert len(levels) == (2 if interaction == "mms_fv" else 1)
    assert torch.allclose(sum(levels), fuse(queries, videos, interaction))
    frame_only = interaction in ("mms_f", "mp_f")
    assert reads_video_tokens(interaction) == (not frame_only)
    assert (level_scores(queries, videos, interaction)[0] is None) == (interaction in ("mms_v", "mp_v"))


def test_rank_fusion_trains_both_levels(queries: QueryTokens, videos: VideoTokens) -> None:
    for fused, summed in zip(
        level_scores(queries, videos, "rrf"), level_scores(queries, videos, "mms_fv"), strict=True
    ):
        assert fused is not None
        assert summed is not None
        assert torch.equal(fused, summed)


def test_missing_video_tokens_are_refused(queries: QueryTokens, videos: VideoTokens) -> None:
    with pytest.raises(SettingsError, match="interaction 'mms_v' needs video tokens, and there are none"):
        level_scores(queries, VideoTokens(videos.frame, None), "mms_v")


@pytest.mark.parametrize("budget", [1, 150, 299])
def test_chunks_have_the_same_scores_and_gradients(
    queries: QueryTokens, videos: VideoTokens, monkeypatch: Any, budget: int
) -> None:
    weights = torch.randn(4, 7)
    whole = mean_max_sim(queries, videos.frame)
    right = torch.autograd.grad((whole * weights).sum(), [queries.tokens, videos.frame.tokens])
    monkeypatch.setattr(module, "SIMILARITY_BUDGET", budget)
    chunked = training_mean_max_sim(queries, videos.frame)
    found = torch.autograd.grad((chunked * weights).sum(), [queries.tokens, videos.frame.tokens])
    assert torch.allclose(chunked, whole)
    for one, other in zip(found, right, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_chunks_keep_no_similarities(queries: QueryTokens, videos: VideoTokens, monkeypatch: Any) -> None:
    """What the graph holds on to between forward and backward is smaller than one level's similarities."""

    def kept(level: Any) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: sizes.append(saved.numel()) or saved, lambda x: x):
            level(queries, videos.video)
        return max(sizes, default=0)

    similarities = 4 * 7 * 5 * 5
    assert kept(mean_max_sim) >= similarities
    monkeypatch.setattr(module, "SIMILARITY_BUDGET", 150)
    assert kept(training_mean_max_sim) < similarities
