"""Byte ranges of RFC 9110, section 14: one per request."""

import re
from dataclasses import dataclass

from colbert_video.errors import shown
from colbert_video.serve.http_errors import ServiceError

ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ByteRange:
    """Bytes [start, end) of a file of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """Number of bytes of the part."""
        return self.end - self.start

    @property
    def header(self) -> str:
        """Value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def asked_range(value: str | None, size: int) -> ByteRange | None:
    """Read a Range header.

    Args:
        value: The header; None without one.
        size: Bytes of the file.

    Returns:
        The part; None for the whole file, also if the header is malformed, as the RFC demands.

    Raises:
        ServiceError: 416, if the part lies beyond the file or several parts are asked for.
    """
    if value is None or not value.lower().lstrip().startswith("bytes="):
        return None
    if "," in value:
        raise _unsatisfiable(size, "several ranges were asked for; one per request is served.")
    match = ONE_RANGE.fullmatch(value.strip())
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if first == "":
        start, end = max(size - int(last), 0), size
        wanted = int(last) > 0
    else:
        start, end = int(first), size if last == "" else min(int(last) + 1, size)
        if last != "" and int(last) < start:
            return None
        wanted = True
    if not wanted or start >= size:
        raise _unsatisfiable(size, f"the range {shown(value)} lies beyond the file's {size} bytes.")
    return ByteRange(start, end, size)


def still_valid(if_range: str | None, *, etag: str, modified: str) -> bool:
    """Return whether a Range header counts: its If-Range, if any, names the file as it is now."""
    return if_range is None or if_range.strip() in (etag, modified)


def _unsatisfiable(size: int, message: str) -> ServiceError:
    remedy = "Ask for one range within the file, or for all of it."
    return ServiceError(416, "bad_range", message, remedy, {"Content-Range": f"bytes */{size}"})
