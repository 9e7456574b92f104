"""Messages between a pool and its workers: two lengths, a JSON header, raw bytes. Nothing is pickled.

Pixels are such raw bytes, or lie in memory that both processes share, and then the header says how many there are.
"""

import json
import struct
from typing import IO, Any

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames
from colbert_video.video.shared import SharedMemory

LENGTHS = struct.Struct("<QQ")


Payload = bytes | bytearray | memoryview
NOTHING = memoryview(b"")
SHARED = "shared"
"""Entry of a header that tells how many bytes of payload lie in shared memory."""


def write_message(stream: IO[bytes], header: dict[str, Any], payload: Payload = NOTHING) -> None:
    """Write one message and flush it."""
    text = json.dumps(header).encode(
        "ascii"
    )  # JSON escapes all else, lone surrogates of odd file names included.
    stream.write(LENGTHS.pack(len(text), len(payload)))
    stream.write(text)
    stream.write(payload)
    stream.flush()


def write_answer(
    stream: IO[bytes], header: dict[str, Any], payload: memoryview, memory: SharedMemory | None
) -> None:
    """Write a message whose payload travels by shared memory where there is any."""
    if memory is not None and payload and memory.write(payload):
        header, payload = {**header, SHARED: len(payload)}, NOTHING
    write_message(stream, header, payload)


def read_answer(stream: IO[bytes], memory: SharedMemory | None) -> SampledFrames | VideoError:
    """Read what `write_answer` wrote.

    Raises:
        EOFError: If the stream ends before the message does, or shared memory does not hold what the message says.
    """
    header, payload = read_message(stream)
    if SHARED not in header:
        return unpack(header, payload)
    if memory is None:
        raise EOFError("pixels were said to be in shared memory, and there is none")
    return unpack(header, memory.read(header[SHARED]))


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """Read one message.

    Returns:
        The header and the raw bytes after it.

    Raises:
        EOFError: If the stream ends before the message does.
    """
    text_length, payload_length = LENGTHS.unpack(_read_exactly(stream, LENGTHS.size))
    return json.loads(_read_exactly(stream, text_length)), _read_exactly(stream, payload_length)


def pack_frames(frames: SampledFrames) -> tuple[dict[str, Any], memoryview]:
    """Turn frames into a message, whose payload is the pixels themselves where they are contiguous."""
    facts = {name: value for name, value in vars(frames).items() if name not in ("pixels", "times")}
    header = {"facts": facts, "times": frames.times.tolist(), "shape": frames.pixels.shape}
    return header, np.ascontiguousarray(frames.pixels).reshape(-1).data


def pack_error(error: VideoError) -> dict[str, Any]:
    """Turn a refusal into a message."""
    return {"refused": {"path": error.path, "kind": error.kind.value, "detail": error.detail}}


def unpack(header: dict[str, Any], payload: bytearray | np.ndarray) -> SampledFrames | VideoError:
    """Undo `pack_frames` or `pack_error`; the frames' pixels are the payload itself."""
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
