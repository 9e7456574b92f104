"""Models of Hugging Face transformers on the stand-in for a GPU: the tokens of the CPU, made on the device of the weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_in_gpu import GPU, StandInGPU
from thorough import cases
from tiny_transformers import CONFIGS, save_tiny

from colbert_video.model.video_colbert import VideoColBERT

QUERIES = ["a red circle", "two people", "a dog catches the frisbee on the beach"]


@pytest.mark.parametrize("kind", cases(["clip", "siglip2"], thorough=sorted(CONFIGS.keys() - {"clip", "siglip2"})))
def test_a_model_of_transformers_makes_the_tokens_of_the_cpu(kind: str, tmp_path: Path, gpu: StandInGPU) -> None:
    save_tiny(kind, tmp_path)
    here = VideoColBERT.from_backbone(f"hf:{tmp_path}", device="cpu", trained=True)
    there = copy.deepcopy(here).to("cuda:0")
    pictures = np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
    queries, videos = there.encode_queries(QUERIES), there.encode_videos([pictures[:2], pictures])
    expected = [here.encode_queries(QUERIES), *here.encode_videos([pictures[:2], pictures])]
    for ours, theirs in zip([queries, *videos], expected, strict=True):
        assert ours.tokens.device == GPU
        assert torch.equal(ours.mask.cpu(), theirs.mask)
        mask = theirs.mask[..., None]
        torch.testing.assert_close(ours.tokens.cpu() * mask, theirs.tokens * mask, atol=5e-6, rtol=0)
