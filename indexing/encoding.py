"""Decoding and encoding videos: worker processes feed batches of frames to the model."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from colbert_video.errors import ColBERTVideoError, VideoError
from colbert_video.indexing.entries import Failure, VideoEntry
from colbert_video.indexing.parts import Part
from colbert_video.indexing.staging import EncodedVideo
from colbert_video.model import VideoColBERT
from colbert_video.pooling import Pooling, pool
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.pool import FramePool, FrameRequest

VIDEOS_PER_BATCH = 8
"""Videos that the model encodes at once; each waits in memory as 12 or 64 small frames."""


def encode_parts(
    parts: Iterable[Part],
    model: VideoColBERT,
    *,
    sampling: SamplingSettings,
    workers: int | None,
    pooling: Pooling | None = None,
) -> Iterator[EncodedVideo | Failure]:
    """Decode and encode videos and windows, in the order in which they get ready.

    Args:
        parts: The videos and windows.
        model: Encodes them.
        sampling: Which frames are read, by which decoder, within which time.
        workers: Decoding processes; None for one a core.
        pooling: Which frames share a token; None if each has its own.

    Yields:
        For each part either its tokens or the reason why there are none.
    """
    batch: list[tuple[Part, SampledFrames]] = []
    with FramePool(sampling, workers=workers) as pool:
        requests = (FrameRequest(part.record.path, window=part.span, tag=part) for part in parts)
        for result in pool.read_many(requests):
            part: Part = result.request.tag
            if result.frames is None:
                yield failure_of(part.id, part.record.path, result.error)
                continue
            batch.append((part, result.frames))
            if len(batch) == VIDEOS_PER_BATCH:
                yield from _encode(batch, model, pooling)
                batch = []
    yield from _encode(batch, model, pooling)


def _encode(
    batch: list[tuple[Part, SampledFrames]], model: VideoColBERT, pooling: Pooling | None
) -> Iterator[EncodedVideo]:
    if not batch:
        return
    bags = model.encode_videos([frames.pixels for _, frames in batch])
    for position, (part, frames) in enumerate(batch):
        tokens = {"frame": bags.frame[position].cpu()}
        if bags.video is not None:
            tokens["video"] = bags.video[position].cpu()
        stored = {bag: tokens[bag] for bag in model.config.bags}
        encoded = EncodedVideo(_entry(part, frames), stored)
        yield encoded if pooling is None else _pooled(encoded, pooling)


def _pooled(video: EncodedVideo, pooling: Pooling) -> EncodedVideo:
    """The same video with one token for frames that look alike."""
    groups = pooling.group(video.bags, len(video.entry.frame_times))
    bags = {bag: pool(tokens, groups) for bag, tokens in video.bags.items()}
    return EncodedVideo(replace(video.entry, frame_tokens=tuple(groups.tolist())), bags)


def _entry(part: Part, frames: SampledFrames) -> VideoEntry:
    size, mtime_ns = part.record.stamp()
    return VideoEntry(
        id=part.id,
        path=part.record.path,
        parent=part.parent,
        start=part.span[0] if part.span else 0.0,
        end=min(part.span[1], frames.duration) if part.span else frames.duration,
        duration=frames.duration,
        frame_times=tuple(frames.times.tolist()),
        metadata=part.record.metadata,
        source_size=size,
        source_mtime_ns=mtime_ns,
    )


def failure_of(identity: str, path: str, error: ColBERTVideoError | None) -> Failure:
    """What the catalog keeps of a video or window that was refused."""
    if isinstance(error, VideoError):
        return Failure(identity, path, error.kind.value, error.detail)
    return Failure(identity, path, "error", str(error))
