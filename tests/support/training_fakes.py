"""Training data without files: random frames that depend on seed, epoch and batch alone."""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.run.training_config import TrainingConfig

PLAIN = TrainingConfig(batch_size=4, epochs=2, precision="fp32", learning_rate=1e-3, pretrained_learning_rate=1e-4)
RESUMED = replace(
    PLAIN, checkpoint_every=2, chunk_size=3, learnable_loss=True, loss_bias="calibrate", keep_checkpoints=2
)
"""Six steps in two epochs; checkpoints after steps 2, 3, 4 and 6."""
FRAMES, SIZE = 4, 32
"""Frames a video, and their height and width; what the tiny models want."""
WORDS = ("red", "blue", "circle", "square", "left", "right", "grows", "turns")


def training_batch(count: int, seed: int, *, frames: int = FRAMES, ids: list[str] | None = None) -> TrainingBatch:
    """Random frames; each video's brightness and its caption depend on its number, so that there is much to learn."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, frames, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    return TrainingBatch(
        pixels=pixels,
        frame_mask=torch.ones(count, frames, dtype=torch.bool),
        captions=[f"a {WORDS[number % 8]} thing {seed}" for number in range(count)],
        video_ids=ids or [f"video-{seed}-{number}" for number in range(count)],
    )


@dataclass
class FakeLoader:
    """Batches of one process."""

    batches: int
    batch_size: int
    seed: int
    rank: int
    world_size: int
    kill_at: int | None
    model: Any
    modes: list[bool]
    noise: bool
    epoch: int = 0

    def __len__(self) -> int:
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def iterate(self, start_batch: int = 0) -> Iterator[TrainingBatch]:
        share = self.batch_size // self.world_size
        rows = slice(self.rank * share, (self.rank + 1) * share)
        for number in range(start_batch, self.batches):
            position = self.epoch * self.batches + number
            if position == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.modes.append(self.model.training)
            whole = training_batch(self.batch_size, 1000 * self.seed + position)
            pixels = whole.pixels[rows]
            if self.noise:
                pixels = pixels ^ torch.randint(0, 256, (), dtype=torch.uint8)
            yield TrainingBatch(pixels, whole.frame_mask[rows], whole.captions[rows], whole.video_ids[rows])


@dataclass
class FakeData:
    """Batches, and validation metrics that are read off a list."""

    batches: int = 3
    metrics: list[dict[str, float]] | None = None
    kill_at: int | None = None
    """Position of the batch, over all epochs, before which the process kills itself with SIGKILL."""
    validated: list[str] = field(default_factory=list)
    """Digest of the weights at each validation."""
    modes: list[bool] = field(default_factory=list)
    """Whether the model was in training mode at each batch."""
    noise: bool = True
    """Whether batches also depend on the global random state, as they would on dropout; for a single process."""
    description: dict[str, Any] = field(default_factory=lambda: {"rows": 12})

    def loader(self, model: Any, *, batch_size: int, seed: int, rank: int, world_size: int) -> FakeLoader:
        return FakeLoader(self.batches, batch_size, seed, rank, world_size, self.kill_at, model, self.modes, self.noise)

    def validate(self, model: Any, interaction: str) -> dict[str, float] | None:
        model.eval()  # as an evaluation does, which the trainer must undo
        self.validated.append(model.fingerprint())
        if self.metrics is None:
            digest = hashlib.sha256(self.validated[-1].encode()).digest()
            return {"R@1": digest[0] / 255}
        return self.metrics[len(self.validated) - 1] if self.metrics else None


def tiny_model() -> Any:
    """A fresh tiny model, the same in every process."""
    from tiny_models import TINY_CLIP, build_tiny

    from colbert_video.training.run.model_recipe import register_backbone

    register_backbone("tiny-clip", TINY_CLIP)
    return build_tiny("tiny-clip", num_frames=FRAMES, max_frames=8, query_length=16)


def train_until_killed(output: Path, kill_at: int) -> None:
    """Train the tiny model and die without warning."""
    from colbert_video.training.run.trainer import Trainer

    torch.set_num_threads(1)
    Trainer(tiny_model(), RESUMED, FakeData(kill_at=kill_at), output=output, device="cpu").train()


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
