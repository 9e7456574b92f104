"""The temporal transformer: frames see each other and become video tokens (Reddy et al., CVPR 2025, section 3.2).

The paper says "4 transformer layers based on the text encoder" and "2 visual expansion tokens"; the details it leaves
open follow its lineage (CLIP4Clip, DRL): pre-norm blocks copied from the text tower's first layers, learnable frame
positions that start as the text positions, bidirectional attention, and a residual around the whole encoder.
"""

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Backbone
from colbert_video.model.backbones.clip_towers import plain_block
from colbert_video.model.backbones.tower_block import run_blocks
from colbert_video.model.config import ModelConfig

EXPANSION_STD = 0.02
"""Standard deviation of the expansion tokens' random start."""


class TemporalEncoder(nn.Module):
    """A transformer over the frames of a video; it also appends expansion tokens.

    Args:
        blocks: Transformer blocks as `Backbone.text_blocks` describes them.
        positions: Start values of the frame positions (max_frames, dim), or None for no positions.
        dim: Dimensions of the frame features.
        expansion_tokens: How many learnt tokens join the frames.
        outer_residual: True to add the frames' input to their output.
    """

    def __init__(
        self,
        blocks: list[Any],
        *,
        positions: Float[Tensor, "max_frames dim"] | None,
        dim: int,
        expansion_tokens: int,
        outer_residual: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.heads = blocks[0].attn.num_heads if blocks else 1
        self.positions = None if positions is None else nn.Parameter(positions.clone())
        self.expansion = nn.Parameter(EXPANSION_STD * torch.randn(expansion_tokens, dim))
        self.outer_residual = outer_residual
        self.grad_checkpointing = False

    @classmethod
    def from_config(cls, config: ModelConfig, backbone: Backbone) -> "TemporalEncoder":
        """Build the temporal transformer of a model whose backbone gives blocks and positions to start from.

        Raises:
            ModelError: If the text tower's width is not the shared dimension, or it has fewer layers, so that its blocks
                cannot be copied.
        """
        dim, width = backbone.dim, backbone.text_positions.shape[1]
        if config.temporal_init == "random":
            blocks = _random_blocks(dim, config.temporal_layers)
            positions = EXPANSION_STD * torch.randn(config.max_frames, dim)
        elif width != dim:
            raise ModelError(
                f"the text tower is {width} wide and frame features have {dim} dimensions, so its layers cannot be copied; "
                "use temporal_init='random'."
            )
        else:
            blocks = [copy.deepcopy(block) for block in backbone.text_blocks(config.temporal_layers)]
            positions = _stretch(backbone.text_positions, config.max_frames)
        return cls(
            blocks,
            positions=positions if config.frame_positions else None,
            dim=dim,
            expansion_tokens=config.expansion_tokens,
            outer_residual=config.outer_residual,
        )

    def forward(
        self, frames: Float[Tensor, "videos frames dim"], mask: Bool[Tensor, "videos frames"] | None
    ) -> tuple[Float[Tensor, "videos tokens dim"], Bool[Tensor, "videos tokens"] | None]:
        """Return video tokens (frames, then expansion tokens), not normalised, and their mask.

        The residual around the blocks is added in float32, whatever their precision.

        Args:
            frames: Frame features.
            mask: True where a frame is real; None if all are, for which None is returned.

        Raises:
            SettingsError: If there are more frames than positions.
        """
        x = self._with_positions(frames.to(self.expansion.dtype))  # (videos, frames, dim)
        expansion = self.expansion.expand(len(frames), -1, -1)  # (videos, expansion, dim)
        x = torch.cat([x, expansion.to(x.dtype)], dim=1)  # (videos, tokens, dim)
        full_mask = None if mask is None else torch.cat([mask, mask.new_ones(expansion.shape[:2])], dim=1)
        x = self._attend(x, full_mask)  # (videos, tokens, dim)
        if self.outer_residual:
            zeros = torch.zeros_like(expansion, dtype=frames.dtype)  # nothing is added to expansion tokens
            x = x + torch.cat([frames, zeros], dim=1)  # (videos, tokens, dim)
        return x, full_mask

    def _with_positions(self, frames: Float[Tensor, "videos frames dim"]) -> Float[Tensor, "videos frames dim"]:
        if self.positions is None:
            return frames
        if frames.shape[1] > len(self.positions):
            raise SettingsError(
                f"{frames.shape[1]} frames, but this model has positions for {len(self.positions)}; sample fewer frames "
                "or build the model with a larger max_frames."
            )
        return frames + self.positions[: frames.shape[1]]

    def _attend(
        self, x: Float[Tensor, "videos tokens dim"], mask: Bool[Tensor, "videos tokens"] | None
    ) -> Float[Tensor, "videos tokens dim"]:
        attention_mask = None
        if self.blocks and mask is not None:
            bias = x.new_zeros(mask.shape).masked_fill(~mask, float("-inf"))  # (videos, tokens)
            attention_mask = bias[:, None, None, :].expand(-1, self.heads, mask.shape[1], -1)
            attention_mask = attention_mask.flatten(0, 1)  # (videos * heads, tokens, tokens)
        return run_blocks(self.blocks, x, attention_mask, checkpointing=self.grad_checkpointing)


def _random_blocks(dim: int, layers: int) -> list[nn.Module]:
    heads = dim // 64 if dim % 64 == 0 else 1  # CLIP's head width
    return [plain_block(dim, heads) for _ in range(layers)]


def _stretch(table: Float[Tensor, "context dim"], rows: int) -> Float[Tensor, "rows dim"]:
    """Return the first `rows` rows, or the whole table interpolated to `rows` when it is shorter."""
    if rows <= len(table):
        return table[:rows]
    columns = table.T[None]  # (1, dim, context)
    return nn.functional.interpolate(columns, size=rows, mode="linear", align_corners=True)[0].T
