"""Decoding and encoding videos: worker processes feed batches of frames to the model."""

from collections.abc import Iterable, Iterator

from colbert_video.errors import ColBERTVideoError, VideoError
from colbert_video.indexing.entries import Failure, VideoEntry
from colbert_video.indexing.staging import EncodedVideo
from colbert_video.model import VideoColBERT
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.pool import FramePool, FrameRequest
from colbert_video.video.sources import VideoRecord

VIDEOS_PER_BATCH = 8
"""Videos that the model encodes at once; each waits in memory as 12 or 64 small frames."""


def encode_videos(
    records: Iterable[VideoRecord], model: VideoColBERT, *, sampling: SamplingSettings, workers: int | None
) -> Iterator[EncodedVideo | Failure]:
    """Decode and encode videos, in the order in which they get ready.

    Args:
        records: The videos.
        model: Encodes them.
        sampling: Which frames are read, by which decoder, within which time.
        workers: Decoding processes; None for one a core.

    Yields:
        For each record either its tokens or the reason why there are none.
    """
    batch: list[tuple[VideoRecord, SampledFrames]] = []
    with FramePool(sampling, workers=workers) as pool:
        requests = (FrameRequest(record.path, window=record.window, tag=record) for record in records)
        for result in pool.read_many(requests):
            record: VideoRecord = result.request.tag
            if result.frames is None:
                yield _failure(record, result.error)
                continue
            batch.append((record, result.frames))
            if len(batch) == VIDEOS_PER_BATCH:
                yield from _encode(batch, model)
                batch = []
    yield from _encode(batch, model)


def _encode(batch: list[tuple[VideoRecord, SampledFrames]], model: VideoColBERT) -> Iterator[EncodedVideo]:
    if not batch:
        return
    bags = model.encode_videos([frames.pixels for _, frames in batch])
    for position, (record, frames) in enumerate(batch):
        tokens = {"frame": bags.frame[position].cpu()}
        if bags.video is not None:
            tokens["video"] = bags.video[position].cpu()
        stored = {bag: tokens[bag] for bag in model.config.bags}
        yield EncodedVideo(_entry(record, frames), stored)


def _entry(record: VideoRecord, frames: SampledFrames) -> VideoEntry:
    size, mtime_ns = record.stamp()
    return VideoEntry(
        id=record.id,
        path=record.path,
        start=record.window[0] if record.window else 0.0,
        end=min(record.window[1], frames.duration) if record.window else frames.duration,
        duration=frames.duration,
        frame_times=tuple(frames.times.tolist()),
        metadata=record.metadata,
        source_size=size,
        source_mtime_ns=mtime_ns,
    )


def _failure(record: VideoRecord, error: ColBERTVideoError | None) -> Failure:
    if isinstance(error, VideoError):
        return Failure(record.id, record.path, error.kind.value, error.detail)
    return Failure(record.id, record.path, "error", str(error))
