"""H.264 copies of videos that browsers do not play: made by ffmpeg on demand, bounded in number, time and disk space."""

import asyncio
import hashlib
import logging
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from colbert_video.serve.http_errors import ServiceError, busy
from colbert_video.serve.media.media_files import MediaFile
from colbert_video.video.decode.container import FORMATS
from colbert_video.video.files import input_of

logger = logging.getLogger(__name__)

MAX_SIDE = 1280
MAX_LOGGED_CHARACTERS = 500
"""End of ffmpeg's errors that goes into the log."""


@dataclass
class Copy:
    """A copy that is wanted, made or failed."""

    path: Path
    state: Literal["queued", "running", "ready", "failed"] = "queued"
    begun: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    size: int = 0

    @property
    def waiting(self) -> bool:
        """True until it is made or has failed."""
        return self.state in ("queued", "running")

    @property
    def seconds(self) -> float:
        """Seconds since it was asked for."""
        return time.monotonic() - self.begun


class CopyMaker:
    """Makes copies, each once, and keeps them while there is room.

    Args:
        at_once: Copies made at once.
        waiting: Limit of copies that wait.
        seconds: Time limit of one.
        most_bytes: Largest copy.
        cached_bytes: Disk space for all.
        folder: Where they are kept; None for a new temporary folder.
    """

    def __init__(
        self,
        *,
        at_once: int,
        waiting: int,
        seconds: float,
        most_bytes: int,
        cached_bytes: int,
        folder: Path | None = None,
    ) -> None:
        self._program = shutil.which("ffmpeg")
        self._seconds, self._most_bytes, self._cached_bytes = seconds, most_bytes, cached_bytes
        self._most = at_once + waiting
        self._slots = asyncio.Semaphore(at_once)
        self._parent = folder
        self._folder: Path | None = None
        self._copies: dict[str, Copy] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def available(self) -> bool:
        """True if there is an ffmpeg to make copies."""
        return self._program is not None

    @property
    def bytes(self) -> int:
        """Disk space of the copies that are made."""
        return sum(copy.size for copy in self._copies.values())

    def wanted(self, media: MediaFile) -> Copy:
        """Return the copy of a file, which is begun if it was not asked for before.

        Raises:
            ServiceError: 501 without ffmpeg, 503 if too many are waiting, 422 if it failed before.
        """
        if self._program is None:
            message = "copies need ffmpeg, which is not installed."
            raise ServiceError(501, "no_ffmpeg", message, "Install ffmpeg on the server.")
        name = hashlib.sha256(f"{media.path}\0{media.etag}".encode("utf-8", "surrogateescape")).hexdigest()
        if name not in self._copies:
            if sum(copy.waiting for copy in self._copies.values()) >= self._most:
                raise busy("copies", seconds=10)
            self._begin(name, media.path)
        copy = self._copies[name]
        if copy.state == "failed":
            remedy = "The service's log says why; download the file."
            raise ServiceError(422, "copy_failed", "the video could not be copied.", remedy)
        copy.used = time.monotonic()
        return copy

    async def close(self) -> None:
        """End what runs and remove all copies."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, name: str, source: str) -> None:
        if self._folder is None:
            if self._parent is not None:
                self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="colbert-video-copies-", dir=self._parent))
        copy = self._copies[name] = Copy(self._folder / f"{name}.mp4")
        task = asyncio.get_running_loop().create_task(self._make(copy, source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, copy: Copy, source: str) -> None:
        try:
            async with self._slots:
                copy.state = "running"
                self._make_room()
                await asyncio.wait_for(self._run_ffmpeg(source, copy.path), self._seconds)
            copy.size = copy.path.stat().st_size
            copy.state = "ready"
            self._make_room()
        except (OSError, asyncio.TimeoutError, ServiceError) as error:
            logger.warning("no copy of %s: %s", source, error or "time is up")
            copy.state = "failed"
            copy.path.unlink(missing_ok=True)

    async def _run_ffmpeg(self, source: str, target: Path) -> None:
        """Run ffmpeg without a shell, without standard input, and on local files alone."""
        process = await asyncio.create_subprocess_exec(
            str(self._program),
            *ffmpeg_arguments(source, target, self._most_bytes),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            raise OSError(errors.decode("utf-8", "replace")[-MAX_LOGGED_CHARACTERS:])
        if target.stat().st_size >= self._most_bytes:
            raise OSError(f"it is larger than {self._most_bytes} bytes")

    def _make_room(self) -> None:
        """Remove the copies not used for longest; those being sent stay readable until they are sent."""
        while self.bytes > self._cached_bytes:
            ready = [name for name, copy in self._copies.items() if copy.state == "ready"]
            oldest = min(ready, key=lambda name: self._copies[name].used)
            self._copies.pop(oldest).path.unlink(missing_ok=True)


def ffmpeg_arguments(source: str, target: Path, most_bytes: int) -> list[str]:
    """Return arguments for an H.264 copy that starts to play before it is loaded.

    Args:
        source: The video file.
        target: The copy.
        most_bytes: Where it is cut off.
    """
    url, protocols = input_of(source)
    fits = f"min(1,{MAX_SIDE}/max(iw,ih))"
    return [
        *("-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
        *("-protocol_whitelist", protocols, "-format_whitelist", FORMATS, "-i", url),
        *("-map", "0:v:0", "-map", "0:a:0?", "-sn", "-dn", "-map_metadata", "-1", "-threads", "1"),
        *("-vf", f"scale=w='max(2,2*trunc(iw*{fits}/2))':h='max(2,2*trunc(ih*{fits}/2))'"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-ac", "2", "-movflags", "+faststart", "-fs", str(most_bytes), "-f", "mp4"),
        f"file:{target}",
    ]
