"""What is frozen, which parameter learns how fast, and the learning rate's course."""

import copy
from typing import Any

import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.training.run.losses import DualSigmoidLoss
from colbert_video.training.run.optimizer import (
    FAMILIES,
    build_optimizer,
    freeze,
    freeze_batch_norm,
    learning_rate_factor,
    parameter_groups,
    set_learning_rates,
    trainable,
)

PAPER = ("token_embedding", "text_positions", "vision_positions", "patch_embedding")


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return copy.deepcopy(tiny_model)


@pytest.fixture
def siglip(tiny_siglip_model: Any) -> Any:
    return copy.deepcopy(tiny_siglip_model)


def frozen(model: Any) -> set[str]:
    return {name.removeprefix("backbone.clip.") for name, value in model.named_parameters() if not value.requires_grad}


def groups_of(model: Any, loss: torch.nn.Module | None = None) -> list[dict[str, Any]]:
    return parameter_groups(
        model,
        loss or DualSigmoidLoss(),
        learning_rate=1e-4,
        pretrained_learning_rate=1e-7,
        loss_learning_rate=1e-2,
        weight_decay=0.01,
    )


def test_freezing_clip(model: Any) -> None:
    freeze(model, [*PAPER, "class_token"])
    assert frozen(model) == {
        "logit_scale",  # the backbone's own, never used
        "token_embedding.weight",
        "positional_embedding",
        "visual.positional_embedding",
        "visual.conv1.weight",
        "visual.class_embedding",
    }


def test_freezing_siglip(siglip: Any) -> None:
    freeze(siglip, PAPER)
    assert frozen(siglip) == {
        "logit_scale",
        "logit_bias",
        "text.token_embedding.weight",
        "text.positional_embedding",
        "visual.positional_embedding",
        "visual.conv1.weight",
    }


def test_the_towers_cover_the_backbone(model: Any, siglip: Any) -> None:
    for each in (model, siglip):
        freeze(each, ["vision_tower", "text_tower"])
        learning = {name for name, value in each.named_parameters() if value.requires_grad}
        assert learning
        assert all(name.startswith("temporal.") for name in learning)


def test_freezing_by_pattern(model: Any) -> None:
    freeze(model, ["temporal.blocks.0.*"])
    names = frozen(model) - {"logit_scale"}
    assert len(names) == 12
    assert all(name.startswith("temporal.blocks.0.") for name in names)


def test_a_name_that_matches_nothing_is_refused(model: Any) -> None:
    with pytest.raises(SettingsError, match=r"freeze names 'patch_embeding', which matches no parameter of tiny-clip"):
        freeze(model, ["patch_embeding"])
    del model.backbone.clip.visual.class_embedding
    with pytest.raises(SettingsError, match=r"'class_token'.*leave it out, or use one of token_embedding"):
        freeze(model, ["class_token"])
    assert set(FAMILIES) >= set(PAPER)


def test_groups_of_the_paper(model: Any) -> None:
    groups = {(group["lr"], group["weight_decay"]): set(group["names"]) for group in groups_of(model)}
    assert groups.keys() == {(1e-4, 0.01), (1e-4, 0.0), (1e-7, 0.01), (1e-7, 0.0)}
    assert {"temporal.positions", "temporal.expansion", "temporal.blocks.3.attn.in_proj_weight"} <= groups[1e-4, 0.01]
    assert {"temporal.blocks.0.ln_1.weight", "temporal.blocks.0.attn.in_proj_bias"} <= groups[1e-4, 0.0]
    assert {"backbone.clip.visual.proj", "backbone.clip.token_embedding.weight"} <= groups[1e-7, 0.01]
    assert {"backbone.clip.ln_final.bias", "backbone.clip.visual.class_embedding"} <= groups[1e-7, 0.0]
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert set().union(*groups.values()) == learning
    assert sum(len(names) for names in groups.values()) == len(learning), "no parameter twice"


def test_a_learnable_loss_has_a_learning_rate_of_its_own(model: Any) -> None:
    group = next(group for group in groups_of(model, DualSigmoidLoss(learnable=True)) if "loss.bias" in group["names"])
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.0)
    assert sorted(group["names"]) == ["loss.bias", "loss.log_scale"]


def test_nothing_to_train_is_refused(model: Any) -> None:
    model.requires_grad_(False)
    with pytest.raises(SettingsError, match="every parameter is frozen"):
        groups_of(model)


def test_adamw_as_configured(model: Any) -> None:
    optimizer = build_optimizer(groups_of(model), betas=(0.9, 0.98), eps=1e-6)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"]
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-6)
    set_learning_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-5, 5e-8}
    set_learning_rates(optimizer, 1.0)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4, 1e-7}, "always from the peak"


def test_a_step_at_the_pretrained_rate_changes_the_weights(model: Any) -> None:
    """1e-7 is far below the resolution of half precision; the master weights are float32 and keep it."""
    groups = groups_of(model)
    optimizer = build_optimizer(groups, betas=(0.9, 0.98), eps=1e-6)
    weight = model.backbone.clip.visual.proj
    before = weight.detach().clone()
    for parameter in trainable(groups):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    changed = (weight != before).float().mean().item()
    assert changed > 0.9
    assert (weight - before).abs().max().item() == pytest.approx(1e-7, rel=0.2)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_learning_rate_course(schedule: Any) -> None:
    factors = [learning_rate_factor(step, 100, warmup=0.1, schedule=schedule) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * number for number in range(1, 11)])
    assert factors[10] == 1.0
    assert all(factor > 0 for factor in factors), "no step is wasted"
    if schedule == "constant":
        assert factors[99] == 1.0
    else:
        assert factors[55] == pytest.approx(0.5)
        assert factors[10:] == sorted(factors[10:], reverse=True)
        assert factors[99] < 0.012


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert learning_rate_factor(0, 10, warmup=0.0, schedule="linear") == 1.0
    assert learning_rate_factor(0, 1, warmup=0.1, schedule="linear") == 1.0


def test_batch_norm_keeps_its_statistics() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Dropout()).train()
    freeze_batch_norm(model)
    model(torch.rand(2, 3, 5, 5))
    assert model[1].running_mean.abs().max() == 0
    assert model[2].training
