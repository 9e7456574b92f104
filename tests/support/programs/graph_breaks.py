"""Print how many graphs `torch.compile` makes of each tower of tiny models, and how often it breaks, as JSON.

A program of its own: the checks of types that tests make would break graphs.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import open_clip
import torch
from tiny_models import TINY_NAMES, build_tiny
from tiny_transformers import save_tiny

from colbert_video.model.video_colbert import VideoColBERT


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
    found = {}
    for name, (tower, given) in inputs.items():
        torch._dynamo.reset()
        with torch.no_grad():
            explained = torch._dynamo.explain(tower)(*given)
        found[name] = [explained.graph_count, explained.graph_break_count]
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        sys.stdout.write(json.dumps({name: graphs(model) for name, model in models(Path(work)).items()}) + "\n")
