"""Decoding only what the wanted frames need: from the keyframe before them, without frames that nothing refers to."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import av
import numpy as np

from colbert_video.video.decode.container import OpenVideo
from colbert_video.video.decode.resize import FrameResizer

# Their decoders drop a frame only if its bitstream says that no other frame refers to it. Others, such as dav1d for AV1,
# take the switch at the start only or guess.
SKIPPING_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")


@dataclass(frozen=True)
class Run:
    """Packets from a keyframe on, enough to decode some wanted frames."""

    packets: Callable[[], Iterable[Any]]
    """Gives the `av.Packet`s in decoding order, again at each call."""
    wanted: Collection[int]
    """Timestamps of the wanted frames."""


class Picture(NamedTuple):
    """A decoded frame."""

    stamp: int
    """Its timestamp."""
    pixels: np.ndarray
    """UInt8 (height, width, 3)."""


@dataclass(frozen=True)
class Reading:
    """The chosen frames of one file, and how long it is."""

    times: Sequence[float]
    """Seconds as players count them, ascending."""
    pixels: Sequence[np.ndarray]
    """UInt8 (height, width, 3) each."""
    duration: float
    """End of the last frame, in seconds."""
    fps: float
    """Mean number of frames shown a second."""
    warnings: tuple[str, ...]
    """What was wrong."""


class FrameDecoder:
    """Decodes runs of packets of one open file.

    Args:
        video: The open file.
        resizer: Makes pixels of frames.
    """

    def __init__(self, video: OpenVideo, resizer: FrameResizer) -> None:
        self.video = video
        self.resizer = resizer
        self.damaged = 0
        """How many packets or frames were damaged."""
        self.replaced = 0
        """How many wanted frames did not decode, so that others stand for them."""
        self._may_skip = can_skip(video.context)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with the file so far."""
        found = []
        if self.damaged:
            found.append(f"{self.damaged} damaged packets or frames")
        if self.replaced:
            found.append(f"{self.replaced} wanted frames do not decode; the nearest that do stand for them")
        if self.video.damage:
            found.append(self.video.damage)
        return tuple(found)

    def wanted(self, runs: Sequence[Run], wider: Callable[[int], Run]) -> dict[int, Picture] | None:
        """Decode all wanted frames, and for those that do not decode the nearest that do.

        Args:
            runs: Packets with the timestamps wanted of them.
            wider: Gives the packets around a wanted frame that does not decode.

        Returns:
            For each wanted timestamp, the frame that stands for it; None if fewer than half decode.
        """
        exact: dict[int, Picture] = {}
        for run in runs:
            exact |= self.pictures(run)
        stamps = {stamp for run in runs for stamp in run.wanted}
        if not exact or 2 * len(exact) < len(stamps):
            return None
        found = {stamp: exact.get(stamp) or self._substitute(wider(stamp), stamp, exact) for stamp in stamps}
        self.replaced = sum(picture.stamp != stamp for stamp, picture in found.items())
        return found

    def pictures(self, run: Run) -> dict[int, Picture]:
        """Decode the wanted frames of a run; those that do not decode are left out."""
        frames = self.frames(run.packets(), run.wanted)
        return {
            frame.pts: Picture(frame.pts, self.resizer(frame)) for frame in frames if frame.pts in run.wanted
        }

    def frames(self, packets: Iterable[Any], wanted: Collection[int] | None = None) -> Iterator[Any]:
        """Decode packets, passing over damaged ones.

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
            yield from self._decoded(packet)
        yield from self._decoded(None)

    def _substitute(self, run: Run, stamp: int, exact: Mapping[int, Picture]) -> Picture:
        best = None
        for frame in self.frames(run.packets()):
            if best is None or abs(frame.pts - stamp) < abs(best.pts - stamp):
                best = frame
        if best is not None:
            return Picture(best.pts, self.resizer(best))
        return min(exact.values(), key=lambda picture: abs(picture.stamp - stamp))

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            frames = self.video.context.decode(packet)
        except (av.error.ExitError, av.error.MemoryError):
            raise
        except av.error.FFmpegError:
            self.damaged += 1
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return frames


def can_skip(context: Any) -> bool:
    """Whether unwanted frames that nothing refers to may be skipped without changing the others.

    HEVC marks frames to which none of the same temporal layer refers, so only streams of a single layer qualify.

    Args:
        context: The decoder.

    Returns:
        True if skipping is safe.
    """
    codec = context.codec.canonical_name
    if codec != "hevc":
        return codec in SKIPPING_CODECS
    header = context.extradata or b""
    has_record = (
        len(header) > 22 and header[0] == 1
    )  # HEVCDecoderConfigurationRecord, ISO/IEC 14496-15, 8.3.2.1
    return has_record and (header[21] >> 3) & 7 == 1
