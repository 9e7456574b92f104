"""Tiny dual encoders of Hugging Face transformers with random weights, as the folders that their owners publish."""

import json
from pathlib import Path
from typing import Any

WORDS = ["a", "dog", "cat", "photo", "of", "catches", "frisbee", "on", "the", "beach", "two", "people", "red", "circle"]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
VISION = {**TOWER, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
BERT = {
    "vocab_size": 64,
    "max_position_embeddings": 90,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

CLIP_PICTURES = {
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "size": {"shortest_edge": 32},
    "resample": 3,
    "image_mean": OPENAI_MEAN,
    "image_std": OPENAI_STD,
}
SIGLIP_PICTURES = {"size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 3},
        "vision_config": VISION,
        "projection_dim": 32,
    },
    "metaclip_2": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 1},
        "vision_config": VISION,
        "projection_dim": 32,
    },
    "aimv2": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 24, "eos_token_id": 3},
        "vision_config": VISION,
        "projection_dim": 32,
    },
    "chinese_clip": {
        "text_config": {**TOWER, **BERT, "pad_token_id": 1},
        "vision_config": VISION,
        "projection_dim": 32,
    },
    "altclip": {
        "text_config": {**TOWER, **BERT, "pad_token_id": 1, "project_dim": 48},
        "vision_config": VISION,
        "projection_dim": 32,
    },
    "siglip": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 3},
        "vision_config": VISION,
    },
    "siglip2": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 3},
        "vision_config": {**{k: v for k, v in VISION.items() if k != "image_size"}, "num_patches": 16},
    },
    "tipsv2": {
        "text_config": {**TOWER, "vocab_size": 64, "max_position_embeddings": 16, "pad_token_id": 1},
        "vision_config": {**{k: v for k, v in VISION.items() if k != "intermediate_size"}},
    },
}
"""Each family's towers, made small."""
PICTURES: dict[str, dict[str, Any]] = {
    "clip": CLIP_PICTURES,
    "metaclip_2": CLIP_PICTURES,
    "aimv2": CLIP_PICTURES,
    "chinese_clip": CLIP_PICTURES,
    "altclip": CLIP_PICTURES,
    "siglip": SIGLIP_PICTURES,
    "siglip2": {"max_num_patches": 16, "patch_size": 8, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "tipsv2": {"size": {"height": 32, "width": 32}, "resample": 2, "do_normalize": False},
}
"""Each family's `preprocessor_config.json`."""
ENDINGS = {"siglip": "$A </s>", "siglip2": "$A </s>", "tipsv2": "$A"}
"""What a family's tokenizer writes around a text; the others write a start and an end."""


def tiny_config(kind: str, **changes: Any) -> Any:
    """The configuration of a tiny model; `changes` are made to its top level, or to a tower by its name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    values = {name: dict(part) if isinstance(part, dict) else part for name, part in CONFIGS[kind].items()}
    for name, change in changes.items():
        values[name] = {**values[name], **change} if isinstance(change, dict) else change
    return CONFIG_MAPPING[kind](**values)


def word_tokenizer(kind: str) -> Any:
    """A tokenizer of a few words, with the control tokens of a family."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<unk>", "<pad>", "<s>", "</s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    template = ENDINGS.get(kind, "<s> $A </s>")
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", 3)])
    control = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    if kind == "clip":
        control["pad_token"] = "</s>"  # as OpenAI's tokenizer in transformers
    return PreTrainedTokenizerFast(tokenizer_object=backend, **control)


def save_tiny(kind: str, folder: Path, **changes: Any) -> Any:
    """Write a tiny model as its owner would publish it; return the model, in evaluation mode."""
    import torch
    from transformers import AutoModel

    config = tiny_config(kind, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.25)  # large enough for texts to differ
            elif name.endswith("final_layer_norm.weight"):
                torch.nn.init.uniform_(parameter, 0.25, 2)  # gains, so that tokens differ in length
    model.eval().save_pretrained(folder)
    word_tokenizer(kind).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES[kind]))
    return model
