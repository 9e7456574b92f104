"""Small pictures of moments, decoded in other processes and kept in bounded memory."""

import asyncio
from collections import OrderedDict

from colbert_video.serve.media.media_files import MediaFile
from colbert_video.serve.service_settings import THUMBNAIL_WIDTHS
from colbert_video.serve.work import WorkPool
from colbert_video.video.workers.pictures import picture_of, picture_settings
from colbert_video.video.workers.pool import FramePool

Key = tuple[bytes, float, int]


class ThumbnailCache:
    """The thumbnails used last, up to a number of bytes.

    Args:
        most_bytes: Limit of their sizes together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self.bytes = 0

    def get(self, key: Key) -> bytes | None:
        """Return a thumbnail if it is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Key, jpeg: bytes) -> None:
        """Keep a thumbnail, and remove those not used for longest."""
        self.bytes += len(jpeg) - len(self._kept.pop(key, b""))
        self._kept[key] = jpeg
        while self.bytes > self._most:
            self.bytes -= len(self._kept.popitem(last=False)[1])


class Thumbnailer:
    """Makes thumbnails, each once however many requests ask for it.

    Args:
        workers: Number of decoding processes.
        waiting: Limit of thumbnails that wait.
        seconds: Time limit of one.
        most_bytes: Memory for those that are kept.
    """

    def __init__(self, *, workers: int, waiting: int, seconds: float, most_bytes: int) -> None:
        settings = picture_settings(THUMBNAIL_WIDTHS[-1], seconds=seconds)
        self._pool = FramePool(settings, workers=workers, grace=2.0)
        self.work = WorkPool("thumbnails", threads=workers, waiting=waiting)
        self.cache = ThumbnailCache(most_bytes)
        self._running: dict[Key, asyncio.Future[bytes]] = {}

    def close(self) -> None:
        """End the decoding processes."""
        self._pool.close()
        self.work.close()

    async def picture(self, media: MediaFile, time: float, width: int) -> bytes:
        """Return a JPEG of the frame at a moment.

        Args:
            media: The video file.
            time: The moment in seconds.
            width: Side of the square that the picture fits in.

        Raises:
            ServiceError: 503, if too many are waiting.
            VideoError: If the file cannot be decoded.
        """
        key = media.identity, time, width
        known = self.cache.get(key)
        if known is not None:
            return known
        if key not in self._running:
            self._running[key] = asyncio.ensure_future(self._made(key, media, time, width))
        return await asyncio.shield(self._running[key])  # others wait for it too, if this client goes away

    async def _made(self, key: Key, media: MediaFile, time: float, width: int) -> bytes:
        try:
            jpeg = await self.work.run(picture_of, self._pool, media.path, time, width, media.stream)
            self.cache.put(key, jpeg)
            return jpeg
        finally:
            del self._running[key]
