"""VideoColBERT as a whole: what a query and a video become, trained and untrained, alone and in batches."""

import copy
import inspect
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
import torch
from tiny_models import build_tiny
from torch import Tensor

from colbert_video.errors import ColBERTVideoError, ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.tokens import TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT, _batches

TEXTS = ["a dog catches a frisbee", "!%", "two people are talking about " + "many " * 40]


def stack(frames: int, seed: int = 0, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Frames of noise, each of its own brightness, so that random towers tell them apart."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 100, (frames, *size, 3))
    return (noise + generator.integers(0, 156, (frames, 1, 1, 3))).astype(np.uint8)


def with_settings(model: VideoColBERT, **settings: Any) -> VideoColBERT:
    """The same weights under other switches; the shared model stays as it is."""
    other = copy.copy(model)
    other.config = replace(model.config, **settings)
    return other


def assert_unit(tokens: Tensor) -> None:
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(tokens.shape[:-1]))


# Queries


@pytest.mark.parametrize("name", ["tiny_model", "tiny_trained_model", "tiny_siglip_model"])
def test_a_query_is_the_same_alone_and_in_a_batch(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    together = model.encode_queries(TEXTS)
    for position, text in enumerate(TEXTS):
        alone = model.encode_queries(text)
        torch.testing.assert_close(alone.tokens[0], together.tokens[position], atol=1e-5, rtol=1e-4)
        assert torch.equal(alone.mask[0], together.mask[position])
        assert alone.pooled[0] == together.pooled[position]
    torch.testing.assert_close(model.encode_queries(TEXTS, batch_size=2).tokens, together.tokens, atol=1e-5, rtol=1e-4)


def test_a_trained_query_is_all_its_tokens_padding_included(tiny_trained_model: VideoColBERT) -> None:
    queries = tiny_trained_model.encode_queries(TEXTS)
    assert queries.shape == (3, 32, 64)
    assert queries.mask.all()
    assert_unit(queries.tokens)


def test_padding_is_contextual(tiny_trained_model: VideoColBERT) -> None:
    """The vectors behind the end of text differ between queries; the start token's, in a causal tower, does not."""
    one, other = tiny_trained_model.encode_queries(["a dog", "a cat"]).tokens
    assert (one[10] - other[10]).abs().max() > 1e-4
    torch.testing.assert_close(one[0], other[0])


def test_the_pooled_token_is_open_clips(tiny_trained_model: VideoColBERT) -> None:
    queries = tiny_trained_model.encode_queries(TEXTS)
    clip, tokenizer = tiny_trained_model.backbone.clip, tiny_trained_model.backbone.tokenizer
    with torch.inference_mode():
        expected = clip.encode_text(tokenizer(TEXTS, context_length=32), normalize=True)
    torch.testing.assert_close(queries.pooled_tokens(), expected, atol=1e-5, rtol=1e-4)


def test_without_augmentation_padding_is_not_scored(tiny_trained_model: VideoColBERT) -> None:
    model = with_settings(tiny_trained_model, query_augmentation=False)
    plain, augmented = model.encode_queries(TEXTS), tiny_trained_model.encode_queries(TEXTS)
    assert plain.mask.sum(dim=1).tolist() == [7, 4, 32]  # start, words, end; id 0 inside "!%" is a word
    assert torch.equal(plain.tokens, augmented.tokens)


def test_the_start_token_can_be_left_out(tiny_trained_model: VideoColBERT) -> None:
    queries = with_settings(tiny_trained_model, score_start_token=False).encode_queries(TEXTS)
    assert not queries.mask[:, 0].any()
    assert queries.mask[:, 1:].all()


def test_a_bidirectional_towers_first_token_is_always_scored(
    tiny_siglip_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the whole query, start token or not."""
    fake = SimpleNamespace(eos_token_id=1, pad_token_id=1, bos_token_id=5)
    monkeypatch.setattr(tiny_siglip_model.backbone.tokenizer, "tokenizer", fake)
    assert with_settings(tiny_siglip_model, score_start_token=False).tokenize(TEXTS).scored.all()


def test_a_causal_tower_without_start_token_keeps_its_first_word(
    tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MetaCLIP 2 reads mT5's vocabulary, in which texts have an end and no start."""
    ids = tiny_trained_model.backbone.tokenizer(["a dog"], context_length=32).roll(-1)
    fake = SimpleNamespace(eos_token_id=49407, pad_token_id=0, bos_token_id=None)
    tokenizer = type("Tokenizer", (), {"tokenizer": fake, "__call__": lambda *_, **__: ids})()
    monkeypatch.setattr(tiny_trained_model.backbone, "tokenizer", tokenizer)
    assert with_settings(tiny_trained_model, score_start_token=False).tokenize(["a dog"]).scored.all()


def test_labels_go_with_the_scored_tokens(tiny_trained_model: VideoColBERT, tiny_model: VideoColBERT) -> None:
    plain = with_settings(tiny_trained_model, query_augmentation=False, score_start_token=False)
    assert plain.query_token_texts("A dog!") == ["a", "dog", "!", "<end_of_text>"]
    for model in (tiny_trained_model, plain, tiny_model):
        assert len(model.query_token_texts("a dog")) == len(model.encode_queries("a dog")[0])
    assert tiny_trained_model.query_token_texts("a dog")[3:] == ["<end_of_text>", *["<pad>"] * 28]
    assert tiny_model.query_token_texts(" a dog ") == ["a dog"]


def test_another_padding_id_changes_the_padding_only(tiny_trained_model: VideoColBERT) -> None:
    plain = tiny_trained_model.encode_queries("a dog").tokens[0]
    padded = with_settings(tiny_trained_model, pad_id=31).encode_queries("a dog").tokens[0]
    torch.testing.assert_close(padded[:4], plain[:4], atol=1e-5, rtol=1e-4)
    assert (padded[4:] - plain[4:]).abs().max() > 1e-2


@pytest.mark.parametrize("pad_id", [-1, 49408])
def test_a_padding_id_outside_the_vocabulary_is_refused(pad_id: int, tiny_names: SimpleNamespace) -> None:
    with pytest.raises(ModelError, match=f"pad_id={pad_id}, but tiny-clip has token ids from 0 to 49407"):
        build_tiny(tiny_names.clip, pad_id=pad_id)


def test_an_untrained_query_is_its_pooled_token(tiny_model: VideoColBERT, tiny_trained_model: VideoColBERT) -> None:
    queries = tiny_model.encode_queries(TEXTS)
    assert queries.shape == (3, 1, 64)
    assert queries.mask.all()
    assert queries.pooled.tolist() == [0, 0, 0]
    trained = tiny_trained_model.encode_queries(TEXTS).pooled_tokens()  # the same weights
    torch.testing.assert_close(queries.tokens[:, 0], trained, atol=1e-5, rtol=1e-4)


def test_an_untrained_query_is_cut_at_the_context_and_not_before(
    tiny_model: VideoColBERT, tiny_trained_model: VideoColBERT
) -> None:
    """Ten words more than fit into query_length=8 still count without training, and not after it."""
    long, longer = "one two three four five six seven", "one two three four five six seven eight nine"
    short = {"query_length": 8}
    untrained = with_settings(tiny_model, **short).encode_queries([long, longer]).tokens
    trained = with_settings(tiny_trained_model, **short).encode_queries([long, longer]).tokens
    assert (untrained[0] - untrained[1]).abs().max() > 1e-2
    assert trained.shape[1] == 8
    assert torch.equal(trained[0], trained[1])
    assert tiny_model.tokenize([longer]).ids.shape == (1, 32)


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_query_is_refused(text: str, tiny_model: VideoColBERT) -> None:
    with pytest.raises(SettingsError, match="query 1 is empty: give it at least one word"):
        tiny_model.encode_queries(["a dog", text])


def test_no_query_is_refused(tiny_model: VideoColBERT) -> None:
    with pytest.raises(SettingsError, match="no query was given"):
        tiny_model.encode_queries([])


# Videos


@pytest.mark.parametrize("name", ["tiny_trained_model", "tiny_siglip_model"])
def test_a_video_is_the_same_alone_and_in_a_batch(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    stacks = [stack(frames, seed=frames) for frames in (5, 1, 3)]
    together = model.encode_videos(stacks)
    assert [bags.mask.sum(dim=1).tolist() for bags in together if bags] == [[5, 1, 3], [7, 3, 5]]
    for position, frames in enumerate(stacks):
        for bags, alone in zip(together, model.encode_videos([frames]), strict=True):
            torch.testing.assert_close(bags[position], alone[0], atol=1e-5, rtol=1e-4)
            assert_unit(bags[position])
    for bags, small in zip(together, model.encode_videos(stacks, frames_per_batch=1), strict=True):
        torch.testing.assert_close(bags.tokens[bags.mask], small.tokens[small.mask], atol=1e-5, rtol=1e-4)


def test_frame_tokens_are_open_clips(tiny_trained_model: VideoColBERT) -> None:
    frames = stack(3)
    pre = tiny_trained_model.config.preprocess
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    pixels = (pixels - torch.tensor(pre.mean)[:, None, None]) / torch.tensor(pre.std)[:, None, None]
    with torch.inference_mode():
        expected = tiny_trained_model.backbone.clip.encode_image(pixels, normalize=True)
    torch.testing.assert_close(tiny_trained_model.encode_videos([frames]).frame[0], expected, atol=1e-5, rtol=1e-4)


def shuffled_bags(model: VideoColBERT) -> tuple[Tensor, Tensor]:
    """How far frame and video tokens are from mere reordering when the frames are reordered."""
    frames, order = stack(4), [2, 0, 3, 1]
    straight, shuffled = model.encode_videos([frames]), model.encode_videos([frames[order]])
    assert straight.video is not None
    assert shuffled.video is not None
    frame_change = (shuffled.frame[0] - straight.frame[0][order]).abs().max()
    return frame_change, (shuffled.video[0][:4] - straight.video[0][:4][order]).abs().max()


def test_shuffled_frames_make_other_video_tokens_and_the_same_frame_tokens(tiny_trained_model: VideoColBERT) -> None:
    frame_change, video_change = shuffled_bags(tiny_trained_model)
    assert frame_change < 1e-5
    assert video_change > 1e-4


def test_without_positions_shuffling_is_not_seen(tiny_names: SimpleNamespace) -> None:
    frame_change, video_change = shuffled_bags(build_tiny(tiny_names.clip, trained=True, frame_positions=False))
    assert max(frame_change, video_change) < 1e-5


def test_an_untrained_video_has_frame_tokens_only(tiny_model: VideoColBERT, tiny_trained_model: VideoColBERT) -> None:
    frame, video = tiny_model.encode_videos([stack(3), stack(2)])
    assert video is None
    expected = tiny_trained_model.encode_videos([stack(3), stack(2)]).frame
    assert torch.equal(frame.tokens, expected.tokens)
    assert torch.equal(frame.mask, expected.mask)


def test_an_untrained_model_scores_by_its_best_frame(tiny_model: VideoColBERT) -> None:
    queries, videos = tiny_model.encode_queries(TEXTS), tiny_model.encode_videos([stack(3), stack(5, seed=1)])
    expected = [
        [max(reference.dot(query, token) for token in bag) for bag in videos.frame] for query in queries.tokens[:, 0]
    ]
    torch.testing.assert_close(tiny_model.score(queries, videos), torch.tensor(expected), atol=1e-6, rtol=0)


def test_a_trained_model_scores_by_its_interaction(tiny_trained_model: VideoColBERT) -> None:
    queries = tiny_trained_model.encode_queries(TEXTS)
    videos = tiny_trained_model.encode_videos([stack(3), stack(5, seed=1)])
    assert videos.video is not None
    expected = reference.scores("mms_fv", queries[0], None, videos.frame.unpadded(), videos.video.unpadded())
    assert tiny_trained_model.score(queries, videos)[0].tolist() == pytest.approx(expected, abs=1e-6)
    half = reference.scores("mms_v", queries[0], None, videos.frame.unpadded(), videos.video.unpadded())
    for model, interaction in (
        (with_settings(tiny_trained_model, interaction="mms_v"), None),
        (tiny_trained_model, "mms_v"),
    ):
        assert model.score(queries, videos, interaction=interaction)[0].tolist() == pytest.approx(half, abs=1e-6)


def test_frames_of_any_size_are_resized(tiny_trained_model: VideoColBERT) -> None:
    frame, _ = tiny_trained_model.encode_videos([stack(2, size=(48, 20)), torch.from_numpy(stack(2, size=(16, 99)))])
    assert frame.shape == (2, 2, 64)


@pytest.mark.parametrize("frames", [0, 65])
def test_too_few_or_too_many_frames_are_refused(frames: int, tiny_model: VideoColBERT) -> None:
    with pytest.raises(SettingsError, match=f"video 1 has {frames} frames; between 1 and max_frames=64"):
        tiny_model.encode_videos([stack(2), np.zeros((frames, 2, 2, 3), dtype=np.uint8)])


def test_no_video_is_refused(tiny_model: VideoColBERT) -> None:
    with pytest.raises(SettingsError, match="no video was given"):
        tiny_model.encode_videos([])


def test_batches_respect_the_padded_size() -> None:
    stacks = [np.zeros((frames, 1, 1, 3), dtype=np.uint8) for frames in (2, 2, 2, 6, 1, 9, 1)]
    lengths = [[len(frames) for frames in batch] for batch in _batches(stacks, 6)]
    assert lengths == [[2, 2, 2], [6], [1], [9], [1]]


# Training


def loss_of(model: VideoColBERT) -> Tensor:
    ids = model.tokenize(TEXTS[:2]).ids
    torch.manual_seed(1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    queries, videos = model(ids, torch.randn(2, 3, 3, 32, 32), mask)
    assert videos.video is not None
    return sum((torch.einsum("qid,vjd->qivj", queries, bags.tokens) ** 3).sum() for bags in videos)


@pytest.mark.parametrize("name", ["tiny_trained_model", "tiny_siglip_model"])
def test_gradients_reach_every_part(name: str, request: pytest.FixtureRequest) -> None:
    model = copy.deepcopy(request.getfixturevalue(name)).train()
    loss_of(model).backward()
    missing = [path for path, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert missing == []
    text, visual = model.backbone.text, model.backbone.clip.visual
    parts = {
        "text": text.transformer.resblocks[0].mlp.c_fc.weight,
        "words": text.token_embedding.weight,
        "vision": visual.conv1.weight,
        "temporal": model.temporal.blocks[0].mlp.c_fc.weight,
        "positions": model.temporal.positions,
        "expansion": model.temporal.expansion,
    }
    assert all(weight.grad.abs().max() > 0 for weight in parts.values()), parts.keys()


def test_gradient_checkpointing_changes_no_gradient(tiny_trained_model: VideoColBERT) -> None:
    plain = copy.deepcopy(tiny_trained_model).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    assert checkpointed.temporal.grad_checkpointing
    assert checkpointed.backbone.clip.transformer.grad_checkpointing
    for model in (plain, checkpointed):
        loss_of(model).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4)


def test_forward_takes_queries_videos_or_both(tiny_trained_model: VideoColBERT) -> None:
    ids, pixels = tiny_trained_model.tokenize(["a dog"]).ids, torch.randn(2, 3, 3, 32, 32)
    with torch.inference_mode():
        queries, nothing = tiny_trained_model(query_ids=ids)
        assert nothing is None
        nothing, videos = tiny_trained_model(pixels=pixels)
        assert nothing is None
        both = tiny_trained_model(ids, pixels)
    assert torch.equal(both[0], queries)
    assert isinstance(both[1], VideoTokens)
    assert torch.equal(both[1].video.tokens, videos.video.tokens)
    assert videos.frame.mask.all()


def test_an_untrained_model_still_trains_both_bags(tiny_model: VideoColBERT) -> None:
    _, videos = tiny_model(pixels=torch.randn(1, 2, 3, 32, 32))
    assert videos.video.shape == (1, 4, 64)


@pytest.mark.parametrize("name", ["tiny_trained_model", "tiny_siglip_model"])
def test_bfloat16_autocast_changes_no_token(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    stacks = [stack(3), stack(2)]
    exact = model.encode_queries(TEXTS), *model.encode_videos(stacks)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.encode_queries(TEXTS), *model.encode_videos(stacks)
    for one, other in zip(exact, rounded, strict=True):
        assert isinstance(other, TokenBags)
        assert other.tokens.dtype == torch.float32
        assert_unit(other.tokens[other.mask])
        assert torch.equal(one.tokens[one.mask], other.tokens[other.mask])


def test_half_precision_pixels_are_taken_under_autocast(tiny_trained_model: VideoColBERT) -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        videos = tiny_trained_model.embed_videos(torch.randn(1, 2, 3, 32, 32).bfloat16())
    assert videos.frame.tokens.dtype == torch.float32


# Building and naming


def test_untrained_models_have_the_name_of_their_weights(tiny_model: VideoColBERT) -> None:
    assert tiny_model.name is None  # random weights cannot be found again
    assert (tiny_model.dim, tiny_model.device) == (64, torch.device("cpu"))
    assert not tiny_model.training


def test_a_name_ends_when_the_model_is_marked_trained(tiny_model: VideoColBERT) -> None:
    model = with_settings(tiny_model)
    model.name = "ViT-B-32-quickgelu:openai"
    model.mark_trained(False)
    assert model.name is not None
    model.mark_trained()
    assert model.config.trained
    assert model.name is None


def test_unknown_settings_are_refused_before_anything_is_built() -> None:
    with pytest.raises(SettingsError, match="unknown model settings: colour, frames; see ModelConfig"):
        VideoColBERT.from_backbone("no such backbone", frames=3, colour=1)


def test_preprocessing_can_be_overridden(tiny_names: SimpleNamespace) -> None:
    preprocess = Preprocess(height=32, width=32, mean=(0.0, 0.1, 0.2), std=(1.0, 1.0, 1.0), interpolation="bilinear")
    assert build_tiny(tiny_names.clip, preprocess=preprocess).config.preprocess == preprocess


def test_the_fingerprint_tells_weights_and_switches_apart(tiny_trained_model: VideoColBERT) -> None:
    seen = {tiny_trained_model.fingerprint(), tiny_trained_model.fingerprint()}
    assert len(seen) == 1
    seen.add(with_settings(tiny_trained_model, query_augmentation=False).fingerprint())
    for path in ("temporal.expansion", "backbone.clip.text_projection"):
        model = copy.deepcopy(tiny_trained_model)
        with torch.no_grad():
            model.get_parameter(path)[0, 0] += 1e-3
        seen.add(model.fingerprint())
    assert len(seen) == 4


def test_the_fingerprint_of_an_untrained_model_is_its_backbones(tiny_model: VideoColBERT) -> None:
    """Its temporal transformer starts at random, so loading a backbone twice would otherwise look like two models."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.temporal.expansion += 1
    assert model.fingerprint() == tiny_model.fingerprint()
    assert with_settings(tiny_model, num_frames=20).fingerprint() == tiny_model.fingerprint()
    assert with_settings(tiny_model, pad_id=5).fingerprint() != tiny_model.fingerprint()
    with torch.no_grad():
        model.backbone.clip.text_projection[0, 0] += 1e-3
    assert model.fingerprint() != tiny_model.fingerprint()


def test_a_query_that_is_cut_is_named_in_a_warning(
    tiny_trained_model: VideoColBERT, caplog: pytest.LogCaptureFixture
) -> None:
    length = tiny_trained_model.config.query_length
    fits = " ".join(["red"] * (length - 2))  # start and end of text take two places
    tiny_trained_model.encode_queries([fits])
    assert not caplog.records
    tiny_trained_model.encode_queries([f"{fits} star", "short"])
    assert f"is longer than {length} tokens" in caplog.text
    caplog.clear()
    tiny_trained_model.encode_queries(["long " * 10_000])
    assert "query 'long long" in caplog.text
    assert len(caplog.text) < 500


@pytest.mark.parametrize("texts", [{"a", "b"}, {"a": "red"}])
def test_queries_belong_to_rows_by_their_order(tiny_trained_model: VideoColBERT, texts: object) -> None:
    with pytest.raises(SettingsError, match=r"texts is a (set|dict), .*; give a list"):
        inspect.unwrap(VideoColBERT.encode_queries)(tiny_trained_model, texts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_length": 33}, "query_length=33, but tiny-clip reads at most 32 tokens"),
        ({"expansion_tokens": 1025}, "expansion_tokens=1025 must be at most 1024"),
        ({"max_frames": 2**16 + 1}, "max_frames=65537 must be at most 65536"),
        ({"temporal_layers": 5}, "temporal_layers=5, but the text tower has 4 layers"),
        ({"pad_id": 49408}, "pad_id=49408, but tiny-clip has token ids from 0 to 49407"),
        ({"num_frames": 65}, "num_frames=65 exceeds max_frames=64"),
    ],
)
def test_settings_are_compared_with_the_model_before_its_weights_are_fetched(
    settings: dict[str, int], message: str, tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(OpenClipBackbone, "from_name", fetch)
    with pytest.raises(ColBERTVideoError, match=message):
        VideoColBERT.from_backbone(tiny_names.clip, device="cpu", **settings)


def test_the_check_of_settings_draws_no_random_numbers(tiny_names: SimpleNamespace) -> None:
    built = []
    for settings in ({}, {"query_length": 32}):
        torch.manual_seed(5)
        built.append(VideoColBERT.from_backbone(tiny_names.clip, device="cpu", **settings).fingerprint())
    assert built[0] == built[1]


@pytest.mark.parametrize(("height", "width", "fits"), [(64, 64, False), (32, 40, False), (35, 39, True), (4, 4, False)])
def test_pictures_that_the_image_tower_does_not_take_are_refused(
    height: int, width: int, fits: bool, tiny_names: SimpleNamespace
) -> None:
    preprocess = Preprocess(height, width, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    if fits:
        frames = np.zeros((2, 20, 20, 3), dtype=np.uint8)
        bags, _ = build_tiny(tiny_names.clip, preprocess=preprocess).encode_videos([frames])
        assert bags.tokens.shape == (1, 2, 64)
        return
    with pytest.raises(ModelError, match=f"preprocess has pictures of {height}×{width}.* its own are 32×32"):
        build_tiny(tiny_names.clip, preprocess=preprocess)


def test_of_megabytes_of_text_the_beginning_is_read(
    tiny_trained_model: VideoColBERT, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokenizing ten of them took a minute."""
    short = tiny_trained_model.encode_queries(["red star " * 100]).tokens
    begun = time.monotonic()
    long = tiny_trained_model.encode_queries([" " * 2**20 + "red star " * 2**20]).tokens
    assert torch.equal(long, short)
    assert time.monotonic() - begun < 5
    assert "is longer than" in caplog.text
