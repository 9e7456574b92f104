"""Cut a part of a video into an MP4 file.

Run as `python -m colbert_video.video.clips.cutting SOURCE TARGET JSON`, it cuts in a process of its own, as the service does.
"""

import heapq
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av

from colbert_video.base.checks import check_fields, real_number
from colbert_video.base.user_files import user_path
from colbert_video.durable import check_file_writable
from colbert_video.errors import FailureKind, SettingsError, VideoError, shown
from colbert_video.video.clips.clip_encoder import ClipEncoder, check_encoder
from colbert_video.video.clips.clip_sound import ClipSound
from colbert_video.video.clips.packet_copy import CopyPlan, copied_packets, plan_copy
from colbert_video.video.decode.container import Deadline, open_sound, open_video
from colbert_video.video.decode.decoding import first_picture
from colbert_video.video.files import file_identity
from colbert_video.video.frames import SamplingSettings

SUFFIXES = (".mp4", ".m4v", ".mov")
LATEST = 1e6
"""Seconds; no video is longer."""


@dataclass(frozen=True)
class CutSettings:
    """How a clip is made.

    Raises:
        SettingsError: If a limit is not positive.
    """

    stream: int | None = None
    """Which video stream, counted from 0; None for the one that is indexed by default."""
    copy: bool = True
    """False to encode again even where a copy of the packets would do."""
    max_side: int | None = None
    """Longest side of pictures that are encoded again, in pixels; None to keep the size."""
    max_bytes: int | None = None
    """Largest clip; None for no limit."""
    timeout: float = 3600.0
    """Time limit in seconds."""
    max_pixels: int = SamplingSettings.max_pixels
    """Largest picture to decode, in pixels."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("max_side", "max_bytes", "timeout", "max_pixels"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"{name} is {value}; it must be more than 0.")


@dataclass(frozen=True)
class Clip:
    """A clip that was cut."""

    path: str
    start: float
    """Where it begins in the source, in seconds."""
    end: float
    """Where it ends in the source, in seconds, exclusive; the end of the video, if that comes first."""
    copied: bool
    """True if the pictures are those of the source, not encoded again."""
    warnings: tuple[str, ...] = ()
    """What is missing in it, in words."""


def cut_video(
    source: str | os.PathLike[str],
    start: float,
    end: float,
    target: str | os.PathLike[str],
    settings: CutSettings | None = None,
) -> Clip:
    """Write the part [start, end) of a video, with its sound, into an MP4 file.

    Where a keyframe is shown at `start`, pictures are copied as they are; a copy may show a tenth of a second more, pictures
    after `end` that earlier ones refer to. Else they are encoded again as H.264: exactly those that players show, upright, in SDR, with
    square pixels.

    Args:
        source: A video file, or a member of a tar archive.
        start: Seconds, as players count them.
        end: Seconds, exclusive.
        target: The file to write, .mp4, .m4v or .mov; one that is there is replaced once the clip is whole.
        settings: How it is made; None for the defaults.

    Raises:
        SettingsError: If the times are no part of a video, or the target cannot be written or is the source.
        VideoError: If the video cannot be read, shows nothing from `start` on, or the clip gets too large.
    """
    settings = settings or CutSettings()
    start, end = check_part(start, end)
    path = os.path.expanduser(os.fspath(source))  # noqa: PTH111 - pathlib drops "./" before a "~"
    clip = user_path(target, "the clip")
    _check_target(path, clip)
    unfinished = clip.with_name(f".{clip.name}.{os.getpid()}.part")
    try:
        made = _write(path, start, end, unfinished, settings)
        unfinished.replace(clip)
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(made, path=str(clip))


def check_part(start: Any, end: Any) -> tuple[float, float]:
    """Return a part [start, end) of a video as floats.

    Raises:
        SettingsError: If it is none.
    """
    start, end = real_number("start", start), real_number("end", end)
    if not 0 <= start < end <= LATEST:
        raise SettingsError(
            f"{start:g} to {end:g} seconds is not a part of a video; write the start, then a later end."
        )
    return start, end


def _check_target(source: str, clip: Path) -> None:
    if clip.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"the clip {shown(str(clip))} is written as MP4; name it {shown(clip.stem + '.mp4')}.")
    if file_identity(source) == file_identity(clip):
        raise SettingsError(f"the clip {shown(str(clip))} is the video itself; choose another name.")
    check_file_writable(clip)


def _write(source: str, start: float, end: float, target: Path, settings: CutSettings) -> Clip:
    deadline = Deadline(settings.timeout, source)
    plan = _copy_plan(source, start, end, deadline, settings) if settings.copy else None
    if plan is not None:
        return _copied(source, end, target, plan, deadline, settings)
    return _encoded(source, start, end, target, deadline, settings)


def _copy_plan(source: str, start: float, end: float, deadline: Deadline, settings: CutSettings) -> CopyPlan | None:
    with open_video(source, deadline, settings.max_pixels, settings.stream) as video:
        return plan_copy(video, start, end)


def _copied(source: str, end: float, target: Path, plan: CopyPlan, deadline: Deadline, settings: CutSettings) -> Clip:
    with ExitStack() as stack:
        video = stack.enter_context(open_video(source, deadline, settings.max_pixels, settings.stream))
        output = stack.enter_context(av.open(f"file:{target}", "w", format="mp4"))
        stream = output.add_stream_from_template(video.stream, opaque=True)
        sound = ClipSound.added_to(output, stack.enter_context(open_sound(source, deadline)), plan.start, end)
        _mux(output, [copied_packets(video, plan, stream), sound.packets()], settings, source)
        return Clip(str(target), plan.start, plan.end, copied=True, warnings=sound.warnings)


def _encoded(source: str, start: float, end: float, target: Path, deadline: Deadline, settings: CutSettings) -> Clip:
    check_encoder()
    sampling = SamplingSettings(max_pixels=settings.max_pixels, timeout=settings.timeout, stream=settings.stream)
    with open_video(source, deadline, settings.max_pixels, settings.stream) as video:
        picture = first_picture(video, sampling)
    with ExitStack() as stack:
        output = stack.enter_context(av.open(f"file:{target}", "w", format="mp4"))
        encoder = ClipEncoder(source, picture, output, deadline, sampling, max_side=settings.max_side)
        sound = ClipSound.added_to(output, stack.enter_context(open_sound(source, deadline)), start, end)
        _mux(output, [encoder.packets(start, end), sound.packets()], settings, source)
        if encoder.end is None:
            what = f"it shows nothing from {start:g} seconds on"
            raise VideoError(source, FailureKind.UNDECODABLE, what)
        return Clip(str(target), start, encoder.end, copied=False, warnings=(*encoder.warnings, *sound.warnings))


def _mux(output: Any, streams: list[Iterator[tuple[float, Any]]], settings: CutSettings, source: str) -> None:
    """Write packets in the order of their times, within the limit of bytes."""
    size = 0
    for _, packet in heapq.merge(*streams, key=lambda timed: timed[0]):
        size += packet.size
        if settings.max_bytes is not None and size > settings.max_bytes:
            raise VideoError(source, FailureKind.TOO_LARGE, f"the clip is larger than {settings.max_bytes} bytes")
        output.mux(packet)


def main() -> None:
    """Cut as the arguments say; print the reason for a failure and exit with 1."""
    source, target, given = sys.argv[1:]
    values = json.loads(given)
    start, end = values.pop("part")
    try:
        cut_video(source, start, end, target, CutSettings(**values))
    except (VideoError, SettingsError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
