"""Zero-shot baselines against CLIP4Clip's formula written by hand on open_clip's own features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.training.evaluation.gallery import ZERO_SHOT, applicable_interactions, score_gallery

CAPTIONS = ["a red circle moves left", "two squares", "a dog catches a frisbee on the beach at noon"]
LENGTHS = (3, 1, 5)


@pytest.fixture(scope="module")
def stacks() -> list[np.ndarray]:
    """Videos of different lengths."""
    draw = np.random.default_rng(5)
    return [draw.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8) for length in LENGTHS]


def pixels(model: Any, stacks: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded frames as CLIP4Clip's loader gives them, and the mask; the padding holds noise that must not count."""
    preprocess = model.config.preprocess
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    padded = torch.randn(len(stacks), max(LENGTHS), 3, 32, 32)
    mask = torch.zeros(len(stacks), max(LENGTHS))
    for row, stack in enumerate(stacks):
        padded[row, : len(stack)] = ((torch.tensor(stack) / 255 - mean) / std).permute(0, 3, 1, 2)
        mask[row, : len(stack)] = 1
    return padded, mask


def open_clip_features(model: Any, stacks: Sequence[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """Text (queries, dim), frames (videos, frames, dim) and mask, by open_clip's own encode_text and encode_image."""
    clip = model.backbone.clip
    padded, mask = pixels(model, stacks)
    with torch.inference_mode():
        ids = open_clip.get_tokenizer("ViT-B-32")(CAPTIONS, context_length=model.backbone.context_length)
        frames = clip.encode_image(padded.flatten(0, 1)).unflatten(0, mask.shape)
        return clip.encode_text(ids), frames, mask


def clip4clip_mean_pooling(text: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """CLIP4Clip's meanP: normalise each frame, take the masked mean, normalise again, cosine with the text."""
    frames = frames / frames.norm(dim=-1, keepdim=True)
    video = (frames * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    video = video / video.norm(dim=-1, keepdim=True)
    text = text / text.norm(dim=-1, keepdim=True)
    return text @ video.T


def ours(model: Any, stacks: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    gallery = [model.encode_videos([stack]) for stack in stacks]
    return score_gallery(model, CAPTIONS, gallery, ZERO_SHOT)


@pytest.mark.parametrize("model", ["tiny_model", "tiny_trained_model"])
def test_mean_pooling_is_clip4clips(model: str, stacks: list[np.ndarray], request: pytest.FixtureRequest) -> None:
    loaded = request.getfixturevalue(model)
    expected = clip4clip_mean_pooling(*open_clip_features(loaded, stacks))
    torch.testing.assert_close(ours(loaded, stacks)["mp_f"], expected, atol=2e-6, rtol=0)
    assert len(expected.unique()) == expected.numel(), "scores that are all alike would prove nothing"


@pytest.mark.parametrize("model", ["tiny_model", "tiny_trained_model"])
def test_the_pooled_token_meets_the_nearest_frame(
    model: str, stacks: list[np.ndarray], request: pytest.FixtureRequest
) -> None:
    loaded = request.getfixturevalue(model)
    text, frames, mask = open_clip_features(loaded, stacks)
    cosine = torch.nn.functional.cosine_similarity(text[:, None, None], frames[None], dim=-1)
    expected = cosine.masked_fill(mask[None] == 0, float("-inf")).amax(dim=-1)
    torch.testing.assert_close(ours(loaded, stacks)["mms_f_pooled"], expected, atol=2e-6, rtol=0)


def test_an_untrained_model_searches_by_the_second(tiny_model: Any, stacks: list[np.ndarray]) -> None:
    gallery = [tiny_model.encode_videos([stack]) for stack in stacks]
    scores = score_gallery(tiny_model, CAPTIONS, gallery, ("mms_f", "mms_f_pooled"))
    assert torch.equal(scores["mms_f"], scores["mms_f_pooled"])


def test_of_a_trained_model_all_tokens_are_another_score(tiny_trained_model: Any, stacks: list[np.ndarray]) -> None:
    gallery = [tiny_trained_model.encode_videos([stack]) for stack in stacks]
    scores = score_gallery(tiny_trained_model, CAPTIONS, gallery, ("mms_f", "mms_f_pooled"))
    assert (scores["mms_f"] - scores["mms_f_pooled"]).abs().min() > 1e-4


def test_both_are_there_for_every_model_that_asks(tiny_model: Any, tiny_trained_model: Any) -> None:
    assert applicable_interactions(tiny_model, ZERO_SHOT) == ZERO_SHOT
    assert applicable_interactions(tiny_trained_model, ZERO_SHOT) == ZERO_SHOT
    assert "mms_f_pooled" not in applicable_interactions(tiny_trained_model)
    with pytest.raises(SettingsError, match=r"'meanp' is unknown; choose from .*mp_f.*, mms_f_pooled"):
        applicable_interactions(tiny_model, ["meanp"])
