"""Files that clients add: uploads, and videos in folders beneath those that the service was started with.

A path is followed through its links to what it really is, which must lie in an allowed folder; each video found in a folder
must do so too. An upload is written under a name of its own into the first allowed folder, and never over another file.
"""

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastapi import Request

from colbert_video.errors import SettingsError, shown
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.uploads import CLOSE, too_large
from colbert_video.video.files import native_name, readable_name
from colbert_video.video.sources import EXTENSIONS, VideoRecord, find_videos

MAX_NAME_BYTES = 200
FREE_BYTES = 2**30
"""Space that uploads leave on the disk."""
MAX_COPIES = 1000
"""Files of one name that may lie side by side."""
ELSEWHERE = "it lies outside the folders that the service may add from"


class AddedFiles:
    """The folders from which clients may add videos.

    Args:
        roots: The folders; empty to refuse everything.
        most_bytes: Largest upload.
        most_files: Most videos of one folder.
        stall_seconds: How long an upload may bring nothing.
    """

    def __init__(self, roots: Sequence[Path], *, most_bytes: int, most_files: int, stall_seconds: float) -> None:
        self._roots = [root.resolve() for root in roots]
        self._most_bytes, self._most_files, self._stall_seconds = most_bytes, most_files, stall_seconds

    @property
    def allowed(self) -> bool:
        """True if clients may add videos."""
        return bool(self._roots)

    @property
    def names(self) -> list[str]:
        """Names of the folders, without where they are."""
        return [root.name or "/" for root in self._roots]

    def holds(self, path: str) -> bool:
        """Return whether a file really lies in one of the folders."""
        return self._root_of(Path(os.path.realpath(path))) is not None

    def check_allowed(self) -> None:
        """Check that clients may add videos.

        Raises:
            ServiceError: 403.
        """
        if not self.allowed:
            message = "this service takes no videos."
            raise ServiceError(403, "adding_not_allowed", message, "Start it with --allow-add FOLDER.")

    def found(self, path: str) -> tuple[list[VideoRecord], list[str]]:
        """Find the videos of a folder, or a single one.

        Args:
            path: Beneath an allowed folder, from there or absolute.

        Returns:
            The videos, with their ids from the allowed folder on; and the ids of those that really lie elsewhere.

        Raises:
            ServiceError: 403 if it lies elsewhere, 404 if there is no such folder or it has no videos, 422 if it has too many.
        """
        self.check_allowed()
        root, real = self._located(path)
        try:
            records = find_videos(str(real)).records
        except SettingsError as error:
            message, remedy = f"there are no videos in {shown(path)}.", "Name a folder with video files."
            raise ServiceError(404, "no_videos", message, remedy) from error
        if real.is_file() and real.suffix.lower() not in EXTENSIONS:
            raise _not_a_video(real.name)
        if len(records) > self._most_files:
            message = f"{shown(path)} holds {len(records)} videos, more than {self._most_files}."
            raise ServiceError(422, "too_many_videos", message, "Add its folders one by one.")
        inside: list[VideoRecord] = []
        elsewhere: list[str] = []
        for record in records:
            file = Path(native_name(record.path))
            identity = readable_name(file.relative_to(root).as_posix(), folder=root)
            if self._root_of(Path(os.path.realpath(file))) is None:
                elsewhere.append(identity)
            else:
                inside.append(VideoRecord(identity, os.path.realpath(file)))
        return inside, elsewhere

    async def keep(self, request: Request, name: str) -> VideoRecord:
        """Write the body of a request into the first allowed folder, under its name or, where that is taken, one like it.

        Raises:
            ServiceError: 403 if adding is not allowed, 415 if the name is no video's, 422 if it is no file name, 413 if the
                file is too large, 408 if it stalls, 507 if the disk is full.
        """
        self.check_allowed()
        name = checked_name(name)
        self._check_size(request.headers.get("content-length", ""))
        root = self._roots[0]
        unfinished = root / f".{secrets.token_hex(8)}.part"
        try:
            await self._write(request, unfinished)
            target = await asyncio.to_thread(_moved, unfinished, root, name)
        except OSError as error:
            raise ServiceError(507, "not_stored", "the file cannot be stored.", "Check the service's disk.") from error
        finally:
            unfinished.unlink(missing_ok=True)
        return VideoRecord(target.name, str(target))

    async def _write(self, request: Request, path: Path) -> None:
        size = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o644)
        with os.fdopen(descriptor, "wb") as file:
            parts = request.stream().__aiter__()
            while True:
                try:
                    part = await asyncio.wait_for(parts.__anext__(), self._stall_seconds)
                except StopAsyncIteration:
                    break
                except asyncio.TimeoutError as error:
                    message = f"nothing of the file came for {self._stall_seconds:g} seconds."
                    raise ServiceError(408, "too_slow", message, "Send it again.", CLOSE) from error
                size += len(part)
                if size > self._most_bytes:
                    raise too_large(self._most_bytes)
                await asyncio.to_thread(file.write, part)
        if not size:
            raise ServiceError(422, "empty_file", "the file is empty.", "Choose a video file.")

    def _check_size(self, declared: str) -> None:
        if not declared.isdecimal():
            return
        if len(declared) > 18 or int(declared) > self._most_bytes:
            raise too_large(self._most_bytes)
        if int(declared) + FREE_BYTES > shutil.disk_usage(self._roots[0]).free:
            raise ServiceError(
                507, "disk_full", "there is no room for this file.", "Free space on the service's disk.", CLOSE
            )

    def _located(self, path: str) -> tuple[Path, Path]:
        """Return an allowed folder and what lies there under a path, with links followed."""
        candidates = [Path(path)] if Path(path).is_absolute() else [root / path for root in self._roots]
        missing = True
        for candidate in candidates:
            try:
                real = Path(os.path.realpath(native_name(str(candidate)), strict=True))
            except (OSError, ValueError):
                continue
            missing = False
            root = self._root_of(real)
            if root is not None:
                return root, real
        if missing and not Path(path).is_absolute():
            message = f"there is nothing at {shown(path)}."
            raise ServiceError(404, "no_such_folder", message, f"Name a folder below {' or '.join(self.names)}.")
        message = f"{shown(path)} is not beneath a folder that the service may add from."
        raise ServiceError(403, "outside", message, f"Name a folder below {' or '.join(self.names)}.")

    def _root_of(self, real: Path) -> Path | None:
        return next((root for root in self._roots if real.is_relative_to(root)), None)


def checked_name(name: str) -> str:
    """Return the name of an uploaded file if it is one.

    Raises:
        ServiceError: 422 if it is no file name, 415 if it is no video's.
    """
    if not name or re.search(r"[/\\\x00-\x1f\x7f]", name) or name.startswith(".") or name != name.strip():
        message = f"{shown(name)} is not a file name."
        raise ServiceError(422, "bad_name", message, "Send a name without slashes, such as holiday.mp4.")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise ServiceError(422, "bad_name", "the file name is not Unicode.", "Rename the file.") from error
    if length > MAX_NAME_BYTES:
        raise ServiceError(422, "bad_name", f"the file name has {length} bytes.", f"Use at most {MAX_NAME_BYTES}.")
    if Path(name).suffix.lower() not in EXTENSIONS:
        raise _not_a_video(name)
    return name


def _not_a_video(name: str) -> ServiceError:
    message = f"{shown(name)} is not a video file by its name."
    return ServiceError(415, "not_a_video", message, "Add files such as .mp4, .mov, .mkv or .webm.")


def _moved(unfinished: Path, root: Path, name: str) -> Path:
    """Give a finished upload its name, or one with a number where that is taken; never replace a file."""
    for number in range(1, MAX_COPIES + 1):
        own = name if number == 1 else f"{Path(name).stem} ({number}){Path(name).suffix}"
        try:
            os.close(os.open(root / own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))  # takes the name
        except FileExistsError:
            continue
        unfinished.replace(root / own)
        return root / own
    raise ServiceError(422, "bad_name", f"there are too many files named {shown(name)}.", "Rename the file.")
