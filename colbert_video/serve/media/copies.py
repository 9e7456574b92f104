"""H.264 copies of videos that browsers do not play, and clips of moments: made on demand, bounded in number, time and space.

Copies are made by ffmpeg where it is installed; clips, and copies elsewhere, by `colbert_video.video.clips`. Both run in
processes of their own.
"""

import asyncio
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from colbert_video.errors import ColBERTVideoError
from colbert_video.serve.http_errors import ServiceError, busy
from colbert_video.serve.media.copies_folder import CopiesFolder, sweep
from colbert_video.serve.media.ffmpeg_command import MAX_SIDE, ffmpeg_arguments
from colbert_video.serve.media.media_files import MediaFile
from colbert_video.video.decode.colour import tone_cube
from colbert_video.video.frames import SamplingSettings, SourcePicture
from colbert_video.video.workers.environment import plain_environment
from colbert_video.video.workers.pool import FramePool
from colbert_video.video.workers.process import command_of, worker_environment

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long a copy that failed is not tried again."""
LIMITED = Path(__file__).with_name("limited_program.py")
LOOK_SECONDS = 30.0
"""Time limit for decoding a video's first frame."""
MAX_LOGGED_CHARACTERS = 500
"""End of a program's errors that goes into the log."""
CUTTER = "colbert_video.video.clips.cutting"
LATEST = 1e6
"""Seconds; no video is longer."""

Part = tuple[float, float]
"""A part [start, end) of a video in seconds."""


@dataclass
class Copy:
    """A copy that is wanted, made or failed."""

    path: Path
    state: Literal["queued", "running", "ready", "failed"] = "queued"
    begun: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    size: int = 0
    failed: float | None = None
    """When it failed, in seconds of the monotonic clock."""

    @property
    def waiting(self) -> bool:
        """True until it is made or has failed."""
        return self.state in ("queued", "running")

    @property
    def may_be_tried_again(self) -> bool:
        """True if it failed a while ago; what was missing, such as space on the disk, may be there now."""
        return self.failed is not None and time.monotonic() - self.failed > RETRY_SECONDS

    @property
    def seconds(self) -> float:
        """Seconds since it was asked for."""
        return time.monotonic() - self.begun


class CopyMaker:
    """Makes copies and clips, each once, and keeps them while there is room.

    Args:
        at_once: Copies made at once.
        waiting: Limit of copies that wait.
        seconds: Time limit of one.
        most_bytes: Largest copy.
        cached_bytes: Disk space for all.
        memory_bytes: Memory of the process that makes one.
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
        memory_bytes: int = 4 * 2**30,
        folder: Path | None = None,
    ) -> None:
        self._program = shutil.which("ffmpeg")
        self._seconds, self._most_bytes, self._cached_bytes = seconds, most_bytes, cached_bytes
        self._most = at_once + waiting
        self._slots = asyncio.Semaphore(at_once)
        self._parent = folder
        self._memory_bytes = memory_bytes
        self._folder: CopiesFolder | None = None
        # One process, which is started for the first copy.
        self._pool = FramePool(SamplingSettings(timeout=LOOK_SECONDS, height=16, width=16), workers=1, grace=2.0)
        self._copies: dict[str, Copy] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Remove what services that were killed left behind."""
        sweep(self._parent)

    @property
    def bytes(self) -> int:
        """Disk space of the copies that are made."""
        return sum(copy.size for copy in self._copies.values())

    def wanted(self, media: MediaFile, part: Part | None = None) -> Copy:
        """Return the copy of a file, or the clip of a part of it, which is begun if it was not asked for before.

        Args:
            media: The video file.
            part: The part [start, end) in seconds; None for a copy of the whole that browsers play.

        Raises:
            ServiceError: 503 if too many are waiting, 422 if it failed before.
        """
        name = hashlib.sha256(media.identity + (b"" if part is None else f"\0{part}".encode())).hexdigest()
        if name not in self._copies or self._copies[name].may_be_tried_again:
            if sum(copy.waiting for copy in self._copies.values()) >= self._most:
                raise busy("copies", seconds=10)
            self._begin(name, media, part)
        copy = self._copies[name]
        if copy.state == "failed":
            remedy = f"The service's log says why; download the file, or try again in {RETRY_SECONDS:g} seconds."
            message = "the video could not be copied." if part is None else "the clip could not be made."
            raise ServiceError(422, "copy_failed", message, remedy)
        copy.used = time.monotonic()
        return copy

    async def close(self) -> None:
        """End what runs and remove all copies."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.close()
        if self._folder is not None:
            self._folder.close()

    def _begin(self, name: str, source: MediaFile, part: Part | None) -> None:
        if self._folder is None:
            if self._parent is not None:
                self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = CopiesFolder(self._parent)
        copy = self._copies[name] = Copy(self._folder.path / f"{name}.mp4")
        task = asyncio.get_running_loop().create_task(self._make(copy, source, part))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, copy: Copy, source: MediaFile, part: Part | None) -> None:
        try:
            async with self._slots:
                copy.state = "running"
                self._make_room()
                make = self._make_copy(source, copy.path) if part is None else self._cut(source, copy.path, part)
                await asyncio.wait_for(make, self._seconds)
            copy.size = copy.path.stat().st_size
            copy.state = "ready"
            self._make_room()
        except (OSError, asyncio.TimeoutError, ServiceError, ColBERTVideoError) as error:
            logger.warning("no copy of %s: %s", source.path, error or "time is up")
            copy.state, copy.failed = "failed", time.monotonic()
            copy.path.unlink(missing_ok=True)

    async def _make_copy(self, source: MediaFile, target: Path) -> None:
        """Copy the stream that was indexed, as its first frame says that it is shown."""
        if self._program is None:
            await self._cut(source, target, (0.0, LATEST), copy=False, max_side=MAX_SIDE)
            return
        picture = await asyncio.to_thread(self._pool.read_source, source.path, source.stream)
        table = await asyncio.to_thread(_tone_table, picture, target.parent)
        arguments = ffmpeg_arguments(source.path, target, self._most_bytes, picture, tone_table=table)
        await self._run([str(self._program), *arguments], target, plain_environment())

    async def _cut(self, source: MediaFile, target: Path, part: Part, **settings: Any) -> None:
        """Write a part of the stream that was indexed, in a process of this library."""
        limits = {"stream": source.stream, "max_bytes": self._most_bytes, "timeout": self._seconds}
        given = json.dumps({"part": part, **limits, **settings})
        await self._run([*command_of(CUTTER), source.path, str(target), given], target, worker_environment())

    async def _run(self, command: list[str], target: Path, environment: Mapping[str, str]) -> None:
        """Run a program without a shell, standard input or secrets, with bounded memory, while this process lives."""
        limits = (str(self._memory_bytes), str(os.getpid()))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LIMITED), *limits, *command),
            cwd=target.parent,
            env=environment,
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


def _tone_table(picture: SourcePicture, folder: Path) -> str | None:
    """Return the name of the table that turns an HDR video into SDR, which is written once into the folder."""
    if picture.transfer is None:
        return None
    name = f"{picture.transfer}-{picture.primaries}.cube"
    if not (folder / name).exists():
        (folder / name).write_text(tone_cube(picture.transfer, picture.primaries))
    return name
