"""The first bytes of containers, for decoders that open whatever a file turns out to be.

PyAV is told which formats FFmpeg may take a file for. decord and torchcodec are not: their FFmpeg follows a playlist that
is called a video, into other files and over the network. A file that begins as a container does is never a playlist.
"""

import os

from colbert_video.video.files import locate, open_range

HEAD_BYTES = 2**20
"""As much as FFmpeg looks at to find out a file's format."""
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp", b"sidx")
"""Types of the first box of an MP4 or QuickTime file, at byte 4."""
SIGNATURES = {
    "matroska": (b"\x1a\x45\xdf\xa3",),
    "flv": (b"FLV\x01",),
    "ogg": (b"OggS",),
    "asf": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "gif": (b"GIF87a", b"GIF89a"),
    "rm": (b".RMF", b".ra\xfd"),
    "mxf": (b"\x06\x0e\x2b\x34",),
    "ivf": (b"DKIF",),
    "nut": (b"nut/multimedia container\0",),
    "wtv": (b"\xb7\xd8\x00\x20\x37\x49\xda\x11",),
    "swf": (b"FWS", b"CWS"),
    "yuv4mpegpipe": (b"YUV4MPEG2 ",),
    "mpeg": (b"\x00\x00\x01\xba",),
    "mpegts": (b"\x47",),
    "mpegvideo": (b"\x00\x00\x01\xb3",),
    "m4v": (b"\x00\x00\x01",),
    "h264": (b"\x00\x00\x01", b"\x00\x00\x00\x01"),
    "hevc": (b"\x00\x00\x01", b"\x00\x00\x00\x01"),
    "obu": (b"\x12\x00",),
}
"""First bytes of each format, by FFmpeg's name."""
PLAYLISTS = (
    b"#extm3u",
    b"ffconcat",
    b"<mpd",
    b"c=in ip",
    b"<smoothstreamingmedia",
    b"<asx",
    b"[playlist]",
    b"[reference]",
)
"""Words of playlists in lower case. FFmpeg looks for some of them up to the first zero byte of a file."""


def begins_as(path: str | os.PathLike[str], container: str) -> bool:
    """Return True if a file begins as files of a container format do, and as no playlist does.

    Args:
        path: The file, or a member of an archive.
        container: FFmpeg's name of the format; of names joined by commas the first counts.

    Raises:
        OSError: If the file cannot be read.
    """
    with open_range(locate(path)) as file:
        head = file.read(HEAD_BYTES)
    return _is_signed(head, container.partition(",")[0]) and not _has_playlist(head)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return True if FFmpeg might take a path for a pattern of numbered pictures, as in "frame%03d.png"."""
    return "%" in os.fspath(path)


def _is_signed(head: bytes, container: str) -> bool:
    if container == "mov":
        return head[4:8] in BOXES
    if container == "avi":
        return head.startswith((b"RIFF", b"RIFX", b"ON2 ")) and head[8:11] in (b"AVI", b"ON2")
    return head.startswith(SIGNATURES.get(container, ()))


def _has_playlist(head: bytes) -> bool:
    text = head.partition(b"\0")[0].lower()
    return any(word in text for word in PLAYLISTS)
