"""Messages between a pool and its workers: two lengths, a JSON header, raw bytes. Nothing is pickled.

Pixels are such raw bytes, or lie in shared memory, and then the header says how many bytes there are.
"""

import json
import mmap
import os
import struct
from typing import IO, Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import Cropping, SampledFrames, SourcePicture, VideoHeader
from colbert_video.video.subtitles.timed_line import ReadLines, TimedLine

Answer: TypeAlias = SampledFrames | VideoHeader | SourcePicture | ReadLines | VideoError
HAS_SHARED_MEMORY = hasattr(os, "memfd_create")
LENGTHS = struct.Struct("<QQ")
NOTHING = memoryview(b"")
SHARED = "shared"
"""Entry of a header that holds the number of payload bytes in shared memory."""


class SharedMemory:
    """One end of the shared memory, which grows to the largest answer so far.

    A reader must know through another channel that all is written.

    Args:
        file: The nameless file, open for reading and writing; `close` closes it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._map: mmap.mmap | None = None

    @property
    def descriptor(self) -> int:
        """The file descriptor that the other process must inherit."""
        return self._file.fileno()

    def write(self, data: memoryview) -> bool:
        """Put bytes at the start of the memory; return False if the system gives no memory for so many."""
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
            EOFError: If the memory holds fewer.
        """
        if not 0 < length <= self._size():
            raise EOFError(f"{length} bytes were said to be in shared memory of {self._size()} bytes")
        return np.frombuffer(self._mapped(length), dtype=np.uint8, count=length).copy()

    def close(self) -> None:
        """Close the memory; a second time does no harm."""
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
    """Create shared memory; return None where the system has no such thing."""
    if not HAS_SHARED_MEMORY:
        return None
    import fcntl  # Windows has none.

    try:
        descriptor = os.memfd_create("colbert-video-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:  # Sandboxes may forbid it.
        return None
    # A mapping of a file that shrinks would kill its reader; this one cannot, whatever the other process does.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return open_shared_memory(descriptor)


def open_shared_memory(descriptor: int) -> SharedMemory:
    """Open shared memory by its descriptor, such as the one that a worker inherited."""
    return SharedMemory(os.fdopen(descriptor, "r+b", buffering=0))


def write_answer(stream: IO[bytes], header: dict[str, Any], payload: memoryview, memory: SharedMemory | None) -> None:
    """Write a message whose payload travels by shared memory where there is any."""
    if memory is not None and payload and memory.write(payload):
        header, payload = {**header, SHARED: len(payload)}, NOTHING
    write_message(stream, header, payload)


def read_answer(stream: IO[bytes], memory: SharedMemory | None) -> Answer:
    """Read a message of `write_answer`.

    Raises:
        EOFError: If the stream ends before the message does, or shared memory holds fewer bytes than the message says.
    """
    header, payload = read_message(stream)
    if SHARED not in header:
        return unpack(header, payload)
    if memory is None:
        raise EOFError("pixels were said to be in shared memory, and there is none")
    return unpack(header, memory.read(header[SHARED]))


def write_message(stream: IO[bytes], header: dict[str, Any], payload: bytes | bytearray | memoryview = NOTHING) -> None:
    """Write one message and flush it."""
    # JSON escapes everything outside ASCII, also the lone surrogates in file names that are not UTF-8.
    text = json.dumps(header).encode("ascii")
    stream.write(LENGTHS.pack(len(text), len(payload)))
    stream.write(text)
    stream.write(payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """Read the header and the payload of one message.

    Raises:
        EOFError: If the stream ends before the message does.
    """
    text_length, payload_length = LENGTHS.unpack(_read_exactly(stream, LENGTHS.size))
    return json.loads(_read_exactly(stream, text_length)), _read_exactly(stream, payload_length)


def pack_frames(frames: SampledFrames) -> tuple[dict[str, Any], memoryview]:
    """Return header and payload of frames; the payload is the pixels themselves where they are contiguous."""
    facts = {name: value for name, value in vars(frames).items() if name not in ("pixels", "times")}
    header = {"facts": facts, "times": frames.times.tolist(), "shape": frames.pixels.shape}
    return header, np.ascontiguousarray(frames.pixels).reshape(-1).data


def pack_header(header: VideoHeader) -> dict[str, Any]:
    """Return the message of a video's header, which has no payload."""
    return {"header": vars(header)}


def pack_source(source: SourcePicture) -> dict[str, Any]:
    """Return the message of how a video's pictures are shown, which has no payload."""
    return {"source": vars(source)}


def pack_lines(read: ReadLines) -> dict[str, Any]:
    """Return the message of the lines of a file's text streams, which has no payload."""
    return {"lines": [(line.start, line.end, line.text) for line in read.lines], "problems": read.problems}


def pack_error(error: VideoError) -> dict[str, Any]:
    """Return the header of a refusal, which has no payload."""
    return {"refused": {"path": error.path, "kind": error.kind.value, "detail": error.detail}}


def unpack(header: dict[str, Any], payload: bytearray | np.ndarray) -> Answer:
    """Build what was packed above; the frames' pixels are the payload itself, not a copy."""
    if "header" in header:
        return VideoHeader(**header["header"])
    if "source" in header:
        source = header["source"]
        return SourcePicture(**{**source, "crop": Cropping(*source["crop"]), "warnings": tuple(source["warnings"])})
    if "lines" in header:
        return ReadLines(tuple(TimedLine(*line) for line in header["lines"]), tuple(header["problems"]))
    if "refused" in header:
        refused = header["refused"]
        return VideoError(refused["path"], FailureKind(refused["kind"]), refused["detail"])
    facts = {**header["facts"], "warnings": tuple(header["facts"]["warnings"])}
    pixels = np.frombuffer(payload, dtype=np.uint8).reshape(header["shape"])
    return SampledFrames(pixels=pixels, times=np.array(header["times"], dtype=np.float64), **facts)


def _read_exactly(stream: IO[bytes], length: int) -> bytearray:
    data = bytearray(length)
    count = stream.readinto(data)  # type: ignore[attr-defined]
    if count < length:
        raise EOFError(f"the stream ended after {count} of {length} bytes")
    return data
