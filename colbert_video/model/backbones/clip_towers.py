"""The two transformers of CLIP (Radford et al., 2021), with the names that open_clip gives to their weights.

They compute what open_clip's `CLIP` computes, and need torch alone: importing open_clip takes longer than a
search. Only the plain architecture is here, that of OpenAI's and most of open_clip's ViT models; see `plain_towers`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from colbert_video.base.torch_state import shapes_alone
from colbert_video.model.backbones.tower_block import QuickGelu, TowerBlock, run_blocks

MLP_RATIO = 4
"""Width of a block's hidden layer over that of its tokens."""
MODEL_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
VISION_KEYS = {"image_size", "patch_size", "width", "head_width", "layers", "pos_embed_type"}
TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers"}
VISION_DEFAULTS = {"image_size": 224, "patch_size": 16, "width": 768, "head_width": 64, "layers": 12}
TEXT_DEFAULTS = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}


def plain_block(width: int, heads: int, *, quick_gelu: bool = False) -> TowerBlock:
    """Build a block of CLIP's towers, with torch's random start values."""
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    layers = {
        "c_fc": nn.Linear(width, MLP_RATIO * width),
        "gelu": QuickGelu() if quick_gelu else nn.GELU(),
        "c_proj": nn.Linear(MLP_RATIO * width, width),
    }
    return TowerBlock(
        ln_1=nn.LayerNorm(width), attn=attention, ln_2=nn.LayerNorm(width), mlp=nn.Sequential(OrderedDict(layers))
    )


class ClipTransformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, heads: int, layers: int, *, quick_gelu: bool, first_only: bool = False) -> None:
        super().__init__()
        blocks = [plain_block(width, heads, quick_gelu=quick_gelu) for _ in range(layers)]
        blocks[-1].first_only = first_only
        self.resblocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def get_cast_dtype(self) -> torch.dtype:
        """Return the type that the blocks compute in."""
        block: Any = self.resblocks[0]
        return block.get_weight_dtype()

    def forward(self, x: Float[Tensor, "batch tokens width"], attn_mask: Tensor | None = None) -> Tensor:
        """Return the tokens after the last block."""
        return run_blocks(self.resblocks, x, attn_mask, checkpointing=self.grad_checkpointing)


class ClipImageTower(nn.Module):
    """A vision transformer whose class token stands for the picture."""

    def __init__(self, settings: Mapping[str, Any], *, dim: int, quick_gelu: bool) -> None:
        super().__init__()
        width, patch, size = settings["width"], settings["patch_size"], settings["image_size"]
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        # Fixed positions are weights too, which training leaves alone.
        learnt = settings.get("pos_embed_type", "learnable") == "learnable"
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width), requires_grad=learnt)
        self.ln_pre = nn.LayerNorm(width)
        heads = width // settings["head_width"]
        self.transformer = ClipTransformer(width, heads, settings["layers"], quick_gelu=quick_gelu, first_only=True)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, dim))

    def forward(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return the class token of each frame in the shared space."""
        x = self.conv1(pixels).flatten(2).permute(0, 2, 1)  # (frames, patches, width)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)  # (frames, 1, width)
        x = torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype)  # (frames, tokens, width)
        x = self.ln_post(self.transformer(self.ln_pre(x)))  # (frames, 1, width): the class token alone
        return x[:, 0] @ self.proj


class ClipTowers(nn.Module):
    """A CLIP model: image tower and causal text tower. `plain_towers` and `give_memory` build it.

    Args:
        model_cfg: Its architecture in open_clip's form.
    """

    text_pool_type = "argmax"

    def __init__(self, model_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        dim, quick_gelu = model_cfg["embed_dim"], model_cfg.get("quick_gelu", False)
        text = {**TEXT_DEFAULTS, **model_cfg["text_cfg"]}
        width, length = text["width"], text["context_length"]
        self.visual = ClipImageTower({**VISION_DEFAULTS, **model_cfg["vision_cfg"]}, dim=dim, quick_gelu=quick_gelu)
        self.transformer = ClipTransformer(width, text["heads"], text["layers"], quick_gelu=quick_gelu)
        # `nn.Embedding(...)` would draw start values, for which torch imports its compiler on the device "meta".
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(text["vocab_size"], width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, dim))
        self.logit_scale = nn.Parameter(torch.empty([]))
        self.register_buffer("attn_mask", torch.empty(length, length), persistent=False)

    def encode_image(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return one vector per frame in the shared space, not normalised."""
        return self.visual(pixels)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in both towers."""
        self.visual.transformer.grad_checkpointing = enable
        self.transformer.grad_checkpointing = enable


def plain_towers(model_cfg: Mapping[str, Any]) -> ClipTowers | None:
    """Build the towers of a plain architecture, on the device "meta", where they take no memory.

    Args:
        model_cfg: An architecture in open_clip's form, which may be a stranger's.

    Returns:
        The towers; None for an architecture that only open_clip can build, or refuse.
    """
    if not _is_plain(model_cfg):
        return None
    with shapes_alone():
        return ClipTowers(model_cfg)


def give_memory(towers: ClipTowers) -> ClipTowers:
    """Move towers of `plain_towers` to the CPU; their weights are still to be loaded."""
    # `to_empty` would do it too, after importing torch's symbolic shapes.
    memory = {name: torch.empty(weight.shape, device="cpu") for name, weight in towers.state_dict().items()}
    towers.load_state_dict(memory, assign=True)
    length = len(towers.positional_embedding)
    unseen = torch.full((length, length), float("-inf"), device="cpu")
    towers.attn_mask = unseen.triu_(1)  # a text token sees those before it
    return towers


def _is_plain(model_cfg: Mapping[str, Any]) -> bool:
    """Return True if nothing but sizes is chosen, and the sizes are whole numbers that fit each other."""
    vision, text = model_cfg.get("vision_cfg"), model_cfg.get("text_cfg")
    if not (isinstance(vision, Mapping) and isinstance(text, Mapping)):
        return False
    if not (model_cfg.keys() <= MODEL_KEYS and vision.keys() <= VISION_KEYS and text.keys() <= TEXT_KEYS):
        return False
    if not isinstance(model_cfg.get("quick_gelu", False), bool):
        return False
    if vision.get("pos_embed_type", "learnable") not in ("learnable", "sin_cos_2d"):
        return False
    image = {**VISION_DEFAULTS, **vision, "pos_embed_type": 1}
    words = {**TEXT_DEFAULTS, **text}
    sizes = (model_cfg.get("embed_dim"), *image.values(), *words.values())
    return all(type(size) is int and size > 0 for size in sizes) and _fit(image, words)


def _fit(image: Mapping[str, Any], words: Mapping[str, Any]) -> bool:
    heads = image["width"] // image["head_width"]
    return heads > 0 and image["width"] % heads == 0 and words["width"] % words["heads"] == 0
