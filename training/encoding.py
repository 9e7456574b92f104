"""From a batch of captions and frames to the tokens that the loss reads, in any number of parts."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from colbert_video.errors import SettingsError
from colbert_video.interaction import Interaction
from colbert_video.model import VideoColBERT
from colbert_video.pixels import to_pixels
from colbert_video.query_ids import QueryIds
from colbert_video.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.training.data import TrainingBatch
from colbert_video.training.distributed import gather_bags, gather_rows, gather_strings
from colbert_video.training.losses import PairLoss, diagonal_labels, positive_labels
from colbert_video.training.scores import level_scores


@dataclass(frozen=True, eq=False)
class EncodableBatch:
    """A batch on the model's device that encodes any of its rows; calling it gives what `unpack` takes."""

    model: VideoColBERT
    """Says how pixels are prepared."""
    wrapped: nn.Module
    """The same model, in the wrapper that exchanges gradients between processes, if there is one."""
    queries: QueryIds
    """Tokenised captions."""
    frames: UInt8[Tensor, "videos frames height width 3"]
    """Frames, as bytes until they are encoded."""
    frame_mask: Bool[Tensor, "videos frames"]
    """True where a frame is real."""
    bfloat16: bool
    """Whether the encoders compute in bfloat16."""

    @classmethod
    def of(
        cls, batch: TrainingBatch, model: VideoColBERT, wrapped: nn.Module, *, bfloat16: bool
    ) -> "EncodableBatch":
        """Bring a `TrainingBatch` to the model's device."""
        ids = model.tokenize(batch.captions)
        queries = QueryIds(*(tensor.to(model.device) for tensor in (ids.ids, ids.scored, ids.pooled)))
        frames, mask = batch.pixels.to(model.device), batch.frame_mask.to(model.device)
        return cls(model, wrapped, queries, frames, mask, bfloat16)

    def __len__(self) -> int:
        return len(self.frames)

    def __call__(self, rows: slice) -> tuple[Tensor, ...]:
        """Encode some rows: query tokens, their mask and pooled positions, then tokens and mask of both bags."""
        device = self.model.device
        frames = self.frames[rows]  # (videos, frames, height, width, 3)
        pixels = to_pixels(frames.flatten(0, 1), self.model.config.preprocess, device)
        pixels = pixels.unflatten(0, frames.shape[:2])  # (videos, frames, 3, height, width)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            tokens, videos = self.wrapped(self.queries.ids[rows], pixels, self.frame_mask[rows])
        return (
            tokens,
            self.queries.scored[rows],
            self.queries.pooled[rows],
            videos.frame.tokens,
            videos.frame.mask,
            videos.video.tokens,
            videos.video.mask,
        )


def unpack(tokens: tuple[Tensor, ...]) -> tuple[QueryTokens, VideoTokens]:
    """Queries and videos of an encoded batch."""
    queries = QueryTokens(*tokens[:3])
    return queries, VideoTokens(TokenBags(*tokens[3:5]), TokenBags(*tokens[5:7]))


def batch_loss(
    tokens: tuple[Tensor, ...],
    labels: Bool[Tensor, "queries videos"],
    loss: PairLoss | nn.Module,
    interaction: Interaction,
) -> Float[Tensor, ""]:
    """The loss of the batch that all processes hold together; the same number in each of them.

    This process scores its own queries against everyone's videos, then all exchange their rows of scores. So the loss
    is taken of the very matrix that one process would see.

    Args:
        tokens: This process's part of the batch, encoded.
        labels: Labels of the whole batch.
        loss: Takes frame scores, video scores and labels.
        interaction: What is trained.
    """
    queries, videos = unpack(tokens)
    everyone = VideoTokens(
        gather_bags(videos.frame), None if videos.video is None else gather_bags(videos.video)
    )
    levels = level_scores(queries, everyone, interaction)
    frame_scores, video_scores = (None if scores is None else gather_rows(scores) for scores in levels)
    return loss(frame_scores, video_scores, labels.to(tokens[0].device))


def batch_labels(video_ids: list[str], kind: str) -> tuple[Bool[Tensor, "queries videos"], list[str]]:
    """Labels of the whole batch, and its video ids.

    Args:
        video_ids: Video of each caption in this process's part.
        kind: "video" or "diagonal", as in `TrainingConfig.labels`.

    Raises:
        SettingsError: If the whole batch is a single pair, or one video alone.
    """
    everyone = gather_strings(video_ids)
    if len(everyone) < 2:
        raise SettingsError(
            f"the batch holds one pair alone ({everyone[0]!r}); a contrastive loss needs at least 2. Were the other "
            "videos unreadable?"
        )
    if kind == "diagonal":
        return diagonal_labels(len(everyone), len(everyone)), everyone
    return positive_labels(everyone, everyone), everyone
