"""GradCache: gradients equal the plain batch's, on the real model, in both precisions, and with random layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from training_fakes import training_batch

from colbert_video.training.run.batch_encoding import EncodableBatch, batch_labels, batch_loss
from colbert_video.training.run.gradcache import cached_backward, random_state, set_random_state
from colbert_video.training.run.losses import DualInfoNCELoss, DualSigmoidLoss, PairLoss

ROWS = 7
SAME = 5e-5
"""Relative to a gradient's norm: float32 sums of chunks and of the batch, on any processor."""


@pytest.fixture
def model(tiny_trained_model: Any) -> Any:
    """The tiny model, trainable; its gradients are dropped afterwards."""
    tiny_trained_model.train()
    yield tiny_trained_model
    tiny_trained_model.zero_grad(set_to_none=True)
    tiny_trained_model.set_grad_checkpointing(False)
    tiny_trained_model.eval()


def gradients(model: Any, backward: Callable[[], Tensor]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    value = backward().item()
    return value, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def plain_and_cached(
    model: Any, *, chunk: int, loss: PairLoss | None = None, interaction: str = "mms_fv", bfloat16: bool = False
) -> tuple[tuple[float, dict[str, Tensor]], tuple[float, dict[str, Tensor]]]:
    batch = training_batch(ROWS, 5, ids=["a", "a", "b", "c", "d", "e", "f"])
    encode = EncodableBatch.from_batch(batch, model, model, bfloat16=bfloat16)
    labels, _ = batch_labels(batch.video_ids, "video")

    def loss_of(tokens: tuple[Tensor, ...]) -> Tensor:
        return batch_loss(tokens, labels, loss or DualSigmoidLoss(), interaction)  # type: ignore[arg-type]

    def plain() -> Tensor:
        value = loss_of(encode(slice(0, ROWS)))
        value.backward()
        return value

    def cached() -> Tensor:
        return cached_backward(encode, loss_of, rows=ROWS, chunk_size=chunk)

    return gradients(model, plain), gradients(model, cached)


def worst(found: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Largest relative error of a parameter's gradient; those that are next to nothing count against the largest."""
    assert found.keys() == right.keys()
    assert len(right) > 30, "both towers and the temporal transformer have gradients"
    floor = 1e-3 * max(gradient.norm() for gradient in right.values())
    return max(((found[n] - right[n]).norm() / torch.maximum(right[n].norm(), floor)).item() for n in right)


@pytest.mark.parametrize("chunk", [1, 3, ROWS, 100])
def test_gradients_equal_the_plain_batch(model: Any, chunk: int) -> None:
    (plain_loss, plain), (cached_loss, cached) = plain_and_cached(model, chunk=chunk)
    assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
    assert worst(cached, plain) < SAME


@pytest.mark.parametrize("interaction", ["mms_f", "mms_v", "mp_v"])
def test_with_one_level_alone(model: Any, interaction: str) -> None:
    (_, plain), (_, cached) = plain_and_cached(model, chunk=3, interaction=interaction)
    assert worst(cached, plain) < SAME


def test_with_gradient_checkpointing(model: Any) -> None:
    (_, plain), _ = plain_and_cached(model, chunk=3)
    model.set_grad_checkpointing()
    _, (_, cached) = plain_and_cached(model, chunk=3)
    assert worst(cached, plain) < SAME


def test_with_bfloat16(model: Any) -> None:
    """Sums of chunks are rounded elsewhere than sums of the batch, so they agree to bfloat16's three digits only."""
    (plain_loss, plain), (cached_loss, cached) = plain_and_cached(model, chunk=3, bfloat16=True)
    assert cached_loss == pytest.approx(plain_loss, rel=1e-3)
    assert worst(cached, plain) < 0.05
    assert all(gradient.dtype == torch.float32 for gradient in cached.values())


def test_a_learnable_loss_has_its_gradient_too(model: Any) -> None:
    loss = DualInfoNCELoss(learnable=True)
    plain_and_cached(model, chunk=3, loss=loss)
    total = loss.log_scale.grad
    assert total is not None
    loss.zero_grad()
    batch = training_batch(ROWS, 5, ids=["a", "a", "b", "c", "d", "e", "f"])
    encode = EncodableBatch.from_batch(batch, model, model, bfloat16=False)
    labels, _ = batch_labels(batch.video_ids, "video")
    batch_loss(encode(slice(0, ROWS)), labels, loss, "mms_fv").backward()
    assert total.item() == pytest.approx(2 * loss.log_scale.grad.item(), rel=1e-5)


def test_random_layers_draw_the_same_in_both_passes() -> None:
    """The gradient of sum(tokens ** 2) is right only if the second pass drops what the first one dropped."""
    layer = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Dropout(0.5))
    rows = torch.rand(9, 6)
    drawn: list[Tensor] = []

    def encode(chunk: slice) -> tuple[Tensor, ...]:
        drawn.append(layer(rows[chunk]))
        return (drawn[-1],)

    before = random_state()[0]
    cached_backward(encode, lambda tokens: (tokens[0] ** 2).sum(), rows=9, chunk_size=4)
    assert len(drawn) == 6
    for first, second in zip(drawn[:3], drawn[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(before, random_state()[0]), "the next batch draws again"


def test_a_random_state_out_of_a_tensor_of_several() -> None:
    """As a checkpoint of several processes holds them; torch alone would read one from the wrong place."""
    first = random_state()[0]
    torch.rand(7)
    states = torch.stack([first, random_state()[0]])  # (processes, bytes)
    right = torch.rand(3)
    set_random_state([states[1]])
    assert torch.equal(torch.rand(3), right)


def test_an_infinite_loss_is_returned_before_it_spreads() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    value = cached_backward(
        lambda chunk: (weight * torch.ones(4, 3)[chunk],),
        lambda tokens: tokens[0].sum() * torch.inf,
        rows=4,
        chunk_size=2,
    )
    assert not value.isfinite()
    assert weight.grad is None
