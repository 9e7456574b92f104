"""Frames of many videos, from the cache where they are kept, else from decoding processes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import UInt8

from colbert_video.base.threads import available_cores, spread_in_order
from colbert_video.errors import SettingsError, VideoError
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest

READING_THREADS = 4
"""Most threads that read kept frames; most of their work, reading and checksums, lets each other run."""


@dataclass(frozen=True, eq=False)
class ReadFrames:
    """Result of one request: either pixels or an error."""

    request: FrameRequest
    pixels: UInt8[np.ndarray, "frames height width 3"] | None
    """RGB frames; None if the file cannot be read."""
    error: VideoError | None
    """Reason why the file cannot be read; None if it can."""


class FrameReader:
    """Reads frames of many videos with the same settings; a context manager, because its processes must end.

    With a cache, frames are always chosen from the cache's dense stack, kept or not, so that they do not depend on what
    is kept.

    Args:
        sampling: Which frames to read; requests may bring seeds.
        workers: Decoding processes, started when the first video has to be decoded; None for one per core. 0 decodes in
            this process, which a crash of the decoder ends.
        cache: Keeps decoded frames.

    Raises:
        SettingsError: If `workers` is negative.
    """

    def __init__(
        self, sampling: SamplingSettings, *, workers: int | None = None, cache: FrameCache | None = None
    ) -> None:
        if workers is not None and workers < 0:
            raise SettingsError(f"workers is {workers}; give 0 or more, or None for one per core.")
        self.sampling = sampling
        self.cache = cache
        self._workers = workers
        self._decoded = sampling if cache is None else cache.dense(sampling)
        self._pool: FramePool | None = None

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def read_many(self, requests: Sequence[FrameRequest]) -> Iterator[ReadFrames]:
        """Read videos, first those in the cache.

        Args:
            requests: The videos; their windows are not read.

        Yields:
            One result for each request, in the order in which they get ready.
        """
        missing = []
        for request, frames in self._kept(requests):
            if frames is None:
                missing.append(request)
            else:
                yield ReadFrames(request, frames, None)
        for reading in self._decode(missing):
            yield self._sampled(reading)

    def _kept(self, requests: Sequence[FrameRequest]) -> Iterator[tuple[FrameRequest, np.ndarray | None]]:
        """Yield the cache's frames for each request, read by a few threads; None where there are none."""
        cache = self.cache
        if cache is None:
            yield from ((request, None) for request in requests)
            return
        threads = min(READING_THREADS, available_cores())
        read = partial(self._read_kept, cache)
        yield from zip(requests, spread_in_order(read, requests, threads=threads, ahead=2), strict=True)

    def _read_kept(self, cache: FrameCache, request: FrameRequest) -> np.ndarray | None:
        return cache.read(request.path, self._asked(request))

    def _asked(self, request: FrameRequest) -> SamplingSettings:
        return self.sampling.with_request(None, request.seed)

    def _decode(self, requests: Sequence[FrameRequest]) -> Iterator[ReadFrames]:
        """Decode the frames asked for, or the dense stack if there is a cache."""
        if self._workers == 0:
            yield from map(self._decode_here, requests)
            return
        if self._pool is None and requests:
            self._pool = FramePool(self._decoded, workers=self._workers)
        if self._pool is not None:
            for result in self._pool.read_many(requests):
                pixels = None if result.frames is None else result.frames.pixels
                yield ReadFrames(result.request, pixels, result.error)

    def _decode_here(self, request: FrameRequest) -> ReadFrames:
        try:
            frames = read_frames(request.path, self._decoded.with_request(None, request.seed))
        except VideoError as error:
            return ReadFrames(request, None, error)
        return ReadFrames(request, frames.pixels, None)

    def _sampled(self, reading: ReadFrames) -> ReadFrames:
        """Keep the dense stack and choose from it, if there is a cache."""
        if self.cache is None or reading.pixels is None:
            return reading
        asked = self._asked(reading.request)
        self.cache.store(reading.request.path, asked, reading.pixels)
        return ReadFrames(reading.request, self.cache.choose(reading.pixels, asked), None)
