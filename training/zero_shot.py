"""Zero-shot baselines: how well an image-text model finds videos before it has seen any.

Only its pooled text token was trained to agree with images, so that token alone is the query. Two ways of meeting the
frames are in use:

- `mp_f`, mean pooling: the cosine of the pooled token and the mean of the normalised frame tokens. This is the
  parameter-free "meanP" of CLIP4Clip (Luo et al., 2021), of which published zero-shot figures are.
- `mms_f_pooled`: the largest cosine of the pooled token with any frame, which is MMS_F (Reddy et al., CVPR 2025) of a
  query of one token. It is what an untrained model searches by; of a trained one, it tells what the other tokens bring.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.interaction import Interaction, mean_max_sim
from colbert_video.tokens import QueryTokens, TokenBags

Baseline = Literal["mms_f_pooled"]
"""Scores that are only evaluated, never trained or searched by."""
Scoring = Interaction | Baseline
"""Every score that an evaluation knows."""
ZERO_SHOT: tuple[Scoring, ...] = ("mp_f", "mms_f_pooled")
"""The baselines, which every model has."""


def pooled_max_sim(queries: QueryTokens, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Cosine of the pooled query token and the frame nearest to it.

    Args:
        queries: Query tokens; all but the pooled one are left out.
        bags: Frame tokens.

    Returns:
        Scores in [-1, 1] for unit vectors.

    Raises:
        SettingsError: If a video has no frame, or the dimensions differ.
    """
    tokens = queries.pooled_tokens()[:, None]  # (queries, 1, dim)
    return mean_max_sim(TokenBags(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)), bags)
