"""Contrastive losses on score matrices: the dual sigmoid loss of Video-ColBERT and what it is compared with.

Reddy et al., CVPR 2025, section 3.3 and Table 4. The sigmoid loss is SigLIP's (Zhai et al., ICCV 2023) with MeanMaxSim
as the similarity: every pair of a query and a video is a binary decision with the logit `scale * MMS + bias`. Two
things are easily read wrongly in print: the 4.77 is a logarithm (the scale is exp(4.77) = 117.9), and the bias of
-12.93 is added. With them a pair is as likely a match as not at MMS = 0.1097.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from colbert_video.errors import SettingsError

LOG_SCALE = 4.77
"""Logarithm of the sigmoid losses' scale."""
BIAS = -12.93
"""Added to the scaled score by the sigmoid losses."""
DECISION_SHARE = 0.4
"""Where calibration puts the score at which a pair is as likely a match as not: this share of the way from the usual score
of pairs that do not belong together to that of a perfect match."""
INFONCE_SCALE = 100.0
"""CLIP's trained logit scale, which InfoNCE fine-tuning keeps (CLIP4Clip, DRL)."""

Scores = Float[Tensor, "queries videos"]
Labels = Bool[Tensor, "queries videos"] | Int[Tensor, "queries videos"] | Float[Tensor, "queries videos"]
"""True or 1 where query and video belong together, False or -1 elsewhere."""


def positive_labels(query_video_ids: Sequence[str], video_ids: Sequence[str]) -> Bool[Tensor, "queries videos"]:
    """Label the pairs of one video id as positive: two captions of one video are not negatives of each other.

    Args:
        query_video_ids: Id of the video that each query describes.
        video_ids: Id of each video.
    """
    numbers = {video: number for number, video in enumerate(dict.fromkeys([*query_video_ids, *video_ids]))}
    rows = torch.tensor([numbers[video] for video in query_video_ids], dtype=torch.long, device="cpu")
    columns = torch.tensor([numbers[video] for video in video_ids], dtype=torch.long, device="cpu")
    return rows[:, None] == columns  # (queries, videos)


def diagonal_labels(queries: int, videos: int, *, offset: int = 0) -> Bool[Tensor, "queries videos"]:
    """Label query i and video `offset + i` as the only positive pair of their row.

    Args:
        queries: Rows of the score matrix.
        videos: Its columns.
        offset: Column of the first query's video, where the rows are one process's part of the batch.

    Raises:
        SettingsError: If a query's video would lie outside the matrix.
    """
    if offset < 0 or offset + queries > videos:
        raise SettingsError(
            f"{queries} queries from column {offset} on do not fit {videos} videos; give labels, one row a query."
        )
    return torch.arange(videos, device="cpu") == torch.arange(offset, offset + queries, device="cpu")[:, None]


class PairLoss(nn.Module):
    """Base of the losses: checks scores and labels, and weighs or sums the two levels.

    Args:
        log_scale: Logarithm of the factor on scores.
        bias: Added to the scaled scores; None for losses without it; nan to set it by the first scores, see `calibrate`.
        learnable: True to train scale and bias; the paper fixes both.
        lambda_frame: Weight of the frame level's loss.
        lambda_video: Weight of the video level's loss.
    """

    combined = False
    """True for one loss of the sum of both levels' scores, instead of one loss for each level."""
    log_scale: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        log_scale: float,
        bias: float | None,
        learnable: bool,
        lambda_frame: float = 1.0,
        lambda_video: float = 1.0,
    ) -> None:
        super().__init__()
        self.lambda_frame, self.lambda_video = lambda_frame, lambda_video
        self.learnable = learnable
        self._may_lack_bias = bias is not None and math.isnan(bias)
        for name, value in (("log_scale", log_scale), ("bias", bias)):
            if value is not None and learnable:
                self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.float32, device="cpu")))
            elif value is not None:
                self.register_buffer(name, torch.tensor(value, dtype=torch.float32, device="cpu"))

    def forward(
        self, frame_scores: Scores | None, video_scores: Scores | None, labels: Labels | None = None
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch.

        Args:
            frame_scores: Scores against frame tokens; None where a model is trained on video tokens alone.
            video_scores: Scores against video tokens, or None.
            labels: Which pairs belong together; None for the diagonal of a square matrix.

        Raises:
            SettingsError: If both scores are missing, shapes differ, or there are no labels for a matrix that is not
                square.
        """
        levels = [
            (weight, scores)
            for weight, scores in ((self.lambda_frame, frame_scores), (self.lambda_video, video_scores))
            if scores is not None
        ]
        if not levels:
            raise SettingsError("neither frame nor video scores were given; the loss needs at least one of them.")
        positive = _as_positive(labels, [scores for _, scores in levels])
        if labels is not None and not torch.compiler.is_compiling():  # a graph has no place for the error
            self.check_labels(positive)
        positive = positive.to(levels[0][1].device, non_blocking=True)
        if self._may_lack_bias:
            self.calibrate([scores for _, scores in levels], positive)
        if self.combined:
            levels = [(1.0, torch.stack([scores for _, scores in levels]).sum(dim=0))]
        return torch.stack([weight * self.level(scores, positive) for weight, scores in levels]).sum()

    def check_labels(self, positive: Bool[Tensor, "queries videos"]) -> None:
        """Check that the loss is defined for these labels, on the device where they are.

        Raises:
            SettingsError: If it is not.
        """

    def level(self, scores: Scores, positive: Bool[Tensor, "queries videos"]) -> Float[Tensor, ""]:
        """Compute the loss of one score matrix."""
        raise NotImplementedError

    @torch.no_grad()
    def calibrate(self, levels: Sequence[Scores], positive: Bool[Tensor, "queries videos"]) -> None:
        """Set a bias that is nan by a batch's scores; one that is set already, by a checkpoint for example, stays.

        With m the mean score of the pairs that do not belong together and p the score of a perfect match, which is 1, or
        2 where both levels are summed, a pair is then as likely a match as not at m + 0.4 (p - m). A bias for which that
        point lies higher asks more of the pairs that belong together than a short training can give them.

        Args:
            levels: The scores of the levels that the loss reads.
            positive: True for pairs that belong together.

        Raises:
            SettingsError: If all pairs belong together.
        """
        usual = torch.stack([_mean_where(scores.float(), ~positive) for scores in levels])  # (levels,)
        unrelated, perfect = (usual.sum(), float(len(levels))) if self.combined else (usual.mean(), 1.0)
        bias = -self.log_scale.exp() * (unrelated + DECISION_SHARE * (perfect - unrelated))
        if not torch.compiler.is_compiling():  # a graph has no place for the error
            self._may_lack_bias = False
            if bool(self.bias.isnan() & bias.isnan()):
                raise SettingsError(
                    "loss_bias='calibrate' needs pairs that do not belong together, and the first batch has none; give a "
                    "number."
                )
        self.bias.copy_(torch.where(self.bias.isnan(), bias, self.bias))

    def decision(self) -> Float[Tensor, ""] | None:
        """Return `decision_point` where the loss is, so that a GPU need not be waited for."""
        if not hasattr(self, "bias"):
            return None
        return -self.bias.detach() / self.log_scale.detach().exp()

    @property
    def decision_point(self) -> float | None:
        """Score at which a pair is as likely a match as not, -bias / scale; None for losses without a bias."""
        decision = self.decision()
        return None if decision is None else float(decision)


class DualSigmoidLoss(PairLoss):
    """The paper's loss: a sigmoid loss on frame scores and one on video scores, summed.

    `L = sum over levels of lambda / B * sum over i, j of -log sigmoid(z_ij (scale * MMS_ij + bias))` for B queries,
    z = 1 for pairs that belong together and -1 for others.

    Args:
        lambda_frame: Weight of the frame level's loss.
        lambda_video: Weight of the video level's loss.
        log_scale: Logarithm of the scale.
        bias: Bias, added.
        learnable: True to train scale and bias, which both levels share.
    """

    def __init__(
        self,
        *,
        lambda_frame: float = 1.0,
        lambda_video: float = 1.0,
        log_scale: float = LOG_SCALE,
        bias: float = BIAS,
        learnable: bool = False,
    ) -> None:
        super().__init__(
            log_scale=log_scale, bias=bias, learnable=learnable, lambda_frame=lambda_frame, lambda_video=lambda_video
        )

    def level(self, scores: Scores, positive: Bool[Tensor, "queries videos"]) -> Float[Tensor, ""]:
        """Compute the sum over all pairs of -log sigmoid(z (scale * score + bias)), divided by the queries."""
        logits = scores * self.log_scale.exp() + self.bias  # (queries, videos)
        return softplus(torch.where(positive, -logits, logits)).sum() / len(scores)


class CombinedSigmoidLoss(DualSigmoidLoss):
    """One sigmoid loss on the sum of frame and video scores.

    Args:
        log_scale: Logarithm of the scale.
        bias: Bias, added.
        learnable: True to train scale and bias.
    """

    combined = True

    def __init__(self, *, log_scale: float = LOG_SCALE, bias: float = BIAS, learnable: bool = False) -> None:
        super().__init__(log_scale=log_scale, bias=bias, learnable=learnable)


class DualInfoNCELoss(PairLoss):
    """InfoNCE (van den Oord et al., 2018) on frame scores and on video scores, summed.

    A query with several positives has one term for each of them, `-log(e^p / (e^p + sum of e^n over negatives))`, and
    counts with their mean: positives are never each other's negatives, and a single one gives the usual InfoNCE.

    Args:
        lambda_frame: Weight of the frame level's loss.
        lambda_video: Weight of the video level's loss.
        scale: Factor on scores, the inverse temperature.
        symmetric: True to add the loss from videos to queries; needs the scores of the whole batch.
        learnable: True to train the scale, which both levels share.

    Raises:
        SettingsError: If the scale is not above 0.
    """

    def __init__(
        self,
        *,
        lambda_frame: float = 1.0,
        lambda_video: float = 1.0,
        scale: float = INFONCE_SCALE,
        symmetric: bool = True,
        learnable: bool = False,
    ) -> None:
        if not scale > 0:
            raise SettingsError(f"scale={scale} must be above 0.")
        super().__init__(
            log_scale=math.log(scale),
            bias=None,
            learnable=learnable,
            lambda_frame=lambda_frame,
            lambda_video=lambda_video,
        )
        self.symmetric = symmetric

    def check_labels(self, positive: Bool[Tensor, "queries videos"]) -> None:
        """Check that each row has a positive and, if symmetric, each column.

        Raises:
            SettingsError: If one has none.
        """
        for one in (positive, positive.T) if self.symmetric else (positive,):
            found = one.any(dim=1)  # (rows,)
            if not bool(found.all()):
                raise SettingsError(
                    f"row {int((~found).nonzero()[0])} of the labels has no positive, and InfoNCE needs one in each row "
                    "and, if symmetric, in each column; give symmetric=False where the rows are a part of the batch."
                )

    def level(self, scores: Scores, positive: Bool[Tensor, "queries videos"]) -> Float[Tensor, ""]:
        """Compute the cross-entropy from queries to videos; if symmetric, its mean with the one from videos to queries."""
        logits = scores * self.log_scale.exp()  # (queries, videos)
        from_queries = _info_nce(logits, positive)
        return (from_queries + _info_nce(logits.T, positive.T)) / 2 if self.symmetric else from_queries


class CombinedInfoNCELoss(DualInfoNCELoss):
    """InfoNCE on the sum of frame and video scores; several positives count as in `DualInfoNCELoss`.

    Args:
        scale: Factor on scores, the inverse temperature.
        symmetric: True to add the loss from videos to queries; needs the scores of the whole batch.
        learnable: True to train the scale.
    """

    combined = True

    def __init__(self, *, scale: float = INFONCE_SCALE, symmetric: bool = True, learnable: bool = False) -> None:
        super().__init__(scale=scale, symmetric=symmetric, learnable=learnable)


def _mean_where(values: Float[Tensor, "rows columns"], chosen: Bool[Tensor, "rows columns"]) -> Float[Tensor, ""]:
    """Compute the mean of the chosen values; nan if there are none."""
    return values.masked_fill(~chosen, 0.0).sum() / chosen.sum()


def _info_nce(logits: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows columns"]) -> Float[Tensor, ""]:
    """Compute the mean over rows of the mean over a row's positives of `log(1 + sum of e^(negative - positive))`."""
    counts = positive.sum(dim=1)  # (rows,)
    lowest = torch.finfo(logits.dtype).min / 2  # not -inf: a row without negatives would get a gradient of nan
    negatives = logits.masked_fill(positive, lowest).logsumexp(dim=1, keepdim=True)  # (rows, 1)
    terms = softplus(negatives - logits).masked_fill(~positive, 0.0)  # (rows, columns)
    return (terms.sum(dim=1) / counts).mean()


def _as_positive(labels: Labels | None, scores: Sequence[Tensor]) -> Bool[Tensor, "queries videos"]:
    shapes = {tuple(tensor.shape) for tensor in scores} | ({tuple(labels.shape)} if labels is not None else set())
    if len(shapes) > 1:
        raise SettingsError(f"scores and labels have the shapes {sorted(shapes)}; they must be the same.")
    queries, videos = scores[0].shape
    if labels is None and queries != videos:
        raise SettingsError(
            f"scores of {queries} queries and {videos} videos have no diagonal; give labels (queries, videos)."
        )
    if labels is None:
        return torch.eye(queries, dtype=torch.bool, device=scores[0].device)
    return labels if labels.dtype == torch.bool else labels > 0
