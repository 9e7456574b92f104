"""Rounding residuals so that no error is left along the direction which all queries share.

Text features of CLIP-like models lie in a narrow cone (Liang et al., "Mind the gap", NeurIPS 2022): every token of every
query has a large component along one direction. Rounding errors of a token are averaged over the query tokens that it is
compared to, but those along that direction are the same for all of them, add up, and can be most of a score's error.
So dimensions are rounded one after another, and what has been lost along the direction is made up for by the next ones,
a little by each: error feedback, as in dithering and in GPTQ (Frantar et al., ICLR 2023). Reading gives unit vectors,
in which an error along the token itself does not show; the rest of the direction is what counts.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from colbert_video.device import full_precision
from colbert_video.indexing.buckets import bucket_ids

DAMPING = 0.01
"""Squared length of the direction that is always taken to lie ahead: the last dimensions must not make up for everything."""


def bucket_ids_with_feedback(
    residuals: Float[Tensor, "tokens dim"],
    tokens: Float[Tensor, "tokens dim"],
    direction: Float[Tensor, "dim"],
    cutoffs: Float[Tensor, "cutoffs"],
    weights: Float[Tensor, "buckets"],
) -> UInt8[Tensor, "tokens dim"]:
    """Choose a bucket for each residual value, so that errors cancel along a direction.

    Args:
        residuals: What is to be rounded.
        tokens: The unit-norm token that each residual belongs to, rotated.
        direction: Unit vector, rotated.
        cutoffs: Bucket borders.
        weights: The value that stands for each bucket.

    Returns:
        Bucket ids.
    """
    with full_precision(tokens):
        along = tokens @ direction  # (tokens,)
    across = (tokens.T.contiguous() * -along).add_(direction[:, None])  # (dim, tokens)
    ahead = across.square().sum(dim=0).add_(DAMPING)  # (tokens,): squared length of what is not rounded yet
    ids = torch.empty(across.shape, dtype=torch.uint8, device=across.device)
    lost = torch.zeros_like(along)
    for number, (wanted, part) in enumerate(zip(residuals.T.contiguous(), across, strict=True)):
        ids[number] = bucket_ids(torch.addcmul(wanted, part, lost / ahead, value=-1), cutoffs)
        rounded = weights.index_select(0, ids[number].int())
        lost.addcmul_(part, rounded - wanted)
        ahead.addcmul_(part, part, value=-1)
    return ids.T.contiguous()
