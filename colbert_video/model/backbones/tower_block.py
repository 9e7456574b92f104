"""A transformer block of open_clip's towers, computed with fewer copies.

`torch.nn.MultiheadAttention` takes a path for inference that copies queries, keys and values and holds all attention
weights; QuickGELU passes three times through four times the width of the tower. Both are most of what a block costs beside
its matrix products, the more so where these are in bfloat16.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ROWS_AT_ONCE = 1024
"""Tokens that go through a feed-forward layer together on a CPU: what lies between its two products stays in the cache."""
QUICK_GELU_SCALE = 1.702


class TowerBlock(nn.Module):
    """A pre-norm block with the submodules of open_clip's `ResidualAttentionBlock`, by the same names.

    Args:
        ln_1: Normalises what attention reads.
        attn: Holds the weights of the attention.
        ln_2: Normalises what the feed-forward layer reads.
        mlp: The feed-forward layer.
        ls_1: Scales the attention's output; None for no scale.
        ls_2: Scales the feed-forward layer's output; None for no scale.
        first_only: True to return the first token alone, for a last block of which the tower reads no other.
    """

    def __init__(
        self,
        *,
        ln_1: nn.Module,
        attn: nn.MultiheadAttention,
        ln_2: nn.Module,
        mlp: nn.Module,
        ls_1: nn.Module | None = None,
        ls_2: nn.Module | None = None,
        first_only: bool = False,
    ) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = ln_1, attn, ls_1 or nn.Identity()
        self.ln_2, self.mlp, self.ls_2 = ln_2, mlp, ls_2 or nn.Identity()
        self.first_only = first_only

    @classmethod
    def from_open_clip(cls, block: Any) -> "TowerBlock":
        """Take over the submodules of open_clip's block."""
        names = ("ln_1", "attn", "ln_2", "mlp", "ls_1", "ls_2")
        return cls(**{name: getattr(block, name) for name in names})

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type of the weights, which open_clip asks a block for."""
        return self.attn.in_proj_weight.dtype

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        k_x: None = None,
        v_x: None = None,
        attn_mask: Float[Tensor, "*heads tokens tokens"] | None = None,
    ) -> Float[Tensor, "batch out width"]:
        """Return the tokens after attention and feed-forward layer.

        Args:
            x: Tokens.
            k_x: Always None; open_clip's blocks have it for attention to other tokens.
            v_x: As `k_x`.
            attn_mask: Added to the attention's logits: (tokens, tokens), or (batch * heads, tokens, tokens).
        """
        attended = self._attend(self.ln_1(x), attn_mask)  # (batch, out, width)
        x = (x[:, :1] if self.first_only else x) + self.ls_1(attended)
        return x + self.ls_2(self._feed_forward(self.ln_2(x)))

    def _attend(
        self, x: Float[Tensor, "batch tokens width"], mask: Float[Tensor, "*heads tokens tokens"] | None
    ) -> Float[Tensor, "batch out width"]:
        heads = self.attn.num_heads
        joint = nn.functional.linear(x, self.attn.in_proj_weight, self.attn.in_proj_bias)  # (batch, tokens, 3 * width)
        query, key, value = joint.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, each)
        if self.first_only:
            query = query[:, :, :1]  # (batch, heads, 1, each)
        if mask is not None:
            mask = mask.to(query.dtype)
            mask = mask.unflatten(0, (len(x), heads)) if mask.ndim == 3 else mask
            mask = mask[..., : query.shape[2], :]
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.attn.out_proj(attended.transpose(1, 2).flatten(2))

    def _feed_forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        if torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_compiling():
            return self.mlp(x)
        rows = x.flatten(0, 1)  # (batch * tokens, width)
        parts = [self.mlp(part) for part in rows.split(ROWS_AT_ONCE)]
        return torch.cat(parts).view_as(x) if len(parts) > 1 else parts[0].view_as(x)


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x), the activation of OpenAI's CLIP, in one pass for the sigmoid and its product."""

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the activation; without gradients in the memory of `x`, which no one else may need."""
        if torch.is_grad_enabled():
            return nn.functional.silu(x * QUICK_GELU_SCALE) / QUICK_GELU_SCALE
        return nn.functional.silu(x.mul_(QUICK_GELU_SCALE), inplace=True).div_(QUICK_GELU_SCALE)


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Float[Tensor, "batch tokens width"],
    mask: Float[Tensor, "*heads tokens tokens"] | None,
    *,
    checkpointing: bool,
) -> Float[Tensor, "batch out width"]:
    """Return the tokens after the last of several blocks.

    Args:
        blocks: Called in order as `block(x, attn_mask=mask)`.
        x: Tokens.
        mask: As for `TowerBlock`.
        checkpointing: True to compute blocks again in the backward pass, which saves memory.
    """
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, attn_mask=mask, use_reentrant=False)
        else:
            x = block(x, attn_mask=mask)
    return x


def use_tower_blocks(transformer: Any, *, first_only: bool = False) -> None:
    """Replace the blocks of a tower of open_clip, where they fit, by ones that compute the same faster.

    Args:
        transformer: open_clip's transformer, whose blocks are replaced.
        first_only: True if the tower reads only the first token of the last one.
    """
    from open_clip.transformer import QuickGELU, Transformer

    if type(transformer) is not Transformer or not transformer.batch_first:
        return
    for row, block in enumerate(transformer.resblocks):
        if _fits(block):
            transformer.resblocks[row] = TowerBlock.from_open_clip(block)
            if type(block.mlp.gelu) is QuickGELU:
                block.mlp.gelu = QuickGelu()
    last = transformer.resblocks[-1]
    if isinstance(last, TowerBlock):
        last.first_only = first_only


def _fits(block: Any) -> bool:
    from open_clip.transformer import ResidualAttentionBlock

    attention = getattr(block, "attn", None)
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and type(attention) is nn.MultiheadAttention
        and attention.batch_first
        and attention.in_proj_weight is not None
    )
