"""What a backbone's text tower asks of queries: how long they are, how they are padded, and what is cut off."""

import logging
from collections.abc import Sequence
from typing import Any

from colbert_video.errors import ModelError, shown
from colbert_video.model.backbone import Backbone
from colbert_video.model.config import ModelConfig

logger = logging.getLogger(__name__)
MAX_QUERY_CHARACTERS = 2**14
"""Of a longer text, only these are read: they are many times the tokens that a model has positions for."""
CAUSAL_QUERY_LENGTH = 32
"""Query length of the paper for CLIP; bidirectional towers always run at their full context."""


def pools_mean(backbone: Backbone) -> bool:
    """Return True if the text tower pools the mean of its words, which can then be searched with before training."""
    return getattr(backbone, "pooling", "token") == "mean"


def is_causal(backbone: Backbone) -> bool:
    """Return True if no text token depends on a later one, so that padding at the end may be cut or added."""
    return not (backbone.bidirectional or getattr(backbone, "masks_padding", False) or pools_mean(backbone))


def default_settings(backbone: Backbone) -> dict[str, Any]:
    """Return the settings that a model of this backbone has if no others are given."""
    settings: dict[str, Any] = {"query_length": default_query_length(backbone)}
    if pools_mean(backbone):
        settings["query_augmentation"] = False  # its padding was never part of the mean
    if backbone.text_positions.shape[1] != backbone.dim:
        settings["temporal_init"] = "random"  # layers of another width cannot be copied
    return settings


def default_query_length(backbone: Backbone) -> int:
    """Return 32 for causal towers (or their context, if shorter), the full context for bidirectional ones."""
    if backbone.bidirectional:
        return backbone.context_length
    return min(CAUSAL_QUERY_LENGTH, backbone.context_length)


def check_queries_fit(config: ModelConfig, backbone: Backbone) -> None:
    """Check that the backbone's text tower takes queries of these settings.

    Raises:
        ModelError: If the query length or the padding id does not fit the backbone.
    """
    if config.query_length > backbone.context_length:
        raise ModelError(
            f"query_length={config.query_length}, but {config.backbone} reads at most {backbone.context_length} "
            "tokens: use that or fewer."
        )
    if backbone.bidirectional and config.query_length != backbone.context_length:
        raise ModelError(
            f"query_length={config.query_length}, but {config.backbone}'s text tower is bidirectional and was trained at "
            f"{backbone.context_length} tokens: any other length changes every token. Use {backbone.context_length}."
        )
    if config.pad_id is not None and getattr(backbone, "masks_padding", False):
        raise ModelError(
            f"pad_id={config.pad_id}, but {config.backbone}'s text tower masks its padding, which it knows by the "
            "tokenizer's own id: leave pad_id out."
        )
    if config.pad_id is not None and not 0 <= config.pad_id < backbone.vocabulary_size:
        raise ModelError(
            f"pad_id={config.pad_id}, but {config.backbone} has token ids from 0 to {backbone.vocabulary_size - 1}."
        )


def beginning(text: str) -> str:
    """Return as much of a text as is read; tokenizing megabytes takes minutes."""
    return text if len(text) <= MAX_QUERY_CHARACTERS else text.strip()[:MAX_QUERY_CHARACTERS]


def are_cut(texts: Sequence[str], backbone: Backbone, *, length: int) -> list[bool]:
    """Return True for each query of more than `length` tokens, of which the last are not read."""
    return backbone.too_long([beginning(text) for text in texts], length=length)


def warn_of_cuts(texts: Sequence[str], backbone: Backbone, *, length: int) -> None:
    """Log a warning for queries of more than `length` tokens, of which the last are not read."""
    long = are_cut(texts, backbone, length=length)
    cut = [text for text, is_long in zip(texts, long, strict=True) if is_long]
    if cut:
        more = f" (and {len(cut) - 1} more queries)" if len(cut) > 1 else ""
        most = length - pools_mean(backbone)  # the mean is no word
        logger.warning("query %s%s is longer than %d tokens; the rest is not read", shown(cut[0]), more, most)
