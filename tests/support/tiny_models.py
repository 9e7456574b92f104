"""Models that build in a moment: their towers for open_clip, a tokenizer of words, and `build_tiny`."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}
"""CLIP's shape (causal text, pooled at the end of text), with its whole vocabulary."""
TINY_SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "pool_type": "avg"},
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 1000,
        "width": 64,
        "heads": 2,
        "layers": 4,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}
"""SigLIP's shape: bidirectional text, pooled at the last token; frames pooled without a class token."""
TINY_NAMES = {"tiny-clip": TINY_CLIP, "tiny-sigmoid": TINY_SIGLIP}


class WordTokenizer:
    """Stands in for open_clip's HFTokenizer: one id per word, end of text 1, padded with end of text as SigLIP is."""

    tokenizer = SimpleNamespace(eos_token_id=1, pad_token_id=1, bos_token_id=None)

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def __call__(self, texts: list[str], context_length: int) -> Any:
        ids = torch.full((len(texts), context_length), self.tokenizer.pad_token_id)  # (texts, context_length)
        for row, text in enumerate(texts):
            words = text.lower().split()[: context_length - 1]
            ids[row, : len(words)] = torch.tensor(
                [2 + zlib.crc32(word.encode()) % (self.vocabulary_size - 2) for word in words]
            )
        return ids


def save_word_tokenizer(folder: Path) -> None:
    """Write a SigLIP-like tokenizer that needs no network: padded with its end-of-text token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "dog": 4, "two": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # type: ignore[arg-type]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])  # type: ignore[assignment]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)


def build_tiny(name: str, **settings: Any) -> Any:
    """A tiny model with weights that are the same in every run."""
    from colbert_video.model.video_colbert import VideoColBERT

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoColBERT.from_backbone(name, device="cpu", **settings)


def unchanged(model: Any) -> Iterator[Any]:
    """Lend a model to the session; tests that change one must copy it first."""
    before = model.name, model.fingerprint()
    yield model
    assert (model.name, model.fingerprint()) == before, "a test changed a shared model"
