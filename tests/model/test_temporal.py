"""The temporal transformer: order, masks, residual, expansion tokens and the size of its position table."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.temporal import TemporalEncoder, _random_blocks, _stretch
from colbert_video.model.video_colbert import VideoColBERT

DIM = 64


def encoder(
    *, layers: int = 2, positions: Tensor | None = None, expansion_tokens: int = 2, outer_residual: bool = True
) -> TemporalEncoder:
    return TemporalEncoder(
        _random_blocks(DIM, layers),
        positions=positions,
        dim=DIM,
        expansion_tokens=expansion_tokens,
        outer_residual=outer_residual,
    ).eval()


def all_true(frames: Tensor) -> Tensor:
    return torch.ones(frames.shape[:2], dtype=torch.bool)


def test_positions_tell_order() -> None:
    frames, order = torch.randn(1, 5, DIM), [3, 0, 4, 1, 2]
    model = encoder(positions=torch.randn(8, DIM))
    straight, _ = model(frames, all_true(frames))
    shuffled, _ = model(frames[:, order], all_true(frames))
    assert (shuffled[:, :5] - straight[:, order]).abs().max() > 0.1


def test_without_positions_order_is_lost() -> None:
    """Frames then only change places, and expansion tokens not at all: what makes the test above worth passing."""
    frames, order = torch.randn(1, 5, DIM), [3, 0, 4, 1, 2]
    model = encoder(positions=None)
    straight, _ = model(frames, all_true(frames))
    shuffled, _ = model(frames[:, order], all_true(frames))
    torch.testing.assert_close(shuffled[:, :5], straight[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled[:, 5:], straight[:, 5:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_masked_frames_change_nothing(training: bool) -> None:
    model = encoder(positions=torch.randn(8, DIM)).train(training)
    short, long = torch.randn(1, 3, DIM), torch.randn(1, 5, DIM)
    padded = torch.cat([torch.cat([short, 100 * torch.randn(1, 2, DIM)], dim=1), long])
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    tokens, token_mask = model(padded, mask)
    assert token_mask.tolist() == [[True] * 3 + [False] * 2 + [True] * 2, [True] * 7]
    for row, frames in enumerate((short, long)):
        alone, _ = model(frames, all_true(frames))
        torch.testing.assert_close(tokens[row][token_mask[row]], alone[0], atol=1e-5, rtol=1e-4)


def test_frames_see_later_frames() -> None:
    model, frames = encoder(positions=torch.randn(8, DIM)), torch.randn(1, 4, DIM)
    changed = frames.clone()
    changed[0, 3] = torch.randn(DIM)
    before, after = (model(stack, all_true(stack))[0] for stack in (frames, changed))
    assert (before[0, 0] - after[0, 0]).abs().max() > 1e-4


def test_outer_residual_reaches_frames_and_not_expansion_tokens() -> None:
    frames = torch.randn(1, 4, DIM)
    model = encoder(positions=torch.randn(8, DIM))
    with_it, _ = model(frames, all_true(frames))
    model.outer_residual = False
    without, _ = model(frames, all_true(frames))
    torch.testing.assert_close(with_it[:, :4], without[:, :4] + frames)  # without positions
    assert torch.equal(with_it[:, 4:], without[:, 4:])


def test_no_layers_pass_frames_and_expansion_tokens_through() -> None:
    frames = torch.randn(2, 3, DIM)
    model = encoder(layers=0, outer_residual=False)
    tokens, mask = model(frames, all_true(frames))
    assert torch.equal(tokens[:, :3], frames)
    assert torch.equal(tokens[1, 3:], model.expansion)
    assert mask.all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_expansion_tokens_are_appended(count: int) -> None:
    frames = torch.randn(2, 3, DIM)
    tokens, mask = encoder(expansion_tokens=count)(frames, all_true(frames))
    assert (tokens.shape, mask.shape) == ((2, 3 + count, DIM), (2, 3 + count))


def test_more_frames_than_positions_are_refused() -> None:
    frames = torch.randn(1, 9, DIM)
    with pytest.raises(SettingsError, match=r"9 frames, but this model has positions for 8; sample fewer.*max_frames"):
        encoder(positions=torch.randn(8, DIM))(frames, all_true(frames))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    frames = torch.randn(2, 4, DIM)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    plain = encoder(positions=torch.randn(8, DIM)).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.grad_checkpointing = True
    for model in (plain, checkpointed):
        model(frames, mask)[0].square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad)


def test_gradient_checkpointing_computes_blocks_again_and_only_for_gradients() -> None:
    frames, model, calls = torch.randn(1, 4, DIM), encoder(layers=1), []
    model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model.grad_checkpointing = True
    model(frames, all_true(frames))[0].sum().backward()
    assert len(calls) == 2
    with torch.inference_mode():
        model(frames, all_true(frames))
    assert len(calls) == 3


# The start from a text tower


def build(model: VideoColBERT, **settings: object) -> TemporalEncoder:
    defaults = {"temporal_layers": 2, "num_frames": 8, "max_frames": 8}
    return TemporalEncoder.from_config(replace(model.config, **{**defaults, **settings}), model.backbone)  # type: ignore[arg-type]


def test_blocks_and_positions_start_as_copies_of_the_text_towers(tiny_model: VideoColBERT) -> None:
    temporal, text = build(tiny_model), tiny_model.backbone.text
    assert temporal.positions is not None
    assert torch.equal(temporal.positions, text.positional_embedding[:8])
    assert temporal.positions.requires_grad
    for copied, original in zip(temporal.blocks, text.transformer.resblocks[:2], strict=True):
        for one, other in zip(copied.parameters(), original.parameters(), strict=True):
            assert torch.equal(one, other)
            assert one.data_ptr() != other.data_ptr()  # training one must not move the other


def test_random_blocks_are_no_copies(tiny_model: VideoColBERT) -> None:
    temporal, text = build(tiny_model, temporal_init="random"), tiny_model.backbone.text
    assert not torch.equal(temporal.blocks[0].mlp.c_fc.weight, text.transformer.resblocks[0].mlp.c_fc.weight)
    assert temporal.positions is not None
    assert temporal.positions.shape == (8, DIM)


def test_frame_positions_can_be_left_out(tiny_model: VideoColBERT) -> None:
    assert build(tiny_model, frame_positions=False).positions is None


def test_random_blocks_fit_any_width() -> None:
    assert [_random_blocks(dim, 1)[0].attn.num_heads for dim in (128, 64, 200)] == [2, 1, 1]


def test_too_few_text_layers_are_refused(tiny_model: VideoColBERT) -> None:
    with pytest.raises(ModelError, match="temporal_layers=5, but the text tower has 4 layers"):
        build(tiny_model, temporal_layers=5)


def test_a_short_table_is_stretched_linearly() -> None:
    table = torch.tensor([[0.0, 10.0], [2.0, 20.0], [4.0, 30.0]])
    assert _stretch(table, 2).tolist() == [[0.0, 10.0], [2.0, 20.0]]
    assert _stretch(table, 5).tolist() == [[0.0, 10.0], [1.0, 15.0], [2.0, 20.0], [3.0, 25.0], [4.0, 30.0]]


def test_the_tiny_text_table_is_stretched_to_the_frames(tiny_model: VideoColBERT) -> None:
    positions = build(tiny_model, max_frames=64).positions
    assert positions is not None
    assert positions.shape == (64, DIM)
    torch.testing.assert_close(positions[[0, -1]], tiny_model.backbone.text_positions[[0, -1]])
