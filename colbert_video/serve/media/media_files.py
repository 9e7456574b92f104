"""From a video of the catalog to an open file; the service opens videos in no other way.

Clients name ids; paths come from the catalog alone. A path is followed through its links to the file it really is, which
must be a regular file, lie in a media root if there are any, and be a known container: an index made elsewhere could
name any file of this machine, and only videos are handed out. Of a member of a tar archive, the same is asked of the
archive, and only the member is handed out. Containers and codecs are read in a decoding process, never in this one.
"""

import logging
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from colbert_video.errors import ColBERTVideoError, FailureKind, VideoError
from colbert_video.serve.http_errors import ServiceError
from colbert_video.video.files import RangeReader, native_name, split_member
from colbert_video.video.frames import SamplingSettings, VideoHeader
from colbert_video.video.workers.pool import FramePool

logger = logging.getLogger(__name__)

HEADER_SECONDS = 5.0
"""Time limit for reading a file's header."""
MAX_HEADERS = 2**16
"""Headers that are remembered."""
DOCTYPE_BYTES = 64
"""Where a WebM file says that it is not any Matroska file; FFmpeg has one name for both."""
PLAYED = {"mp4": ("h264", "av1", "vp8", "vp9"), "webm": ("av1", "vp8", "vp9")}
"""Codecs that browsers play, by container; their names are FFmpeg's, as below."""
PLAYED_PROFILES = (None, "Baseline", "Constrained Baseline", "Main", "Extended", "High")
"""Profiles of H.264 that browsers play: eight bits, 4:2:0."""
UNPLAYED = {
    "matroska": ("matroska", "video/x-matroska", "Matroska"),
    "avi": ("avi", "video/x-msvideo", "AVI"),
    "ogg": ("ogg", "video/ogg", "Ogg"),
    "flv": ("flv", "video/x-flv", "Flash"),
    "asf": ("asf", "video/x-ms-asf", "Windows Media"),
    "mpeg": ("mpeg", "video/mpeg", "MPEG"),
    "mpegvideo": ("mpeg", "video/mpeg", "MPEG"),
    "rm": ("rm", "application/vnd.rn-realmedia", "RealMedia"),
    "gif": ("gif", "image/gif", "GIF"),
    "mxf": ("mxf", "application/mxf", "MXF"),
    "mpegts": ("mpegts", "video/mp2t", "MPEG-TS"),
    "dv": ("dv", "video/dv", "DV"),
    "h264": ("h264", "video/h264", "bare H.264"),
    "hevc": ("hevc", "video/h265", "bare HEVC"),
    "ivf": ("ivf", "video/x-ivf", "IVF"),
    "yuv4mpegpipe": ("y4m", "video/x-yuv4mpeg", "YUV4MPEG2"),
    "nut": ("nut", "video/x-nut", "NUT"),
}
"""Containers that no browser plays, with media types and names; others have FFmpeg's name and no type of their own."""
UNKNOWN_TYPE = "application/octet-stream"
CODEC_NAMES = {"hevc": "HEVC", "mpeg4": "MPEG-4 Part 2", "h263": "H.263"}


@dataclass(frozen=True)
class MediaKind:
    """Container and codec of a file, and whether browsers play it."""

    container: str
    """Such as "mp4"."""
    content_type: str
    codec: str | None
    """Codec of its pictures; None without pictures."""
    reason: str | None
    """Why browsers do not play it, in words; None if they do."""
    frame_rate: float | None = None
    """Frames per second, as the header states them; None if it does not."""


@dataclass(frozen=True)
class MediaFile:
    """A video file as it is now."""

    path: str
    """Path without links; ARCHIVE/MEMBER for a member of an archive."""
    size: int
    """In bytes."""
    modified_ns: int
    """Time of the last change, in nanoseconds since 1970."""
    kind: MediaKind
    stream: int | None = None
    """Which of its video streams is shown, counted from 0; None for the one that is read by default."""

    @property
    def etag(self) -> str:
        """Strong validator, which changes with the file."""
        return f'"{self.modified_ns:x}-{self.size:x}"'

    @property
    def identity(self) -> bytes:
        """Bytes that no other file, version of it or stream has."""
        return f"{self.path}\0{self.etag}\0{self.stream}".encode("utf-8", "surrogateescape")


class MediaFiles:
    """The video files that the service may read; safe to share between threads.

    Args:
        roots: Folders in which files must lie; empty for anywhere.
    """

    def __init__(self, roots: Iterable[Path] = ()) -> None:
        self._roots = [root.resolve() for root in roots]
        self._pool = FramePool(SamplingSettings(timeout=HEADER_SECONDS), workers=1, grace=2.0)
        # A file that is changed has another size or time, and is read again.
        self._header = lru_cache(MAX_HEADERS)(self._read_header)

    def start(self) -> None:
        """Start the decoding process, which takes far longer than reading a header."""
        with suppress(Exception):  # the service may be stopped meanwhile
            self._pool.read_header("")

    def close(self) -> None:
        """End the decoding process."""
        self._pool.close()

    def open(
        self, path: str | None, stream: int | None = None, *, anywhere: bool = False
    ) -> tuple[MediaFile, BufferedIOBase]:
        """Find the file of a video and open it; the caller closes it.

        Args:
            path: As the catalog has it.
            stream: Which of its video streams was indexed; None for the one that is read by default.
            anywhere: True for a file of the service's own, which lies in no media root.

        Returns:
            What the file is, and the open file.

        Raises:
            ServiceError: 404, if there is no file that may be served; its message never says where it would be.
        """
        archive, member = (path, None) if path is None else split_member(path)
        real = self._real_path(archive, anywhere=anywhere)
        try:
            whole = open(real, "rb", opener=_open_now)  # noqa: SIM115 - Path.open takes no opener
        except OSError as error:  # folders too
            raise _moved() from error
        try:
            status = os.fstat(whole.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _missing("what the index names is not a file.", "Index the video again.")
            if member is None:
                header = self._examined(real, status, stream)
                return _described(header, real, status.st_size, status.st_mtime_ns, stream, whole)
            header = self._examined(f"{real}/{member}", status, stream)
            if header.start + header.size > status.st_size:  # replaced meanwhile
                raise _moved()
            part = BufferedReader(RangeReader(whole, header.start, header.size))
            return _described(header, f"{real}/{member}", header.size, status.st_mtime_ns, stream, part)
        except BaseException:
            whole.close()
            raise

    def locate(self, path: str | None, stream: int | None = None) -> MediaFile:
        """Return what the file of a video is; arguments and errors as in `open`."""
        media, file = self.open(path, stream)
        file.close()
        return media

    def find(self, path: str | None, stream: int | None = None) -> tuple[MediaFile | None, str | None]:
        """Return the file of a video if it may be served, and why browsers cannot play it; None if they can."""
        try:
            media = self.locate(path, stream)
        except ServiceError as error:
            return None, error.message
        except ColBERTVideoError as error:  # no decoding process can be started; what was found is shown all the same
            logger.error("%s", error)
            return None, "the video's file cannot be examined just now."
        return media, media.kind.reason

    def _real_path(self, path: str | None, *, anywhere: bool) -> str:
        if path is None:
            raise _missing("the index knows no file of this video.", "Index videos by their files to play them.")
        try:
            real = os.path.realpath(native_name(path), strict=True)
        except (OSError, ValueError) as error:
            raise _moved() from error
        inside = anywhere or not self._roots
        if not inside and not any(Path(real).is_relative_to(root) for root in self._roots):
            raise _missing("the video's file lies outside the media roots.", "Start the service with its --media-root.")
        return real

    def _examined(self, path: str, status: os.stat_result, stream: int | None) -> VideoHeader:
        header = self._header(path, status.st_size, status.st_mtime_ns, stream)
        if isinstance(header, VideoError):
            raise _moved() if header.kind is FailureKind.MISSING else _not_served()
        return header

    def _read_header(self, path: str, size: int, modified_ns: int, stream: int | None) -> VideoHeader | VideoError:
        try:
            return self._pool.read_header(path, stream)
        except VideoError as error:
            logger.info("%s", error)
            return error


def _described(
    header: VideoHeader, path: str, size: int, modified_ns: int, stream: int | None, file: BufferedIOBase
) -> tuple[MediaFile, BufferedIOBase]:
    kind = _kind(header, file)
    if kind is None:
        raise _not_served()
    return MediaFile(path, size, modified_ns, kind, stream), file


def _kind(header: VideoHeader, file: BufferedIOBase) -> MediaKind | None:
    """Return the kind of a video file; None if no such files are served."""
    format_name = header.container.partition(",")[0]
    if format_name == "mov":  # all are sent as MP4, whose readers take them and whose name browsers know
        return MediaKind("mp4", "video/mp4", _codec(header), _reason(header, "mp4"), header.rate)
    if format_name == "matroska" and _is_webm(file):
        return MediaKind("webm", "video/webm", _codec(header), _reason(header, "webm"), header.rate)
    if header.codec is None:
        return None
    container, content_type, name = UNPLAYED.get(format_name, (format_name, UNKNOWN_TYPE, format_name))
    reason = f"browsers do not play {name} files"
    return MediaKind(container, content_type, _codec(header), reason, header.rate)


def _codec(header: VideoHeader) -> str | None:
    return header.codec and CODEC_NAMES.get(header.codec, header.codec).lower()


def _reason(header: VideoHeader, container: str) -> str | None:
    """Return why browsers do not play a file of a container that they play; None if they do."""
    if header.codec is None:
        return f"there is nothing to play: {header.refused}"
    if header.codec not in PLAYED[container]:
        return f"browsers do not play {CODEC_NAMES.get(header.codec, header.codec)}"
    if header.shadowed:
        return "browsers play another of its video streams"
    if header.codec == "h264" and header.profile not in PLAYED_PROFILES:
        return f"browsers do not play H.264 of profile {header.profile}"
    return None


def _is_webm(file: BufferedIOBase) -> bool:
    file.seek(0)
    return b"webm" in file.read(DOCTYPE_BYTES)


def _open_now(path: str, flags: int) -> int:
    """Open without following a link or waiting for a writer, if a link or a pipe has replaced the file by now."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))  # of POSIX


def _moved() -> ServiceError:
    return _missing("the video's file is not where it was when it was indexed.", "Bring it back, or index it again.")


def _not_served() -> ServiceError:
    return _missing("the video's file is of no kind that is served.", "Make a copy in MP4 or WebM and index that.")


def _missing(message: str, remedy: str) -> ServiceError:
    return ServiceError(404, "media_missing", message, remedy)
