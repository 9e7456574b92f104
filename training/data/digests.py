"""Digests of files, which tell whether two runs read the same data."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_video.base.access import open_plain

EDGE = 2**16
"""Bytes of a video's beginning and of its end that its digest reads."""


def files_digest(files: Mapping[str, Path]) -> dict[str, Any]:
    """Return number, size and digest of some files: of the length, the first and the last 64 KiB of each, and its name here.

    Reading all of a dataset would take hours; a file that was encoded, cut or replaced differs in one of the three.

    Args:
        files: Files by the names that a manifest has for them.
    """
    digest, size, missing = hashlib.sha256(), 0, 0
    for name, path in sorted(files.items()):
        length, edges = _edges(path)
        size += length or 0
        missing += length is None
        digest.update(f"{name}\0{length}\0".encode(errors="surrogateescape"))
        digest.update(edges)
    return {"files": len(files), "bytes": size, "missing": missing, "edges_sha256": digest.hexdigest()}


def _edges(path: Path) -> tuple[int | None, bytes]:
    """Return a file's length and the digest of its two ends; None for a file that cannot be read."""
    try:
        with open_plain(path) as file:
            length = os.fstat(file.fileno()).st_size
            first = file.read(EDGE)
            file.seek(max(EDGE, length - EDGE))
            return length, hashlib.sha256(first + file.read(EDGE)).digest()
    except OSError:
        return None, b""
