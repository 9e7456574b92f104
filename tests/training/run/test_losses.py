"""The losses: values by hand, a naive reference, gradients in float64, labels, and parts of a batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.training.run import losses as module
from colbert_video.training.run.losses import (
    CombinedInfoNCELoss,
    CombinedSigmoidLoss,
    DualInfoNCELoss,
    DualSigmoidLoss,
    PairLoss,
    diagonal_labels,
    positive_labels,
)

LOSSES = (DualSigmoidLoss, CombinedSigmoidLoss, DualInfoNCELoss, CombinedInfoNCELoss)
SCALE = math.exp(4.77)


def naive_sigmoid(scores: Tensor, labels: Tensor, *, scale: float = SCALE, bias: float = -12.93) -> float:
    total = 0.0
    for row, marks in zip(scores.tolist(), labels.tolist(), strict=True):
        for score, positive in zip(row, marks, strict=True):
            logit = scale * score + bias
            total += math.log1p(math.exp(-logit if positive else logit))
    return total / len(scores)


def naive_info_nce(scores: Tensor, labels: Tensor, *, scale: float = 100.0) -> float:
    """One direction: for each positive, the softmax over it and the row's negatives."""
    total = 0.0
    for row, marks in zip(scores.tolist(), labels.tolist(), strict=True):
        negatives = sum(math.exp(scale * score) for score, positive in zip(row, marks, strict=True) if not positive)
        positives = [math.exp(scale * score) for score, positive in zip(row, marks, strict=True) if positive]
        total += sum(-math.log(value / (value + negatives)) for value in positives) / len(positives)
    return total / len(scores)


def test_the_papers_constants() -> None:
    loss = DualSigmoidLoss()
    assert loss.log_scale.exp().item() == pytest.approx(117.919, abs=1e-3)
    assert loss.bias.item() == pytest.approx(-12.93)
    assert not list(loss.parameters()), "fixed unless asked for"
    threshold = 12.93 / 117.919  # where a pair is as likely a match as not
    one = torch.full((1, 1), threshold)
    assert loss(one, None, torch.tensor([[True]])).item() == pytest.approx(math.log(2), abs=1e-3)
    assert loss(one, None, torch.tensor([[False]])).item() == pytest.approx(math.log(2), abs=1e-3)


def test_with_all_scores_zero_the_loss_is_almost_the_bias() -> None:
    """The one positive of each query costs 12.93, negatives nothing."""
    zeros = torch.zeros(8, 8)
    assert DualSigmoidLoss()(zeros, None).item() == pytest.approx(12.93, abs=1e-3)
    assert DualSigmoidLoss()(zeros, zeros).item() == pytest.approx(2 * 12.93, abs=1e-3)


def test_perfect_scores_cost_nothing() -> None:
    """With the bias subtracted, as the formula is printed, this would be above 7."""
    assert DualSigmoidLoss()(torch.eye(8), torch.eye(8)).item() < 1e-4


def test_dual_sigmoid_by_hand() -> None:
    """Scale 2 and bias -1: logits 1, -1 and 0, 3; the diagonal is positive."""
    frame = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    by_hand = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(-3))) / 2
    loss = DualSigmoidLoss(log_scale=math.log(2), bias=-1.0)
    assert loss(frame, None).item() == pytest.approx(by_hand, rel=1e-6)
    weighted = DualSigmoidLoss(log_scale=math.log(2), bias=-1.0, lambda_frame=0.25, lambda_video=3.0)
    assert weighted(frame, frame).item() == pytest.approx(3.25 * by_hand, rel=1e-6)


def test_combined_sigmoid_sees_the_sum() -> None:
    frame, video = torch.tensor([[0.75, 0.0], [0.25, 1.0]]), torch.tensor([[0.25, 0.0], [0.25, 1.0]])
    combined = CombinedSigmoidLoss(log_scale=math.log(2), bias=-1.0)(frame, video)
    alone = DualSigmoidLoss(log_scale=math.log(2), bias=-1.0)(frame + video, None)
    assert combined.item() == pytest.approx(alone.item(), rel=1e-6)
    assert combined.item() != pytest.approx(DualSigmoidLoss(log_scale=math.log(2), bias=-1.0)(frame, video).item())


def test_info_nce_is_the_cross_entropy_of_both_directions() -> None:
    scores, targets = torch.rand(5, 5), torch.arange(5)
    rows = torch.nn.functional.cross_entropy(100 * scores, targets)
    columns = torch.nn.functional.cross_entropy(100 * scores.T, targets)
    assert DualInfoNCELoss()(scores, None).item() == pytest.approx(((rows + columns) / 2).item(), rel=1e-5)
    assert DualInfoNCELoss(symmetric=False)(scores, None).item() == pytest.approx(rows.item(), rel=1e-5)


def test_info_nce_with_two_positives_by_hand() -> None:
    """Logits 1, 2 positive and 0 negative: neither positive pushes the other down."""
    scores, labels = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[True, True, False]])
    by_hand = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    loss = DualInfoNCELoss(scale=1.0, symmetric=False)
    assert loss(scores, None, labels).item() == pytest.approx(by_hand, rel=1e-6)


def test_positives_alone_cost_nothing_and_give_no_gradient() -> None:
    scores = torch.rand(2, 2, requires_grad=True)
    DualInfoNCELoss()(scores, None, torch.ones(2, 2, dtype=torch.bool)).backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros(2, 2))


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    labels = torch.rand(rows, columns) < 0.4
    labels[torch.arange(rows), torch.randint(columns, (rows,))] = True
    return torch.rand(rows, columns, dtype=torch.float64) - 0.5, labels


@given(labelled_scores())
def test_naive_references(example: tuple[Tensor, Tensor]) -> None:
    scores, labels = example
    assert DualSigmoidLoss()(scores, None, labels).item() == pytest.approx(naive_sigmoid(scores, labels), rel=1e-5)
    info_nce = DualInfoNCELoss(symmetric=False)(scores, None, labels)
    assert info_nce.item() == pytest.approx(naive_info_nce(scores, labels), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("loss", [kind() for kind in LOSSES], ids=lambda loss: type(loss).__name__)
def test_gradients_in_float64(loss: PairLoss) -> None:
    labels = torch.eye(4, dtype=torch.bool)
    labels[0, 1] = labels[1, 0] = True
    frame, video = (0.2 * torch.rand(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *levels: loss(*levels, labels), (frame, video))


@pytest.mark.parametrize("kind", LOSSES)
def test_learnable_scale_and_bias(kind: type[PairLoss]) -> None:
    loss = kind(learnable=True)  # type: ignore[call-arg]
    loss(torch.rand(3, 3), torch.rand(3, 3)).backward()
    names = {"log_scale", "bias"} if "Sigmoid" in kind.__name__ else {"log_scale"}
    assert dict(loss.named_parameters()).keys() == names
    assert all(parameter.grad is not None and parameter.grad != 0 for parameter in loss.parameters())


@pytest.mark.parametrize("kind", LOSSES)
def test_one_level_alone(kind: type[PairLoss]) -> None:
    scores = torch.rand(3, 3)
    loss = kind()  # type: ignore[call-arg]
    assert loss(scores, None).item() == pytest.approx(loss(None, scores).item())


def test_sign_labels_and_boolean_labels_are_the_same() -> None:
    scores, labels = torch.rand(3, 4), diagonal_labels(3, 4, offset=1)
    signs = torch.where(labels, 1, -1)
    loss = DualSigmoidLoss()
    assert loss(scores, None, labels).equal(loss(scores, None, signs))
    assert loss(scores, None, labels).equal(loss(scores, None, signs.float()))


def test_parts_of_a_batch_add_up() -> None:
    """Queries of two processes against the videos of both: the mean of their losses is the loss of the whole batch."""
    scores, video = torch.rand(6, 6), torch.rand(6, 6)
    for loss in (DualSigmoidLoss(), DualInfoNCELoss(symmetric=False), CombinedSigmoidLoss()):
        parts = [
            loss(scores[start : start + 3], video[start : start + 3], diagonal_labels(3, 6, offset=start))
            for start in (0, 3)
        ]
        assert torch.stack(parts).mean().item() == pytest.approx(loss(scores, video).item(), rel=1e-6)


def test_labels_from_video_ids() -> None:
    labels = positive_labels(["a", "b", "a"], ["b", "a", "c"])
    assert labels.tolist() == [[False, True, False], [True, False, False], [False, True, False]]


def test_captions_of_one_video_are_not_negatives_of_each_other() -> None:
    """Rows 0 and 1 describe one video; all four scores between them are high, as they should be."""
    scores = torch.eye(3)
    scores[:2, :2] = 1.0
    by_video = DualSigmoidLoss()(scores, None, positive_labels(["v", "v", "w"], ["v", "v", "w"]))
    by_diagonal = DualSigmoidLoss()(scores, None)
    assert by_video.item() < 1e-4
    assert by_diagonal.item() == pytest.approx(2 * (117.919 - 12.93) / 3, rel=1e-3)


def test_diagonal_labels_with_an_offset() -> None:
    assert diagonal_labels(2, 4, offset=2).nonzero().tolist() == [[0, 2], [1, 3]]
    with pytest.raises(SettingsError, match="2 queries from column 3 on do not fit 4 videos"):
        diagonal_labels(2, 4, offset=3)


def calibrated(kind: type[DualSigmoidLoss], *levels: Tensor, learnable: bool = False) -> DualSigmoidLoss:
    """A loss of scale 10 that was called once with scores of these levels."""
    loss = kind(log_scale=math.log(10), bias=math.nan, learnable=learnable)
    frame_scores, video_scores = (*levels, None)[:2]
    loss(frame_scores, video_scores)
    return loss


def test_calibration_puts_the_decision_point_between_usual_and_perfect_scores() -> None:
    frame = torch.tensor([[0.9, 0.1], [0.3, 0.7]])  # pairs that do not belong together: 0.2 on average
    video = torch.tensor([[0.9, 0.5], [0.5, 0.7]])  # 0.5
    one = calibrated(DualSigmoidLoss, frame)
    assert one.bias.item() == pytest.approx(-10 * (0.2 + 0.4 * 0.8))
    assert one.decision_point == pytest.approx(0.52)
    both = calibrated(DualSigmoidLoss, frame, video)
    assert both.decision_point == pytest.approx(0.35 + 0.4 * 0.65)
    summed = calibrated(CombinedSigmoidLoss, frame, video)
    assert summed.decision_point == pytest.approx(0.7 + 0.4 * 1.3)
    assert both(frame, video).item() == pytest.approx(
        DualSigmoidLoss(log_scale=math.log(10), bias=both.bias.item())(frame, video).item()
    )


@pytest.mark.parametrize("learnable", [False, True])
def test_calibration_happens_once(learnable: bool) -> None:
    first = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    loss = calibrated(DualSigmoidLoss, first, learnable=learnable)
    bias = loss.bias.item()
    loss(first + 0.2, None)
    assert loss.bias.item() == bias
    resumed = DualSigmoidLoss(log_scale=0.0, bias=math.nan, learnable=learnable)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(first + 0.2, None).isfinite()
    assert (resumed.bias.item(), resumed.log_scale.item()) == (bias, loss.log_scale.item())


def test_calibration_needs_pairs_that_do_not_belong_together() -> None:
    with pytest.raises(SettingsError, match="the first batch has none; give a number"):
        DualSigmoidLoss(bias=math.nan)(torch.ones(1, 1), None)


def test_decision_points() -> None:
    assert DualSigmoidLoss().decision_point == pytest.approx(0.1097, abs=1e-4)
    assert DualInfoNCELoss().decision_point is None
    learnt = DualSigmoidLoss(log_scale=0.0, bias=-0.5, learnable=True)
    assert learnt.decision_point == pytest.approx(0.5)
    learnt.bias.data.fill_(-0.25)
    assert learnt.decision_point == pytest.approx(0.25)


def test_bad_input_is_refused() -> None:
    with pytest.raises(SettingsError, match="neither frame nor video scores"):
        DualSigmoidLoss()(None, None)
    with pytest.raises(SettingsError, match="2 queries and 3 videos have no diagonal; give labels"):
        DualSigmoidLoss()(torch.rand(2, 3), None)
    with pytest.raises(SettingsError, match=r"shapes \[\(2, 2\), \(2, 3\)\]; they must be the same"):
        module._as_positive(torch.rand(2, 3), [torch.rand(2, 2)])
    with pytest.raises(SettingsError, match=r"row 1 of the labels has no positive.*symmetric=False"):
        DualInfoNCELoss()(torch.rand(2, 2), None, torch.tensor([[True, True], [False, False]]))
    with pytest.raises(SettingsError, match=r"scale=0.0 must be above 0"):
        DualInfoNCELoss(scale=0.0)
