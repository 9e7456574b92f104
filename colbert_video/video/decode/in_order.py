"""Read files without usable timestamps or with much damage: decode all as a player would, and count frames."""

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import ChosenFrames, FrameDecoder
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.timeline import Timeline, within_window
from colbert_video.video.frames import SamplingSettings

USUAL_RATE = 25.0
"""Frames per second where a file gives neither timestamps nor a rate."""


class FrameClock:
    """Chooses between the two timestamps of decoded frames as FFmpeg does (`guess_correct_pts`).

    A container that stores decoding times only lets presentation times be guessed; those of its frames then come in another
    order than the frames, while decoding times, as they leave the decoder, are those at which players show them.

    Args:
        container: FFmpeg's name of the format. AVI stores decoding times only.
    """

    def __init__(self, container: str) -> None:
        self._never_presented = container == "avi"
        self._faults = {"pts": 0, "dts": 0}
        self._last = {"pts": -(2**63), "dts": -(2**63)}

    def stamp(self, frame: Any) -> int | None:
        """Return a frame's timestamp; None if it has none that can be used."""
        pts, dts = frame.pts, frame.dts
        if self._never_presented:
            return dts
        self._note("dts", dts, otherwise=pts)
        self._note("pts", pts, otherwise=dts)
        trusted = self._faults["pts"] <= self._faults["dts"] or dts is None
        return pts if trusted and pts is not None else dts

    def _note(self, name: str, stamp: int | None, otherwise: int | None) -> None:
        self._faults[name] += stamp is not None and stamp <= self._last[name]
        known = otherwise if stamp is None else stamp
        self._last[name] = self._last[name] if known is None else known


def read_in_order(path: str, settings: SamplingSettings, deadline: Deadline, resizer: FrameResizer) -> ChosenFrames:
    """Sample a file by decoding all of it, in bounded memory.

    The frames to keep are chosen as if every packet held one frame; where that proves wrong, the file is decoded again.

    Raises:
        VideoError: If no frame decodes.
    """
    with open_video(path, deadline, settings.max_pixels, settings.stream) as video:
        listed = listed_timeline(video)
    timeline = listed
    for _ in range(2):
        guess = {int(row) for row in timeline.choose(path, settings)}
        timeline, pictures, warnings = _decoded(listed, path, settings, deadline, resizer, guess)
        chosen = [int(row) for row in timeline.choose(path, settings)]
        if all(row in pictures for row in chosen):
            break
    pixels = [pictures[row] for row in chosen]
    if len(timeline) < len(listed):
        warnings += (f"{len(listed)} packets gave {len(timeline)} frames",)
    times = within_window(timeline.times[chosen], settings.window).tolist()
    return ChosenFrames(times, pixels, timeline.duration, timeline.fps, warnings)


def listed_timeline(video: OpenVideo) -> Timeline:
    """List a file's frames as if every packet held one, reading it to its end.

    AVI stores only dts, one for each point in time; the pts seen for it are FFmpeg's guesses and not used.

    Raises:
        VideoError: If the stream holds no data.
    """
    packets = [(packet.pts, packet.dts) for packet in video.packets() if not packet.is_discard]
    if not packets:
        raise VideoError(video.path, FailureKind.UNDECODABLE, video.damage or "the video stream holds no data")
    presented, decoded = zip(*packets, strict=True)
    candidates = [decoded] if video.format == "avi" else [presented, decoded]
    return next((dated(stamps, video) for stamps in candidates if _usable(stamps)), _counted(len(packets), video))


def _decoded(
    listed: Timeline,
    path: str,
    settings: SamplingSettings,
    deadline: Deadline,
    resizer: FrameResizer,
    wanted: Collection[int],
) -> tuple[Timeline, dict[int, np.ndarray], tuple[str, ...]]:
    """Return the true timeline, the pixels of the frames at the wanted rows, and warnings."""
    stamps: list[int | None] = []
    pictures: dict[int, np.ndarray] = {}
    with open_video(path, deadline, settings.max_pixels, settings.stream) as video:
        decoder = FrameDecoder(video, resizer)
        clock = FrameClock(video.format)
        for row, frame in enumerate(decoder.frames(video.packets())):
            stamps.append(clock.stamp(frame))
            if row in wanted:
                pictures[row] = resizer(frame)
        if not stamps:
            raise VideoError(path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
        return _corrected(listed, stamps, video), pictures, decoder.warnings


def _corrected(listed: Timeline, stamps: Sequence[int | None], video: OpenVideo) -> Timeline:
    complete = filled(stamps)
    if _usable(complete):
        return dated(complete, video)
    return listed if len(stamps) == len(listed) else _counted(len(stamps), video)


def filled(stamps: Sequence[int | None]) -> list[int | None]:
    """Give the frames at the end that have no timestamp, as they were still in the decoder, the usual distance."""
    known = [stamp for stamp in stamps if stamp is not None]
    missing = len(stamps) - len(known)
    if len(known) < 2 or None in stamps[: len(known)]:
        return list(stamps)
    step = max(int(np.median(np.diff(known))), 1)
    return [*known, *(known[-1] + step * (number + 1) for number in range(missing))]


def _usable(stamps: Sequence[int | None]) -> bool:
    return None not in stamps and 2 * len(set(stamps)) > len(stamps)


def dated(stamps: Sequence[int | None], video: OpenVideo) -> Timeline:
    """Return the timeline of frames with such timestamps, in whichever order."""
    # Frames come in order of showing, so the n-th earliest timestamp belongs to the n-th frame.
    ordered = np.sort(np.asarray(stamps, dtype=np.int64))
    steps = np.arange(len(ordered))
    strictly = np.maximum.accumulate(ordered - steps) + steps  # Equal stamps move apart by one unit.
    video.first = int(strictly[0])
    return Timeline.from_stamps(strictly.tolist(), video.time_base, video.origin, last_units=None, rate=video.rate)


def _counted(frames: int, video: OpenVideo) -> Timeline:
    rate = video.rate or USUAL_RATE
    return Timeline.from_stamps(range(frames), 1 / Fraction(rate), 0.0, last_units=1, rate=rate)
