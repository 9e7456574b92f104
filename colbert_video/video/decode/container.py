"""Open video files safely: local files of known formats only, one thread, one time limit, every refusal with a kind."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.stream import Disposition

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.cropping import container_crop
from colbert_video.video.decode.formats import FORMATS, raw_format, why_left_out
from colbert_video.video.decode.truncation import missing_end
from colbert_video.video.files import is_archive, locate, read_archive
from colbert_video.video.frames import SamplingSettings, StreamShape, VideoHeader

MAX_PIXEL_ASPECT = 20
"""No pixels are longer than so many times their other side; such values are damage."""
ENCRYPTED_TAGS = ("encv", "drmi")
DECODER_STATE = ("palette", "new_extradata")
"""Side data of packets that decoders keep using until the next of its kind."""
TEXT_CODECS = ("subrip", "srt", "text", "webvtt", "mov_text", "ass", "ssa")
"""FFmpeg's names of the codecs of streams that hold text."""
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
    """A problem of the file as a whole, in words, such as that it breaks off."""
    state: dict[str, Any] = field(default_factory=dict)
    """What `DECODER_STATE` the packets read last said, by its kind."""
    first: int | None = None
    """Timestamp of the first frame, once it is known."""

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
    def has_texts(self) -> bool:
        """True if a stream of the file holds text."""
        return bool(_text_streams(self.container))

    @property
    def origin(self) -> float:
        """Seconds that players subtract from every timestamp: where the file's first stream, or else its video, starts."""
        if self.container.start_time is None:
            return float((self.first or 0) * self.time_base)
        return self.container.start_time / av.time_base

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
        return max(round(stamp * float(self.time_base) - self.origin, 6), 0.0)

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
            for packet in _demuxed(self.container, self.stream):
                self.deadline.check()
                self._note_side_data(packet)
                if packet.size:
                    torn = packet.is_corrupt
                    yield packet
        except av.error.ExitError:
            raise
        except av.error.FFmpegError as error:
            self.damage = f"the file breaks off: {error.strerror}"
        if torn:
            self.damage = "the file breaks off in the middle of a frame"

    def seek(self, stamp: int) -> bool:
        """Seek to a timestamp of the stream, or where its format leads from there; return False if it cannot be sought."""
        try:
            self.container.seek(stamp, stream=self.stream)
        except av.error.ExitError:
            raise
        except av.error.FFmpegError:
            return False
        return True

    def _note_side_data(self, packet: Any) -> None:
        for data in packet.iter_sidedata():
            if data.data_type == "encryption_info":
                raise VideoError(self.path, FailureKind.ENCRYPTED, "the video stream is encrypted")
            if data.data_type in DECODER_STATE:
                self.state[data.data_type] = data


@contextmanager
def open_video(path: str, deadline: Deadline, max_pixels: int, number: int | None = None) -> Iterator[OpenVideo]:
    """Open a local video file for the length of a block.

    Inside the block too, FFmpeg's errors come out as `VideoError`.

    Args:
        path: A local file, or a member of a tar archive.
        deadline: Time limit for everything done with the file.
        max_pixels: Largest picture to accept, in pixels.
        number: Which video stream to take, counted from 0; None for the one of `choose_stream`.

    Yields:
        The open file with its video stream chosen.

    Raises:
        VideoError: If the file cannot be opened, read in time or decoded, or holds no video.
    """
    with _open(path, deadline, max_pixels) as container:
        stream = choose_stream(path, container.streams, number)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = _size_limit(max_pixels)
        stream.codec_context.flags |= Flags.unaligned  # crop on the left exactly, not to a multiple of the alignment
        _discard_others(container, stream)
        with _named_errors(path, deadline, FailureKind.UNDECODABLE, "cannot be decoded"):
            yield OpenVideo(path, container, stream, deadline, missing_end(path, container))


@dataclass
class OpenSound:
    """An open file and the one stream of its sound."""

    container: Any
    """The `av.container.InputContainer`."""
    stream: Any
    """An `av.audio.stream.AudioStream`."""
    deadline: Deadline
    origin: float
    """Seconds that players subtract from every timestamp."""

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self.stream.codec_context.codec.canonical_name

    @property
    def format(self) -> str:
        """FFmpeg's names of the container format, joined by commas."""
        return self.container.format.name

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of a timestamp."""
        return Fraction(self.stream.time_base)

    def seconds(self, stamp: int) -> float:
        """Return the time of a timestamp in seconds, as players count it."""
        return stamp * float(self.time_base) - self.origin

    def seek(self, seconds: float) -> None:
        """Go to a time, or to the start where the file cannot be sought."""
        with suppress(av.error.FFmpegError):
            self.container.seek(int(max(seconds + self.origin - 0.1, 0) / self.time_base), stream=self.stream)

    def packets(self) -> Iterator[Any]:
        """Demux the sound from where it stands, watching the clock; no packet is empty."""
        for packet in _demuxed(self.container, self.stream):
            self.deadline.check()
            if packet.size:
                yield packet

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Decode the sound; yield each `av.AudioFrame` with its time in seconds. What does not decode is left out."""
        for packet in self.packets():
            with suppress(av.error.InvalidDataError):
                for frame in self.stream.codec_context.decode(packet):
                    if frame.pts is not None:
                        yield float(frame.pts * frame.time_base) - self.origin, frame


@contextmanager
def open_sound(path: str, deadline: Deadline) -> Iterator[OpenSound | None]:
    """Open the sound of a local video file for the length of a block; None if it has none that can be decoded.

    Args:
        path: A local file, or a member of a tar archive.
        deadline: Time limit for everything done with it.

    Raises:
        VideoError: If the file cannot be opened.
    """
    with _open(path, deadline, SamplingSettings.max_pixels) as container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            yield None
            return
        _discard_others(container, stream)
        origin = 0.0 if container.start_time is None else container.start_time / av.time_base
        yield OpenSound(container, stream, deadline, origin)


@dataclass
class OpenTexts:
    """An open file and those of its streams that hold text."""

    container: Any
    """The `av.container.InputContainer`."""
    streams: list[Any]
    """`av.subtitles.stream.SubtitleStream`s."""
    path: str
    deadline: Deadline

    def packets(self) -> Iterator[Any]:
        """Demux the streams, watching the clock; no packet is empty.

        Raises:
            VideoError: If the time is up, or the file breaks off.
        """
        with _named_errors(self.path, self.deadline, FailureKind.UNDECODABLE, "cannot be read to its end"):
            for packet in _demuxed(self.container, *self.streams):
                self.deadline.check()
                if packet.size and packet.pts is not None:
                    yield packet

    def span(self, packet: Any) -> tuple[float, float | None]:
        """Return start and end of a packet in seconds, as players count them; None as an end that is not stated."""
        base, origin = float(Fraction(packet.time_base)), (self.container.start_time or 0) / av.time_base
        start = max(packet.pts * base - origin, 0.0)
        return start, start + packet.duration * base if packet.duration else None


@contextmanager
def open_texts(path: str, deadline: Deadline) -> Iterator[OpenTexts | None]:
    """Open the text streams of a local video file for the length of a block; None, at the price of its header, without any.

    Args:
        path: A local file, or a member of a tar archive.
        deadline: Time limit for everything done with it.

    Raises:
        VideoError: If the file cannot be opened.
    """
    with _open(path, deadline, SamplingSettings.max_pixels, **HEADER_ONLY) as container:
        has_text = bool(_text_streams(container))
    if not has_text:
        yield None
        return
    with _open(path, deadline, SamplingSettings.max_pixels) as container:
        streams = _text_streams(container)
        _discard_others(container, *streams)
        yield OpenTexts(container, streams, path, deadline)


def _text_streams(container: Any) -> list[Any]:
    """Return the subtitle streams that hold text, not pictures."""
    subtitles = container.streams.subtitles
    return [one for one in subtitles if one.codec_context is not None and one.codec_context.name in TEXT_CODECS]


def _demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """Demux streams. PyAV ends with an empty packet of each, and fails if one has appeared since the start."""
    with suppress(IndexError):
        yield from container.demux(*streams)


def _discard_others(container: Any, *chosen: Any) -> None:
    """Let FFmpeg read some streams alone, so that missing data of another does not end it."""
    for stream in container.streams:
        if stream not in chosen and hasattr(stream, "discard"):  # PyAV 17 has no such switch.
            stream.discard = type(stream.discard).all


def read_header(path: str, deadline: Deadline, number: int | None = None) -> VideoHeader:
    """Read the container and the codec of one video stream from a file's header.

    Args:
        path: A local file, or a member of a tar archive.
        deadline: Time limit.
        number: Which video stream, counted from 0; None for the one of `choose_stream`.

    Raises:
        VideoError: If the file is missing, empty, no readable container, or not read in time.
    """
    with _open(path, deadline, SamplingSettings.max_pixels, **HEADER_ONLY) as container:
        found = locate(path)
        header = VideoHeader(container.format.name, start=found.start, size=found.size)
        if not container.streams:
            raise VideoError(path, FailureKind.UNREADABLE, "a container without any stream")
        streams = container.streams.video
        try:
            stream = choose_stream(path, container.streams, number)
        except VideoError as error:
            return replace(header, refused=error.detail)
        context = stream.codec_context
        shadowed = stream not in moving_streams(streams)[:1]
        rate = float(stream.average_rate or stream.guessed_rate or 0) or None
        codec = context.codec.canonical_name
        return replace(header, codec=codec, profile=context.profile, shadowed=shadowed, rate=rate)


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


def choose_stream(path: str, streams: Any, number: int | None = None) -> Any:
    """Return the `av.video.stream.VideoStream` to read: that of `av_find_best_stream`, but a film before a still.

    Args:
        path: The file, for errors.
        streams: The `av.container.streams.StreamContainer`.
        number: Which video stream to take instead, counted from 0.

    Raises:
        VideoError: If there is no such stream, only cover art, no decoder for it, or it is encrypted.
    """
    chosen = _best_stream(path, streams) if number is None else _numbered_stream(path, streams.video, number)
    if "enc_key_id" in chosen.metadata or _tag(chosen.codec_context) in ENCRYPTED_TAGS:
        raise VideoError(path, FailureKind.ENCRYPTED, "the video stream is encrypted")
    return chosen


def _best_stream(path: str, streams: Any) -> Any:
    moving = moving_streams(streams.video)
    if not moving:
        what = "only cover art, no video stream" if len(streams.video) else "no video stream"
        raise VideoError(path, FailureKind.NO_VIDEO, what)
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if not decodable:
        raise VideoError(path, FailureKind.UNDECODABLE, "no decoder for its codec")
    films = [stream for stream in decodable if not _is_still(stream)] or decodable
    best = streams.best("video")
    return best if best in films else max(films, key=_preference)


def _numbered_stream(path: str, videos: Any, number: int) -> Any:
    if number >= len(videos):
        what = f"stream={number} was asked for; its video streams are numbered from 0 to {len(videos) - 1}"
        raise VideoError(path, FailureKind.NO_VIDEO, what if len(videos) else "no video stream")
    if videos[number].codec_context is None:
        raise VideoError(path, FailureKind.UNDECODABLE, "no decoder for its codec")
    return videos[number]


def _is_still(stream: Any) -> bool:
    marks = Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & marks) or stream.frames == 1


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


def _open(path: str, deadline: Deadline, max_pixels: int, **further: str) -> Any:
    check_file(path)
    found = locate(path)
    allowed = {"protocol_whitelist": found.protocols, "format_whitelist": FORMATS, **further}
    options: dict[str, Any] = {"container_options": allowed, "timeout": deadline.left(), "format": raw_format(path)}
    options["options"] = _size_limit(max_pixels)  # already while FFmpeg looks into the streams
    if int(av.__version__.split(".")[0]) < 19:  # From 19 on, undecodable metadata is always replaced.
        options["metadata_errors"] = "replace"
    with _named_errors(path, deadline, FailureKind.UNREADABLE, "not a readable video container"):
        try:
            return av.open(found.url, **options)
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:
            reason = why_left_out(path)
            if reason is None:
                raise
            raise VideoError(path, FailureKind.UNREADABLE, reason) from error


def _size_limit(max_pixels: int) -> dict[str, str]:
    """Return options with which decoders allocate no picture far above the limit; many add borders to pictures."""
    return {"max_pixels": str(min(2 * max_pixels + 2**16, 2**31 - 1))}


def no_memory(path: str) -> VideoError:
    """Return the error for a file that needs more memory than the process may have."""
    what = "decoding it takes more memory than there is; a decoding process may have max_memory bytes"
    return VideoError(path, FailureKind.TOO_LARGE, what)


@contextmanager
def _named_errors(path: str, deadline: Deadline, kind: FailureKind, what: str) -> Iterator[None]:
    try:
        yield
    except av.error.ExitError as error:
        raise deadline.error() from error
    except av.error.MemoryError as error:
        raise no_memory(path) from error
    except av.error.FFmpegError as error:
        deadline.check()
        raise VideoError(path, kind, f"{what}: {error.strerror}") from error
