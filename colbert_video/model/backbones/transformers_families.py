"""The dual encoders of Hugging Face transformers whose text towers give their tokens, and how each is read.

The towers of all families are called alike; they differ in which token they pool, in what their tokens see, and in where
their layers lie. `tests/model/backbones/test_transformers_backbone.py` holds each equal to the model's own outputs.
"""

import difflib
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from colbert_video.errors import ModelError, shown

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and standard deviation of the channels."""


@dataclass(frozen=True)
class Family:
    """How models of one `model_type` make tokens."""

    title: str
    pooled: Literal["end", "last", "first", "mean"]
    """Token that the text tower pools: its end of text, the last position (padding or not), the first, or the mean of
    all words."""
    causal: bool = False
    """True if a text token sees only those before it."""
    masks_padding: bool = False
    """True if no text token sees padding, so that the length of the padding changes nothing."""
    end_by_largest_id: bool = False
    """True if the end of text is the largest id where `eos_token_id` is 2, as early configurations have it."""
    needs_mask: bool = False
    """True if the text tower is causal only where it is given a mask of the padding, and has some."""
    text_projection: str | None = "text_projection"
    """Path of the layer that maps text tokens into the shared space; None if they are made in it."""
    image_projection: str | None = "visual_projection"
    """Path of the layer that maps the pooled picture into the shared space; None if it is made in it."""
    context: int | None = None
    """Tokens of the texts it was trained with, where its text tower has positions for more."""
    text_layers: str = "encoder.layers"
    """Path of the text tower's layers."""
    text_positions: str = "embeddings.position_embedding"
    """Path of the text tower's table of positions."""
    heads: str = "self_attn.num_heads"
    """Path in a layer of the number of its attention heads."""
    patches: bool = False
    """True if the image tower takes pictures as patches with their number in each direction (NaFlex)."""
    normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] = HALF
    """Mean and standard deviation of the channels, where the image processor's file leaves them out."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Filter of the resize, where that file leaves it out."""
    crops: bool = False
    """True if its image processor crops where that file leaves it out."""
    normalises: bool = True
    """True if its image processor normalises where that file leaves it out."""


_CLIP = Family("CLIP", "end", causal=True, end_by_largest_id=True, normalisation=OPENAI, crops=True)
_SIGLIP = Family("SigLIP", "last", text_projection="text_model.head", image_projection=None)
FAMILIES: dict[str, Family] = {
    "clip": _CLIP,
    "metaclip_2": Family("MetaCLIP 2", "end", causal=True, normalisation=OPENAI, crops=True),
    "aimv2": Family(
        "AIMv2", "end", causal=True, needs_mask=True, heads="attention.num_heads", normalisation=OPENAI, crops=True
    ),
    "chinese_clip": Family(
        "Chinese-CLIP",
        "first",
        masks_padding=True,
        context=52,
        text_layers="encoder.layer",
        text_positions="embeddings.position_embeddings",
        heads="attention.self.num_attention_heads",
        normalisation=OPENAI,
        crops=True,
    ),
    "altclip": Family(
        "AltCLIP",
        "first",
        masks_padding=True,
        context=77,
        text_layers="roberta.encoder.layers",
        text_positions="roberta.embeddings.position_embeddings",
        heads="attention.self.num_attention_heads",
        normalisation=OPENAI,
        crops=True,
    ),
    "siglip": _SIGLIP,
    "siglip2": Family(
        "SigLIP 2 NaFlex",
        "last",
        text_projection="text_model.head",
        image_projection=None,
        patches=True,
        interpolation="bilinear",
    ),
    "tipsv2": Family(
        "TIPSv2",
        "mean",
        masks_padding=True,
        text_projection=None,
        image_projection=None,
        normalisation=UNCHANGED,
        interpolation="bilinear",
        normalises=False,
    ),
}
"""By the `model_type` of a configuration. SigLIP 2 at a fixed resolution has the type of SigLIP."""

WITHOUT_TOKENS = {
    "videoprism": "its text tower appends a class token",
    "pe_audio_video": "its text tower pools a class token",
    "embedding_gemma2": "its pictures are read by its language model",
    "blip": "its text tower pools through a layer that other tokens are not made for",
    "owlvit": "it detects objects",
    "owlv2": "it detects objects",
    "vision_text_dual_encoder": "its text tower may be of any kind",
    "clip_text_model": "it is a text tower alone",
    "clip_vision_model": "it is an image tower alone",
    "siglip_text_model": "it is a text tower alone",
    "siglip_vision_model": "it is an image tower alone",
    "siglip2_vision_model": "it is an image tower alone",
}
"""Why a known type of model is not supported."""


def family_of(model_type: Any, name: str) -> Family:
    """Return the family of a model type.

    Raises:
        ModelError: If it is not one whose text tower gives its tokens.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    reason = WITHOUT_TOKENS.get(str(model_type), "it is no dual encoder whose text tower is known to give its tokens")
    near = difflib.get_close_matches(str(model_type), FAMILIES, n=1, cutoff=0.8)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ModelError(
        f"{name} is a model of the type {shown(model_type)}, and {reason}. Supported types: {', '.join(FAMILIES)}.{hint}"
    )


class EncoderBlock(nn.Module):
    """A layer that is called as `Backbone.text_blocks` says, without the causal mask of its tower.

    Args:
        layer: A layer of transformers, called with (tokens, mask of four dimensions).
        heads: Number of its attention heads.
    """

    def __init__(self, layer: nn.Module, *, heads: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = heads

    @property
    def attn(self) -> "EncoderBlock":
        """What has `num_heads`."""
        return self

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        attn_mask: Float[Tensor, "batch_heads tokens tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the layer's output; `attn_mask` is added to the attention's logits."""
        mask = None if attn_mask is None else attn_mask.unflatten(0, (len(x), -1))  # (batch, heads, tokens, tokens)
        output: Any = self.layer(x, mask)
        return output[0] if isinstance(output, tuple) else output


def inner(module: Any, path: str) -> Any:
    """Return what lies at a path of attributes, such as "encoder.layers"."""
    return reduce(getattr, path.split("."), module)
