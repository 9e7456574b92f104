"""Open video files safely: local files of known formats only, one thread, one time limit, every refusal with a kind."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.stream import Disposition

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.cropping import container_crop
from colbert_video.video.files import is_archive, locate, read_archive
from colbert_video.video.frames import StreamShape, VideoHeader

# Playlists (HLS, DASH, concat), image sequences, capture devices and network formats are left out on purpose: they make
# FFmpeg open other things than the file it was given.
FORMATS = (
    "aac,asf,avi,cavsvideo,dhav,dv,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,matroska,webm,mjpeg,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mxf,mxg,nsv,nut,nuv,obu,ogg,pva,rm,swf,ty,vc1,vc1test,vvc,wav,wtv,"
    "yuv4mpegpipe"
)
MAX_PIXEL_ASPECT = 20
"""No pixels are longer than so many times their other side; such values are damage."""
ENCRYPTED_TAGS = ("encv", "drmi")
HEADER_ONLY = {"analyzeduration": "1", "fpsprobesize": "0"}
"""Options with which FFmpeg reads no more packets than it needs to name a file's streams."""


class Deadline:
    """The moment by which one file must be read, `seconds` from now."""

    def __init__(self, seconds: float, path: str) -> None:
        self.path = path
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def error(self) -> VideoError:
        """Return the error for a file that took too long."""
        return VideoError(self.path, FailureKind.TIMEOUT, f"decoding took longer than {self.seconds:g} seconds")

    def left(self) -> float:
        """Return the seconds left, at least a millisecond, because FFmpeg takes 0 for no limit."""
        return max(self._end - time.monotonic(), 1e-3)

    def check(self) -> None:
        """Check that there is time left.

        Raises:
            VideoError: Of kind `TIMEOUT`, if the time is up.
        """
        if time.monotonic() > self._end:
            raise self.error()


@dataclass
class OpenVideo:
    """An open file and the one stream of it that is decoded."""

    path: str
    container: Any
    """The `av.container.InputContainer`."""
    stream: Any
    """The chosen `av.video.stream.VideoStream`."""
    deadline: Deadline
    damage: str | None = None
    """A problem that the last pass over the packets found, in words."""

    @property
    def context(self) -> Any:
        """The decoder, an `av.CodecContext`."""
        return self.stream.codec_context

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, whichever library decodes it."""
        return self.context.codec.canonical_name

    @property
    def format(self) -> str:
        """FFmpeg's names of the container format, joined by commas."""
        return self.container.format.name

    @property
    def origin(self) -> float:
        """Seconds that players subtract from every timestamp: where the file's first stream starts."""
        return (self.container.start_time or 0) / av.time_base

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of a timestamp."""
        return Fraction(self.stream.time_base)  # releases of PyAV differ in the type of their own

    @property
    def rate(self) -> float:
        """Frames per second as the header states them, for files without timestamps; 0 if it does not."""
        return float(self.stream.guessed_rate or self.stream.average_rate or 0)

    @property
    def shape(self) -> StreamShape:
        """What the container says of the pictures' shape."""
        stated = self.stream.sample_aspect_ratio or self.context.sample_aspect_ratio
        plausible = stated is not None and 1 / MAX_PIXEL_ASPECT <= stated <= MAX_PIXEL_ASPECT
        width, height = self.context.width, self.context.height
        crop = container_crop(self.path, self.format, self.stream.index, width, height)
        return StreamShape(float(stated) if plausible else 1.0, crop, self.stream.index)

    def seconds(self, stamp: int) -> float:
        """Return the time of a timestamp of the stream in seconds, as players count it."""
        return round(stamp * float(self.time_base) - self.origin, 6)

    def packets(self) -> Iterator[Any]:
        """Demux the stream from where it stands, watching the clock.

        A file that breaks off ends there; `damage` then says so.

        Yields:
            `av.Packet`s in decoding order, none of them empty.

        Raises:
            VideoError: If the time is up or the stream is encrypted.
        """
        torn = False
        try:
            for packet in self.container.demux(self.stream):
                self.deadline.check()
                if packet.has_sidedata("encryption_info"):
                    raise VideoError(self.path, FailureKind.ENCRYPTED, "the video stream is encrypted")
                if packet.size:
                    torn = packet.is_corrupt
                    yield packet
        except av.error.ExitError:
            raise
        except av.error.FFmpegError as error:
            self.damage = f"the file breaks off: {error.strerror}"
        if torn:
            self.damage = "the file breaks off in the middle of a frame"


@contextmanager
def open_video(path: str, deadline: Deadline, max_pixels: int) -> Iterator[OpenVideo]:
    """Open a local video file for the length of a block.

    Inside the block too, FFmpeg's errors come out as `VideoError`.

    Args:
        path: A local file, or a member of a tar archive.
        deadline: Time limit for everything done with the file.
        max_pixels: Largest picture to accept, in pixels.

    Yields:
        The open file with its video stream chosen.

    Raises:
        VideoError: If the file cannot be opened, read in time or decoded, or holds no video.
    """
    with _open(path, deadline) as container:
        stream = choose_stream(path, container.streams.video)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.unaligned  # crop on the left exactly, not to a multiple of the alignment
        with _named_errors(path, deadline, FailureKind.UNDECODABLE, "cannot be decoded"):
            yield OpenVideo(path, container, stream, deadline)


def read_header(path: str, deadline: Deadline) -> VideoHeader:
    """Read the container and the codec of the video stream that players choose from a file's header.

    Raises:
        VideoError: If the file is missing, empty, no readable container, or not read in time.
    """
    with _open(path, deadline, **HEADER_ONLY) as container:
        found = locate(path)
        header = VideoHeader(container.format.name, start=found.start, size=found.size)
        if not container.streams:
            raise VideoError(path, FailureKind.UNREADABLE, "a container without any stream")
        streams = container.streams.video
        try:
            stream = choose_stream(path, streams)
        except VideoError as error:
            return replace(header, refused=error.detail)
        context = stream.codec_context
        shadowed = stream.index != moving_streams(streams)[0].index
        return replace(header, codec=context.codec.canonical_name, profile=context.profile, shadowed=shadowed)


def check_file(path: str) -> None:
    """Check that a path leads to a readable file of at least one byte that is no archive.

    Raises:
        VideoError: Of kind `MISSING` or `EMPTY`; of kind `UNREADABLE` for an archive itself.
    """
    try:
        found = locate(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name.
        raise VideoError(path, FailureKind.MISSING, getattr(error, "strerror", None) or str(error)) from error
    if not os.access(found.path, os.R_OK):
        raise VideoError(path, FailureKind.MISSING, "no permission to read it")
    if found.size == 0:
        raise VideoError(path, FailureKind.EMPTY, "the file holds no bytes")
    if is_archive(found.path) and not found.archived:
        what = read_archive(found.path).damage or "an archive of files, no video"
        raise VideoError(path, FailureKind.UNREADABLE, what)


def choose_stream(path: str, streams: Any) -> Any:
    """Return the `av.video.stream.VideoStream` that players choose: one marked as default, else the largest picture.

    Raises:
        VideoError: If there is no stream, only cover art, no decoder for it, or it is encrypted.
    """
    moving = moving_streams(streams)
    if not moving:
        what = "only cover art, no video stream" if len(streams) else "no video stream"
        raise VideoError(path, FailureKind.NO_VIDEO, what)
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if not decodable:
        raise VideoError(path, FailureKind.UNDECODABLE, "no decoder for its codec")
    chosen = max(decodable, key=_preference)
    if "enc_key_id" in chosen.metadata or _tag(chosen.codec_context) in ENCRYPTED_TAGS:
        raise VideoError(path, FailureKind.ENCRYPTED, "the video stream is encrypted")
    return chosen


def moving_streams(streams: Any) -> list[Any]:
    """Return the video streams that are no cover art."""
    return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]


def _preference(stream: Any) -> tuple[bool, int]:
    context = stream.codec_context
    return bool(stream.disposition & Disposition.default), context.width * context.height


def _tag(context: Any) -> str:
    try:
        return context.codec_tag
    except UnicodeDecodeError:  # Tags need not be letters.
        return ""


def check_pixels(path: str, width: int, height: int, max_pixels: int) -> None:
    """Check that a picture of this size may be decoded.

    Raises:
        VideoError: Of kind `TOO_LARGE`, if width times height is more than `max_pixels`.
    """
    if width * height > max_pixels:
        raise VideoError(path, FailureKind.TOO_LARGE, f"{width}x{height} is more than max_pixels={max_pixels}")


def _open(path: str, deadline: Deadline, **further: str) -> Any:
    check_file(path)
    found = locate(path)
    allowed = {"protocol_whitelist": found.protocols, "format_whitelist": FORMATS, **further}
    options: dict[str, Any] = {"container_options": allowed, "timeout": deadline.left()}
    if int(av.__version__.split(".")[0]) < 19:  # From 19 on, undecodable metadata is always replaced.
        options["metadata_errors"] = "replace"
    with _named_errors(path, deadline, FailureKind.UNREADABLE, "not a readable video container"):
        return av.open(found.url, **options)


@contextmanager
def _named_errors(path: str, deadline: Deadline, kind: FailureKind, what: str) -> Iterator[None]:
    try:
        yield
    except av.error.ExitError as error:
        raise deadline.error() from error
    except av.error.FFmpegError as error:
        deadline.check()
        raise VideoError(path, kind, f"{what}: {error.strerror}") from error
