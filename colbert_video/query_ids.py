"""Tokenised queries, and which query lengths suit a backbone."""

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from colbert_video.backbone import Backbone
from colbert_video.config import ModelConfig
from colbert_video.errors import ModelError

CAUSAL_QUERY_LENGTH = 32
"""Query length of the paper for CLIP; bidirectional towers always run at their full context."""


@dataclass(frozen=True, eq=False)
class QueryIds:
    """A tokenised batch of queries, ready for `VideoColBERT.embed_queries`."""

    ids: Int[Tensor, "queries query_tokens"]
    """Vocabulary ids."""
    scored: Bool[Tensor, "queries query_tokens"]
    """True where a token takes part in MeanMaxSim."""
    pooled: Int[Tensor, "queries"]
    """Position of the token that the backbone pools."""


def default_query_length(backbone: Backbone) -> int:
    """32 tokens for causal towers (or their context, if shorter); the full context for bidirectional ones."""
    if backbone.bidirectional:
        return backbone.context_length
    return min(CAUSAL_QUERY_LENGTH, backbone.context_length)


def check_queries_fit(config: ModelConfig, backbone: Backbone) -> None:
    """Refuse settings for queries that the backbone's text tower cannot take.

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
