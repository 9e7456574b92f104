"""Query settings on a backbone: which tokens of a query are scored, and which query lengths a backbone takes."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Backbone, TokenizedQueries
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


def tokenize_queries(texts: Sequence[str], config: ModelConfig, backbone: Backbone) -> TokenizedQueries:
    """Turn queries into ids, and choose by the settings which tokens are scored.

    Raises:
        SettingsError: If a query is empty.
    """
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise SettingsError(f"query {number} is {text!r}; a query needs at least one word.")
    # An untrained model scores the pooled token alone: padding adds nothing, so queries keep the full context.
    length = config.query_length if config.trained else backbone.context_length
    batch = backbone.tokenize(list(texts), length=length, pad_id=config.pad_id)
    scored = torch.ones_like(batch.content) if config.query_augmentation else batch.content.clone()
    starts = backbone.start_id is not None and not backbone.bidirectional
    if starts and not config.score_start_token:
        scored[:, 0] = False
    return replace(batch, scored=scored)


def scored_token_texts(text: str, config: ModelConfig, backbone: Backbone) -> list[str]:
    """Return what each scored token of a query stands for, in order; of an untrained model, the text as a whole.

    Raises:
        SettingsError: If the query is empty.
    """
    batch = tokenize_queries([text], config, backbone)
    if not config.trained:
        return [text.strip()]
    words = backbone.token_texts(batch.ids[0], batch.content[0])
    return [word for word, scored in zip(words, batch.scored[0].tolist(), strict=True) if scored]


def warn_of_cuts(texts: Sequence[str], backbone: Backbone, *, length: int) -> None:
    """Log a warning for queries of more than `length` tokens, of which the last are not read."""
    long = backbone.too_long(list(texts), length=length)
    cut = [text for text, is_long in zip(texts, long, strict=True) if is_long]
    if cut:
        more = f" (and {len(cut) - 1} more queries)" if len(cut) > 1 else ""
        logger.warning("query %r%s is longer than %d tokens; the rest is not read", cut[0], more, length)
