"""Batches that travel to a GPU while it computes."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.data.threads_ahead import done_ahead


def sent_ahead(
    batches: Generator[TrainingBatch, None, None], device: torch.device
) -> Generator[TrainingBatch, None, None]:
    """Yield batches whose frames are on the device; on a GPU the next ones travel there while it computes.

    Frames in pinned memory are copied by the GPU itself, on a stream of its own; what is computed with a batch waits for its
    copy, and the program waits for neither.

    Args:
        batches: From a loader; closed at the end.
        device: Where they are wanted.
    """
    with closing(batches):
        if device.type != "cuda":
            yield from batches
            return
        stream = torch.cuda.Stream(device)

        def send(batch: TrainingBatch) -> tuple[TrainingBatch, Any]:
            with torch.cuda.stream(stream):
                pixels = batch.pixels.to(device, non_blocking=True)
                return replace(batch, pixels=pixels), stream.record_event()

        for batch, sent in done_ahead(send, batches):
            computing = torch.cuda.current_stream(device)
            computing.wait_event(sent)
            batch.pixels.record_stream(computing)  # its memory is not given away before the step is done
            yield batch
