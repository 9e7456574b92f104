"""Messages between a pool and its workers: two lengths, a JSON header, raw bytes. Nothing is pickled."""

import json
import struct
from typing import IO, Any

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames

LENGTHS = struct.Struct("<QQ")


def write_message(stream: IO[bytes], header: dict[str, Any], payload: bytes = b"") -> None:
    """Write one message and flush it."""
    text = json.dumps(header).encode(
        "ascii"
    )  # JSON escapes all else, lone surrogates of odd file names included.
    stream.write(LENGTHS.pack(len(text), len(payload)))
    stream.write(text)
    stream.write(payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Returns:
        The header and the raw bytes after it.

    Raises:
        EOFError: If the stream ends before the message does.
    """
    text_length, payload_length = LENGTHS.unpack(_read_exactly(stream, LENGTHS.size))
    return json.loads(_read_exactly(stream, text_length)), _read_exactly(stream, payload_length)


def pack_frames(frames: SampledFrames) -> tuple[dict[str, Any], bytes]:
    """Turn frames into a message."""
    facts = {name: value for name, value in vars(frames).items() if name not in ("pixels", "times")}
    header = {"facts": facts, "times": frames.times.tolist(), "shape": frames.pixels.shape}
    return header, np.ascontiguousarray(frames.pixels).tobytes()


def pack_error(error: VideoError) -> dict[str, Any]:
    """Turn a refusal into a message."""
    return {"refused": {"path": error.path, "kind": error.kind.value, "detail": error.detail}}


def unpack(header: dict[str, Any], payload: bytes) -> SampledFrames | VideoError:
    """Undo `pack_frames` or `pack_error`."""
    if "refused" in header:
        refused = header["refused"]
        return VideoError(refused["path"], FailureKind(refused["kind"]), refused["detail"])
    facts = {**header["facts"], "warnings": tuple(header["facts"]["warnings"])}
    pixels = np.frombuffer(bytearray(payload), dtype=np.uint8).reshape(header["shape"])
    return SampledFrames(pixels=pixels, times=np.array(header["times"], dtype=np.float64), **facts)


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError(f"the stream ended after {len(data)} of {length} bytes")
    return data
