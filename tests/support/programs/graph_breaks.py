"""Print how many graphs `torch.compile` makes of towers, forward, scores and losses, and how often it breaks, as JSON.

A program of its own: the checks of types that tests make would break graphs.
"""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import open_clip
import torch
from tiny_models import TINY_NAMES, build_tiny
from tiny_transformers import save_tiny

from colbert_video.model.interaction import fuse
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.batch_encoding import level_scores
from colbert_video.training.run.losses import CombinedSigmoidLoss, DualSigmoidLoss
from colbert_video.training.run.training_config import LOSSES


def models(folder: Path) -> dict[str, VideoColBERT]:
    for name, model_cfg in TINY_NAMES.items():
        (folder / f"{name}.json").write_text(json.dumps(model_cfg))
        open_clip.add_model_config(folder / f"{name}.json")
    built = {name: build_tiny(name) for name in TINY_NAMES}
    for kind in ("clip", "siglip"):
        (folder / kind).mkdir()
        save_tiny(kind, folder / kind)
        built[kind] = VideoColBERT.from_pretrained(f"hf:{folder / kind}", device="cpu")
    return built


def graphs(model: VideoColBERT) -> dict[str, list[int]]:
    size = model.config.preprocess
    frames, mask = torch.zeros(2, 4, model.dim), torch.ones(2, 4, dtype=torch.bool)
    pixels = torch.zeros(2, 3, size.height, size.width)
    inputs: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "text": (model.backbone.text_tokens, (torch.full((2, 8), 5),)),
        "frames": (model.backbone.frame_tokens, (pixels,)),
        "temporal": (model.temporal.forward, (frames, mask)),
    }
    return {name: explained(tower, *given) for name, (tower, given) in inputs.items()}


def explained(function: Any, *given: Any, gradients: bool = False) -> list[int]:
    """Graphs and breaks of one call."""
    torch._dynamo.reset()
    with torch.set_grad_enabled(gradients):
        found = torch._dynamo.explain(function)(*given)
    return [found.graph_count, found.graph_break_count]


def forward_graphs(model: VideoColBERT) -> dict[str, list[int]]:
    """The whole forward of training, with videos of equal and of different lengths."""
    size = model.config.preprocess
    model.mark_trained()
    pixels, ids = torch.zeros(2, 4, 3, size.height, size.width), torch.full((2, 8), 5)
    masks = {"whole": None, "padded": torch.tensor([[True] * 4, [True] * 3 + [False]])}
    return {name: explained(model.forward, ids, pixels, mask, gradients=True) for name, mask in masks.items()}


def score_graphs() -> dict[str, list[int]]:
    """Scores as they are trained and searched, and each loss with and without labels, learnable and to be calibrated."""
    random = torch.Generator().manual_seed(0)
    queries = QueryTokens(torch.randn(3, 8, 16, generator=random), torch.ones(3, 8).bool(), torch.tensor([1, 2, 3]))
    bag = TokenBags(torch.randn(3, 6, 16, generator=random), torch.ones(3, 6).bool())
    videos, found = VideoTokens(bag, bag), {}
    for name in ("mms_fv", "mms_f", "mms_v", "mp_f", "mp_v"):
        found[name] = explained(fuse, queries, videos, name)
        found[f"training {name}"] = explained(level_scores, queries, videos, name, gradients=True)
    scores = torch.randn(3, 3, generator=random, requires_grad=True)
    biased = (DualSigmoidLoss, CombinedSigmoidLoss)
    losses = [kind(learnable=learnt) for kind in LOSSES.values() for learnt in (False, True)]
    for number, loss in enumerate([*losses, *(kind(bias=math.nan) for kind in biased)]):
        for labels in (None, torch.eye(3).bool()):
            name = f"{number} {type(loss).__name__}, labels {labels is not None}"
            found[name] = explained(loss, scores, scores, labels, gradients=True)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        built = models(Path(work))
        towers = {name: graphs(model) for name, model in built.items()}
        forward = {name: forward_graphs(model) for name, model in built.items()}
    sys.stdout.write(json.dumps({"towers": towers, "forward": forward, "scores": score_graphs()}) + "\n")
