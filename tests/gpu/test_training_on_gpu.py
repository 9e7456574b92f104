"""Training and evaluation on the stand-in for a GPU: losses, GradCache and steps equal those of the CPU."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from stand_in_gpu import GPU, StandInGPU
from thorough import cases
from torch import Tensor
from training_fakes import PLAIN, training_batch

from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.evaluation.gallery import applicable_interactions, score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics
from colbert_video.training.run.learner import Learner, StepReport
from colbert_video.training.run.training_config import TrainingConfig

STEP = {"learner.Learner.step": 1}
"""Waits of a step: loss and gradient are fetched together, checked and reported."""


def step(model: VideoColBERT, config: TrainingConfig, device: str) -> tuple[StepReport, list[Tensor]]:
    """Make one step with a copy of the model; return its report and the weights after it."""
    learner = Learner(copy.deepcopy(model), config, accelerator(device))
    with learner.prepared():
        report = learner.step(training_batch(4, 1), learning_rate_factor=1.0, where="step 1")
    return report, [parameter.detach().cpu() for parameter in learner.model.parameters()]


def accelerator(device: str) -> Any:
    """What a learner asks accelerate for, in a single process."""
    return SimpleNamespace(
        device=torch.device(device), process_index=0, num_processes=1, no_sync=lambda _: nullcontext()
    )


@pytest.mark.parametrize(
    "settings",
    cases(
        [
            {},
            {"chunk_size": 3, "grad_checkpointing": True, "interaction": "mms_f"},
            {"learnable_loss": True, "loss_bias": -20.0, "loss_scale": 30.0},
            {"loss": "combined_infonce", "interaction": "rrf"},
        ],
        thorough=[
            {"chunk_size": 3},
            {"loss": "dual_infonce", "learnable_loss": True},
            {"loss": "combined_sigmoid", "labels": "diagonal"},
            {"interaction": "mp_v"},
        ],
    ),
    ids=str,
)
def test_a_step_is_that_of_the_cpu(gpu: StandInGPU, tiny_model: VideoColBERT, settings: dict[str, Any]) -> None:
    config = replace(PLAIN, **settings)
    with gpu.counted():
        there, weights = step(tiny_model, config, "cuda:0")
    chunks = 1 if config.chunk_size is None else 4  # two chunks, encoded twice
    for name, waits in STEP.items():
        assert gpu.waits[name] == waits
    assert gpu.waits["tests"] == len(weights)  # fetched above
    assert gpu.sent["backbone.TokenizedQueries.to.<locals>.<genexpr>"] == 4
    assert gpu.sent["batch_encoding.EncodableBatch.from_batch"] <= 2  # all frames at once, as bytes, and their mask
    assert not [
        name
        for name in gpu.waits
        if name.startswith(("batch_encoding.", "gradcache._", "losses.", "interaction.", "backbone."))
    ]
    assert not [name for name in gpu.sent if name.startswith(("interaction.", "backbone.Preprocess", "gradcache."))]
    # Which frames are real, for the image tower and for the temporal transformer.
    assert sum(waits for name, waits in gpu.waits.items() if name.startswith(("video_", "temporal."))) <= 2 * chunks
    here, expected = step(tiny_model, config, "cpu")
    assert there.loss == pytest.approx(here.loss, rel=1e-5)
    assert there.gradient_norm == pytest.approx(here.gradient_norm, rel=1e-3)
    for one, other in zip(expected, weights, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-3)


def test_videos_of_several_lengths(gpu: StandInGPU, tiny_model: VideoColBERT) -> None:
    batch = training_batch(4, 1)
    batch.frame_mask[1, 2:] = False
    reports = []
    for device in ("cuda:0", "cpu"):
        learner = Learner(copy.deepcopy(tiny_model), replace(PLAIN, chunk_size=2), accelerator(device))
        with learner.prepared():
            reports.append(learner.step(batch, learning_rate_factor=1.0, where="step 1"))
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-5)


@pytest.mark.parametrize("loss", get_args(TrainingConfig.__dataclass_fields__["loss"].type))
def test_losses_stay_on_the_device_of_the_scores(gpu: StandInGPU, loss: Any) -> None:
    built = replace(PLAIN, loss=loss, learnable_loss=True).build_loss()
    scores = [torch.randn(3, 3) for _ in range(2)]
    labels = torch.eye(3, dtype=torch.bool)
    expected = built(*scores, labels)
    value = built.to(GPU)(*(matrix.to(GPU) for matrix in scores), labels)
    assert value.device == GPU
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(built(*(matrix.to(GPU) for matrix in scores)), value)


def test_a_gallery_is_scored_on_the_device_of_the_model(
    gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT]
) -> None:
    here, there = both
    frames = training_batch(5, 3).pixels.numpy()
    captions = ["a red circle", "two squares", "it grows"]
    gallery = [here.encode_videos([stack]) for stack in frames]
    names = applicable_interactions(here)
    expected = score_gallery(here, captions, gallery, names)
    relevant = torch.tensor([0, 1, 2])
    with gpu.counted():
        scores = score_gallery(there, captions, gallery, names)
    assert gpu.waits.pop("gallery.score_gallery") == len(names)
    for name in names:
        assert type(scores[name]) is Tensor
        torch.testing.assert_close(scores[name], expected[name], atol=5e-6, rtol=0)
        assert retrieval_metrics(scores[name].to(GPU), relevant) == retrieval_metrics(scores[name], relevant)
