"""Sampled frames of a video, and the settings that say which frames to take and in what form."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from colbert_video.base.checks import check_fields, is_finite, plain_scalar
from colbert_video.errors import SettingsError, shown

MAX_SNAP = 0.25
"""Share of the spacing between frames; frames moved no further stay within their segments and do not meet."""
MIN_MEMORY = 2**30
"""Bytes of address space with which a decoding process can begin."""


@dataclass(frozen=True, eq=False)
class SampledFrames:
    """Frames of one video with their times, and what the file really holds.

    Raises:
        SettingsError: If the arrays disagree in their number of frames, or the times descend.
    """

    pixels: UInt8[np.ndarray, "frames height width 3"]
    """RGB, upright, resized to the size in the settings without cropping."""
    times: Float[np.ndarray, "frames"]
    """When each frame is shown, in seconds on the file's own timeline as players show it; ascending."""
    duration: float
    """End of the last frame in seconds, from the frames themselves and not from what the header claims."""
    fps: float
    """Mean number of frames shown per second."""
    width: int
    """Width of the picture in the file in pixels, after rotation."""
    height: int
    """Height of the picture in the file in pixels, after rotation."""
    rotation: int
    """Degrees by which the file asks players to turn the picture counterclockwise; already done here."""
    codec: str
    """FFmpeg's name of the codec, such as "h264"."""
    decoder: str
    """The decoder used: "pyav", "decord" or "torchcodec"."""
    warnings: tuple[str, ...] = ()
    """Problems found and how they were handled, in words."""
    mirrored: bool = False
    """True if the file asks players to swap left and right before turning; already done here."""
    pixel_aspect: float = 1.0
    """Width of a pixel divided by its height, after rotation: players show `width * pixel_aspect` to `height`."""
    has_texts: bool = True
    """False if no stream of the file holds text, such as subtitles; True if one does, or that is not known."""

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.times) or len(self.times) == 0:
            raise SettingsError(
                f"pixels {self.pixels.shape} and times {self.times.shape} must agree in their first dimension and "
                "hold at least one frame."
            )
        if (np.diff(self.times) < 0).any():
            raise SettingsError(f"times {shown(self.times.tolist())} must ascend.")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def damage(self) -> tuple[str, ...]:
        """Warnings about damage: all but the one that a short video repeats frames."""
        harmless = repeat_warning(self.times.tolist())
        return tuple(words for words in self.warnings if words not in harmless)

    def __repr__(self) -> str:
        return (
            f"SampledFrames(pixels={self.pixels.shape}, times={self.times[0]:.3f}..{self.times[-1]:.3f} s of "
            f"{self.duration:.3f} s, source={self.width}x{self.height} {self.codec} at {self.fps:.2f} fps, "
            f"decoder={self.decoder}, warnings={len(self.warnings)})"
        )


class Cropping(NamedTuple):
    """Borders to cut off a picture, in pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


NO_CROP = Cropping()


@dataclass(frozen=True)
class StreamShape:
    """What a container says of the shape of a stream's pictures, before they are turned."""

    pixel_aspect: float = 1.0
    """Width of a pixel divided by its height."""
    crop: Cropping = NO_CROP
    """Borders that the container asks to cut off."""
    stream: int = 0
    """FFmpeg's index of the stream."""


@dataclass(frozen=True)
class SourcePicture:
    """The pictures of a video stream as players show them, and what has to be done for that."""

    width: int
    """Pixels, cropped and upright."""
    height: int
    """Pixels, cropped and upright."""
    rotation: int
    """Degrees counterclockwise by which it has to be turned: 0, 90, 180 or 270."""
    mirrored: bool = False
    """True to swap left and right before it is turned."""
    pixel_aspect: float = 1.0
    """Width of an upright pixel divided by its height."""
    crop: Cropping = NO_CROP
    """Borders that the container asks to cut off the upright picture."""
    transfer: str | None = None
    """"pq" or "hlg" for HDR, which is tone-mapped; else None."""
    primaries: int = 9
    """ITU-T H.273's number of the primaries of HDR."""
    matrix: int | None = None
    """H.273's number of the matrix that stands for one without a formula; None where the tag is used."""
    stream: int = 0
    """FFmpeg's index of the stream."""
    warnings: tuple[str, ...] = ()
    """What cannot be shown as the file asks, in words."""


@dataclass(frozen=True)
class VideoHeader:
    """Container and codec of a file, by FFmpeg's names."""

    container: str
    """Names of the container format joined by commas, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
    codec: str | None = None
    """For example "h264"; None if there is no video to decode."""
    profile: str | None = None
    """The codec's profile, such as "High 10"; None if it has none."""
    refused: str | None = None
    """Why there is no video to decode, in words."""
    shadowed: bool = False
    """True if another video stream, which players without a choice show, comes before the one that is decoded."""
    start: int = 0
    """First byte of the video in its file, which may be an archive."""
    size: int = 0
    """Bytes of the video."""
    rate: float | None = None
    """Frames per second, as the header states them; None if it does not."""


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of how frames are sampled, decoded and resized.

    Raises:
        SettingsError: If a value is out of range, or two contradict each other.
    """

    num_frames: int = 12
    """Frames to take; a video with fewer repeats some."""
    height: int = 224
    """Height of the returned frames in pixels."""
    width: int = 224
    """Width of the returned frames in pixels; the picture is squeezed to it, never cropped."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    placement: Literal["centre", "random"] = "centre"
    """Which frame of each segment: the middle one (testing) or a random one (training; needs `seed`)."""
    seed: int | None = None
    """Seed of random placement; a request may bring its own."""
    snap: float | None = None
    """How far a frame may be moved to a keyframe, which saves decoding, as a share of the spacing between frames. 0 takes
    exact frames; None takes exact frames of short videos and allows 0.25 in long ones, where an exact frame can cost as
    much as a short video. Only "pyav" uses it."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """The decoding library. The others read fewer kinds of file, and refuse what they are known to get wrong."""
    timeout: float = 60.0
    """Seconds one file may take."""
    max_pixels: int = 2**26
    """Largest picture to decode: width times height in pixels; 2**26 holds 8K."""
    max_memory: int = 6 * 2**30
    """Largest address space of a decoding process of `FramePool`, in bytes; a file that needs more is refused. Only "pyav"
    on Unix uses it."""
    window: tuple[float, float] | None = None
    """Only frames shown from start on and before end, in seconds; None takes the whole video. A frame that is on screen
    already as the window begins counts if it stays for long, and its time is then the window's start."""
    stream: int | None = None
    """Which video stream to read, counted from 0; None takes FFmpeg's choice, but never a still where there is a film. Only
    "pyav" can read another."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("num_frames", "height", "width", "max_pixels"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.snap is not None and not 0 <= self.snap <= MAX_SNAP:
            raise SettingsError(
                f"snap is {self.snap}; it must be between 0 and {MAX_SNAP} of the spacing between frames, or None."
            )
        if self.max_memory < MIN_MEMORY:
            raise SettingsError(
                f"max_memory is {self.max_memory}; a decoding process needs {MIN_MEMORY} bytes at least."
            )
        if self.stream is not None and self.stream < 0:
            raise SettingsError(f"stream is {self.stream}; video streams are numbered from 0, or give None.")
        if self.stream is not None and self.decoder != "pyav":
            raise SettingsError(
                f"stream={self.stream} needs decoder='pyav': {self.decoder} reads the stream that it finds itself."
            )
        if not self.timeout > 0:
            raise SettingsError(f"timeout is {self.timeout}; it must be more than 0 seconds.")
        if self.window is not None:
            check_window(self.window)

    @property
    def rng(self) -> np.random.Generator | None:
        """A new generator for random placement; None for centres.

        Raises:
            SettingsError: If random placement has no seed.
        """
        self.check_seed()
        return None if self.placement == "centre" else np.random.default_rng(self.seed)

    def check_seed(self) -> None:
        """Check that random placement has a seed.

        Raises:
            SettingsError: If `placement` is "random" and `seed` is None.
        """
        if self.placement == "random" and self.seed is None:
            raise SettingsError("placement='random' needs a seed; give one here or with each request.")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SamplingSettings":
        """Build settings from `to_dict`, also after JSON has turned tuples into lists."""
        settings = dict(values)
        window = settings.pop("window", None)
        return cls(**settings, window=None if window is None else (window[0], window[1]))

    def with_request(
        self, window: tuple[float, float] | None, seed: int | None, stream: int | None = None
    ) -> "SamplingSettings":
        """Return these settings with the window, the seed and the stream of one request, where it has any."""
        asked: dict[str, Any] = {"window": window, "seed": seed, "stream": stream}
        return replace(self, **{name: value for name, value in asked.items() if value is not None})


def repeat_warning(chosen: Sequence[float]) -> tuple[str, ...]:
    """Return the warning that a video has fewer frames than wanted; an empty tuple if it has enough.

    Args:
        chosen: Times or rows of the frames that were taken.
    """
    distinct = len(set(chosen))
    return (f"{distinct} distinct frames of {len(chosen)}; some repeat",) if distinct < len(chosen) else ()


def check_window(window: Any) -> tuple[float, float]:
    """Return a window as (start, end), if it has a positive length and does not start before the video.

    Args:
        window: [start, end) in seconds.

    Raises:
        SettingsError: If a bound is not finite, the start is negative, or the end does not come after it.
    """
    bounds = [plain_scalar(bound) for bound in window] if isinstance(window, tuple | list | np.ndarray) else []
    if len(bounds) != 2 or not all(_is_time(bound) for bound in bounds) or not 0 <= bounds[0] < bounds[1]:
        raise SettingsError(f"window is {shown(window)}; it must be (start, end) in seconds with 0 <= start < end.")
    return bounds[0], bounds[1]


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
