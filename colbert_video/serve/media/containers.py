"""What kind of video a file is, from a few of its bytes, and whether browsers play it.

Nothing is decoded: a look at signatures, at the sample descriptions of ISO files (ISO/IEC 14496-12, section 8.5.2) and at
the codec names of Matroska. A file that is no known container is none that the service hands out, whatever names it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase

HEAD_BYTES = 2 * 188 + 1
"""Enough for three packets of an MPEG transport stream to begin in."""
MATROSKA_BYTES = 2**18
"""Where the codec names of a Matroska file are looked for."""
MAX_BOXES = 4096
"""Boxes of an ISO file that are looked at."""
ISO_TYPES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
AVC_PROFILES = (66, 77, 88, 100)
"""Baseline, Main, Extended and High: eight bits, 4:2:0."""
PLAYED = {"avc1": "h264", "avc3": "h264", "av01": "av1", "vp08": "vp8", "vp09": "vp9"}
NAMES = {"hvc1": "HEVC", "hev1": "HEVC", "dvh1": "HEVC", "mp4v": "MPEG-4 Part 2", "s263": "H.263"}
MATROSKA_PLAYED = {"V_VP8": "vp8", "V_VP9": "vp9", "V_AV1": "av1"}


@dataclass(frozen=True)
class MediaKind:
    """What a file is."""

    container: str
    """Such as "mp4"."""
    content_type: str
    """Its media type."""
    codec: str | None
    """Codec of its pictures, where that is known."""
    reason: str | None
    """Why browsers do not play it, in words; None if they do."""

    @property
    def playable(self) -> bool:
        """Whether browsers play it."""
        return self.reason is None


def identify(file: BufferedIOBase) -> MediaKind | None:
    """Tell what kind of video a file is.

    Args:
        file: An open file, at any position.

    Returns:
        Its kind; None if it is no known container.
    """
    head = _read(file, 0, HEAD_BYTES)
    for fits, kind in KINDS:
        if fits(head):
            return kind(file) if callable(kind) else kind
    return None


def _unplayed(container: str, content_type: str, name: str) -> MediaKind:
    return MediaKind(container, content_type, None, f"browsers do not play {name} files")


def _is_transport_stream(head: bytes) -> bool:
    return len(head) == HEAD_BYTES and head[::188] == b"\x47\x47\x47"


def _iso(file: BufferedIOBase) -> MediaKind | None:
    """An MP4, QuickTime or 3GP file. All are sent as MP4, whose readers take them and whose name browsers know."""
    boxes = _Boxes(file)
    movie = next((box for box in boxes.top() if box.kind == b"moov"), None)
    if movie is None:
        return None
    entry = _video_sample_entry(file, boxes, movie)
    if entry is None:
        return MediaKind("mp4", "video/mp4", None, "its header describes no video track")
    tag, body = entry
    if tag == "avc1" or tag == "avc3":
        profile = _avc_profile(body)
        if profile is not None and profile not in AVC_PROFILES:
            return MediaKind("mp4", "video/mp4", "h264", f"browsers do not play H.264 of profile {profile}")
    if tag in PLAYED:
        return MediaKind("mp4", "video/mp4", PLAYED[tag], None)
    name = NAMES.get(tag, tag)
    return MediaKind("mp4", "video/mp4", name.lower(), f"browsers do not play {name}")


def _matroska(file: BufferedIOBase) -> MediaKind:
    start = _read(file, 0, MATROSKA_BYTES)
    found = re.search(rb"V_[A-Z0-9/_]{2,20}", start)
    name = found.group().decode("ascii") if found else None
    if b"webm" not in start[:64]:
        return MediaKind("matroska", "video/x-matroska", name, "browsers do not play Matroska files")
    if name in MATROSKA_PLAYED:
        return MediaKind("webm", "video/webm", MATROSKA_PLAYED[name], None)
    return MediaKind("webm", "video/webm", name, f"browsers do not play {name or 'WebM without video'}")


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


KINDS: tuple[
    tuple[Callable[[bytes], bool], MediaKind | Callable[[BufferedIOBase], MediaKind | None]], ...
] = (
    (lambda head: head[4:8] in ISO_TYPES, _iso),
    (_begins(b"\x1a\x45\xdf\xa3"), _matroska),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", _unplayed("avi", "video/x-msvideo", "AVI")),
    (_begins(b"OggS"), _unplayed("ogg", "video/ogg", "Ogg")),
    (_begins(b"FLV"), _unplayed("flv", "video/x-flv", "Flash")),
    (_begins(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), _unplayed("asf", "video/x-ms-asf", "Windows Media")),
    (_begins(b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"), _unplayed("mpeg", "video/mpeg", "MPEG")),
    (_begins(b".RMF"), _unplayed("rm", "application/vnd.rn-realmedia", "RealMedia")),
    (_begins(b"GIF87a", b"GIF89a"), _unplayed("gif", "image/gif", "GIF")),
    (_begins(b"\x06\x0e\x2b\x34"), _unplayed("mxf", "application/mxf", "MXF")),
    (_is_transport_stream, _unplayed("mpegts", "video/mp2t", "MPEG-TS")),
)


def _read(file: BufferedIOBase, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    """Where its content begins."""
    end: int


class _Boxes:
    """Walks through the boxes of an ISO file, a bounded number of them."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_BOXES
        self._size = file.seek(0, 2)

    def top(self) -> Iterator[_Box]:
        return self.within(_Box(b"", 0, self._size))

    def within(self, parent: _Box, skip: int = 0) -> Iterator[_Box]:
        position = parent.start + skip
        while position + 8 <= parent.end and self._left > 0:
            self._left -= 1
            head = _read(self._file, position, 16)
            size, header = int.from_bytes(head[:4], "big"), 8
            if size == 1:
                size, header = int.from_bytes(head[8:16], "big"), 16
            elif size == 0:
                size = parent.end - position
            if size < header:
                return
            yield _Box(head[4:8], position + header, min(position + size, parent.end))
            position += size

    def child(self, parent: _Box, kind: bytes) -> _Box | None:
        return next((box for box in self.within(parent) if box.kind == kind), None)

    def at(self, parent: _Box, *kinds: bytes) -> _Box | None:
        """A box by the names on the way to it."""
        box: _Box | None = parent
        for kind in kinds:
            box = None if box is None else self.child(box, kind)
        return box


def _video_sample_entry(file: BufferedIOBase, boxes: _Boxes, movie: _Box) -> tuple[str, bytes] | None:
    """Name and content of the first sample entry of the first video track."""
    for track in boxes.within(movie):
        if track.kind != b"trak":
            continue
        handler, described = (
            boxes.at(track, b"mdia", b"hdlr"),
            boxes.at(track, b"mdia", b"minf", b"stbl", b"stsd"),
        )
        if handler is None or described is None or _read(file, handler.start + 8, 4) != b"vide":
            continue
        entry = next(boxes.within(described, skip=8), None)
        if entry is not None:
            body = _read(file, entry.start, min(entry.end - entry.start, 4096))
            return entry.kind.decode("latin-1"), body
    return None


def _avc_profile(entry: bytes) -> int | None:
    """AVCProfileIndication of the decoder configuration (ISO/IEC 14496-15, section 5.3.3.1)."""
    place = entry.find(b"avcC")
    return entry[place + 5] if 0 <= place < len(entry) - 5 else None
