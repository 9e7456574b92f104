"""What is read from a video file, how that is asked for, and the one function that does it."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from colbert_video.errors import SettingsError

INTERPOLATIONS = ("bicubic", "bilinear")
PLACEMENTS = ("centre", "random")
MAX_SNAP = 0.25
"""As a share of the spacing; frames moved no further stay within their segments and do not meet."""
DECODERS = ("pyav", "decord", "torchcodec")


@dataclass(frozen=True, eq=False)
class SampledFrames:
    """Frames of one video with their times, and what the file really holds.

    Raises:
        SettingsError: If the arrays disagree in their number of frames, or the times descend.
    """

    pixels: UInt8[np.ndarray, "frames height width 3"]
    """RGB, upright, resized to the asked size without cropping."""
    times: Float[np.ndarray, "frames"]
    """When each frame is shown, in seconds on the file's own timeline as players show it; ascending."""
    duration: float
    """End of the last frame in seconds, from the frames themselves and not from what the header claims."""
    fps: float
    """Mean number of frames shown a second."""
    width: int
    """Width of the picture in the file, in pixels, after rotation."""
    height: int
    """Height of the picture in the file, in pixels, after rotation."""
    rotation: int
    """Degrees by which the file asks players to turn the picture counterclockwise; already done here."""
    codec: str
    """FFmpeg's name of the codec, such as "h264"."""
    decoder: str
    """Who decoded: "pyav", "decord" or "torchcodec"."""
    warnings: tuple[str, ...] = ()
    """What was wrong and how it was handled, in words."""

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.times) or len(self.times) == 0:
            raise SettingsError(
                f"pixels {self.pixels.shape} and times {self.times.shape} must agree in their first dimension and "
                "hold at least one frame."
            )
        if (np.diff(self.times) < 0).any():
            raise SettingsError(f"times {self.times.tolist()} must ascend.")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def damage(self) -> tuple[str, ...]:
        """The warnings that tell of damage, which is all but that a short video repeats frames."""
        return tuple(words for words in self.warnings if words not in repeats(self.times.tolist()))

    def __repr__(self) -> str:
        return (
            f"SampledFrames(pixels={self.pixels.shape}, times={self.times[0]:.3f}..{self.times[-1]:.3f} s of "
            f"{self.duration:.3f} s, source={self.width}x{self.height} {self.codec} at {self.fps:.2f} fps, "
            f"decoder={self.decoder}, warnings={len(self.warnings)})"
        )


@dataclass(frozen=True)
class SamplingSettings:
    """Which frames to read and in what form.

    Raises:
        SettingsError: If a value is out of range, or two contradict each other.
    """

    num_frames: int = 12
    """Frames to take; a shorter video repeats some."""
    height: int = 224
    """Height of the returned frames, in pixels."""
    width: int = 224
    """Width of the returned frames, in pixels; the picture is squeezed to it, never cropped."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How frames are resized."""
    placement: Literal["centre", "random"] = "centre"
    """Which frame of each segment: the middle one (testing) or a random one (training; needs `seed`)."""
    seed: int | None = None
    """Makes random placement repeatable; a request may bring its own."""
    snap: float | None = None
    """How far from its place a frame may be taken to save decoding, as a share of the spacing between frames: a keyframe
    this close stands for it. 0 takes exact frames; None takes exact frames of short videos, and allows 0.25 in long
    ones, where an exact frame can cost as much as a short video. Only "pyav" makes use of it."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """Who decodes. The others read fewer kinds of file; what they are known to get wrong is refused."""
    timeout: float = 60.0
    """Seconds one file may take."""
    max_pixels: int = 2**26
    """Largest picture to decode, in pixels (width times height); 2**26 holds 8K."""
    window: tuple[float, float] | None = None
    """Only frames with start <= time < end, in seconds; None takes the whole video."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width", "max_pixels"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.snap is not None and not 0 <= self.snap <= MAX_SNAP:
            raise SettingsError(
                f"snap is {self.snap}; it must be between 0 and {MAX_SNAP} of the spacing between frames, or None."
            )
        if not self.timeout > 0:
            raise SettingsError(f"timeout is {self.timeout}; it must be more than 0 seconds.")
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("placement", self.placement, PLACEMENTS)
        _check_choice("decoder", self.decoder, DECODERS)
        if self.window is not None:
            check_window(self.window)

    @property
    def rng(self) -> np.random.Generator | None:
        """A fresh source of randomness for random placement; None for centres.

        Raises:
            SettingsError: If random placement has no seed.
        """
        self.check_seed()
        return None if self.placement == "centre" else np.random.default_rng(self.seed)

    def check_seed(self) -> None:
        """Refuse random placement without a seed.

        Raises:
            SettingsError: If there is none.
        """
        if self.placement == "random" and self.seed is None:
            raise SettingsError("placement='random' needs a seed; give one here or with each request.")

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SamplingSettings":
        """Undo `to_dict`, also after a passage through JSON, which turns tuples into lists."""
        settings = dict(values)
        window = settings.pop("window", None)
        return cls(**settings, window=None if window is None else (window[0], window[1]))

    def with_request(self, window: tuple[float, float] | None, seed: int | None) -> "SamplingSettings":
        """The same settings with the window and the seed of one request, where it has any."""
        changes: dict[str, Any] = {}
        if window is not None:
            changes["window"] = window
        if seed is not None:
            changes["seed"] = seed
        return replace(self, **changes)


def repeats(chosen: Sequence[float]) -> tuple[str, ...]:
    """The warning that a video has fewer frames than are wanted of it; none if it has enough.

    Args:
        chosen: Times or positions of the frames that were taken.
    """
    distinct = len(set(chosen))
    return (f"{distinct} distinct frames of {len(chosen)}; some repeat",) if distinct < len(chosen) else ()


def check_window(window: tuple[float, float]) -> None:
    """Refuse a window that holds no moment.

    Args:
        window: [start, end) in seconds.

    Raises:
        SettingsError: If a bound is not finite, the start is negative, or the end does not come after it.
    """
    start, end = window
    if not (0 <= start < end and math.isfinite(end)):
        raise SettingsError(f"window is {window}; it must be (start, end) in seconds with 0 <= start < end.")


def read_frames(path: str | os.PathLike[str], settings: SamplingSettings | None = None) -> SampledFrames:
    """Read sampled frames of one video file in this process.

    A damaged file can hang or kill a native decoder; `FramePool` decodes in processes of their own.

    Args:
        path: A local file; never a URL.
        settings: What to read; None for the defaults.

    Returns:
        The frames with their times.

    Raises:
        VideoError: If the file cannot be used; its `kind` says why.
        DependencyError: If decord or torchcodec is asked for and not installed.
    """
    settings = settings or SamplingSettings()
    if settings.decoder == "decord":
        from colbert_video.video.decode.other_decoders import read_with_decord

        return read_with_decord(os.fspath(path), settings)
    if settings.decoder == "torchcodec":
        from colbert_video.video.decode.other_decoders import read_with_torchcodec

        return read_with_torchcodec(os.fspath(path), settings)
    from colbert_video.video.decode.pyav import read_with_pyav

    return read_with_pyav(os.fspath(path), settings)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
