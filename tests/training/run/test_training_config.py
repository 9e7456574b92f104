"""The settings of a training run: defaults of the paper, and contradictions refused in words."""

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.training.run.losses import CombinedInfoNCELoss, CombinedSigmoidLoss, DualInfoNCELoss, DualSigmoidLoss
from colbert_video.training.run.training_config import DataConfig, TrainingConfig, is_test_split


def test_the_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert (config.learning_rate, config.pretrained_learning_rate) == (1e-4, 1e-7)
    assert (config.betas, config.eps, config.weight_decay, config.clip) == ((0.9, 0.98), 1e-6, 0.01, 1.0)
    assert (config.schedule, config.warmup, config.batch_size, config.epochs) == ("linear", 0.1, 256, 5)
    loss = config.build_loss()
    assert type(loss) is DualSigmoidLoss
    assert (loss.log_scale.item(), loss.bias.item()) == pytest.approx((4.77, -12.93))
    assert (loss.lambda_frame, loss.lambda_video) == (1.0, 1.0)


def test_public_names() -> None:
    import colbert_video.training as room

    assert all(getattr(room, name).__name__ == name for name in room.__all__)
    assert "Trainer" in room.__all__
    with pytest.raises(
        AttributeError, match=r"has no attribute 'Teacher'; it has .*DataConfig.*, Trainer, TrainingConfig"
    ):
        _ = room.Teacher


def test_losses_as_configured() -> None:
    sigmoid = TrainingConfig(loss_scale=10.0, loss_bias=-2.0, lambda_frame=0.5, learnable_loss=True).build_loss()
    assert (sigmoid.log_scale.exp().item(), sigmoid.bias.item()) == pytest.approx((10.0, -2.0))
    assert sigmoid.lambda_frame == 0.5
    assert len(list(sigmoid.parameters())) == 2
    combined = TrainingConfig(loss="combined_sigmoid", loss_bias=-3.0).build_loss()
    assert type(combined) is CombinedSigmoidLoss
    assert combined.bias.item() == -3.0
    whole = TrainingConfig(loss_bias=-20, learnable_loss=True).build_loss()
    assert (whole.bias.item(), whole.bias.dtype, whole.bias.requires_grad) == (-20.0, torch.float32, True)
    info_nce = TrainingConfig(loss="dual_infonce", lambda_video=2.0).build_loss()
    assert type(info_nce) is DualInfoNCELoss
    assert (info_nce.log_scale.item(), info_nce.lambda_video) == pytest.approx((math.log(100), 2.0))
    assert type(TrainingConfig(loss="combined_infonce").build_loss()) is CombinedInfoNCELoss


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 1}, r"batch_size=1: a contrastive loss needs negatives"),
        ({"epochs": 0}, r"epochs=0 must be at least 1"),
        ({"learning_rate": math.nan}, r"learning_rate=nan must be a finite number"),
        ({"clip": 0.0}, r"clip=0.0 must be above 0"),
        ({"chunk_size": 512}, r"chunk_size=512 exceeds batch_size=256"),
        ({"warmup": 1.0}, r"warmup=1.0 is a part of all steps; it must be in \[0, 1\)"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be two numbers in \[0, 1\)"),
        ({"loss": "combined_sigmoid", "interaction": "mms_f"}, r"combines two levels, but interaction='mms_f' has one"),
        ({"loss": "combined_infonce", "lambda_frame": 0.5}, r"weigh the levels of dual losses"),
        ({"interaction": "mms_v", "lambda_video": 0.0}, r"every level that interaction='mms_v' reads the weight 0"),
        ({"metric": "MdR"}, r"metric='MdR' is better when it is smaller; choose one that grows"),
        ({"loss": "dual_infonce", "loss_bias": -1.0}, r"loss_bias=-1.0 has no effect on 'dual_infonce'"),
        ({"loss": "dual_infonce", "loss_bias": "calibrate"}, r"loss_bias='calibrate' has no effect on 'dual_infonce'"),
        ({"loss_bias": math.nan}, r"loss_bias=nan must be a finite number"),
        ({"loss_learning_rate": -1.0}, r"loss_learning_rate=-1.0 must be at least 0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        TrainingConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"manifest": " "}, "data.manifest is empty"),
        ({"validation_split": "test"}, r"split 'test' is for the final figures alone.*held-out part of the training"),
        ({"validation_split": "Test-1k"}, "split 'Test-1k' is for the final figures alone"),
        ({"train_split": "test"}, "split 'test' is for the final figures alone"),
        ({"validation_split": "train"}, "train_split and validation_split are both 'train'"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
        ({"num_frames": 0}, "num_frames=0 must be at least 1"),
        ({"cache_gigabytes": 0.0}, "cache_gigabytes=0.0 must be above 0"),
        ({"snap": 0.5}, r"data.snap=0.5 must be at most 0.25"),
    ],
)
def test_data_settings_are_checked(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        replace(DataConfig("captions.jsonl"), **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"interaction": "mms"}, r"interaction='mms' must be one of mms_fv, mms_f"),
        ({"loss": "triplet"}, r"loss='triplet' must be one of dual_sigmoid"),
        ({"labels": "caption"}, r"labels='caption' must be one of video, diagonal"),
        ({"precision": "fp16"}, r"precision='fp16' must be one of bf16, fp32"),
        ({"schedule": "step"}, r"schedule='step' must be one of linear"),
        ({"missing": "skip"}, r"missing='skip' must be one of refuse, report"),
    ],
)
def test_unknown_choices_are_refused(changes: dict[str, Any], text: str) -> None:
    kind: Any = DataConfig if "missing" in changes else TrainingConfig

    class Unchecked(kind):
        """Reaches the library's own checks past the test suite's type checks."""

        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                object.__setattr__(self, name, value)
            kind.__post_init__(self)

    with pytest.raises(SettingsError, match=text):
        Unchecked(manifest="captions.jsonl", **changes)


def test_names_of_test_splits() -> None:
    assert all(map(is_test_split, ("test", "TEST", " test_1k")))
    assert not any(map(is_test_split, ("val", "train", "validation", "contest")))


def test_plain_values_come_back() -> None:
    config = TrainingConfig(freeze=("class_token",), max_steps=3, clip=None)
    values = json.loads(json.dumps(config.to_dict()))
    assert values.keys() == {field.name for field in fields(TrainingConfig)}
    assert TrainingConfig(**{**values, "freeze": tuple(values["freeze"]), "betas": tuple(values["betas"])}) == config


def test_every_decoder_of_the_sampler_can_be_chosen() -> None:
    for decoder in ("pyav", "decord", "torchcodec"):
        assert DataConfig(manifest="captions.jsonl", decoder=decoder).decoder == decoder  # type: ignore[arg-type]
