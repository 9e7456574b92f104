"""Models of Hugging Face transformers against their own pooled outputs, tokenizers and image processors."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from tiny_transformers import CONFIGS, OPENAI_MEAN, save_tiny
from tokenizers import normalizers

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Backbone, Preprocess
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.backbones.transformers_backbone import TransformersBackbone
from colbert_video.model.backbones.transformers_files import MODEL_FILE
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.optimizer import FAMILIES, freeze, parameter_groups

TEXTS = ["a dog catches the frisbee", "two people", "photo " * 60]
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
CLIPS = ("clip", "metaclip_2", "aimv2")
"""Kinds whose text towers are causal and end with a token that they pool."""
BERTS = ("chinese_clip", "altclip")
"""Kinds whose text towers pool their first token, and have positions for longer texts than they know."""

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


@pytest.fixture
def changed(published: Published, tmp_path: Path) -> Callable[..., Path]:
    """Copies a tiny model's folder, with fields of a JSON file changed, or left out where they are None."""

    def copy(kind: str, file: str, **changes: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(published(kind)[0], folder)
        values = json.loads((folder / file).read_text())
        for name, change in changes.items():
            values[name] = (
                {**values[name], **change} if isinstance(change, dict) and name.endswith("_config") else change
            )
        kept = {name: value for name, value in values.items() if value is not None}
        (folder / file).write_text(json.dumps(kept))
        return folder

    return copy


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
    positions = {"chinese_clip": 52, "altclip": 77}.get(kind, CONFIGS[kind]["text_config"]["max_position_embeddings"])
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


@pytest.mark.parametrize("kind", [*CLIPS, *BERTS, "tipsv2"])
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


@pytest.mark.parametrize("kind", ["clip", "tipsv2"])
def test_what_a_program_has_set_in_torch_changes_nothing(
    kind: str, published: Published, load: Load, tmp_path: Path
) -> None:
    before = load(kind)
    clip = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    tokens, frames = before.encode_queries(TEXTS).tokens, before.encode_videos([clip]).frame.tokens
    before.save_pretrained(tmp_path / "saved")
    with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16):
        for name in (f"hf:{published(kind)[0]}", tmp_path / "saved"):
            torch.set_default_dtype(torch.float64)
            try:
                model = VideoColBERT.from_pretrained(name, device="cpu")
            finally:
                torch.set_default_dtype(torch.float32)
            assert model.fingerprint() == before.fingerprint()
            assert torch.equal(model.encode_queries(TEXTS).tokens, tokens)
            assert torch.equal(model.encode_videos([clip]).frame.tokens, frames)


def test_loading_leaves_the_logging_of_transformers_alone(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging as chatter

    before = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    folder = published("siglip")[0]
    capsys.readouterr()
    TransformersBackbone.from_name(f"hf:{folder}")
    assert (chatter.get_verbosity(), chatter.is_progress_bar_enabled()) == before
    assert capsys.readouterr().err == ""


def test_weights_of_half_precision_in_several_files_are_read(published: Published, load: Load, tmp_path: Path) -> None:
    folder, theirs = published("siglip")
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    halved = copy.deepcopy(theirs).half()
    halved.save_pretrained(tmp_path / "model", max_shard_size="50KB")
    assert len(list((tmp_path / "model").glob("model-*-of-*.safetensors"))) > 1
    model = VideoColBERT.from_backbone(f"hf:{tmp_path / 'model'}", device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.backbone.towers.text_model.head.weight, halved.text_model.head.weight.float())
    cosines = (model.encode_queries(TEXTS).tokens * load("siglip").encode_queries(TEXTS).tokens).sum(dim=-1)
    assert cosines.min() > 0.999


# Towers that pool the mean of their words


def test_the_mean_over_words_of_inner_products_is_the_pooled_score(load: Load, published: Published) -> None:
    """What makes an untrained model of this kind search with all its words, and what unit length changes in that."""
    (folder, theirs), backbone = published("tipsv2"), load("tipsv2").backbone
    batch = backbone.tokenize(TEXTS, length=backbone.context_length)
    pictures = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        words, frames = backbone.text_tokens(batch.ids), backbone.frame_tokens(pictures)
        texts = theirs.get_text_features(**own_ids("tipsv2", folder, TEXTS, 16)).pooler_output
        images = theirs.get_image_features(pixel_values=pictures).pooler_output
    products = words @ frames.T  # (queries, query_tokens, frames)
    means = torch.stack([row[real].mean(dim=0) for row, real in zip(products, batch.content, strict=True)])
    torch.testing.assert_close(means, texts @ images.T, atol=1e-4, rtol=1e-4)
    units = torch.nn.functional.normalize(words, dim=-1) @ frames.T
    scaled = torch.stack([row[real].mean(dim=0) for row, real in zip(units, batch.content, strict=True)])
    lengths = words.norm(dim=-1)[batch.content]
    assert lengths.std() > 1e-2 * lengths.mean()  # words of unit length weigh the same, whatever length they had
    assert not torch.allclose(scaled * lengths.mean(), means, rtol=1e-3)


def test_an_untrained_model_of_mean_pooling_searches_with_its_words(load: Load) -> None:
    model = load("tipsv2")
    assert not model.config.trained
    assert not model.config.query_augmentation
    queries = model.encode_queries(["two people", "a dog catches the frisbee"])
    assert queries.mask.sum(dim=1).tolist() == [2, 5]
    assert model.query_token_texts("a dog catches the frisbee") == ["a", "dog", "catches", "the", "frisbee"]
    batch = model.tokenize(["two people"])
    with torch.inference_mode():
        words = torch.nn.functional.normalize(model.backbone.text_tokens(batch.ids), dim=-1)[0]
    assert torch.equal(queries[0], words[:2])
    assert torch.equal(queries.pooled_tokens()[0], words[-1])  # the mean, which is no word

    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    videos = model.encode_videos([clip])
    expected = (queries[0] @ videos.frame[0].T).amax(dim=1).mean()
    torch.testing.assert_close(model.score(queries, videos)[0, 0], expected)


@pytest.mark.parametrize("augmentation", [False, True])
def test_a_trained_model_of_mean_pooling_never_scores_the_mean_as_a_word(
    augmentation: bool, published: Published
) -> None:
    settings = {"trained": True, "query_length": 8, "query_augmentation": augmentation}
    model = VideoColBERT.from_backbone(f"hf:{published('tipsv2')[0]}", device="cpu", **settings)
    batch = model.tokenize(["two people"])
    assert batch.scored.tolist() == [[True, True, *[augmentation] * 5, False]]
    assert batch.pooled.tolist() == [7]
    model.mark_trained(False)
    assert model.tokenize(["two people"]).scored.sum() == 2


def test_the_padding_of_a_tower_that_masks_it_has_one_id(published: Published) -> None:
    with pytest.raises(ModelError, match=r"pad_id=5, but hf:.* masks its padding.*leave pad_id out"):
        VideoColBERT.from_backbone(f"hf:{published('tipsv2')[0]}", pad_id=5, device="cpu")


# Tokenizers


@pytest.mark.parametrize("kind", CONFIGS)
def test_names_of_control_tokens_in_a_query_are_text(kind: str, load: Load) -> None:
    backbone = load(kind).backbone
    plain, tricky = (
        backbone.tokenize([text], length=backbone.context_length) for text in ("a dog", "a <pad> </s> dog")
    )
    own = {"<s>": 2, "</s>": 3, "<pad>": 1}
    special = [
        sum(int(token) == number for token in batch.ids[0][batch.content[0]])
        for batch in (plain, tricky)
        for number in own.values()
    ]
    assert special[:3] == special[3:]
    assert tricky.content.sum() > plain.content.sum()


def test_clip_is_padded_with_zeros_as_it_was_trained(load: Load) -> None:
    """Its tokenizer in transformers pads with the end of text, which the paper finds to be the worst padding."""
    batch = load("clip").backbone.tokenize(["a dog"], length=8)
    assert batch.ids.tolist() == [[2, 4, 5, 3, 0, 0, 0, 0]]
    assert batch.pooled.tolist() == [3]
    assert load("metaclip_2").backbone.tokenize(["a dog"], length=8).ids.tolist() == [[2, 4, 5, 3, 1, 1, 1, 1]]


@pytest.mark.parametrize("kind", [*CLIPS, *BERTS])
def test_a_long_query_is_cut_and_keeps_its_end(kind: str, load: Load) -> None:
    backbone = load(kind).backbone
    batch = backbone.tokenize(["dog " * 50], length=8)
    assert batch.ids.tolist() == [[2, *[5] * 6, 3]]
    assert batch.pooled.tolist() == [0 if kind in BERTS else 7]
    assert backbone.too_long(["dog " * 6, "dog " * 7], length=8) == [False, True]


def test_a_query_of_no_token_is_refused(load: Load) -> None:
    model = load("tipsv2")
    assert model.backbone.too_long(["dog " * 16, "dog " * 17], length=model.backbone.context_length) == [False, True]
    model = copy.deepcopy(model)
    model.backbone.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(SettingsError, match=r"finds no word in the query '\\u200b'"):
        model.encode_queries("\u200b")


def test_the_end_of_text_of_early_clip_configurations_is_the_largest_id(tmp_path: Path) -> None:
    theirs = save_tiny("clip", tmp_path, text_config={"eos_token_id": 2})
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["</s>"], vocabulary["circle"] = vocabulary["circle"], vocabulary["</s>"]
    for token in tokenizer["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    tokenizer["post_processor"]["special_tokens"]["</s>"]["ids"] = [vocabulary["</s>"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    backbone = TransformersBackbone.from_name(f"hf:{tmp_path}")
    batch = backbone.tokenize(TEXTS, length=24)
    with torch.inference_mode():
        expected = theirs.get_text_features(input_ids=batch.ids).pooler_output
        ours = backbone.text_tokens(batch.ids)[torch.arange(3), batch.pooled]
    assert batch.pooled.tolist() == [6, 3, 23]
    torch.testing.assert_close(ours, expected, **CLOSE)


# Frames


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 32), (24, 40), (8, 8)])
def test_naflex_takes_every_size_of_whole_patches(height: int, width: int, published: Published) -> None:
    from transformers import AutoImageProcessor

    folder, theirs = published("siglip2")
    preprocess = Preprocess(height, width, (0.5,) * 3, (0.5,) * 3, "bilinear")
    backbone = TransformersBackbone.from_name(f"hf:{folder}", preprocess=preprocess)
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    inputs = AutoImageProcessor.from_pretrained(folder)(picture[0], do_resize=False, return_tensors="pt")
    assert int(inputs["pixel_attention_mask"].sum()) == height * width // 64
    with torch.inference_mode():
        ours = backbone.frame_tokens(preprocess.to_pixels(picture, device=torch.device("cpu")))
        torch.testing.assert_close(ours, theirs.get_image_features(**inputs).pooler_output, **CLOSE)


def test_naflex_is_given_squares_of_as_many_patches_as_it_takes(load: Load, published: Published) -> None:
    preprocess = load("siglip2").config.preprocess
    assert (preprocess.height, preprocess.width) == (32, 32)  # 16 patches of 8 by 8
    odd = Preprocess(20, 32, preprocess.mean, preprocess.std, "bilinear")
    with pytest.raises(ModelError, match=r"pictures of 20×32.*multiples of its patches, 8"):
        TransformersBackbone.from_name(f"hf:{published('siglip2')[0]}", preprocess=odd)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("clip", {"crop_size": 32, "size": 32}, {"height": 32}),
        ("clip", {"do_center_crop": False}, {"height": 32}),
        ("clip", {"resample": 2}, {"interpolation": "bilinear"}),
        (
            "clip",
            {"image_mean": None, "image_std": None, "resample": None},
            {"mean": tuple(OPENAI_MEAN), "interpolation": "bicubic"},
        ),
        ("clip", {"do_normalize": False}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ("siglip", {"image_mean": None, "image_std": None}, {"mean": (0.5,) * 3}),
        ("siglip", {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, {"mean": (0.5,) * 3}),
        ("siglip", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, {"std": (0.5,) * 3}),
        ("tipsv2", {"do_normalize": None}, {"mean": (0.0,) * 3, "interpolation": "bilinear"}),
    ],
)
def test_pictures_are_prepared_as_the_image_processor_says(
    kind: str, changes: dict[str, Any], expected: dict[str, Any], changed: Callable[..., Path]
) -> None:
    found = TransformersBackbone.outline(f"hf:{changed(kind, 'preprocessor_config.json', **changes)}").preprocess
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value) if name in ("mean", "std") else value


def test_a_newer_model_may_have_its_image_processor_in_another_file(changed: Callable[..., Path]) -> None:
    folder = changed("siglip", "preprocessor_config.json")
    values = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": values, "processor_class": "X"}))
    assert TransformersBackbone.outline(f"hf:{folder}").preprocess.interpolation == "bilinear"


# Training


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_copied_layer_sees_no_padded_frame(kind: str, load: Load) -> None:
    """And it is bidirectional, although it may come from a causal tower."""
    model = load(kind)
    clips = [np.random.default_rng(frames).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8) for frames in (2, 5)]
    pixels = [model.config.preprocess.to_pixels(clip, device=torch.device("cpu")) for clip in clips]
    padded = torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    with torch.inference_mode():
        _, together = model.embed_videos(padded, mask)
        _, alone = model.embed_videos(pixels[0][None])
        changed = padded.clone()
        changed[1, 4] += 1
        _, other = model.embed_videos(changed, mask)
    torch.testing.assert_close(together.tokens[0][together.mask[0]], alone.tokens[0], **CLOSE)
    assert (together.tokens[1, 0] - other.tokens[1, 0]).abs().max() > 1e-6  # the first frame sees the last


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_step_of_training_moves_every_weight_that_makes_tokens(kind: str, published: Published) -> None:
    model = VideoColBERT.from_backbone(f"hf:{published(kind)[0]}", device="cpu", trained=True).train()
    ids = model.tokenize(["a dog catches the frisbee", "two people"]).ids
    pixels = torch.randn(2, 3, 3, 32, 32)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        queries, videos = model(ids, pixels)
        weights = torch.linspace(-1, 1, 32)
        total = (
            (queries @ weights).pow(2).sum()
            + (videos.frame.tokens @ weights).sum()
            + (videos.video.tokens @ weights).sum()
        )
        total.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == plain.keys()
    model.set_grad_checkpointing()
    again = gradients()
    first = model.backbone.text_blocks(1)[0].layer
    assert first.gradient_checkpointing
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-5, rtol=1e-3)
    model.set_grad_checkpointing(False)
    assert not first.gradient_checkpointing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", CONFIGS)
def test_converted_weights_make_nearly_the_same_tokens(
    kind: str, dtype: torch.dtype, published: Published, load: Load
) -> None:
    exact = load(kind)
    model = VideoColBERT.from_backbone(f"hf:{published(kind)[0]}", device="cpu").to(dtype)
    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for ours, theirs in (
        (model.encode_queries(TEXTS), exact.encode_queries(TEXTS)),
        (model.encode_videos([clip]).frame, exact.encode_videos([clip]).frame),
    ):
        assert ours.tokens.dtype == torch.float32
        cosines = (ours.tokens * theirs.tokens).sum(dim=-1)[theirs.mask]
        assert cosines.min() > 0.98


def test_families_can_be_frozen_and_are_trained_slowly(load: Load) -> None:
    model = copy.deepcopy(load("clip"))
    groups = parameter_groups(
        model,
        torch.nn.Identity(),
        learning_rate=1.0,
        pretrained_learning_rate=0.1,
        loss_learning_rate=1.0,
        weight_decay=0,
    )
    for group in groups:
        assert {name.startswith("backbone.") for name in group["names"]} == {group["peak"] == 0.1}
    for name in FAMILIES:
        freeze(model, [name])
    left = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert left
    assert all(name.startswith("temporal.") for name in left)


# The same weights in both forms


def test_the_weights_of_a_clip_make_the_same_tokens_in_both_libraries(tmp_path: Path) -> None:
    theirs = save_tiny("clip", tmp_path)
    ours = TransformersBackbone.from_name(f"hf:{tmp_path}")
    other = open_clip_twin(theirs)
    batch = ours.tokenize(TEXTS, length=24)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours.text_tokens(batch.ids), other.text_tokens(batch.ids), **CLOSE)
        torch.testing.assert_close(ours.frame_tokens(pixels), other.frame_tokens(pixels), **CLOSE)
        x = torch.randn(2, 5, 32)
        mask = torch.zeros(2, 5).index_fill_(1, torch.tensor([4]), float("-inf"))
        mask = mask[:, None, None].expand(-1, 2, 5, -1).flatten(0, 1)  # (batch * heads, tokens, tokens)
        for one, two in zip(ours.text_blocks(4), other.text_blocks(4), strict=True):
            torch.testing.assert_close(one(x, attn_mask=mask), two(x, attn_mask=mask), **CLOSE)
        assert torch.equal(ours.text_positions, other.text_positions)


def open_clip_twin(theirs: Any) -> OpenClipBackbone:
    """An open_clip model with the weights of a tiny CLIP of transformers, converted by hand."""
    own = theirs.state_dict()

    def tower(name: str, prefix: str) -> dict[str, torch.Tensor]:
        made = {}
        for layer in range(theirs.config.get_text_config().num_hidden_layers if prefix == "" else 2):
            old, new = f"{name}.encoder.layers.{layer}.", f"{prefix}transformer.resblocks.{layer}."
            for kind in ("weight", "bias"):
                parts = [own[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                made[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
                made[f"{new}attn.out_proj.{kind}"] = own[f"{old}self_attn.out_proj.{kind}"]
                for theirs_, ours_ in (
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    made[f"{new}{ours_}.{kind}"] = own[f"{old}{theirs_}.{kind}"]
        return made

    weights = {
        **tower("text_model", ""),
        **tower("vision_model", "visual."),
        "token_embedding.weight": own["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": own["text_model.embeddings.position_embedding.weight"],
        "text_projection": own["text_projection.weight"].T,
        "visual.proj": own["visual_projection.weight"].T,
        "visual.class_embedding": own["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": own["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": own["vision_model.embeddings.patch_embedding.weight"],
        "logit_scale": own["logit_scale"],
    }
    for old, new in (
        ("text_model.final_layer_norm", "ln_final"),
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
    ):
        weights |= {f"{new}.{kind}": own[f"{old}.{kind}"] for kind in ("weight", "bias")}
    architecture = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 24, "vocab_size": 64, "width": 32, "heads": 2, "layers": 4, "mlp_ratio": 2.0},
    }
    clip = open_clip.CLIP(**architecture).eval()
    clip.load_state_dict(weights)
    preprocess = Preprocess(32, 32, (0.5,) * 3, (0.5,) * 3, "bicubic")
    return OpenClipBackbone(clip, tokenizer=None, architecture=architecture, preprocess=preprocess)
