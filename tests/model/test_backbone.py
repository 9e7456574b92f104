"""Text tokens and frame tokens against open_clip's own pooled outputs; ids, masks and pooled positions."""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from thorough import cases
from tiny_models import TINY_CLIP, TINY_SIGLIP, WordTokenizer

from colbert_video.errors import ModelError
from colbert_video.model import checkpoint
from colbert_video.model.backbone import Backbone, Preprocess, TokenizedQueries
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.config import ModelConfig
from colbert_video.model.text_limits import default_query_length
from colbert_video.model.video_colbert import VideoColBERT

TEXTS = ["a dog catches a frisbee on the beach", "two people", "a " * 90]
HALF = Preprocess(height=224, width=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")

Build = Callable[..., OpenClipBackbone]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds open_clip architectures with random weights, their text towers cut to three layers to keep it quick."""
    folder = tmp_path_factory.mktemp("shallow")

    @functools.lru_cache(maxsize=1)
    def shallow(name: str, *, tiny_vision: bool = False) -> OpenClipBackbone:
        model_cfg = open_clip.get_model_config(name)
        model_cfg["text_cfg"]["layers"] = 3
        if tiny_vision:
            model_cfg["vision_cfg"] = TINY_CLIP["vision_cfg"]
            model_cfg["text_cfg"]["vocab_size"] = 1000
        (folder / f"{name}-shallow.json").write_text(json.dumps(model_cfg))
        open_clip.add_model_config(folder / f"{name}-shallow.json")
        clip = open_clip.create_model(f"{name}-shallow", load_weights=False).eval()
        plain = "hf_tokenizer_name" not in model_cfg["text_cfg"]
        vocabulary_size = model_cfg["text_cfg"]["vocab_size"]
        tokenizer = open_clip.get_tokenizer(f"{name}-shallow") if plain else WordTokenizer(vocabulary_size)
        return OpenClipBackbone(clip, tokenizer=tokenizer, architecture=model_cfg, preprocess=HALF)

    return shallow


def config(backbone: Backbone, **settings: Any) -> ModelConfig:
    settings = {"query_length": default_query_length(backbone), "temporal_layers": 2, **settings}
    return ModelConfig(backbone="it", pretrained=None, preprocess=HALF, **settings)


def pooled_rows(backbone: OpenClipBackbone, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Our token at the pooled position, and open_clip's `encode_text` of the same ids."""
    batch = backbone.tokenize(texts, length=backbone.context_length)
    with torch.inference_mode():
        tokens = backbone.text_tokens(batch.ids)
        return tokens[torch.arange(len(texts)), batch.pooled], backbone.clip.encode_text(batch.ids)


ARCHITECTURES = {
    "ViT-B-32-quickgelu": (77, 512, False, "argmax"),
    "ViT-B-16-SigLIP": (64, 768, True, "last"),
    "PE-Core-B-16": (32, 1024, False, "argmax"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", cases(["ViT-B-32-quickgelu", "ViT-B-16-SigLIP"], thorough=["PE-Core-B-16"]))
def test_parity_with_open_clip(name: str, build: Build) -> None:
    """One architecture at a time: pooled text, frames, causal slices and the length rule share its weights."""
    backbone = build(name)
    context, dim, bidirectional, pool_type = ARCHITECTURES[name]
    assert (backbone.context_length, backbone.dim) == (context, dim)
    assert (backbone.bidirectional, backbone.pool_type) == (bidirectional, pool_type)

    ours, theirs = pooled_rows(backbone, TEXTS)
    assert theirs.std(dim=0).max() > 1e-2  # the texts differ, so equality means something
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    model = VideoColBERT(config(backbone), backbone).eval()
    pixels = torch.randn(1, 2, 3, 224, 224)
    with torch.inference_mode():
        frame, _ = model.embed_videos(pixels)
        expected = backbone.clip.encode_image(pixels[0], normalize=True)
    torch.testing.assert_close(frame[0], expected, atol=1e-5, rtol=1e-4)

    ids = backbone.tokenize(TEXTS, length=context).ids
    part = context // 2
    with torch.inference_mode():
        slices, rows = backbone.text_tokens(ids[:, :part]), backbone.text_tokens(ids)[:, :part]
    if bidirectional:
        assert (slices - rows).abs().max() > 1e-2
        with pytest.raises(ModelError, match=f"query_length={part}.*bidirectional.*Use {context}"):
            VideoColBERT(config(backbone, query_length=part), backbone)
    else:
        torch.testing.assert_close(slices, rows, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["tiny_model", "tiny_siglip_model"])
def test_parity_of_the_tiny_models(name: str, request: pytest.FixtureRequest) -> None:
    backbone = request.getfixturevalue(name).backbone
    ours, theirs = pooled_rows(backbone, TEXTS)
    assert theirs.std(dim=0).max() > 1e-2
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_query_longer_than_the_context_is_refused(tiny_model: VideoColBERT) -> None:
    """PE-Core's text towers read 32 tokens; so does the tiny one."""
    assert tiny_model.backbone.context_length == 32
    assert default_query_length(tiny_model.backbone) == 32
    with pytest.raises(ModelError, match=r"query_length=64, but it reads at most 32 tokens: use that or fewer\."):
        VideoColBERT(config(tiny_model.backbone, query_length=64), tiny_model.backbone)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "dim"), [("ViT-gopt-16-SigLIP2-256", 1152, 1536), ("RN50", 512, 1024)])
def test_a_text_tower_of_another_width_gets_random_temporal_layers(
    name: str, width: int, dim: int, build: Build
) -> None:
    backbone = build(name, tiny_vision=name != "RN50")
    with pytest.raises(ModelError, match=f"{width} wide and frame features have {dim} dim.*temporal_init='random'"):
        VideoColBERT(config(backbone), backbone)
    model = VideoColBERT(config(backbone, temporal_init="random", temporal_layers=1), backbone).eval()
    size = backbone.clip.visual.image_size
    side = size if isinstance(size, int) else size[0]
    with torch.inference_mode():
        frame, video = model.embed_videos(torch.randn(1, 2, 3, side, side))
    assert video is not None
    assert (frame.shape, video.shape) == ((1, 2, dim), (1, 4, dim))


def test_more_temporal_layers_than_text_layers_are_refused(tiny_model: VideoColBERT) -> None:
    with pytest.raises(ModelError, match=r"temporal_layers=9, but the text tower has 4 layers.*temporal_init='random'"):
        VideoColBERT(config(tiny_model.backbone, temporal_layers=9), tiny_model.backbone)


# What the ids look like. 49406 starts a text, 49407 ends it; id 0 is the word piece "!" inside a word, and the padding.


def test_id_zero_in_a_text_is_content(tiny_model: VideoColBERT) -> None:
    batch = tiny_model.backbone.tokenize(["!%", "#!$", "!"], length=8)
    assert batch.ids.tolist() == [
        [49406, 0, 260, 49407, 0, 0, 0, 0],
        [49406, 2, 0, 259, 49407, 0, 0, 0],
        [49406, 256, 49407, 0, 0, 0, 0, 0],
    ]
    assert batch.content.sum(dim=1).tolist() == [4, 5, 3]
    assert batch.content[0].tolist() == [True] * 4 + [False] * 4
    assert batch.pooled.tolist() == [3, 4, 2]


@pytest.mark.parametrize("pad_id", [31, 49406, 49407])
def test_a_padding_id_fills_the_padding_only(pad_id: int, tiny_model: VideoColBERT) -> None:
    batch = tiny_model.backbone.tokenize(["!%", "#!$"], length=8, pad_id=pad_id)
    assert batch.ids.tolist() == [[49406, 0, 260, 49407, *[pad_id] * 4], [49406, 2, 0, 259, 49407, *[pad_id] * 3]]
    assert batch.content.sum(dim=1).tolist() == [4, 5]
    assert batch.pooled.tolist() == [3, 4]  # the first end of text, even among paddings of the same id


def test_a_long_text_is_cut_and_keeps_its_end(tiny_model: VideoColBERT) -> None:
    batch = tiny_model.backbone.tokenize(["dog " * 50], length=8)
    assert batch.ids[0, -1] == 49407
    assert batch.content.all()
    assert batch.pooled.tolist() == [7]


def test_tokens_can_be_read(tiny_model: VideoColBERT) -> None:
    batch = tiny_model.backbone.tokenize(["a café !%"], length=8)
    words = tiny_model.backbone.token_texts(batch.ids[0], batch.content[0])
    assert words == ["<start_of_text>", "a", "café", "!", "%", "<end_of_text>", "<pad>", "<pad>"]


def test_padding_equal_to_end_of_text_is_no_content(tiny_siglip_model: VideoColBERT) -> None:
    """SigLIP pads with its end-of-text id; only the first of them ends the text."""
    batch = tiny_siglip_model.backbone.tokenize(["a dog", "one two three"], length=16)
    assert batch.content.sum(dim=1).tolist() == [3, 4]
    assert (batch.ids[:, 4:] == 1).all()
    assert batch.pooled.tolist() == [15, 15]


def test_a_tokenizer_without_end_of_text_ends_at_its_padding(tiny_siglip_model: VideoColBERT) -> None:
    backbone = copy.copy(tiny_siglip_model.backbone)
    backbone.tokenizer = WordTokenizer(1000)
    backbone.tokenizer.tokenizer = SimpleNamespace(eos_token_id=None, pad_token_id=1, bos_token_id=None)
    assert backbone.tokenize(["a dog", "one two three"], length=16).content.sum(dim=1).tolist() == [2, 3]


@pytest.mark.parametrize(("pool_type", "position"), [("argmax", 3), ("last", 7), ("first", 0), ("eos", 3)])
def test_pooled_positions_follow_open_clip(pool_type: str, position: int, tiny_model: VideoColBERT) -> None:
    backbone = copy.copy(tiny_model.backbone)
    backbone.clip = copy.copy(backbone.clip)
    backbone.clip.text_pool_type, backbone.clip.text_eos_id = pool_type, 49407
    batch = backbone.tokenize(["!%"], length=8)
    assert batch.pooled.tolist() == [position]
    full = backbone.tokenize(["!%"], length=32)
    with torch.inference_mode():
        expected = backbone.clip.encode_text(full.ids)
        ours = backbone.text_tokens(full.ids)[:, full.pooled[0]]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_the_backbones_own_scale_and_bias_are_frozen(tiny_siglip_model: VideoColBERT) -> None:
    clip = tiny_siglip_model.backbone.clip
    assert not clip.logit_scale.requires_grad
    assert not clip.logit_bias.requires_grad
    assert clip.text.token_embedding.weight.requires_grad


@pytest.mark.parametrize("change", [{"embed_cls": True}, None])
def test_a_text_tower_without_plain_tokens_is_refused(change: dict[str, bool] | None, tmp_path: Path) -> None:
    if change is None:
        clip = torch.nn.ModuleDict({"text": torch.nn.Linear(2, 2)})
        match = "the text tower Linear gives no token features. Supported families: CLIP"
    else:
        model_cfg = {**TINY_SIGLIP, "text_cfg": {**TINY_SIGLIP["text_cfg"], **change}}
        (tmp_path / "tiny-cls.json").write_text(json.dumps(model_cfg))
        open_clip.add_model_config(tmp_path / "tiny-cls.json")
        clip = open_clip.create_model("tiny-cls", load_weights=False)
        match = "the text tower TextTransformer gives no token features"
    with pytest.raises(ModelError, match=match):
        OpenClipBackbone(clip, tokenizer=None, architecture=TINY_SIGLIP, preprocess=HALF)


# The protocol


class LetterBackbone(torch.nn.Module):
    """A dual encoder without open_clip: a letter is a token, a frame is its mean colour."""

    dim = 8
    context_length, vocabulary_size = 12, 128
    bidirectional, start_id = False, None
    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.preprocess, self.architecture = HALF, {"dim": 8}
        self.letters = torch.nn.Embedding(128, 8)
        self.colours = torch.nn.Linear(3, 8)

    @property
    def text_positions(self) -> torch.Tensor:
        return torch.zeros(12, 8)

    def text_blocks(self, count: int) -> list[torch.nn.Module]:
        raise ModelError("it has none")

    def tokenize(self, texts: list[str], *, length: int, pad_id: int | None = None) -> TokenizedQueries:
        codes = [[*text.encode("ascii")][:length] for text in texts]
        ids = torch.tensor([code + [pad_id or 0] * (length - len(code)) for code in codes])
        content = torch.arange(length) < torch.tensor([len(code) for code in codes])[:, None]
        return TokenizedQueries(ids, content, content, content.sum(dim=1) - 1)

    def too_long(self, texts: list[str], *, length: int) -> list[bool]:
        return [len(text) > length for text in texts]

    def token_texts(self, ids: torch.Tensor, content: torch.Tensor) -> list[str]:
        return [chr(code) for code in ids.tolist()]

    def text_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        return self.letters(ids)

    def frame_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.colours(pixels.mean(dim=(2, 3)))

    def set_grad_checkpointing(self, enable: bool = True) -> None: ...

    def save(self, folder: Path) -> None:
        (folder / "letters.json").write_text("{}")


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_needs_no_more_of_a_backbone_than_the_protocol(
    trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = LetterBackbone()
    model = VideoColBERT(config(backbone, trained=trained, temporal_init="random"), backbone).eval()
    queries = model.encode_queries(["a cat", "dogs"])
    videos = model.encode_videos([torch.zeros(3, 4, 4, 3, dtype=torch.uint8)])
    assert queries.shape == (2, 12 if trained else 1, 8)
    assert videos.frame.shape == (1, 3, 8)
    assert model.query_token_texts("hi")[:2] == (["h", "i"] if trained else ["hi"])

    monkeypatch.setitem(checkpoint.BACKBONES, "letters.json", lambda *_, **__: LetterBackbone())
    model.save_pretrained(tmp_path / "model")
    loaded = VideoColBERT.from_pretrained(tmp_path / "model", device="cpu")
    assert torch.equal(loaded.score(queries, videos), model.score(queries, videos))
    assert loaded.fingerprint() == model.fingerprint()


def test_open_clips_backbone_has_all_of_the_protocol(tiny_model: VideoColBERT) -> None:
    assert isinstance(tiny_model.backbone, Backbone)
    assert not isinstance(torch.nn.Linear(1, 1), Backbone)
