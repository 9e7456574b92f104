"""CLIP and SigLIP backbones from open_clip, opened up so that every text token comes out, not only the pooled one.

open_clip pools inside `encode_text`; late interaction needs the tokens before that (Reddy et al., CVPR 2025,
section 3.1). `text_tokens` repeats open_clip's own steps on sliced positions and mask, and a parity test holds its
pooled row equal to `encode_text`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from colbert_video.errors import ModelError, SettingsError

SUPPORTED_FAMILIES = (
    "CLIP (ViT, ConvNeXt, ResNet), SigLIP, SigLIP 2, PE-Core, MobileCLIP, EVA02-CLIP, CLIPA, MetaCLIP, DFN"
)


@dataclass(frozen=True)
class Preprocess:
    """How frames become pixels; fixed by the pretrained weights, so it is stored in the checkpoint."""

    height: int
    """Rows of the resized frame; frames are resized straight to this size, without a crop."""
    width: int
    """Columns of the resized frame."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel, on pixels in [0, 1]."""
    std: tuple[float, float, float]
    """Standard deviation of each RGB channel, on pixels in [0, 1]."""
    interpolation: Literal["bicubic", "bilinear"]
    """Filter of the resize."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SettingsError(f"frame size {self.height}×{self.width} must be at least 1×1.")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise SettingsError(f"interpolation {self.interpolation!r} must be 'bicubic' or 'bilinear'.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise SettingsError(
                f"mean {self.mean} and std {self.std} need three values each, and std above 0."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """Rebuild from `to_dict`, for instance from a checkpoint's JSON."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class TokenizedQueries:
    """Token ids of a batch of queries."""

    ids: Int[Tensor, "queries query_tokens"]
    """Vocabulary ids."""
    content: Bool[Tensor, "queries query_tokens"]
    """True for start, words and end of text; False for padding."""
    pooled: Int[Tensor, "queries"]
    """Position of the token that the backbone pools."""


class Backbone(nn.Module):
    """An open_clip dual encoder whose text tower gives all its tokens.

    Args:
        clip: A model built by open_clip.
        tokenizer: The open_clip tokenizer that belongs to it.
        model_cfg: open_clip's configuration of the model, from which it can be built again.
        preprocess: How its weights expect frames.

    Raises:
        ModelError: If the text tower has no plain token outputs.
    """

    def __init__(
        self, clip: nn.Module, *, tokenizer: Any, model_cfg: dict[str, Any], preprocess: Preprocess
    ) -> None:
        super().__init__()
        self.clip: Any = clip
        self.tokenizer = tokenizer
        self.model_cfg = model_cfg
        self.preprocess = preprocess
        self._check_text_tower()
        self._freeze_unused()

    def _check_text_tower(self) -> None:
        text = getattr(self.clip, "text", self.clip)
        if not hasattr(text, "token_embedding") or getattr(text, "cls_emb", None) is not None:
            raise ModelError(
                f"the text tower {type(text).__name__} gives no token features. Supported families: {SUPPORTED_FAMILIES}."
            )

    def _freeze_unused(self) -> None:
        """The backbone's own logit scale and bias play no part in MeanMaxSim."""
        for name in ("logit_scale", "logit_bias"):
            parameter = getattr(self.clip, name, None)
            if parameter is not None:
                parameter.requires_grad_(False)

    @property
    def text(self) -> Any:
        """The module that owns the text tower: the model itself for CLIP, its `.text` for the others."""
        return getattr(self.clip, "text", self.clip)

    @property
    def dim(self) -> int:
        """Dimensions of the space that text and frames share."""
        return int(self.model_cfg["embed_dim"])

    @property
    def context_length(self) -> int:
        """Most tokens a query can have."""
        return len(self.text.positional_embedding)

    @property
    def bidirectional(self) -> bool:
        """True if text tokens see later ones, so that the length of the padding changes every token (SigLIP)."""
        return self.text.attn_mask is None

    @property
    def pool_type(self) -> str:
        """Which text token open_clip pools: argmax (end of text), last, first or eos."""
        return self.clip.text_pool_type if self.text is self.clip else self.text.pool_type

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.positional_embedding.device

    def tokenize(self, texts: list[str], *, length: int, pad_id: int | None = None) -> TokenizedQueries:
        """Turn texts into ids of one length; longer texts are cut, the end-of-text token kept.

        Args:
            texts: Queries.
            length: Tokens per query, padding included.
            pad_id: Id written into the padding; None for the tokenizer's own.
        """
        ids = self.tokenizer(texts, context_length=length)  # (queries, query_tokens)
        content = self._content_mask(ids)
        if pad_id is not None:
            ids = ids.masked_fill(~content, pad_id)
        return TokenizedQueries(ids, content, self._pooled_positions(ids))

    def too_long(self, texts: list[str], *, length: int) -> list[bool]:
        """Which texts lose words when they are cut to `length` tokens."""
        one_more = self.tokenizer(texts, context_length=length + 1)  # (queries, length + 1)
        return self._content_mask(one_more)[:, length].tolist()

    def _content_mask(self, ids: Int[Tensor, "queries query_tokens"]) -> Bool[Tensor, "queries query_tokens"]:
        """Everything up to the first end-of-text token. `ids != 0` would not do: id 0 is also a real word piece.

        BERT's vocabulary (CLIPA) has no end-of-text token, but there the padding id stands for nothing else.
        """
        if self.end_id is None:
            return ids != self.tokenizer.tokenizer.pad_token_id
        is_end = ids == self.end_id
        last = ids.shape[1] - 1
        end = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1), last)  # (queries,)
        return torch.arange(ids.shape[1]) <= end[:, None]

    @property
    def start_id(self) -> int | None:
        """The token id that opens every query, if the tokenizer has one."""
        tokenizer = self.tokenizer
        return tokenizer.tokenizer.bos_token_id if hasattr(tokenizer, "tokenizer") else tokenizer.sot_token_id

    @property
    def end_id(self) -> int | None:
        """The token id that ends every query, if the tokenizer has one."""
        tokenizer = self.tokenizer
        return tokenizer.tokenizer.eos_token_id if hasattr(tokenizer, "tokenizer") else tokenizer.eot_token_id

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return int(self.text.token_embedding.num_embeddings)

    def _pooled_positions(self, ids: Int[Tensor, "queries query_tokens"]) -> Int[Tensor, "queries"]:
        """The position that open_clip's `text_global_pool` reads."""
        if self.pool_type == "argmax":
            return ids.argmax(dim=1)
        if self.pool_type == "eos":
            eos_id = self.clip.text_eos_id if self.text is self.clip else self.text.eos_id
            return (ids == eos_id).int().argmax(dim=1)
        position = 0 if self.pool_type == "first" else ids.shape[1] - 1
        return torch.full((len(ids),), position)

    def token_texts(
        self, ids: Int[Tensor, "query_tokens"], content: Bool[Tensor, "query_tokens"]
    ) -> list[str]:
        """What each id says, for people: words as they are, padding and control tokens in angle brackets."""
        tokenizer = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        words = [str(tokenizer.decode([token])).strip() for token in ids.tolist()]
        return [word if real else "<pad>" for word, real in zip(words, content.tolist(), strict=True)]

    def text_tokens(
        self, ids: Int[Tensor, "queries query_tokens"]
    ) -> Float[Tensor, "queries query_tokens dim"]:
        """Every text token in the shared space, before normalisation.

        The steps are those of open_clip's `encode_text`, with positions and causal mask sliced to the length at hand
        (`encode_text` itself accepts the full context only), and the projection applied to all tokens.
        """
        text, length = self.text, ids.shape[1]
        dtype = text.transformer.get_cast_dtype()
        positions = text.positional_embedding[:length].to(dtype)  # (tokens, width)
        x = text.token_embedding(ids).to(dtype) + positions  # (queries, tokens, width)
        mask = None if text.attn_mask is None else text.attn_mask[:length, :length]
        x = text.ln_final(text.transformer(x, attn_mask=mask))  # (queries, tokens, width)
        projection = text.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def frame_tokens(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """One token a frame: what `encode_image` gives (CLS for CLIP, attention-pooled for SigLIP), not normalised."""
        return self.clip.encode_image(pixels)

    def text_blocks(self, count: int) -> list[nn.Module]:
        """The text tower's first `count` transformer blocks.

        Raises:
            ModelError: If there are fewer.
        """
        blocks = list(self.text.transformer.resblocks)
        if count > len(blocks):
            raise ModelError(
                f"temporal_layers={count}, but the text tower has {len(blocks)} layers to copy from; use that many at most, or temporal_init='random'."
            )
        return blocks[:count]

    @property
    def text_positions(self) -> Float[Tensor, "context width"]:
        """The text tower's position embeddings."""
        return self.text.positional_embedding.detach()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in both towers."""
        self.clip.set_grad_checkpointing(enable)
