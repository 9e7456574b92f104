"""Decode only what the wanted frames need: from the keyframe before them, without frames that nothing refers to."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.frame import PictureType

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, no_memory, open_video
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.frames import SampledFrames, SamplingSettings, SourcePicture, repeat_warning

# Their decoders drop a frame only if its bitstream says that no other frame refers to it. Others, such as dav1d for AV1,
# take the switch at the start only or guess.
SKIPPING_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")

MAX_BACK = 512
"""Keyframes to go back at most where a container's keyframes are none; then all of the file is decoded in order."""


def _nowhere_earlier(back: int) -> "PacketRun | None":
    return None


@dataclass(frozen=True)
class PacketRun:
    """Packets from a keyframe on, enough to decode some wanted frames."""

    packets: Callable[[], Iterable[Any]]
    """Returns the `av.Packet`s in decoding order, again at each call."""
    wanted: Collection[int]
    """Timestamps of the wanted frames."""
    earlier: Callable[[int], "PacketRun | None"] = _nowhere_earlier
    """Returns the run that begins so many keyframes, or about as many seconds, earlier; None if this one begins first."""


class DecodedFrame(NamedTuple):
    """A decoded and resized frame with its timestamp."""

    stamp: int
    pixels: np.ndarray
    """UInt8 (height, width, 3)."""


@dataclass(frozen=True)
class ChosenFrames:
    """The chosen frames of one file, and its length."""

    times: Sequence[float]
    """Seconds as players count them, ascending."""
    pixels: Sequence[np.ndarray]
    """UInt8 (height, width, 3) each."""
    duration: float
    """End of the last frame, in seconds."""
    fps: float
    """Mean number of frames shown per second."""
    warnings: tuple[str, ...] = ()

    def sampled(self, source: SourcePicture, *, codec: str, decoder: str) -> SampledFrames:
        """Return them as the result for the caller, with a warning where frames repeat."""
        return SampledFrames(
            pixels=np.stack(self.pixels),
            times=np.array(self.times, dtype=np.float64),
            duration=self.duration,
            fps=self.fps,
            width=source.width,
            height=source.height,
            rotation=source.rotation,
            mirrored=source.mirrored,
            pixel_aspect=source.pixel_aspect,
            codec=codec,
            decoder=decoder,
            warnings=self.warnings + source.warnings + repeat_warning(self.times),
        )


class FrameDecoder:
    """Decodes runs of packets of one open file, and counts what does not decode."""

    def __init__(self, video: OpenVideo, resizer: FrameResizer) -> None:
        self.video = video
        self.resizer = resizer
        self.damaged = 0
        """Number of damaged packets or frames."""
        self.replaced = 0
        """Number of wanted frames that did not decode, so that others stand for them."""
        self.trusted = True
        """False once the container's keyframes or timestamps turn out to be useless, so that only decoding all helps."""
        self._may_skip = can_skip(video.context)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the file found so far, in words."""
        found = []
        if self.damaged:
            found.append(f"{self.damaged} damaged packets or frames")
        if self.replaced:
            found.append(f"{self.replaced} wanted frames do not decode; the nearest that do stand for them")
        if self.video.damage:
            found.append(self.video.damage)
        return tuple(found)

    def read(
        self, stamps: Collection[int], runs: Iterable[PacketRun], wider: Callable[[int], PacketRun]
    ) -> list[DecodedFrame] | None:
        """Decode the wanted frames, and for those that do not decode the nearest that do.

        Args:
            stamps: Timestamps of the wanted frames; they may repeat.
            runs: Packets that hold them.
            wider: Returns the packets around a wanted frame that does not decode.

        Returns:
            One frame for each timestamp, in order of showing; None if fewer than half decode, or the container's keyframes
            or timestamps cannot be trusted.
        """
        exact: dict[int, DecodedFrame] = {}
        for run in runs:
            exact |= self.read_run(run)
        wanted = set(stamps)
        if not self.trusted or not exact or 2 * len(exact) < len(wanted):
            return None
        found = {stamp: exact.get(stamp) or self._substitute(wider(stamp), stamp, exact) for stamp in wanted}
        self.replaced = sum(frame.stamp != stamp for stamp, frame in found.items())
        return sorted((found[stamp] for stamp in stamps), key=lambda frame: frame.stamp)

    def read_run(self, run: PacketRun) -> dict[int, DecodedFrame]:
        """Decode the wanted frames of a run; those that do not decode are left out.

        What a container calls a keyframe may be none. Frames therefore count from the first one on that the decoder finds
        to be coded by itself; for those before it decoding begins earlier, twice as far each time.
        """
        exact, doubtful = self._read_from(run)
        back = 1
        while doubtful and back <= MAX_BACK:
            earlier = run.earlier(back)
            if earlier is None:
                return exact
            found, doubtful = self._read_from(replace(earlier, wanted=frozenset(doubtful)))
            exact |= found
            back *= 2
        self.trusted = self.trusted and not doubtful
        return exact

    def _read_from(self, run: PacketRun) -> tuple[dict[int, DecodedFrame], set[int]]:
        """Return the wanted frames of a run, and the timestamps of those that were decoded from an unknown picture."""
        exact: dict[int, DecodedFrame] = {}
        doubtful: set[int] = set()
        begun, last = False, None
        for frame in self.frames(run.packets(), run.wanted):
            begun = begun or stands_alone(frame)
            self.trusted = self.trusted and (last is None or frame.pts is None or frame.pts > last)
            last = frame.pts
            if frame.pts not in run.wanted:
                continue
            if begun:
                exact[frame.pts] = DecodedFrame(frame.pts, self.resizer(frame))
            else:
                doubtful.add(frame.pts)
        return exact, doubtful

    def frames(self, packets: Iterable[Any], wanted: Collection[int] | None = None) -> Iterator[Any]:
        """Decode packets and skip damaged ones.

        Args:
            packets: `av.Packet`s in decoding order, beginning with a keyframe.
            wanted: Timestamps; of other frames, those that no frame refers to are skipped. None decodes all.

        Yields:
            `av.VideoFrame`s in order of showing.
        """
        context = self.video.context
        context.flush_buffers()
        for packet in packets:
            self.video.deadline.check()
            if self._may_skip:
                context.skip_frame = "DEFAULT" if wanted is None or packet.pts in wanted else "NONREF"
            yield from self._noted(self._decoded(packet))
        yield from self._noted(self._decoded(None))

    def _substitute(self, run: PacketRun, stamp: int, exact: Mapping[int, DecodedFrame]) -> DecodedFrame:
        best = None
        for frame in self.frames(run.packets()):
            if best is None or abs(frame.pts - stamp) < abs(best.pts - stamp):
                best = frame
        if best is not None:
            return DecodedFrame(best.pts, self.resizer(best))
        return min(exact.values(), key=lambda frame: abs(frame.stamp - stamp))

    def _noted(self, frames: Iterable[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame.key_frame:
                self.resizer.note_keyframe(frame)
            yield frame

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = self.video.context.decode(packet)
        except av.error.ExitError:
            raise
        except av.error.FFmpegError as error:
            self._check_size(error)
            self.damaged += 1
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return frames

    def _check_size(self, error: Exception) -> None:
        """Raise the cause of a decoder's error that is none of the packet's: too large a picture, or no memory."""
        context = self.video.context
        if context.width * context.height == 0:  # The decoder forgets a size that `max_pixels` does not allow.
            limit = self.resizer.settings.max_pixels
            what = f"a picture has more than max_pixels={limit} pixels, or no valid size"
            raise VideoError(self.video.path, FailureKind.TOO_LARGE, what) from error
        if isinstance(error, MemoryError):
            raise no_memory(self.video.path) from error


def read_source(path: str, settings: SamplingSettings) -> SourcePicture:
    """Return how players show the pictures of a file.

    Raises:
        VideoError: If the file cannot be used.
    """
    with open_video(path, Deadline(settings.timeout, path), settings.max_pixels, settings.stream) as video:
        return first_picture(video, settings)


def first_picture(video: OpenVideo, settings: SamplingSettings) -> SourcePicture:
    """Return how players show the pictures of an open file; it has to be opened again for other frames.

    Raises:
        VideoError: If no frame decodes, or it is too large.
    """
    resizer = FrameResizer(video.path, settings, video.shape)
    for frame in FrameDecoder(video, resizer).frames(video.packets()):
        resizer(frame)
        if resizer.source is not None:
            return resizer.source
    raise VideoError(video.path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")


def stands_alone(frame: Any) -> bool:
    """Return True if a decoded frame refers to no other, as its decoder says."""
    return bool(frame.key_frame) or frame.pict_type == PictureType.I


def can_skip(context: Any) -> bool:
    """Return True if a decoder may skip unwanted frames that nothing refers to without changing the others.

    HEVC marks frames to which none of the same temporal layer refers, so only streams of a single layer qualify.
    """
    codec = context.codec.canonical_name
    if codec != "hevc":
        return codec in SKIPPING_CODECS
    header = context.extradata or b""
    # HEVCDecoderConfigurationRecord, ISO/IEC 14496-15, 8.3.2.1
    has_record = len(header) > 22 and header[0] == 1
    return has_record and (header[21] >> 3) & 7 == 1
