"""CLIP's towers and tokenizer without open_clip compute what open_clip does."""

import copy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount, cases
from tiny_models import TINY_CLIP, TINY_SIGLIP

from colbert_video.base.torch_state import shapes_alone
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones import clip_tokenizer
from colbert_video.model.backbones.clip_tokenizer import ClipTokenizer
from colbert_video.model.backbones.clip_towers import ClipTowers, give_memory, plain_towers
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.checkpoint import SHIPPED
from colbert_video.model.temporal import _random_blocks
from colbert_video.model.video_colbert import VideoColBERT

FIXED_POSITIONS = {**TINY_CLIP["vision_cfg"], "pos_embed_type": "sin_cos_2d"}  # type: ignore[dict-item]
PLAIN = {
    "clip": TINY_CLIP,
    "openai": {**TINY_CLIP, "quick_gelu": True},
    "fixed positions": {**TINY_CLIP, "vision_cfg": FIXED_POSITIONS},
    "other widths": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 33, "layers": 1, "width": 96, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 300, "width": 64, "heads": 4, "layers": 2},
    },
}
TOKENIZER = ClipTokenizer.find()
WANTED = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")


def changed(**parts: Any) -> dict[str, Any]:
    """TINY_CLIP with other values; those of vision_cfg and text_cfg are added to what is there."""
    model_cfg: dict[str, Any] = copy.deepcopy(TINY_CLIP)
    for name, value in parts.items():
        model_cfg[name] = {**model_cfg[name], **value} if isinstance(value, dict) else value
    return model_cfg


def pair(model_cfg: dict[str, Any]) -> tuple[ClipTowers, Any]:
    """Our towers and open_clip's model with the same random weights."""
    theirs = open_clip.CLIP(**copy.deepcopy(model_cfg)).eval()
    ours = plain_towers(model_cfg)
    assert ours is not None
    give_memory(ours).load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs


@pytest.mark.parametrize("name", PLAIN)
def test_both_towers_equal_those_of_open_clip(name: str) -> None:
    ours, theirs = pair(PLAIN[name])
    size, length = PLAIN[name]["vision_cfg"]["image_size"], PLAIN[name]["text_cfg"]["context_length"]  # type: ignore[index]
    pixels, ids = torch.randn(3, 3, size, size), torch.randint(1, 300, (2, length))
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels), rtol=0, atol=1e-5)
        x = theirs.token_embedding(ids) + theirs.positional_embedding
        assert torch.equal(ours.attn_mask, theirs.attn_mask)
        after = theirs.transformer(x, theirs.attn_mask)
        torch.testing.assert_close(ours.transformer(x, attn_mask=ours.attn_mask), after, rtol=0, atol=1e-5)
        backbone = OpenClipBackbone(ours, tokenizer=TOKENIZER, architecture=PLAIN[name], preprocess=WANTED)
        pooled = backbone.text_tokens(ids)[torch.arange(2), ids.argmax(dim=1)]
        torch.testing.assert_close(pooled, theirs.encode_text(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_weights_have_the_same_names_and_train_alike(name: str) -> None:
    ours, theirs = pair(PLAIN[name])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [weight.requires_grad for weight in ours.parameters()] == [
        weight.requires_grad for weight in theirs.parameters()
    ]
    pixels = torch.randn(2, 3, *[PLAIN[name]["vision_cfg"]["image_size"]] * 2)  # type: ignore[index]
    for model in (ours, theirs):
        model.set_grad_checkpointing()
        model.train().encode_image(pixels).square().sum().backward()
    for mine, other in zip(ours.visual.parameters(), theirs.visual.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", cases(["ViT-B-32-quickgelu", "ViT-L-14-336"], thorough=["ViT-H-14", "ViT-M-32-alt", "ViT-B-16-plus-240"])
)
def test_published_models_are_plain(name: str) -> None:
    towers = plain_towers(open_clip.get_model_config(name))
    assert towers is not None
    with shapes_alone():
        theirs = open_clip.create_model(name, load_weights=False, device="meta").state_dict()
    assert {key: weight.shape for key, weight in towers.state_dict().items()} == {
        key: weight.shape for key, weight in theirs.items()
    }


@pytest.mark.parametrize(
    "model_cfg",
    [
        TINY_SIGLIP,
        changed(init_logit_bias=-10),
        changed(vision_cfg={"pool_type": "avg"}),
        changed(vision_cfg={"layers": [3, 4, 6, 3]}),
        changed(vision_cfg={"timm_model_name": "vit_tiny"}),
        changed(vision_cfg={"image_size": [32, 48]}),
        changed(vision_cfg={"image_size": 0}),
        changed(vision_cfg={"pos_embed_type": "none"}),
        changed(vision_cfg={"width": 48.0}),
        changed(vision_cfg={"head_width": 128}),
        changed(text_cfg={"no_causal_mask": True}),
        changed(text_cfg={"heads": 3}),
        changed(text_cfg={"layers": True}),
        changed(embed_dim="64"),
        changed(quick_gelu=1),
        {"embed_dim": 64, "vision_cfg": [], "text_cfg": {}},
        {"embed_dim": 64},
    ],
)
def test_what_is_not_plain_is_left_to_open_clip(model_cfg: dict[str, Any]) -> None:
    assert plain_towers(model_cfg) is None


def test_the_shipped_checkpoint_is_equal_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from colbert_video.model.backbones import open_clip as open_clip_models

    ours = VideoColBERT.from_pretrained("toy", device="cpu")
    assert isinstance(ours.backbone.clip, ClipTowers)  # type: ignore[attr-defined]
    monkeypatch.setattr(open_clip_models, "plain_towers", lambda _: None)
    theirs = VideoColBERT.from_pretrained("toy", device="cpu")
    assert isinstance(theirs.backbone.clip, open_clip.CLIP)  # type: ignore[attr-defined]
    assert ours.fingerprint() == theirs.fingerprint()
    query = "a single large star starts yellow"
    assert torch.equal(ours.encode_queries(query).tokens, theirs.encode_queries(query).tokens)
    assert ours.query_token_texts(query) == theirs.query_token_texts(query)


def test_a_saved_checkpoint_keeps_its_architecture(tmp_path: Path) -> None:
    model = VideoColBERT.from_pretrained(SHIPPED / "toy", device="cpu")
    model.save_pretrained(tmp_path / "again")
    again = VideoColBERT.from_pretrained(tmp_path / "again", device="cpu")
    assert (again.fingerprint(), again.backbone.architecture) == (model.fingerprint(), model.backbone.architecture)


def test_blocks_of_a_random_start_equal_those_of_open_clip() -> None:
    torch.manual_seed(7)
    ours = _random_blocks(128, 2)
    torch.manual_seed(7)
    theirs = [open_clip.transformer.ResidualAttentionBlock(128, 2) for _ in range(2)]
    x, mask = torch.randn(3, 5, 128), torch.zeros(6, 5, 5).triu_(1).masked_fill_(torch.ones(5, 5).triu(1) > 0, -9.0)
    for mine, other in zip(ours, theirs, strict=True):
        assert list(mine.state_dict()) == list(other.state_dict())
        torch.testing.assert_close(mine(x, attn_mask=mask), other(x, attn_mask=mask), rtol=0, atol=1e-5)


WORDS = [
    "a dog's catch, they're 12 WE'LL see",
    "<start_of_text> hi <end_of_text>! <END_OF_TEXT>",
    "naïve café — “quoted” Ã©tÃ©",
    "x&amp;amp;y &lt;b&gt; &",
    "日本語 text 🎉 İstanbul ŉ ſ K",
    "\x00\x1b[31mred\x1b[0m\u00a0b\tc\r\nd",
    "supercalifragilisticexpialidocious" * 3,
    "",
    "  ",
]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return open_clip.SimpleTokenizer()


@pytest.mark.parametrize("text", WORDS)
def test_ids_equal_those_of_open_clip(text: str, theirs: Any) -> None:
    assert TOKENIZER is not None
    for length in (5, 77):
        assert torch.equal(TOKENIZER([text, "a dog"], context_length=length), theirs([text, "a dog"], length))
    ids = theirs.encode(text)
    assert [TOKENIZER.decode([token]) for token in ids] == [theirs.decode([token]) for token in ids]
    assert TOKENIZER.decode(ids) == theirs.decode(ids)


@settings(max_examples=amount(150, thorough=5000))
@given(text=st.text(max_size=60) | st.text(st.characters(max_codepoint=127), max_size=60))
def test_ids_of_any_text_equal_those_of_open_clip(text: str, theirs: Any) -> None:
    assert TOKENIZER is not None
    assert TOKENIZER.encode(text) == theirs.encode(text)


def test_special_tokens_equal_those_of_open_clip(theirs: Any) -> None:
    assert TOKENIZER is not None
    assert (TOKENIZER.sot_token_id, TOKENIZER.eot_token_id) == (theirs.sot_token_id, theirs.eot_token_id)
    assert TOKENIZER.decode([TOKENIZER.sot_token_id]) == theirs.decode([theirs.sot_token_id])


def test_without_the_vocabulary_open_clip_reads_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_tokenizer, "VOCABULARY_FILE", "moved.txt.gz")
    assert ClipTokenizer.find() is None
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    assert isinstance(model.backbone.tokenizer, open_clip.SimpleTokenizer)  # type: ignore[attr-defined]
    monkeypatch.setattr(clip_tokenizer, "find_spec", lambda _: None)
    assert ClipTokenizer.find() is None
