"""Reading the files that searches read at random once and in order, before they do.

Codes and residuals are mapped into memory. A search reads the residuals of its survivors, a few kilobytes in thousands of
places, which disks do slowly; files that were read from front to back lie in the system's page cache. All other files of an
index are read when it is opened.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from colbert_video.indexing.scan.memory import available_memory
from colbert_video.indexing.segments.opened_segment import Segment
from colbert_video.progress import progress_bar

logger = logging.getLogger(__name__)

BLOCK = 8 * 2**20
"""Bytes read at once."""
MIB = 2**20
GB = 10**9


class Preloader:
    """Reads files of open indexes, each once.

    Indexes that are to stay in memory together, such as the shards of a corpus, share one.
    """

    def __init__(self) -> None:
        self._open: dict[Path, Mapping[Path, int]] = {}  # files of each index, with their bytes
        self._read: set[Path] = set()
        self._stopped = False

    def stop(self) -> None:
        """Read nothing more; a read that is under way in another thread ends after its block."""
        self._stopped = True

    def read(self, index: Path, segments: Iterable[Segment]) -> None:
        """Read those files of an index that were not read before.

        If not all files of all indexes would stay in memory, none is read, and a warning says so; the next call tries
        again. A file that cannot be read, for instance because a writer has just replaced it, costs a warning too.

        Args:
            index: The index folder.
            segments: Its live segments; those in a GPU's memory need no file.
        """
        files = mapped_files(segments)
        self._read -= self._open.get(index, {}).keys() - files.keys()
        self._open[index] = files
        new = {path: size for path, size in files.items() if path not in self._read}
        if not new or self._stopped or not self._fits(index):
            return
        started = time.perf_counter()
        done = self._read_files(new, f"reading {index.name} (MiB)")
        seconds = time.perf_counter() - started
        logger.info("read %.3f GB of %s into memory in %.1f s", done / GB, index, seconds)

    def _fits(self, index: Path) -> bool:
        """Whether all open indexes stay in memory; what was read before counts as available, as the system may drop it."""
        needed = sum(sum(files.values()) for files in list(self._open.values()))
        available = available_memory()
        if available is None or needed <= available:
            return True
        logger.warning(
            "%s is not read into memory: that would take %.3f GB together with all that is to stay there, and %.3f GB are "
            "available. Searches read from the disk, slowly; give the machine more memory, or shards to more machines.",
            index,
            needed / GB,
            available / GB,
        )
        return False

    def _read_files(self, files: Mapping[Path, int], label: str) -> int:
        """Read some files; return how many bytes they had."""
        buffer, done, total = bytearray(BLOCK), 0, sum(files.values())
        with progress_bar(label, mebibytes(total)) as bar:
            for path in files:
                try:
                    for count in blocks(path, buffer):
                        if self._stopped:
                            return done
                        before, done = done, done + count  # files are a little longer than what is in them
                        bar.advance(mebibytes(min(done, total)) - mebibytes(min(before, total)))
                except OSError as error:
                    logger.warning("%s cannot be read into memory: %s", path, error)
                    continue
                self._read.add(path)
        return done


def mapped_files(segments: Iterable[Segment]) -> dict[Path, int]:
    """The files that searches read from the disk, with the bytes of the tensors in them."""
    return {
        bag.folder / name: tensor.nbytes
        for segment in segments
        for bag in segment.bags.values()
        for name, tensor in (("0.codes.pt", bag.codes), ("0.residuals.pt", bag.residuals))
        if tensor.device.type == "cpu"
    }


def mebibytes(count: int) -> int:
    """Bytes in MiB, rounded up: the least index has one."""
    return -(-count // MIB)


def blocks(path: Path, buffer: bytearray) -> Iterator[int]:
    """Read a file from front to back into one buffer, over and over; yields how many bytes each time.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield count
