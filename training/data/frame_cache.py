"""Decoded frames on disk, so that later epochs read pixels instead of decoding the videos again.

A video is kept as a dense stack: the middle frames of `frames_per_segment` equal parts of each TSN segment. Centre sampling gets
the same frames as from the file. Random-in-segment sampling still varies from epoch to epoch, and is another one than without a
cache: it draws one of these few frames of a segment instead of one of all.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from jaxtyping import Int, UInt8

from colbert_video.base.access import reason_of
from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError
from colbert_video.video.decode.sampling import random_in_segments, segment_centres
from colbert_video.video.files import locate
from colbert_video.video.frames import SamplingSettings

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 50 * 2**30
DECODING_VERSION = 2
"""Raised when the same file gives other pixels than before, so that older entries are not used."""
SUFFIX = ".frames"
UNFINISHED = ".unfinished"
ABANDONED_SECONDS = 3600.0
"""Age after which an unfinished entry belongs to a process that died."""
STORES_PER_SCAN = 16
"""Entries written between two scans for what other processes have written."""


class _Entry(NamedTuple):
    used: int
    """Time of the last use in nanoseconds; the file's modification time."""
    size: int
    path: Path


class FrameCache:
    """A folder of decoded frames that several processes may share.

    When it is full, the least recently used entries of earlier runs are removed, never those used since this cache was
    opened: every epoch reads every video once, so removing the oldest of them would remove each before it is read again.
    Videos beyond the limit are decoded every time.

    Args:
        folder: Made if missing; holds nothing but the cache.
        max_bytes: Limit on disk, which each other process that writes at the same time may exceed by a few entries.
        frames_per_segment: Frames kept of each segment, from which training draws; odd, so that the middle frame is one of
            them.

    Raises:
        SettingsError: If a number is out of range, or the folder cannot be made.
    """

    def __init__(self, folder: str | Path, max_bytes: int = DEFAULT_MAX_BYTES, *, frames_per_segment: int = 3) -> None:
        whole_number("max_bytes", max_bytes)
        whole_number("frames_per_segment", frames_per_segment)
        if max_bytes < 1:
            raise SettingsError(f"max_bytes is {max_bytes}; the frame cache needs room, give at least 1.")
        if frames_per_segment < 1 or frames_per_segment % 2 == 0:
            raise SettingsError(f"frames_per_segment is {frames_per_segment}; give an odd number, 1 or more.")
        self.folder = user_path(folder, "the frame cache")
        self.max_bytes = max_bytes
        self.frames_per_segment = frames_per_segment
        self._opened = time.time_ns()
        self._bytes = 0
        self._stores = 0
        self._full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"the frame cache {folder} cannot be made: {reason_of(error)}.") from error

    def dense(self, sampling: SamplingSettings) -> SamplingSettings:
        """Return the settings that decode the dense stack for `store`."""
        return replace(
            sampling, num_frames=sampling.num_frames * self.frames_per_segment, placement="centre", seed=None
        )

    def choose(
        self, stack: UInt8[np.ndarray, "candidates height width 3"], sampling: SamplingSettings
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Sample frames of a dense stack as if it were the video."""
        return stack[_rows(len(stack), sampling)]

    def read(self, path: str | Path, sampling: SamplingSettings) -> UInt8[np.ndarray, "frames height width 3"] | None:
        """Sample frames of a kept video.

        Returns:
            RGB frames; None if the video is not kept, has changed since, or its entry is damaged.
        """
        dense = self.dense(sampling)
        entry = self._entry(path, dense)
        if entry is None:
            return None
        try:
            frames = _read_entry(entry, dense, _rows(dense.num_frames, sampling))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("a damaged entry of the frame cache is dropped, its video decoded again: %s", error)
            _remove(entry)
            return None
        _mark_used(entry)
        return frames

    def store(
        self, path: str | Path, sampling: SamplingSettings, stack: UInt8[np.ndarray, "candidates height width 3"]
    ) -> bool:
        """Keep the dense stack of a video, decoded with `dense(sampling)`.

        Returns:
            False if the cache or the disk is full.
        """
        entry = self._entry(path, self.dense(sampling))
        if entry is None or self._full:
            return False
        records = _pack(stack)
        if not self._make_room(records.nbytes):
            self._full = True
            logger.warning(
                "the frame cache %s is full (%d bytes); other videos are decoded every time",
                self.folder,
                self.max_bytes,
            )
            return False
        return self._write(entry, records)

    def _entry(self, path: str | Path, dense: SamplingSettings) -> Path | None:
        """Return the path of the video's entry, which depends on the file's version and the frames' geometry."""
        try:
            found = locate(path)
        except (OSError, ValueError):
            return None
        geometry = dense.to_dict()
        for name in ("timeout", "max_pixels", "max_memory", "seed", "placement"):
            del geometry[name]
        source = [DECODING_VERSION, str(user_path(path, "the video")), found.size, found.modified_ns]
        key = hashlib.sha256(json.dumps([source, sorted(geometry.items())]).encode()).hexdigest()[:40]
        return self.folder / key[:2] / f"{key[2:]}{SUFFIX}"

    def _write(self, entry: Path, records: np.ndarray) -> bool:
        """Write under another name and rename, so that no reader sees half an entry."""
        unfinished = entry.with_name(f"{uuid4().hex}{UNFINISHED}")
        try:
            entry.parent.mkdir(exist_ok=True)
            records.tofile(unfinished)
            _mark_used(unfinished)
            unfinished.replace(entry)
        except OSError as error:
            self._full = True
            logger.warning(
                "the frame cache %s cannot be written (%s); videos are decoded every time", self.folder, error
            )
            _remove(unfinished)
            return False
        self._bytes += records.nbytes
        return True

    def _make_room(self, needed: int) -> bool:
        """Remove old entries until `needed` more bytes fit; return False if they do not."""
        if self._stores % STORES_PER_SCAN == 0:
            self._bytes = sum(entry.size for entry in self._scan())
        self._stores += 1
        if self._bytes + needed <= self.max_bytes:
            return True
        entries = sorted(self._scan())
        self._bytes = sum(entry.size for entry in entries)
        for entry in entries:
            if self._bytes + needed <= self.max_bytes or entry.used >= self._opened:
                break
            _remove(entry.path)
            self._bytes -= entry.size
        return self._bytes + needed <= self.max_bytes

    def _scan(self) -> list[_Entry]:
        """List all entries and remove the unfinished ones of processes that died."""
        entries = []
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == SUFFIX:
                    entries.append(_Entry(status.st_mtime_ns, status.st_size, path))
                elif path.suffix == UNFINISHED and time.time() - status.st_mtime > ABANDONED_SECONDS:
                    _remove(path)
        return entries


def _rows(available: int, sampling: SamplingSettings) -> Int[np.ndarray, "frames"]:
    rng = sampling.rng
    if rng is None:
        return segment_centres(available, sampling.num_frames)
    return random_in_segments(available, sampling.num_frames, rng)


CHECKSUM = np.dtype("<u4")


def _record(height: int, width: int) -> np.dtype:
    """Return the dtype of a stored frame behind its checksum."""
    return np.dtype([("checksum", CHECKSUM), ("pixels", "u1", (height, width, 3))])


def _pack(stack: UInt8[np.ndarray, "candidates height width 3"]) -> np.ndarray:
    records = np.empty(len(stack), _record(*stack.shape[1:3]))
    records["pixels"] = stack
    records["checksum"] = [zlib.crc32(frame) for frame in np.ascontiguousarray(stack)]
    return records


def _read_entry(
    entry: Path, dense: SamplingSettings, rows: Int[np.ndarray, "frames"]
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Read and check the chosen frames alone, each straight to its place."""
    record = _record(dense.height, dense.width)
    frames = np.empty((len(rows), dense.height, dense.width, 3), dtype=np.uint8)
    with entry.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != dense.num_frames * record.itemsize:
            raise ValueError(f"{entry} has {size} bytes instead of {dense.num_frames * record.itemsize}")
        for frame, row in zip(frames, rows.tolist(), strict=True):
            file.seek(row * record.itemsize)
            checksum = file.read(CHECKSUM.itemsize)
            if file.readinto(frame.data) != frame.nbytes or zlib.crc32(frame.data) != int.from_bytes(
                checksum, "little"
            ):
                raise ValueError(f"{entry}: frame {row} does not match its checksum")
    return frames


def _mark_used(path: Path) -> None:
    """Set the time of use by this process's clock, because that of file systems is coarser."""
    now = time.time_ns()
    with suppress(OSError):  # another process may have removed it, or it is another user's
        os.utime(path, ns=(now, now))


def _remove(path: Path) -> None:
    with suppress(OSError):  # it may be missing; Windows keeps what another process has mapped
        path.unlink()
