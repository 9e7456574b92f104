"""Frames of many videos, out of the cache where they are kept and from decoding processes where they are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import SettingsError, VideoError
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest


@dataclass(frozen=True, eq=False)
class Reading:
    """What became of one request: either pixels or an error."""

    request: FrameRequest
    """The request as it was given."""
    pixels: UInt8[np.ndarray, "frames height width 3"] | None
    """RGB frames; None if the file was refused."""
    error: VideoError | None
    """Why the file was refused; None if it was not."""


class FrameReader:
    """Reads the same kind of frames of many videos; a context manager, for its processes must end.

    With a cache, frames are always chosen out of the cache's dense stack, kept or not, so that what is read does not
    depend on what is kept.

    Args:
        sampling: Which frames to read; requests may bring seeds.
        workers: Decoding processes, started when the first video has to be decoded; None for one a core. 0 decodes in
            this process, where a decoder that crashes takes everything with it.
        cache: Where decoded frames are kept.

    Raises:
        SettingsError: If `workers` is negative.
    """

    def __init__(
        self, sampling: SamplingSettings, *, workers: int | None = None, cache: FrameCache | None = None
    ) -> None:
        if workers is not None and workers < 0:
            raise SettingsError(f"workers is {workers}; give 0 or more, or None for one a core.")
        self.sampling = sampling
        self.cache = cache
        self._workers = workers
        self._decoded = sampling if cache is None else cache.dense(sampling)
        self._pool: FramePool | None = None

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close()

    def read_many(self, requests: Sequence[FrameRequest]) -> Iterator[Reading]:
        """Read videos, first those in the cache.

        Args:
            requests: The videos; their windows are not read.

        Yields:
            One reading for each request, in the order in which they get ready.
        """
        missing = []
        for request in requests:
            frames = None if self.cache is None else self.cache.read(request.path, self._asked(request))
            if frames is None:
                missing.append(request)
            else:
                yield Reading(request, frames, None)
        for reading in self._decode(missing):
            yield self._sampled(reading)

    def _asked(self, request: FrameRequest) -> SamplingSettings:
        return self.sampling.with_request(None, request.seed)

    def _decode(self, requests: Sequence[FrameRequest]) -> Iterator[Reading]:
        """What the files hold: the frames asked for, or the dense stack if there is a cache."""
        if self._workers == 0:
            yield from map(self._decode_here, requests)
            return
        if self._pool is None and requests:
            self._pool = FramePool(self._decoded, workers=self._workers)
        if self._pool is not None:
            for result in self._pool.read_many(requests):
                yield Reading(
                    result.request, None if result.frames is None else result.frames.pixels, result.error
                )

    def _decode_here(self, request: FrameRequest) -> Reading:
        try:
            frames = read_frames(request.path, self._decoded.with_request(None, request.seed))
        except VideoError as error:
            return Reading(request, None, error)
        return Reading(request, frames.pixels, None)

    def _sampled(self, reading: Reading) -> Reading:
        """Keep the dense stack and choose from it, if there is a cache."""
        if self.cache is None or reading.pixels is None:
            return reading
        asked = self._asked(reading.request)
        self.cache.store(reading.request.path, asked, reading.pixels)
        return Reading(reading.request, self.cache.choose(reading.pixels, asked), None)
