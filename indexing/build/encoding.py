"""Decoding and encoding videos: worker processes feed batches of frames to the model.

Both go on at the same time: while a batch is encoded, the processes decode the next ones, as many as may wait in memory.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from colbert_video.errors import ColBERTVideoError, VideoError
from colbert_video.indexing.build.parts import Part
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.staging import EncodedVideo
from colbert_video.model.pooling import Pooling, pool
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult

logger = logging.getLogger(__name__)

VIDEOS_PER_BATCH = 8
"""Videos that the model encodes at once; each waits in memory as 12 or 64 small frames."""
VIDEOS_AHEAD = 2 * VIDEOS_PER_BATCH
"""Decoded videos that may wait for the model: a batch that it takes at once, and another for uneven decoding."""
BYTES_AHEAD = 2**29
"""Memory that these may take together; of videos with many large frames, fewer wait."""


Stamp = tuple[int | None, int | None]
"""Size of a file and when it was changed, in nanoseconds since 1970."""
Decoded = tuple[Part, Stamp, SampledFrames]
"""A video or window, its file's stamp, and its frames."""


@dataclass
class Stopwatch:
    """Where the time of encoding goes."""

    waiting: float = 0.0
    """Seconds in which the model waited for frames, those in which the decoding processes start included."""
    encoding: float = 0.0
    """Seconds in which it worked."""

    def waited_for(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        """Hand on the results, counting the seconds until each is there."""
        while True:
            started = time.monotonic()
            result = next(results, None)
            self.waiting += time.monotonic() - started
            if result is None:
                return
            yield result


def encode_parts(
    parts: Iterable[Part],
    model: VideoColBERT,
    *,
    sampling: SamplingSettings,
    workers: int | None,
    watch: Stopwatch,
    pooling: Pooling | None = None,
) -> Iterator[EncodedVideo | Failure]:
    """Decode and encode videos and windows, in the order in which they get ready.

    Args:
        parts: The videos and windows.
        model: Encodes them.
        sampling: Which frames are read, by which decoder, within which time.
        workers: Decoding processes; None for one a core.
        watch: Told where the time goes.
        pooling: Which frames share a token; None if each has its own.

    Yields:
        For each part either its tokens or the reason why there are none.
    """
    with FramePool(sampling, workers=workers) as processes:
        yield from encode_with(processes, parts, model, watch=watch, pooling=pooling)
    logger.debug("the model worked %.1f s and waited %.1f s for frames", watch.encoding, watch.waiting)


def encode_with(
    processes: FramePool,
    parts: Iterable[Part],
    model: VideoColBERT,
    *,
    watch: Stopwatch,
    pooling: Pooling | None = None,
) -> Iterator[EncodedVideo | Failure]:
    """`encode_parts` with decoding processes that are running already and go on running."""
    batch: list[Decoded] = []
    requests = (_request(part) for part in parts)
    results = processes.read_many(requests, ahead=videos_ahead(processes.settings))
    for result in watch.waited_for(results):
        part, stamp = result.request.tag
        if result.frames is None:
            yield failure_of(part.id, part.record.path, result.error)
            continue
        batch.append((part, stamp, result.frames))
        if len(batch) == VIDEOS_PER_BATCH:
            yield from _encode(batch, model, pooling, watch)
            batch = []
    yield from _encode(batch, model, pooling, watch)


def _request(part: Part) -> FrameRequest:
    """Ask for a part's frames, with its file's stamp from before it is read: what is written meanwhile counts as changed."""
    return FrameRequest(part.record.path, window=part.span, tag=(part, part.record.stamp()))


def videos_ahead(sampling: SamplingSettings) -> int:
    """How many decoded videos may wait for the model."""
    size = sampling.num_frames * sampling.height * sampling.width * 3
    return min(VIDEOS_AHEAD, max(1, BYTES_AHEAD // size))


def _encode(
    batch: list[Decoded], model: VideoColBERT, pooling: Pooling | None, watch: Stopwatch
) -> Iterator[EncodedVideo]:
    if not batch:
        return
    started = time.monotonic()
    bags = model.encode_videos([frames.pixels for _, _, frames in batch])
    watch.encoding += time.monotonic() - started
    for position, (part, stamp, frames) in enumerate(batch):
        tokens = {"frame": bags.frame[position].cpu()}
        if bags.video is not None:
            tokens["video"] = bags.video[position].cpu()
        stored = {bag: tokens[bag] for bag in model.config.bags}
        encoded = EncodedVideo(_entry(part, stamp, frames), stored, frames.damage)
        yield encoded if pooling is None else _pooled(encoded, pooling)


def _pooled(video: EncodedVideo, pooling: Pooling) -> EncodedVideo:
    """The same video with one token for frames that look alike."""
    groups = pooling.group(video.bags, len(video.entry.frame_times))
    bags = {bag: pool(tokens, groups) for bag, tokens in video.bags.items()}
    return replace(video, entry=replace(video.entry, frame_tokens=tuple(groups.tolist())), bags=bags)


def _entry(part: Part, stamp: Stamp, frames: SampledFrames) -> VideoEntry:
    size, mtime_ns = stamp
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
