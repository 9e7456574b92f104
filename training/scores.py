"""The score matrices that are trained: one of each level that the interaction reads, with gradients at bounded memory."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from colbert_video.errors import SettingsError
from colbert_video.interaction import SIMILARITY_BUDGET, Interaction, mean_max_sim, mean_pool_sim
from colbert_video.tokens import QueryTokens, TokenBags, VideoTokens

Level = Float[Tensor, "queries videos"] | None


def level_scores(queries: QueryTokens, videos: VideoTokens, interaction: Interaction) -> tuple[Level, Level]:
    """Frame scores and video scores; None for the level that the interaction does not read.

    Reciprocal rank fusion has no gradient: it trains both levels as `mms_fv` does and fuses ranks only in search.

    Args:
        queries: Query tokens.
        videos: Frame tokens and video tokens.
        interaction: What the model is trained for.

    Raises:
        SettingsError: If a level is needed whose tokens are missing.
    """
    frame = videos.frame if interaction in ("mms_f", "mp_f") else None
    video = videos.video if interaction in ("mms_v", "mp_v") else None
    if interaction in ("mms_fv", "rrf"):
        frame, video = videos
    if frame is None and video is None:
        raise SettingsError(f"interaction {interaction!r} needs video tokens, and there are none.")
    score = mean_pool_sim if interaction.startswith("mp") else training_mean_max_sim
    return (
        None if frame is None else score(queries, frame),
        None if video is None else score(queries, video),
    )


def reads_video_tokens(interaction: Interaction) -> bool:
    """Whether the temporal transformer is trained at all."""
    return interaction not in ("mms_f", "mp_f")


def training_mean_max_sim(queries: TokenBags, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """`mean_max_sim` for backward passes: a large matrix is computed in chunks whose similarities are not kept.

    A batch of 256 with 64 query tokens and 66 video tokens has 277 million similarities; only one chunk of them is
    alive at a time, and each is computed again in the backward pass.
    """
    per_video = queries.tokens.shape[0] * queries.tokens.shape[1] * bags.tokens.shape[1]
    chunk = max(1, SIMILARITY_BUDGET // max(1, per_video))
    if chunk >= len(bags):
        return mean_max_sim(queries, bags)
    columns = []
    for tokens, mask in zip(bags.tokens.split(chunk), bags.mask.split(chunk), strict=True):
        columns.append(checkpoint(mean_max_sim, queries, TokenBags(tokens, mask), use_reentrant=False))
    return torch.cat(columns, dim=1)
