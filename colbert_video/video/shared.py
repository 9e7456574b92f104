"""Memory that a pool shares with one of its workers: the worker writes pixels into it, the pool copies them out once.

It is a file without a name that lives in memory (`memfd_create` of Linux): the worker inherits its descriptor, and it is
gone as soon as neither process holds one, however they end. Elsewhere pixels go through the worker's pipe.
"""

import mmap
import os
from typing import IO

import numpy as np
from jaxtyping import UInt8

AVAILABLE = hasattr(os, "memfd_create")


class SharedMemory:
    """One end of the shared memory, which grows to the largest answer so far.

    Who reads must have been told by the writer, through another channel, that all is written.

    Args:
        file: The nameless file, open for reading and writing; it is closed with this.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._map: mmap.mmap | None = None

    @property
    def descriptor(self) -> int:
        """What the other process must inherit."""
        return self._file.fileno()

    def write(self, data: memoryview) -> bool:
        """Put bytes at the start of the memory; False if the system gives no memory for so many."""
        try:
            if self._size() < len(data):
                os.ftruncate(self.descriptor, len(data))
            self._mapped(len(data))[: len(data)] = data
        except OSError:
            return False
        return True

    def read(self, length: int) -> UInt8[np.ndarray, "length"]:
        """Copy the first bytes out.

        Raises:
            EOFError: If the memory does not hold so many.
        """
        if not 0 < length <= self._size():
            raise EOFError(f"{length} bytes were said to be in shared memory of {self._size()} bytes")
        return np.frombuffer(self._mapped(length), dtype=np.uint8, count=length).copy()

    def close(self) -> None:
        """Let go of the memory; a second time does no harm."""
        if self._map is not None:
            self._map.close()
        self._file.close()

    def _size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def _mapped(self, length: int) -> mmap.mmap:
        if self._map is None or len(self._map) < length:
            self._map = mmap.mmap(self.descriptor, self._size())
        return self._map


def create_shared_memory() -> SharedMemory | None:
    """New shared memory, or None where the system has no such thing."""
    if not AVAILABLE:
        return None
    import fcntl  # Windows has none.

    try:
        descriptor = os.memfd_create("colbert-video-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:  # Sandboxes may forbid it.
        return None
    # A mapping of a file that shrinks would kill its reader; this one cannot, whatever the other process does.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return SharedMemory(os.fdopen(descriptor, "r+b", buffering=0))


def open_shared_memory(descriptor: int) -> SharedMemory:
    """The other end, in the process that inherited it.

    Args:
        descriptor: As the pool's end has it.
    """
    return SharedMemory(os.fdopen(descriptor, "r+b", buffering=0))
