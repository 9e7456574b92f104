"""Decoding and encoding videos: worker processes feed batches of frames to the model.

Both go on at the same time: while a batch is encoded, the processes decode the next ones, as many as may wait in
memory. An item is what becomes one row of the catalog: a video, or a window of one.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import ColBERTVideoError, ModelError, VideoError, callers_code
from colbert_video.indexing.build.index_run import Staged
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index.staging import EncodedVideo, Note
from colbert_video.model.bags import FRAME_BAGS, bags_by_name, tokens_of_frames
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.pooling import Pooling, pool
from colbert_video.video.files import file_stamp
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.sources import VideoRecord
from colbert_video.video.windows import Span, window_id
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult, TimeBudget

VIDEOS_PER_BATCH = 8
"""Videos that the model encodes at once; each waits in memory as 12 or 64 small frames."""
VIDEOS_AHEAD = 2 * VIDEOS_PER_BATCH
"""Decoded videos that may wait for the model: a batch that it takes at once, and another for uneven decoding."""
BYTES_AHEAD = 2**29
"""Memory that these may take together; of videos with many large frames, fewer wait."""


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


def items_from_record(record: VideoRecord, spans: Sequence[Span] = ()) -> list[VideoEntry]:
    """Return the items that a video becomes: its windows, or without any the video itself.

    What is known only once the file is read is still missing: `start` and `end` are None where all of it is wanted.
    """
    if not spans:
        start, end = record.window or (None, None)
        return [VideoEntry(record.id, record.path, None, start, end, metadata=record.metadata)]
    return [
        VideoEntry(window_id(record.id, span), record.path, record.id, *span, metadata=record.metadata)
        for span in spans
    ]


def encode_items(
    items: Iterable[VideoEntry],
    model: VideoEncoder,
    processes: FramePool,
    *,
    watch: Stopwatch,
    pooling: Pooling | None = None,
) -> Iterator[EncodedVideo | Failure]:
    """Decode and encode items, in the order in which they get ready.

    Args:
        items: The videos and windows; the windows of a video share its time limit.
        model: Encodes their frames.
        processes: Decode them, with the settings that the model wants.
        watch: Notes where the time goes.
        pooling: Which frames share a token; None if each has its own.

    Yields:
        For each item either its tokens or the reason why there are none.
    """
    batch: list[tuple[VideoEntry, SampledFrames]] = []
    requests = _requests(items, processes.settings.timeout)
    results = processes.read_many(requests, ahead=videos_ahead(processes.settings))
    for result in watch.waited_for(results):
        item = result.request.tag
        if result.frames is None:
            yield failure_of(item.id, item.path, result.error)
            continue
        batch.append((item, result.frames))
        if len(batch) == VIDEOS_PER_BATCH:
            yield from _encode(batch, model, pooling, watch)
            batch = []
    yield from _encode(batch, model, pooling, watch)


def _requests(items: Iterable[VideoEntry], timeout: float) -> Iterator[FrameRequest]:
    known = list(items)
    lengths: defaultdict[str, float] = defaultdict(float)
    for item in known:
        lengths[item.video] += (item.end or 0.0) - (item.start or 0.0)
    budgets = {item.video: TimeBudget(timeout, lengths[item.video]) for item in known if item.parent is not None}
    return (_request(item, budgets.get(item.video)) for item in known)


def _request(item: VideoEntry, budget: TimeBudget | None) -> FrameRequest:
    """Ask for an item's frames; the stamp is its file's before it is read: what is written meanwhile is a change."""
    path = str(item.path)
    size, mtime_ns = file_stamp(path)
    window = None if item.start is None or item.end is None else (item.start, item.end)
    stamped = replace(item, source_size=size, source_mtime_ns=mtime_ns)
    return FrameRequest(path, window=window, tag=stamped, budget=budget)


def videos_ahead(sampling: SamplingSettings) -> int:
    """Return how many decoded videos may wait for the model."""
    size = sampling.num_frames * sampling.height * sampling.width * 3
    return min(VIDEOS_AHEAD, max(1, BYTES_AHEAD // size))


def _encode(
    batch: list[tuple[VideoEntry, SampledFrames]], model: VideoEncoder, pooling: Pooling | None, watch: Stopwatch
) -> Iterator[EncodedVideo]:
    if not batch:
        return
    started = time.monotonic()
    with callers_code():
        tokens = model.encode_videos([frames.pixels for _, frames in batch])
    watch.encoding += time.monotonic() - started
    bags = {bag: found.to("cpu") for bag, found in bags_by_name(tokens, model.bags).items()}
    for row, (item, frames) in enumerate(batch):
        stored = {bag: found[row] for bag, found in bags.items()}  # (tokens, dim) each
        timed = _with_times(item, frames, _tokens_per_frame(stored, len(frames)))
        encoded = EncodedVideo(timed, stored, Note(frames.damage, texts=frames.has_texts))
        yield encoded if pooling is None else _pooled(encoded, pooling)


def _tokens_per_frame(bags: Mapping[str, Float[Tensor, "_ dim"]], frames: int) -> int:
    """Return how many tokens of the frame bag stand for each frame: one, but for encoders that keep several."""
    count = len(bags["frame"]) if "frame" in bags else frames
    if count < frames or count % frames:
        raise ModelError(
            f"the encoder made {count} frame tokens of {frames} frames; it must make as many for each frame, one or more."
        )
    return count // frames


def _with_times(item: VideoEntry, frames: SampledFrames, tokens_per_frame: int) -> VideoEntry:
    """Note what the file said; several tokens of a frame are shown at its time, as several frames would be."""
    return replace(
        item,
        start=item.start or 0.0,
        end=frames.duration if item.end is None else min(item.end, frames.duration),
        duration=frames.duration,
        frame_times=tuple(np.repeat(frames.times, tokens_per_frame).tolist()),
    )


def _pooled(video: EncodedVideo, pooling: Pooling) -> EncodedVideo:
    """Give frames that look alike one token."""
    frames = len(video.entry.frame_times)
    _check_poolable(video.bags, frames)
    of_frames = tokens_of_frames(video.bags, frames)
    groups = pooling.group(of_frames, frames)  # (frames,) the token of each
    pooled = {bag: pool(tokens, groups) for bag, tokens in of_frames.items()}
    entry = replace(video.entry, frame_tokens=tuple(groups.tolist()))
    return replace(video, entry=entry, bags={**video.bags, **pooled})


def _check_poolable(bags: Mapping[str, Float[Tensor, "_ dim"]], frames: int) -> None:
    """Check that frames have tokens to share, in each bag that is known for them.

    Raises:
        ModelError: If they have not.
    """
    short = [bag for bag in FRAME_BAGS if bag in bags and len(bags[bag]) < frames]
    if short or not tokens_of_frames(bags, frames):
        sizes = ", ".join(f"{len(tokens)} {bag} tokens" for bag, tokens in bags.items())
        raise ModelError(
            f"pooling lets frames share tokens, and the encoder made {sizes} of a video whose frames have {frames}: leave "
            "pool_factor and pool_similarity out."
        )


def failure_of(identity: str, path: str, error: ColBERTVideoError | None) -> Failure:
    """Return what the catalog keeps of a video or window that was refused."""
    if isinstance(error, VideoError):
        return Failure(identity, path, error.kind.value, error.detail)
    return Failure(identity, path, "error", str(error))


def _one_failure(failed: Sequence[Failure], encoded: int) -> list[Failure]:
    """Return the first failed window of a video for all of them: a damaged film must not leave thousands of rows."""
    if len(failed) < 2:
        return list(failed)
    more = f"{failed[0].detail} (and {len(failed) - 1} more of its {len(failed) + encoded} windows failed)"
    return [replace(failed[0], detail=more)]


class Gathering:
    """Keeps encoded items until all those of their video are there, and collects what failed or is damaged.

    Args:
        items: All items that will come.
        failures: Videos that failed before, such as those that could not be cut.
    """

    def __init__(self, items: Iterable[VideoEntry], failures: Sequence[Failure] = ()) -> None:
        self._videos = {item.id: item.video for item in items}
        self._missing = Counter(self._videos.values())
        self._encoded: defaultdict[str, list[EncodedVideo]] = defaultdict(list)
        self._failed: defaultdict[str, list[Failure]] = defaultdict(list)
        self._failures = list(failures)
        self._damaged: dict[str, tuple[str, ...]] = {}
        self._texts: set[str] = set()

    def add(self, result: EncodedVideo | Failure) -> list[EncodedVideo]:
        """Take one item; return all items of its video, by their start, if this was its last, and none otherwise.

        If no item of a video could be read, its failures become one, that of the video. Otherwise its first item takes
        them along into staging.
        """
        if isinstance(result, Failure):
            video = self._videos[result.id]
            self._failed[video].append(result)
        else:
            video = result.entry.video
            self._encoded[video].append(result)
        self._missing[video] -= 1
        return [] if self._missing[video] else self._whole(video)

    def _whole(self, video: str) -> list[EncodedVideo]:
        encoded = sorted(self._encoded.pop(video, []), key=lambda item: item.entry.start or 0.0)
        failed = self._failed.pop(video, [])
        if not encoded:
            self._failures.append(replace(failed[0], id=video))
            return []
        failed = _one_failure(failed, len(encoded))
        damage = tuple(dict.fromkeys(words for item in encoded for words in item.note.damage))
        if damage:
            self._damaged[video] = damage
        if any(item.note.texts for item in encoded):
            self._texts.add(video)
        self._failures += failed
        encoded[0] = replace(encoded[0], note=replace(encoded[0].note, failures=tuple(failed)))
        return encoded

    def staged(self, waited: float) -> Staged:
        """Return what became of the videos, once all items have come and those with tokens are staged."""
        return Staged(0, tuple(self._failures), self._damaged, waited, frozenset(self._texts))
