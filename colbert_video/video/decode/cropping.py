"""Borders that a container asks players to cut off: Matroska's PixelCrop elements and the clean aperture of MP4.

FFmpeg's demuxers read them and its program cuts them off; PyAV passes them on to nobody, so they are read here.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BufferedIOBase
from typing import NamedTuple

from colbert_video.video.files import locate, open_range
from colbert_video.video.frames import Cropping

MAX_ELEMENTS = 10_000
"""Boxes or elements that are looked at in one file; real ones have far fewer before their first frame."""
SAMPLE_ENTRY_BYTES = 78
"""Fields of a VisualSampleEntry before its boxes (ISO/IEC 14496-12, 12.1.3)."""
SEGMENT, TRACKS, TRACK, TRACK_TYPE, VIDEO, CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0, 0x1F43B675
CROPS = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
"""PixelCropLeft, -Top, -Right and -Bottom of RFC 9559, section 5.1.4.1.28."""
STREAM_TYPES = (1, 2, 17)
"""Track types that FFmpeg makes streams of: video, audio, subtitles."""


class Element(NamedTuple):
    """An MP4 box or a Matroska element."""

    name: bytes | int
    start: int
    """First byte of its content."""
    end: int


def container_crop(path: str, format_name: str, index: int, width: int, height: int) -> Cropping:
    """Return the borders to cut off the pictures of a stream, in pixels before turning.

    Args:
        path: A local file or a member of an archive.
        format_name: FFmpeg's names of its container.
        index: FFmpeg's index of the stream.
        width: Pixels of the pictures as the header states them.
        height: As `width`.

    Returns:
        All zeros where the container says nothing, nothing that can be read, or more than the picture has.
    """
    read = {"matroska": _matroska_crop, "mov": _mp4_crop}.get(format_name.partition(",")[0])
    if read is None:
        return Cropping()
    try:
        with open_range(locate(path)) as file:
            crop = read(file, index, width, height)
    except (OSError, ValueError, IndexError, struct.error, StopIteration, ZeroDivisionError):
        return Cropping()
    fits = min(crop) >= 0 and crop.left + crop.right < width and crop.top + crop.bottom < height
    return crop if fits else Cropping()


def _mp4_crop(file: BufferedIOBase, index: int, width: int, height: int) -> Cropping:
    movie = next(box for box in boxes(file, 0, None) if box.name == b"moov")
    track = [box for box in boxes(file, movie.start, movie.end) if box.name == b"trak"][index : index + 1]
    for box in track:
        for name in (b"mdia", b"minf", b"stbl", b"stsd"):
            box = next(inner for inner in boxes(file, box.start, box.end) if inner.name == name)
        entry = next(boxes(file, box.start + 8, box.end))
        for inner in boxes(file, entry.start + SAMPLE_ENTRY_BYTES, entry.end):
            if inner.name == b"clap":
                return _clean_aperture(_read(file, inner.start, 32), width, height)
    return Cropping()


def _clean_aperture(fields: bytes, width: int, height: int) -> Cropping:
    """ISO/IEC 14496-12, 12.1.4: the size of the aperture, and how far its centre lies from the picture's."""
    numbers = struct.unpack(">8i", fields)
    shown_width, shown_height, right, down = (Fraction(numbers[i], numbers[i + 1]) for i in (0, 2, 4, 6))
    left, top = (width - shown_width) / 2 + right, (height - shown_height) / 2 + down
    edges = (left, top, width - shown_width - left, height - shown_height - top)
    return Cropping(*(int(edge) for edge in edges))


def boxes(file: BufferedIOBase, start: int, end: int | None) -> Iterator[Element]:
    """Yield the MP4 boxes in a range (ISO/IEC 14496-12, 4.2); None for the whole file."""
    for _ in range(MAX_ELEMENTS):
        head = _read(file, start, 16, or_less=True)
        if (end is not None and start >= end) or len(head) < 8:
            return
        size, name = struct.unpack_from(">I4s", head)
        content = start + 8
        if size == 1:
            (size,), content = struct.unpack_from(">Q", head, 8), start + 16
        if size < content - start:
            return  # 0 reaches to the end of the file, where only samples lie
        yield Element(name, content, start + size)
        start += size


def _matroska_crop(file: BufferedIOBase, index: int, width: int, height: int) -> Cropping:
    segment = next(element for element in _elements(file, 0, None) if element.name == SEGMENT)
    tracks = next(element for element in _elements(file, segment.start, segment.end) if element.name == TRACKS)
    entries = [element for element in _elements(file, tracks.start, tracks.end) if element.name == TRACK]
    streams = [entry for entry in entries if _track_type(file, entry) in STREAM_TYPES]
    crop = Cropping()
    for video in _elements(file, streams[index].start, streams[index].end) if index < len(streams) else ():
        if video.name == VIDEO:
            for element in _elements(file, video.start, video.end):
                if element.name in CROPS:
                    crop = crop._replace(**{CROPS[element.name]: _unsigned(file, element)})
    return crop


def _track_type(file: BufferedIOBase, entry: Element) -> int | None:
    kinds = [element for element in _elements(file, entry.start, entry.end) if element.name == TRACK_TYPE]
    return _unsigned(file, kinds[0]) if kinds else None


def _unsigned(file: BufferedIOBase, element: Element) -> int:
    return int.from_bytes(_read(file, element.start, min(element.end - element.start, 8)), "big")


def _elements(file: BufferedIOBase, start: int, end: int | None) -> Iterator[Element]:
    """Yield the EBML elements in a range (RFC 8794, section 5); frames, of unknown size in live recordings, end it."""
    for _ in range(MAX_ELEMENTS):
        head = _read(file, start, 12, or_less=True)
        if (end is not None and start >= end) or len(head) < 2 or not head[0]:
            return
        name_bytes = 9 - head[0].bit_length()
        name = int.from_bytes(head[:name_bytes], "big")
        first = head[name_bytes]
        if not first or name == CLUSTER:
            return
        size_bytes = 9 - first.bit_length()
        size = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        content = start + name_bytes + size_bytes
        unknown = size == (1 << 7 * size_bytes) - 1
        following = 2**63 if unknown else content + size
        yield Element(name, content, following)
        start = following


def _read(file: BufferedIOBase, start: int, size: int, *, or_less: bool = False) -> bytes:
    file.seek(start)
    data = file.read(size)
    if len(data) < size and not or_less:
        raise ValueError(f"there are no {size} bytes at byte {start}")
    return data
