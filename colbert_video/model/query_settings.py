"""Lengths and padding of queries that a backbone takes."""

import logging
from collections.abc import Sequence

from colbert_video.errors import ModelError
from colbert_video.model.backbone import Backbone
from colbert_video.model.config import ModelConfig

logger = logging.getLogger(__name__)

CAUSAL_QUERY_LENGTH = 32
"""Query length of the paper for CLIP; bidirectional towers always run at their full context."""


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
    if config.pad_id is not None and not 0 <= config.pad_id < backbone.vocabulary_size:
        raise ModelError(
            f"pad_id={config.pad_id}, but {config.backbone} has token ids from 0 to {backbone.vocabulary_size - 1}."
        )


def warn_of_cuts(texts: Sequence[str], backbone: Backbone, *, length: int) -> None:
    """Log a warning for queries of more than `length` tokens, of which the last are not read."""
    long = backbone.too_long(list(texts), length=length)
    cut = [text for text, is_long in zip(texts, long, strict=True) if is_long]
    if cut:
        more = f" (and {len(cut) - 1} more queries)" if len(cut) > 1 else ""
        logger.warning("query %r%s is longer than %d tokens; the rest is not read", cut[0], more, length)
