"""Models of Hugging Face transformers against their own pooled outputs, tokenizers and image processors."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import CONFIGS, save_tiny

from colbert_video.errors import ModelError
from colbert_video.model.backbone import Backbone
from colbert_video.model.transformers_backbone import TransformersBackbone
from colbert_video.model.transformers_files import MODEL_FILE
from colbert_video.model.video_colbert import VideoColBERT

TEXTS = ["a dog catches the frisbee", "two people", "photo " * 60]
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
CLIPS = ("clip", "metaclip_2", "aimv2")
"""Kinds whose text towers are causal and end with a token that they pool."""

Published = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Folders of tiny models as their owners publish them, and those models; each is made once."""
    made: dict[str, tuple[Path, Any]] = {}

    def of(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "published"
            made[kind] = folder, save_tiny(kind, folder)
        return made[kind]

    return of


@pytest.fixture(scope="module")
def load(published: Published) -> Callable[[str], VideoColBERT]:
    """Untrained models of the tiny ones; do not change them."""
    made: dict[str, VideoColBERT] = {}

    def model(kind: str) -> VideoColBERT:
        if kind not in made:
            made[kind] = VideoColBERT.from_pretrained(f"hf:{published(kind)[0]}", device="cpu")
        return made[kind]

    return model


Load = Callable[[str], VideoColBERT]


def own_ids(kind: str, folder: Path, texts: list[str], length: int) -> dict[str, torch.Tensor]:
    """What the model's own tokenizer makes of texts, as transformers' processors call it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    masked = kind not in ("siglip", "siglip2")  # trained without a mask, and their tokenizers give none
    return {"input_ids": made["input_ids"], **({"attention_mask": made["attention_mask"]} if masked else {})}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_pooled_token_is_the_models_own_text_feature(kind: str, published: Published, load: Load) -> None:
    (folder, theirs), backbone = published(kind), load(kind).backbone
    assert isinstance(backbone, Backbone)
    positions = CONFIGS[kind]["text_config"]["max_position_embeddings"]
    batch = backbone.tokenize(TEXTS, length=backbone.context_length)
    with torch.inference_mode():
        tokens = backbone.text_tokens(batch.ids)
        expected = theirs.get_text_features(**own_ids(kind, folder, TEXTS, positions)).pooler_output
    assert tokens.shape == (3, backbone.context_length, 32)
    assert expected.std(dim=0).max() > 1e-2  # the texts differ, so equality means something
    torch.testing.assert_close(tokens[torch.arange(3), batch.pooled], expected, **CLOSE)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_text_token_goes_through_the_projection_of_the_pooled_one(
    kind: str, published: Published, load: Load
) -> None:
    theirs, backbone = published(kind)[1], load(kind).backbone
    batch = backbone.tokenize(TEXTS, length=backbone.context_length)
    words = batch.content[:, : backbone.context_length - (kind == "tipsv2")]  # without the place of the mean
    ids = batch.ids[:, : words.shape[1]]
    sees_padding = kind.startswith("siglip")
    project = {"tipsv2": torch.nn.Identity()}.get(kind) or (
        theirs.text_model.head if sees_padding else theirs.text_projection
    )
    with torch.inference_mode():
        hidden = theirs.text_model(
            input_ids=ids, attention_mask=None if sees_padding else words.long()
        ).last_hidden_state
        tokens = backbone.text_tokens(batch.ids)[:, : words.shape[1]]
        torch.testing.assert_close(tokens[words], project(hidden)[words], **CLOSE)


@pytest.mark.parametrize("kind", [*CLIPS, "tipsv2"])
def test_padding_changes_no_word_where_the_tower_does_not_see_it(kind: str, load: Load) -> None:
    backbone = load(kind).backbone
    assert not backbone.bidirectional
    mean = backbone.pooling == "mean"
    short, long = (backbone.tokenize(TEXTS[:2], length=length) for length in (8 + mean, backbone.context_length))
    with torch.inference_mode():
        tokens, others = backbone.text_tokens(short.ids), backbone.text_tokens(long.ids)
    assert short.content.sum() == long.content.sum()
    torch.testing.assert_close(tokens[short.content], others[long.content], **CLOSE)
    rows = torch.arange(2)
    torch.testing.assert_close(tokens[rows, short.pooled], others[rows, long.pooled], **CLOSE)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_a_tower_that_sees_its_padding_keeps_its_full_length(kind: str, load: Load, published: Published) -> None:
    model = load(kind)
    assert model.backbone.bidirectional
    assert model.config.query_length == model.backbone.context_length == 16
    with pytest.raises(ModelError, match=r"query_length=8.*bidirectional.*Use 16"):
        VideoColBERT.from_backbone(f"hf:{published(kind)[0]}", query_length=8, device="cpu")
    ours = model.backbone.tokenize(TEXTS, length=16)
    assert torch.equal(ours.ids, own_ids(kind, published(kind)[0], TEXTS, 16)["input_ids"])


@pytest.mark.parametrize("kind", CONFIGS)
def test_frame_tokens_are_the_models_own_image_features(kind: str, published: Published, load: Load) -> None:
    from transformers import AutoImageProcessor

    (folder, theirs), model = published(kind), load(kind)
    pictures = np.random.default_rng(0).integers(
        0, 256, (3, 32, 32, 3), dtype=np.uint8
    )  # of the model's size: no resize
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = model.config.preprocess.to_pixels(pictures, device=torch.device("cpu"))
    with torch.inference_mode():
        expected = theirs.get_image_features(**processor(list(pictures), return_tensors="pt")).pooler_output
        ours = model.backbone.frame_tokens(pixels)
    assert expected.std(dim=0).max() > 1e-2
    torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_saved_model_makes_the_same_tokens(kind: str, load: Load, tmp_path: Path, published: Published) -> None:
    folder = tmp_path / "published"
    shutil.copytree(published(kind)[0], folder)
    model = VideoColBERT.from_backbone(f"hf:{folder}", device="cpu", trained=True, num_frames=4)
    shutil.rmtree(folder)  # what was saved needs nothing else
    model.save_pretrained(tmp_path / "saved")
    loaded = VideoColBERT.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.fingerprint() == model.fingerprint()
    assert torch.equal(loaded.encode_queries(TEXTS).tokens, model.encode_queries(TEXTS).tokens)
    clip = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    for ours, theirs in zip(loaded.encode_videos([clip]), model.encode_videos([clip]), strict=True):
        assert torch.equal(ours.tokens, theirs.tokens)
    assert isinstance(loaded.backbone, TransformersBackbone)
    assert loaded.backbone.architecture == model.backbone.architecture
    assert (tmp_path / "saved" / "transformers_config.json").is_file()
    assert MODEL_FILE == "config.json"  # which is our own file in a checkpoint
