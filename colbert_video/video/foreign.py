"""Other decoders than PyAV: which frames to ask them for, and which files to keep from them.

They trust the container, and what they get wrong they get wrong silently. So the frames are first listed with PyAV, and
what a decoder is known to misread is refused.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.container import Deadline, OpenVideo, open_video
from colbert_video.video.decoding import FrameDecoder
from colbert_video.video.frames import SampledFrames, SamplingSettings, repeats
from colbert_video.video.in_order import listed_timeline
from colbert_video.video.members import locate
from colbert_video.video.resize import FrameResizer, SourcePicture
from colbert_video.video.timeline import Timeline

REMEDY = "use decoder='pyav'"


@dataclass(frozen=True)
class Weakness:
    """What a decoder is known to misread."""

    decoder: str
    """Its name."""
    formats: Collection[str]
    """FFmpeg's names of container formats in which it returns other frames than asked for."""
    codecs: Collection[str] = ()
    """FFmpeg's names of codecs that it cannot decode."""

    def check(self, video: OpenVideo) -> None:
        """Refuse a file that would be misread.

        Raises:
            VideoError: Of kind `UNSUPPORTED`.
        """
        if locate(video.path).archived:
            raise unsupported(video.path, f"{self.decoder} cannot read files inside archives")
        if video.format in self.formats:
            raise unsupported(video.path, f"{self.decoder} misreads {video.format} files")
        if video.codec in self.codecs:
            raise unsupported(video.path, f"{self.decoder} cannot decode {video.codec}")


@dataclass(frozen=True, eq=False)
class Listing:
    """The frames of a file as its packets tell, and those that are wanted."""

    source: SourcePicture
    """The picture."""
    codec: str
    """FFmpeg's name of the codec."""
    timeline: Timeline
    """All frames."""
    origin: float
    """Seconds that players subtract from every timestamp."""
    chosen: Int[np.ndarray, "wanted"]
    """Positions of the wanted frames."""

    def distinct(self) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "wanted"]]:
        """The wanted positions without repeats, and where each wanted frame is found among them."""
        positions, places = np.unique(self.chosen, return_inverse=True)
        return positions, places

    def sampled(self, pixels: UInt8[np.ndarray, "wanted height width 3"], decoder: str) -> SampledFrames:
        """The result, with pixels that another decoder made."""
        return SampledFrames(
            pixels=pixels,
            times=self.timeline.times[self.chosen],
            duration=self.timeline.duration,
            fps=self.timeline.fps,
            width=self.source.width,
            height=self.source.height,
            rotation=self.source.rotation,
            codec=self.codec,
            decoder=decoder,
            warnings=repeats(self.chosen.tolist()),
        )


def list_frames(path: str, settings: SamplingSettings, weakness: Weakness) -> Listing:
    """List a file's frames with PyAV and choose those that the settings ask for.

    Args:
        path: A local file.
        settings: What to read.
        weakness: What not to pass on.

    Returns:
        The listing.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` if only PyAV can be trusted with it.
    """
    deadline = Deadline(settings.timeout, path)
    with open_video(path, deadline, settings.max_pixels) as video:
        source = _first_picture(video, FrameResizer(path, settings))
    with open_video(path, deadline, settings.max_pixels) as video:
        weakness.check(video)
        timeline = listed_timeline(video)
        return Listing(source, video.codec, timeline, video.origin, timeline.choose(path, settings))


def check_count(path: str, decoder: str, counted: int, listing: Listing) -> None:
    """Refuse a file of which the decoder sees other frames than are shown.

    Args:
        path: The file, for the error.
        decoder: Its name.
        counted: How many frames it sees.
        listing: The frames.

    Raises:
        VideoError: Of kind `UNSUPPORTED`.
    """
    shown = len(listing.timeline)
    if counted != shown:
        raise unsupported(path, f"{decoder} counts {counted} frames where {shown} are shown")


def unsupported(path: str, what: str) -> VideoError:
    """The refusal of a file that this decoder cannot be trusted with."""
    return VideoError(path, FailureKind.UNSUPPORTED, f"{what}; {REMEDY}")


def _first_picture(video: OpenVideo, resizer: FrameResizer) -> SourcePicture:
    frame = next(FrameDecoder(video, resizer).frames(video.packets()), None)
    if frame is None:
        raise VideoError(video.path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
    return SourcePicture.of(frame)
