"""Change what containers say of their pictures, byte by byte, where no muxer at hand writes it."""

import struct
from collections.abc import Sequence
from pathlib import Path

SAMPLE_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
DATA_REFERENCES = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
FIELDS_BEFORE_BOXES = {b"stsd": 8, b"avc1": 78}
MATRIX_IN_TKHD = 8 + 4 + 36
"""Size and name, version and flags, and what else of version 0 precedes the matrix (ISO/IEC 14496-12, 8.3.2)."""


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Write the linear part of the display matrix into the first track of an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") - 4 + MATRIX_IN_TKHD
    fixed = [round(value * 2**16) for value in (a, b, c, d)]
    struct.pack_into(">9i", data, at, fixed[0], fixed[1], 0, fixed[2], fixed[3], 0, 0, 0, 2**30)
    path.write_bytes(data)
    return path


def add_clean_aperture(path: Path, width: int, height: int, right: int, down: int) -> Path:
    """Add a `clap` box: an aperture whose centre lies `right` and `down` half pixels from the picture's.

    The moov box must lie behind the samples, so that these stay where they are.
    """
    box = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, right, 2, down, 2)
    return _add_box(path, SAMPLE_ENTRY, box)


def move_samples(path: Path, target: str) -> Path:
    """Make an MP4 name a file beside it as the one that holds its samples, and wipe out those of its own.

    The name is an alias record, the one form that FFmpeg follows. The moov box must lie behind the samples.
    """
    name = f"/{target}".encode()
    record = struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    alias = bytes(4 + 10 + 28 + 12 + 64 + 16) + struct.pack(">HH", 1, 1) + bytes(16) + record
    data = bytearray(path.read_bytes())
    samples = data.index(b"mdat")
    size = struct.unpack_from(">I", data, samples - 4)[0] - 8
    data[samples + 4 : samples + 4 + size] = bytes(size)
    struct.pack_into(">I", data, data.index(b"dref") + 8, 2)  # FFmpeg does not count the entry that is there
    path.write_bytes(data)
    return _add_box(path, DATA_REFERENCES, struct.pack(">I4s", 8 + len(alias), b"alis") + alias)


def _add_box(path: Path, parents: Sequence[bytes], box: bytes) -> Path:
    """Add a box at the end of the last of nested boxes, each the first of its name."""
    data, start, boxes = path.read_bytes(), 0, []
    for name in parents:
        while data[start + 4 : start + 8] != name:
            start += struct.unpack_from(">I", data, start)[0]
        boxes.append(start)
        start += 8 + FIELDS_BEFORE_BOXES.get(name, 0)
    end = boxes[-1] + struct.unpack_from(">I", data, boxes[-1])[0]
    longer = bytearray(data[:end] + box + data[end:])
    for at in boxes:
        struct.pack_into(">I", longer, at, struct.unpack_from(">I", longer, at)[0] + len(box))
    path.write_bytes(longer)
    return path


def matroska(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """EBML elements, each an id in hexadecimal and its content, with sizes of eight bytes."""
    return b"".join(
        bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8, "big") + content for name, content in parts
    )


def add_pixel_crop(path: Path, left: int, top: int, right: int, bottom: int) -> Path:
    """Add PixelCrop elements to the video track of a Matroska file that was muxed with live=1 and has no other track."""
    data = path.read_bytes()
    start = data.rindex(bytes.fromhex("1654ae6b"), 0, data.index(b"V_MPEG4"))
    tracks, after = _element(data, start, 4)
    (track,) = (content for name, content in _children(tracks) if name == "ae")
    crops = [("54cc", left), ("54bb", top), ("54dd", right), ("54aa", bottom)]
    more = matroska([(name, pixels.to_bytes(2, "big")) for name, pixels in crops])
    fields = [(name, content + more if name == "e0" else content) for name, content in _children(track)]
    path.write_bytes(data[:start] + matroska([("1654ae6b", matroska([("ae", matroska(fields))]))]) + data[after:])
    return path


def _children(data: bytes) -> list[tuple[str, bytes]]:
    found, at = [], 0
    while at < len(data):
        name_bytes = 9 - data[at].bit_length()
        name = data[at : at + name_bytes].hex()
        content, at = _element(data, at, name_bytes)
        found.append((name, content))
    return found


def _element(data: bytes, start: int, name_bytes: int) -> tuple[bytes, int]:
    """Content of the element at `start`, and where the next one begins."""
    first = data[start + name_bytes]
    size_bytes = 9 - first.bit_length()
    content = start + name_bytes + size_bytes
    size = int.from_bytes(data[start + name_bytes : content], "big") & ((1 << 7 * size_bytes) - 1)
    return data[content : content + size], content + size
