"""Tokens, scores and loss of a batch of captions and frames, encoded in any number of parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from colbert_video.errors import SettingsError, shown
from colbert_video.model.backbone import TokenizedQueries
from colbert_video.model.interaction import SIMILARITY_BUDGET, Interaction, checked_mean_max_sim, checked_mean_pool_sim
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.run.distributed import gather_bags, gather_rows, gather_strings
from colbert_video.training.run.losses import PairLoss, diagonal_labels, positive_labels

Level = Float[Tensor, "queries videos"] | None


@dataclass(frozen=True, eq=False)
class EncodableBatch:
    """A batch on the model's device; called with rows, it returns their tokens as `batch_loss` takes them."""

    model: VideoColBERT
    wrapped: nn.Module
    """The model in the wrapper that exchanges gradients between processes, or the model itself."""
    queries: TokenizedQueries
    frames: UInt8[Tensor, "videos frames height width 3"]
    frame_mask: Bool[Tensor, "videos frames"] | None
    """True where a frame is real; None if all are."""
    bfloat16: bool
    """True to compute the encoders in bfloat16."""

    @classmethod
    def from_batch(
        cls, batch: TrainingBatch, model: VideoColBERT, wrapped: nn.Module, *, bfloat16: bool
    ) -> "EncodableBatch":
        """Tokenise the captions, check the masks, and move everything to the model's device.

        Raises:
            SettingsError: If a video has no real frame.
        """
        queries = model.tokenize(batch.captions).to(model.device)  # with words: every query is scored
        frames = batch.pixels.to(model.device)
        mask = None if bool(batch.frame_mask.all()) else batch.frame_mask
        if mask is not None:
            _check_frames(mask, batch.video_ids)
            mask = mask.to(model.device, non_blocking=True)
        return cls(model, wrapped, queries, frames, mask, bfloat16)

    def __len__(self) -> int:
        return len(self.frames)

    def __call__(self, rows: slice) -> tuple[Tensor, ...]:
        """Return query tokens, their mask and pooled positions, then tokens and mask of both bags."""
        device = self.model.device
        frames = self.frames[rows]  # (videos, frames, height, width, 3)
        pixels = self.model.config.preprocess.to_pixels(frames.flatten(0, 1), device=device)
        pixels = pixels.unflatten(0, frames.shape[:2])  # (videos, frames, 3, height, width)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            mask = None if self.frame_mask is None else self.frame_mask[rows]
            tokens, videos = self.wrapped(self.queries.ids[rows], pixels, mask)
        return (
            tokens,
            self.queries.scored[rows],
            self.queries.pooled[rows],
            videos.frame.tokens,
            videos.frame.mask,
            videos.video.tokens,
            videos.video.mask,
        )


def _check_frames(mask: Bool[Tensor, "videos frames"], video_ids: list[str]) -> None:
    empty = (~mask.any(dim=1)).nonzero()
    if len(empty):
        raise SettingsError(
            f"the video {shown(video_ids[int(empty[0])])} has no real frame; every video needs at least one."
        )


def batch_loss(
    tokens: tuple[Tensor, ...],
    labels: Bool[Tensor, "queries videos"],
    loss: PairLoss | nn.Module,
    interaction: Interaction,
    score: Callable[[QueryTokens, VideoTokens, Interaction], tuple[Level, Level]] | None = None,
    nested_dims: Sequence[int] = (),
) -> Float[Tensor, ""]:
    """Return the loss of the batch that all processes hold together, the same number in each of them.

    This process scores its own queries against everyone's videos, then all exchange their rows of scores. So the loss
    reads the score matrix that one process would compute.

    Args:
        tokens: This process's part of the batch, encoded.
        labels: Labels of the whole batch, on the CPU, where they are checked without waiting for a GPU.
        loss: Takes frame scores, video scores and labels.
        interaction: Decides which levels are scored.
        score: `level_scores`, compiled for example; None for the function itself.
        nested_dims: As in `TrainingConfig`; the loss is the mean over these and all dimensions.
    """
    queries = QueryTokens(*tokens[:3])
    bags = [gather_bags(TokenBags(*tokens[3:5])), gather_bags(TokenBags(*tokens[5:7]))]
    losses = []
    for dim in nested_sizes(nested_dims, queries.shape[-1]):
        cut = queries.first_dims(dim), VideoTokens(*(bag.first_dims(dim) for bag in bags))
        levels = (score or level_scores)(*cut, interaction)
        frame_scores, video_scores = (None if scores is None else gather_rows(scores) for scores in levels)
        losses.append(loss(frame_scores, video_scores, labels))
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def nested_sizes(nested_dims: Sequence[int], dim: int) -> list[int]:
    """Return the sizes of tokens that the loss reads, all dimensions first: scores of these calibrate a bias.

    Raises:
        SettingsError: If tokens have fewer dimensions than one of `nested_dims`.
    """
    if max(nested_dims, default=0) > dim:
        raise SettingsError(
            f"nested_dims={shown(tuple(nested_dims))}: the model makes tokens of {dim} dimensions; give fewer."
        )
    return list(dict.fromkeys((dim, *nested_dims)))


def batch_labels(video_ids: list[str], kind: str) -> tuple[Bool[Tensor, "queries videos"], list[str]]:
    """Return the labels and video ids of the whole batch; `kind` as in `TrainingConfig.labels`.

    Raises:
        SettingsError: If the whole batch is a single pair.
    """
    everyone = gather_strings(video_ids)
    if len(everyone) < 2:
        raise SettingsError(
            f"the batch has only one pair ({shown(everyone[0])}); a contrastive loss needs at least 2. Were the "
            "other videos unreadable?"
        )
    if kind == "diagonal":
        return diagonal_labels(len(everyone), len(everyone)), everyone
    return positive_labels(everyone, everyone), everyone


def level_scores(queries: QueryTokens, videos: VideoTokens, interaction: Interaction) -> tuple[Level, Level]:
    """Return frame scores and video scores; None for the level that the interaction does not read.

    Reciprocal rank fusion has no gradient: it trains both levels as `mms_fv` does and fuses ranks only in search.

    Raises:
        SettingsError: If a level is needed whose tokens are missing.
    """
    frame = videos.frame if interaction in ("mms_f", "mp_f") else None
    video = videos.video if interaction in ("mms_v", "mp_v") else None
    if interaction in ("mms_fv", "rrf"):
        frame, video = videos
    if frame is None and video is None:
        raise SettingsError(f"interaction {shown(interaction)} needs video tokens, and there are none.")
    score = checked_mean_pool_sim if interaction.startswith("mp") else training_mean_max_sim
    return (None if frame is None else score(queries, frame), None if video is None else score(queries, video))


def reads_video_tokens(interaction: Interaction) -> bool:
    """Return True if the interaction trains the temporal transformer."""
    return interaction not in ("mms_f", "mp_f")


def training_mean_max_sim(queries: TokenBags, bags: TokenBags) -> Float[Tensor, "queries videos"]:
    """Compute `checked_mean_max_sim` for backward passes: in chunks of videos whose similarities are not kept.

    A batch of 256 with 64 query tokens and 66 video tokens has 277 million similarities; only one chunk of them is
    alive at a time, and each is computed again in the backward pass.
    """
    per_video = queries.tokens.shape[0] * queries.tokens.shape[1] * bags.tokens.shape[1]
    chunk = max(1, SIMILARITY_BUDGET // max(1, per_video))
    if chunk >= len(bags):
        return checked_mean_max_sim(queries, bags)
    columns = []
    for tokens, mask in zip(bags.tokens.split(chunk), bags.mask.split(chunk), strict=True):
        columns.append(checkpoint(checked_mean_max_sim, queries, TokenBags(tokens, mask), use_reentrant=False))
    return torch.cat(columns, dim=1)
