"""Other decoders than PyAV: which frames to ask them for, and which files to keep from them.

They trust the container, and what they get wrong they get wrong silently. So the frames are first listed with PyAV, and
what a decoder is known to misread is refused.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import FrameDecoder
from colbert_video.video.decode.in_order import listed_timeline
from colbert_video.video.decode.resize import FrameResizer, SourcePicture, resized
from colbert_video.video.decode.timeline import Timeline
from colbert_video.video.files import locate, native_name
from colbert_video.video.frames import SampledFrames, SamplingSettings, repeats

REMEDY = "use decoder='pyav'"
TIME_ERROR = 2e-3
"""Seconds by which times may differ: containers round to milliseconds."""


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


TORCHCODEC_WEAKNESS = Weakness("torchcodec", formats=("mpegts", "mpeg", "avi", "h264", "hevc", "gif"))
TORCHCODEC_WEAKNESS = Weakness("decord", formats=("mpegts", "mpeg"), codecs=("av1",))


def read_with_decord(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with decord.

    Args:
        path: A local file.
        settings: What to read.

    Returns:
        The frames.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` where PyAV might read it.
        DependencyError: If decord is not installed.
    """
    decord = import_decord()
    listing = list_frames(path, settings, TORCHCODEC_WEAKNESS)
    try:
        pixels = _decoded(decord, path, settings, listing)
    except (decord.DECORDError, RuntimeError) as error:
        raise unsupported(path, f"decord fails: {str(error).strip().splitlines()[0]}") from error
    return listing.sampled(pixels, "decord")


def import_decord() -> Any:
    """Import decord.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import decord
    except ImportError as error:
        raise DependencyError(
            "decoder='decord' needs the package decord, which is not installed; `pip install decord` (there are wheels "
            "for Linux x86_64 and Windows only), or use decoder='pyav'."
        ) from error
    return decord


def _decoded(
    decord: Any, path: str, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "wanted height width 3"]:
    """Let decord resize where bilinear is asked, which is all it knows; else pass whole frames through Pillow."""
    native = settings.interpolation == "bilinear"
    size = {"width": settings.width, "height": settings.height} if native else {}
    reader = decord.VideoReader(native_name(path), ctx=decord.cpu(0), num_threads=1, **size)
    check_count(path, "decord", len(reader), listing)
    positions, places = listing.distinct()
    if native:
        return reader.get_batch(positions).asnumpy()[places]
    frames = [
        resized(reader[int(i)].asnumpy(), settings.width, settings.height, "bicubic") for i in positions
    ]
    return np.stack(frames)[places]


def read_with_torchcodec(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with torchcodec.

    Args:
        path: A local file.
        settings: What to read.

    Returns:
        The frames.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` where PyAV might read it.
        DependencyError: If torchcodec is not installed, or finds no FFmpeg libraries.
    """
    decoders = import_torchcodec()
    listing = list_frames(path, settings, TORCHCODEC_WEAKNESS)
    try:
        pixels = _decoded_by_torchcodec(decoders, path, settings, listing)
    except (RuntimeError, ValueError, IndexError) as error:
        raise unsupported(path, f"torchcodec fails: {str(error).strip().splitlines()[0]}") from error
    return listing.sampled(pixels, "torchcodec")


def import_torchcodec() -> Any:
    """Import torchcodec's decoders.

    Raises:
        DependencyError: If it is not installed, or its libraries do not load.
    """
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "decoder='torchcodec' needs the package torchcodec and the FFmpeg libraries, and they do not load: "
            f"{str(error).strip().splitlines()[0]} Install a torchcodec that fits your torch and an FFmpeg with shared "
            "libraries, or use decoder='pyav'."
        ) from error
    return decoders


def _decoded_by_torchcodec(
    decoders: Any, path: str, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "wanted height width 3"]:
    """Whole frames, resized with Pillow."""
    decoder = decoders.VideoDecoder(native_name(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    check_count(path, "torchcodec", len(decoder), listing)
    positions, places = listing.distinct()
    frames = []
    for position in positions.tolist():
        frame = decoder.get_frame_at(position)
        _check_time(path, frame.pts_seconds - listing.origin, float(listing.timeline.times[position]))
        pixels = frame.data.numpy()
        frames.append(resized(pixels, settings.width, settings.height, settings.interpolation))
    return np.stack(frames)[places]


def _check_time(path: str, shown: float, wanted: float) -> None:
    if abs(shown - wanted) > TIME_ERROR:
        raise unsupported(
            path, f"torchcodec gives the frame at {shown:.3f} seconds where {wanted:.3f} was asked"
        )
