"""What the outermost parts of a file say: that it breaks off, as they announce more, or that some is encrypted."""

import io
from collections.abc import Callable
from typing import Any

from colbert_video.video.decode.cropping import boxes
from colbert_video.video.files import locate, open_range

MAX_HEADER_BYTES = 2**24
Part = tuple[int, int | None]
"""Bytes of a part's header and of its content; None for content that reaches to the end of the file."""


def missing_end(path: str, container: Any) -> str | None:
    """Say how much of a file is missing at its end.

    Args:
        path: The file.
        container: The same as an open `av.container.InputContainer`; of MP4, AVI and Matroska sizes are checked.

    Returns:
        A warning in words; None if nothing is missing, or the file does not say.
    """
    read_part = _READERS.get(container.format.name)
    if read_part is None:
        return None
    found = locate(path)
    announced = _indexed_bytes(container) if read_part is _box else 0
    if not announced:
        with open_range(found) as file:
            announced = _announced_bytes(file, found.size, read_part)
    missing = announced - found.size
    return f"the file breaks off: {missing} bytes are missing at its end" if missing > 0 else None


def _indexed_bytes(container: Any) -> int:
    """Return where the last samples of an MP4's tracks end; 0 if the samples lie in fragments, which have no index."""
    last = (stream.index_entries[-1] for stream in container.streams if len(stream.index_entries))
    return max((entry.pos + entry.size for entry in last), default=0)


def has_protected_entry(path: str, container: str) -> bool:
    """Return True if an MP4 describes encrypted video, be it beside clear video that comes first.

    Args:
        path: The file.
        container: FFmpeg's name of its format.
    """
    if _READERS.get(container) is not _box:
        return False
    with open_range(locate(path)) as file:
        movie = next((box for box in boxes(file, 0, None) if box.name == b"moov"), None)
        if movie is None:
            return False
        file.seek(movie.start)
        return b"encv" in file.read(min(movie.end - movie.start, MAX_HEADER_BYTES))


def _announced_bytes(file: io.BufferedIOBase, size: int, read_part: Callable[[bytes], Part | None]) -> int:
    """Return where the last of a file's outermost parts ends."""
    end = 0
    while end < size:
        file.seek(end)
        part = read_part(file.read(16))
        if part is None or part[1] is None:
            return size
        end += part[0] + part[1]
    return end


def _box(head: bytes) -> Part | None:
    """Read the size of a box (ISO/IEC 14496-12, 4.2)."""
    size = int.from_bytes(head[:4], "big")
    if size == 0 or len(head) < 8 or not head[4:8].isascii():
        return None
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    return (8, size - 8) if size >= 8 else None


def _riff_chunk(head: bytes) -> Part | None:
    """Read the size of an outermost RIFF chunk; 0 if its writer never came back to fill it in."""
    size = int.from_bytes(head[4:8], "little")
    return (8, size + size % 2) if head[:4] == b"RIFF" and size else None


def _element(head: bytes) -> Part | None:
    """Read the size of an outermost EBML element (RFC 8794, section 4)."""
    if len(head) < 12 or head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        return None
    length = 9 - head[4].bit_length()
    unknown = (1 << 7 * length) - 1  # all bits set
    size = int.from_bytes(head[4 : 4 + length], "big") & unknown
    return 4 + length, None if size == unknown else size


_READERS: dict[str, Callable[[bytes], Part | None]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _box,
    "avi": _riff_chunk,
    "matroska,webm": _element,
}
