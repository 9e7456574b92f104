"""decord and torchcodec: which frames to ask them for, and which files to keep from them.

They trust the container, and what they get wrong they get wrong silently. So the frames are first listed with PyAV, and
what a decoder is known to misread, or might follow to other files, is refused.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from colbert_video.errors import DependencyError, FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import ChosenFrames, first_picture
from colbert_video.video.decode.formats import begins_as, is_pattern
from colbert_video.video.decode.in_order import listed_timeline
from colbert_video.video.decode.resize import resized
from colbert_video.video.decode.timeline import Timeline, within_window
from colbert_video.video.files import locate
from colbert_video.video.frames import SampledFrames, SamplingSettings, SourcePicture

REMEDY = "use decoder='pyav'"
TIME_ERROR_SECONDS = 2e-3
"""By how much times may differ: containers round to milliseconds."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The frames of a file as PyAV lists them, and those that are wanted."""

    path: str
    source: SourcePicture
    codec: str
    """FFmpeg's name of the codec."""
    timeline: Timeline
    """All frames."""
    origin: float
    """Seconds that players subtract from every timestamp."""
    chosen: Int[np.ndarray, "wanted"]
    """Rows of the wanted frames in the timeline; some repeat if there are fewer frames than wanted."""

    @property
    def rows(self) -> list[int]:
        """Rows of the wanted frames without repeats."""
        return np.unique(self.chosen).tolist()

    def check_count(self, count: int, decoder: str) -> None:
        """Check that a decoder sees as many frames as are shown.

        Raises:
            VideoError: Of kind `UNSUPPORTED`, if it counts more or fewer.
        """
        shown = len(self.timeline)
        if count != shown:
            raise unsupported(self.path, f"{decoder} counts {count} frames where {shown} are shown")


@dataclass(frozen=True)
class OtherDecoder:
    """A decoding library beside PyAV, and what it is known to misread."""

    name: str
    load: Callable[[], Any]
    """Imports the library, or raises `DependencyError`."""
    decode: Callable[[Any, SamplingSettings, Listing], UInt8[np.ndarray, "distinct height width 3"]]
    """Returns the frames at the listing's `rows`, resized."""
    errors: Callable[[Any], tuple[type[Exception], ...]]
    """The library's exceptions for files that it cannot read."""
    misread_formats: Collection[str]
    """FFmpeg's names of container formats in which it returns other frames than asked for."""
    missing_codecs: Collection[str] = ()
    """FFmpeg's names of codecs that it cannot decode."""

    def check(self, video: OpenVideo) -> None:
        """Check that the decoder can be trusted with a file.

        Raises:
            VideoError: Of kind `UNSUPPORTED`, if it would misread the file, or might open others.
        """
        if locate(video.path).archived:
            raise unsupported(video.path, f"{self.name} cannot read files inside archives")
        if video.format in self.misread_formats:
            raise unsupported(video.path, f"{self.name} misreads {video.format} files")
        if video.codec in self.missing_codecs:
            raise unsupported(video.path, f"{self.name} cannot decode {video.codec}")
        if is_pattern(video.path):
            raise unsupported(video.path, f"{self.name} may take this name for a pattern of other files' names")
        if not begins_as(video.path, video.format):
            raise unsupported(
                video.path,
                f"it does not begin as a {video.format} file does, so {self.name} may take it for a playlist",
            )

    def check_picture(self, path: str, source: SourcePicture) -> None:
        """Check that the decoder shows pictures as players do: none of them crops by the container, mirrors or tone-maps.

        Raises:
            VideoError: Of kind `UNSUPPORTED`, if it would not.
        """
        asked = {"mirrored": source.mirrored, "HDR": source.transfer, "cropped": any(source.crop)}
        needed = ", ".join(what for what, is_asked in asked.items() if is_asked)
        if needed:
            raise unsupported(path, f"{self.name} does not show {needed} pictures as players do")


def read_with_other(path: str, settings: SamplingSettings) -> SampledFrames:
    """Read sampled frames with decord or torchcodec, as the settings say.

    Raises:
        VideoError: If the file cannot be used; of kind `UNSUPPORTED` where PyAV might read it.
        DependencyError: If the decoder is not installed.
    """
    decoder = OTHER_DECODERS[settings.decoder]
    library = decoder.load()
    listing = _list_frames(path, settings, decoder)
    try:
        pixels = decoder.decode(library, settings, listing)
    except decoder.errors(library) as error:
        raise unsupported(path, f"{decoder.name} fails: {_first_line(error)}") from error
    chosen = ChosenFrames(
        times=within_window(listing.timeline.times[listing.chosen], settings.window).tolist(),
        pixels=list(pixels[np.searchsorted(listing.rows, listing.chosen)]),
        duration=listing.timeline.duration,
        fps=listing.timeline.fps,
    )
    return chosen.sampled(listing.source, codec=listing.codec, decoder=decoder.name)


def unsupported(path: str, what: str) -> VideoError:
    """Return the error for a file that this decoder cannot be trusted with."""
    return VideoError(path, FailureKind.UNSUPPORTED, f"{what}; {REMEDY}")


def _list_frames(path: str, settings: SamplingSettings, decoder: OtherDecoder) -> Listing:
    deadline = Deadline(settings.timeout, path)
    with open_video(path, deadline, settings.max_pixels) as video:
        source = first_picture(video, settings)
    decoder.check_picture(path, source)
    with open_video(path, deadline, settings.max_pixels) as video:
        decoder.check(video)
        timeline = listed_timeline(video)
        chosen = timeline.choose(path, settings)
        return Listing(path, source, video.codec, timeline, video.origin, chosen)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _load_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise DependencyError(
            "decoder='decord' needs the package decord, which is not installed; `pip install decord` (there are wheels "
            f"for Linux x86_64 and Windows only), or {REMEDY}."
        ) from error
    return decord


def _decode_with_decord(
    decord: Any, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "distinct height width 3"]:
    """Let decord resize where bilinear is asked, which is all it knows; else resize whole frames with Pillow."""
    native = settings.interpolation == "bilinear"
    size = {"width": settings.width, "height": settings.height} if native else {}
    reader = decord.VideoReader(locate(listing.path).path, ctx=decord.cpu(0), num_threads=1, **size)
    listing.check_count(len(reader), "decord")
    if native:
        return reader.get_batch(listing.rows).asnumpy()
    return np.stack(
        [resized(reader[row].asnumpy(), settings.width, settings.height, "bicubic") for row in listing.rows]
    )


def _load_torchcodec() -> Any:
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "decoder='torchcodec' needs the package torchcodec and the FFmpeg libraries, and they do not load: "
            f"{_first_line(error)} Install a torchcodec that fits your torch and an FFmpeg with shared libraries, or "
            f"{REMEDY}."
        ) from error
    return decoders


def _decode_with_torchcodec(
    decoders: Any, settings: SamplingSettings, listing: Listing
) -> UInt8[np.ndarray, "distinct height width 3"]:
    """Resize whole frames with Pillow, once their times are those that were asked for."""
    decoder = decoders.VideoDecoder(locate(listing.path).path, dimension_order="NHWC", num_ffmpeg_threads=1)
    listing.check_count(len(decoder), "torchcodec")
    frames = []
    for row in listing.rows:
        frame = decoder.get_frame_at(row)
        shown, wanted = frame.pts_seconds - listing.origin, float(listing.timeline.times[row])
        if abs(shown - wanted) > TIME_ERROR_SECONDS:
            raise unsupported(
                listing.path, f"torchcodec gives the frame at {shown:.3f} seconds where {wanted:.3f} was asked"
            )
        frames.append(resized(frame.data.numpy(), settings.width, settings.height, settings.interpolation))
    return np.stack(frames)


OTHER_DECODERS = {
    "decord": OtherDecoder(
        "decord",
        _load_decord,
        _decode_with_decord,
        errors=lambda decord: (decord.DECORDError, RuntimeError),
        misread_formats=("mpegts", "mpeg"),
        missing_codecs=("av1",),
    ),
    "torchcodec": OtherDecoder(
        "torchcodec",
        _load_torchcodec,
        _decode_with_torchcodec,
        errors=lambda decoders: (RuntimeError, ValueError, IndexError),
        misread_formats=("mpegts", "mpeg", "avi", "h264", "hevc", "gif"),
    ),
}
