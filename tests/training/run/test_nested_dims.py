"""Training for tokens whose first dimensions can be used alone: the loss against a naive reference, and the settings."""

from typing import Any

import pytest
import torch
from torch import Tensor
from training_fakes import FakeData, training_batch

from colbert_video.errors import SettingsError
from colbert_video.training.run.batch_encoding import EncodableBatch, batch_labels, batch_loss, nested_sizes
from colbert_video.training.run.gradcache import cached_backward
from colbert_video.training.run.losses import DualSigmoidLoss
from colbert_video.training.run.trainer import Trainer
from colbert_video.training.run.training_config import TrainingConfig

ROWS = 5


@pytest.fixture
def encode(tiny_trained_model: Any) -> Any:
    tiny_trained_model.train()
    yield EncodableBatch.from_batch(training_batch(ROWS, 5), tiny_trained_model, tiny_trained_model, bfloat16=False)
    tiny_trained_model.zero_grad(set_to_none=True)
    tiny_trained_model.eval()


def labels() -> Tensor:
    return batch_labels([f"v{number}" for number in range(ROWS)], "video")[0]


def naive(tokens: tuple[Tensor, ...], sizes: list[int]) -> float:
    """The paper's loss, one size, one pair and one token at a time."""
    queries, scored, _, *bags = (tensor.detach() for tensor in tokens)
    total = 0.0
    for size in sizes:
        for vectors, mask in ((bags[0], bags[1]), (bags[2], bags[3])):
            for row in range(ROWS):
                words = [token[:size] / token[:size].norm() for token in queries[row][scored[row]]]
                for column in range(ROWS):
                    seen = [token[:size] / token[:size].norm() for token in vectors[column][mask[column]]]
                    score = sum(max(float(word @ one) for one in seen) for word in words) / len(words)
                    logit = 117.9192 * score - 12.93
                    total += float(torch.nn.functional.softplus(torch.tensor(-logit if row == column else logit)))
    return total / ROWS / len(sizes)


@pytest.mark.parametrize("nested", [(8,), (8, 16), (64, 8)])
def test_the_loss_is_the_mean_over_sizes(encode: Any, nested: tuple[int, ...]) -> None:
    tokens = tuple(tensor.detach() for tensor in encode(slice(0, ROWS)))
    value = float(batch_loss(tokens, labels(), DualSigmoidLoss(), "mms_fv", None, nested))
    assert value == pytest.approx(naive(tokens, nested_sizes(nested, 64)), rel=1e-4)


def test_all_dimensions_alone_change_nothing(encode: Any) -> None:
    tokens = tuple(tensor.detach() for tensor in encode(slice(0, ROWS)))
    values = [float(batch_loss(tokens, labels(), DualSigmoidLoss(), "mms_fv", None, dims)) for dims in ((), (64,))]
    assert values[0] == values[1]
    assert float(batch_loss(tokens, labels(), DualSigmoidLoss(), "mms_fv", None, (8,))) != values[0]


def test_gradients_are_those_of_a_batch_in_parts(encode: Any, tiny_trained_model: Any) -> None:
    def loss_of(tokens: tuple[Tensor, ...]) -> Tensor:
        return batch_loss(tokens, labels(), DualSigmoidLoss(), "mms_fv", None, (8, 16))

    found = []
    for parts in (False, True):
        tiny_trained_model.zero_grad(set_to_none=True)
        if parts:
            cached_backward(encode, loss_of, rows=ROWS, chunk_size=2)
        else:
            loss_of(encode(slice(0, ROWS))).backward()
        found.append(torch.cat([p.grad.flatten() for p in tiny_trained_model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4 * float(found[0].abs().max()))
    assert bool(found[0].isfinite().all())


def test_a_bias_is_calibrated_by_whole_tokens(encode: Any) -> None:
    tokens = encode(slice(0, ROWS))
    biases = []
    for nested in ((), (8, 16)):
        loss = DualSigmoidLoss(bias=float("nan"))
        batch_loss(tokens, labels(), loss, "mms_fv", None, nested)
        biases.append(float(loss.bias))
    assert biases[0] == biases[1]


@pytest.mark.parametrize("dims", [(), (0,), (8, 8), (-1, 4)])
def test_settings_that_make_no_sense(dims: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=r"nested_dims=.* must be different numbers of dimensions, 1 or more each"):
        TrainingConfig(nested_dims=dims)


def test_more_dimensions_than_the_model_has(tiny_names: Any, tmp_path: Any) -> None:
    from tiny_models import build_tiny

    model = build_tiny(tiny_names.clip)
    config = TrainingConfig(nested_dims=(16, 128), batch_size=4, epochs=1, precision="fp32")
    with pytest.raises(
        SettingsError, match=r"nested_dims=\(16, 128\): the model makes tokens of 64 dimensions; give fewer"
    ):
        Trainer(model, config, FakeData(batches=1), output=tmp_path / "run", device="cpu").train()
    assert not model.config.trained


def test_a_training_uses_them(tiny_names: Any, tmp_path: Any) -> None:
    from tiny_models import build_tiny

    losses = []
    for name, nested in (("plain", None), ("same", (64,)), ("nested", (8,))):
        model = build_tiny(tiny_names.clip)
        config = TrainingConfig(nested_dims=nested, batch_size=4, epochs=1, max_steps=1, precision="fp32")
        losses.append(Trainer(model, config, FakeData(batches=1), output=tmp_path / name, device="cpu").train().loss)
    assert losses[0] == losses[1] != losses[2]


def test_recipes_take_lists() -> None:
    from colbert_video.training.run.recipe import load_recipe

    (stage,) = load_recipe("msrvtt-clip-b32", overrides={"training.nested_dims": [16, 64]}).stages
    assert stage.training.nested_dims == (16, 64)
    assert stage.training.to_dict()["nested_dims"] == [16, 64]
