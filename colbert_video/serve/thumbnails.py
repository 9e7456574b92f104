"""Small pictures of moments, decoded in processes of their own and kept in a bounded memory."""

import asyncio
import io
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import FailureKind, VideoError
from colbert_video.serve.files import MediaFile
from colbert_video.serve.settings import THUMBNAIL_WIDTHS
from colbert_video.serve.work import WorkPool
from colbert_video.video.frames import SampledFrames, SamplingSettings
from colbert_video.video.pool import FramePool, FrameRequest

NEARBY = (0.5, 5.0, 50.0)
"""Half the span, in seconds, in which a frame is looked for; wider ones for slide shows."""
QUALITY = 80
Key = tuple[str, str, float, int]


class ThumbnailCache:
    """The last thumbnails that were used, up to a number of bytes.

    Args:
        most_bytes: What they may take together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self.bytes = 0

    def get(self, key: Key) -> bytes | None:
        """A thumbnail that is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Key, jpeg: bytes) -> None:
        """Keep a thumbnail; those not used for longest go."""
        self.bytes += len(jpeg) - len(self._kept.pop(key, b""))
        self._kept[key] = jpeg
        while self.bytes > self._most:
            self.bytes -= len(self._kept.popitem(last=False)[1])


class Thumbnailer:
    """Makes thumbnails; the same one only once, however many ask for it.

    Args:
        workers: Decoding processes.
        waiting: Most thumbnails that wait.
        seconds: Time limit for one.
        most_bytes: Memory for those that were made.
    """

    def __init__(self, *, workers: int, waiting: int, seconds: float, most_bytes: int) -> None:
        side = THUMBNAIL_WIDTHS[-1]
        settings = SamplingSettings(num_frames=1, height=side, width=side, timeout=seconds)
        self._pool = FramePool(settings, workers=workers, grace=2.0)
        self.work = WorkPool("thumbnails", threads=workers, waiting=waiting)
        self.cache = ThumbnailCache(most_bytes)
        self._running: dict[Key, asyncio.Future[bytes]] = {}

    def close(self) -> None:
        """End the decoding processes."""
        self._pool.close()
        self.work.close()

    async def picture(self, media: MediaFile, time: float, width: int) -> bytes:
        """A JPEG of the frame at a moment.

        Args:
            media: The video file.
            time: The moment in seconds.
            width: Side of the square that the picture fits in.

        Raises:
            ServiceError: 503, if too many are waiting.
            VideoError: If the file cannot be decoded.
        """
        key = media.path, media.etag, time, width
        known = self.cache.get(key)
        if known is not None:
            return known
        if key not in self._running:
            self._running[key] = asyncio.ensure_future(self._made(key, media.path, time, width))
        return await asyncio.shield(self._running[key])  # one who goes away leaves the others theirs

    async def _made(self, key: Key, path: str, time: float, width: int) -> bytes:
        try:
            jpeg = await self.work.run(self._decode, path, time, width)
            self.cache.put(key, jpeg)
            return jpeg
        finally:
            del self._running[key]

    def _decode(self, path: str, time: float, width: int) -> bytes:
        for window in _windows(time):
            result = next(iter(self._pool.read_many([FrameRequest(path, window=window)])))
            if result.frames is not None:
                return to_jpeg(result.frames.pixels[0], *_fitted(result.frames, width))
            error = result.error
            if error is not None and "no frame is shown" not in error.detail:
                break
        raise error or VideoError(path, FailureKind.UNDECODABLE, "no frames came back")


def _windows(time: float) -> Iterator[tuple[float, float] | None]:
    """Spans around a moment, ever wider; at last the whole video."""
    for half in NEARBY:
        yield max(time - half, 0.0), time + half
    yield None


def _fitted(frames: SampledFrames, width: int) -> tuple[int, int]:
    """Width and height of the picture in its true shape, in a square of side `width`."""
    longest = max(frames.width, frames.height)
    return max(round(width * frames.width / longest), 1), max(round(width * frames.height / longest), 1)


def to_jpeg(pixels: UInt8[np.ndarray, "height width 3"], width: int, height: int) -> bytes:
    """A JPEG of the given size."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
