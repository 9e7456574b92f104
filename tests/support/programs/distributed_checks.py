"""What each of several gloo processes does in tests of distributed training; results go to files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.training.run.batch_encoding import batch_loss, level_scores
from colbert_video.training.run.distributed import (
    check_processes_agree,
    from_first,
    gather_bags,
    gather_rows,
    gather_strings,
)
from colbert_video.training.run.gradcache import cached_backward
from colbert_video.training.run.losses import DualInfoNCELoss, DualSigmoidLoss, positive_labels

BATCH, DIM = 12, 8
VIDEO_IDS = [f"video-{number % 10}" for number in range(BATCH)]
"""Two captions each of the first two videos."""
LOSSES: dict[str, Any] = {"sigmoid": DualSigmoidLoss, "infonce": DualInfoNCELoss}


class Encoder(torch.nn.Module):
    """Stands in for the model: one matrix makes every token."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(DIM, DIM, generator=generator))

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.nn.functional.normalize(part @ self.weight, dim=-1) for part in features)


def features() -> tuple[Tensor, Tensor, Tensor]:
    """What becomes query, frame and video tokens: (batch, tokens, dim) each."""
    generator = torch.Generator().manual_seed(2)
    queries, frame, video = (torch.randn(BATCH, count, DIM, generator=generator) for count in (5, 3, 4))
    return queries, frame, video


def encoding(encoder: torch.nn.Module, parts: tuple[Tensor, ...]) -> Callable[[slice], tuple[Tensor, ...]]:
    """Encodes rows into what `batch_loss` takes."""

    def encode(rows: slice) -> tuple[Tensor, ...]:
        tokens = encoder(*(part[rows] for part in parts))
        masks = [torch.ones(part.shape[:2], dtype=torch.bool) for part in tokens]
        pooled = torch.zeros(len(tokens[0]), dtype=torch.long)
        return tokens[0], masks[0], pooled, tokens[1], masks[1], tokens[2], masks[2]

    return encode


def whole_batch(loss: str) -> tuple[Tensor, Tensor]:
    """Loss and gradient of one process with the whole batch."""
    encoder = Encoder()
    labels = positive_labels(VIDEO_IDS, VIDEO_IDS)
    value = batch_loss(encoding(encoder, features())(slice(0, BATCH)), labels, LOSSES[loss](), "mms_fv")
    value.backward()
    assert encoder.weight.grad is not None
    return value.detach(), encoder.weight.grad


def share(rank: int, world: int, *, uneven: bool = False) -> slice:
    """Rows of one process: equal parts, or the first process gets one row less than its part and the last the rest."""
    size = BATCH // world
    starts = [number * size - (1 if uneven and number else 0) for number in range(world)] + [BATCH]
    return slice(starts[rank], starts[rank + 1])


def gathered_loss(loss: str, rank: int, world: int, *, chunk: int | None, uneven: bool) -> dict[str, Tensor]:
    """The same with this process's share, negatives gathered and gradients averaged by DistributedDataParallel."""
    encoder = torch.nn.parallel.DistributedDataParallel(Encoder())
    rows = share(rank, world, uneven=uneven)
    encode = encoding(encoder, tuple(part[rows] for part in features()))
    everyone = gather_strings(VIDEO_IDS[rows])
    labels = positive_labels(everyone, everyone)

    def loss_of(tokens: tuple[Tensor, ...]) -> Tensor:
        return batch_loss(tokens, labels, LOSSES[loss](), "mms_fv")

    count = rows.stop - rows.start
    if chunk is None:
        value = loss_of(encode(slice(0, count)))
        value.backward()
    else:
        value = cached_backward(encode, loss_of, rows=count, chunk_size=chunk, no_sync=encoder.no_sync)
    gradient = encoder.module.weight.grad
    assert gradient is not None
    return {"loss": value.detach(), "gradient": gradient, "ids_in_order": torch.tensor(everyone == VIDEO_IDS)}


class SliceOnly(torch.autograd.Function):
    """A gather whose backward forgets what other processes' losses say about this one's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def wrong_gradient(rank: int, world: int) -> Tensor:
    """The gradient with `SliceOnly`, everything else as it should be."""
    encoder = Encoder()
    rows = share(rank, world)
    tokens = encoding(encoder, tuple(part[rows] for part in features()))(slice(0, rows.stop - rows.start))
    videos = VideoTokens(
        TokenBags(SliceOnly.apply(tokens[3]), gather_rows(tokens[4])),
        TokenBags(SliceOnly.apply(tokens[5]), gather_rows(tokens[6])),
    )
    frame, video = level_scores(QueryTokens(*tokens[:3]), videos, "mms_fv")
    labels = positive_labels(VIDEO_IDS[rows], VIDEO_IDS)
    DualSigmoidLoss()(frame, video, labels).backward()
    gradient = encoder.weight.grad
    assert gradient is not None
    dist.all_reduce(gradient)
    return gradient / world


def not_contiguous(rank: int) -> dict[str, Tensor]:
    """Gradients that lie in memory in another order in every other process, and gradients that are expanded."""
    local = (torch.arange(6.0).reshape(2, 3) + 10 * rank).requires_grad_()
    weights = torch.arange(3.0 * 2 * dist.get_world_size()).reshape(3, -1) + 1  # (3, all rows)
    gathered = gather_rows(local)
    if rank % 2:
        gathered.T.mul(weights + rank).sum().backward()
    else:
        gathered.mul((weights + rank).T.contiguous()).sum().backward()
    assert local.grad is not None
    transposed, local.grad = local.grad, None
    gather_rows(local).sum().backward()  # the gradient is one number, expanded
    return {"transposed": transposed, "expanded": local.grad, "rows": gathered.detach()}


def bags_of_unequal_length(rank: int) -> dict[str, Tensor]:
    """Process r has 1 + r bags of 2 + r tokens."""
    tokens = torch.full((1 + rank, 2 + rank, 3), float(rank + 1))
    bags = gather_bags(TokenBags(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)))
    return {"tokens": bags.tokens, "mask": bags.mask}


def agreement(rank: int, world: int) -> dict[str, str]:
    """What processes say when they see the same, and when the last one sees something else."""
    check_processes_agree("folders", "the same")
    try:
        check_processes_agree("folders", "nothing" if rank == world - 1 else "step 3")
    except SettingsError as error:
        return {"refused": str(error), "first": from_first(f"from {rank}")}
    return {}


def run(rank: int, worlds: list[int], folder: str) -> None:
    """Everything that one process does, in each of the worlds that it is part of; starting processes is expensive."""
    torch.set_num_threads(1)
    for world in worlds:
        if rank < world:
            torch.save(results(rank, world, folder), Path(folder) / f"result-{world}-{rank}.pt")


def results(rank: int, world: int, folder: str) -> dict[str, Any]:
    """What process `rank` of `world` finds."""
    store = dist.FileStore(str(Path(folder) / f"store-{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        found: dict[str, Any] = {
            f"{loss}-{chunk}-{uneven}": gathered_loss(loss, rank, world, chunk=chunk, uneven=uneven)
            for loss in LOSSES
            for chunk, uneven in ((None, False), (2, False), (None, True), (2, True))
        }
        found |= {"wrong": wrong_gradient(rank, world), "layout": not_contiguous(rank)}
        found |= agreement(rank, world)
        return found | {"bags": bags_of_unequal_length(rank)}
    finally:
        dist.destroy_process_group()


def train(rank: int, world: int, folder: str, config: Any, port: int) -> None:
    """Train the tiny model in one of several processes, launched as torchrun does."""
    import warnings

    from training_fakes import FakeData, tiny_model

    from colbert_video.training.run.distributed import leave_processes
    from colbert_video.training.run.trainer import Trainer

    torch.set_num_threads(1)
    warnings.simplefilter("error", FutureWarning)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    model = tiny_model()
    Trainer(model, config, FakeData(noise=False), output=Path(folder) / "two", device="cpu").train()
    leave_processes()
    (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(model.fingerprint()))
