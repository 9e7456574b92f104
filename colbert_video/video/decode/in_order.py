"""Read files without usable timestamps or with much damage: decode all as a player would, and count frames."""

from collections.abc import Collection, Sequence
from fractions import Fraction

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import ChosenFrames, FrameDecoder
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.timeline import Timeline
from colbert_video.video.frames import SamplingSettings

USUAL_RATE = 25.0
"""Frames per second where a file gives neither timestamps nor a rate."""


def read_in_order(path: str, settings: SamplingSettings, deadline: Deadline, resizer: FrameResizer) -> ChosenFrames:
    """Sample a file by decoding all of it, in bounded memory.

    The frames to keep are chosen as if every packet held one frame; where that proves wrong, the file is decoded again.

    Raises:
        VideoError: If no frame decodes.
    """
    with open_video(path, deadline, settings.max_pixels) as video:
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
    return ChosenFrames(timeline.times[chosen].tolist(), pixels, timeline.duration, timeline.fps, warnings)


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
    return next((_dated(stamps, video) for stamps in candidates if _usable(stamps)), _counted(len(packets), video))


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
    with open_video(path, deadline, settings.max_pixels) as video:
        decoder = FrameDecoder(video, resizer)
        for row, frame in enumerate(decoder.frames(video.packets())):
            stamps.append(frame.pts)
            if row in wanted:
                pictures[row] = resizer(frame)
        if not stamps:
            raise VideoError(path, FailureKind.UNDECODABLE, "no frame of the video stream decodes")
        return _corrected(listed, stamps, video), pictures, decoder.warnings


def _corrected(listed: Timeline, stamps: Sequence[int | None], video: OpenVideo) -> Timeline:
    if len(stamps) == len(listed):
        return listed
    if _usable(stamps):
        return _dated(stamps, video)
    return _counted(len(stamps), video)


def _usable(stamps: Sequence[int | None]) -> bool:
    return None not in stamps and 2 * len(set(stamps)) > len(stamps)


def _dated(stamps: Sequence[int | None], video: OpenVideo) -> Timeline:
    # Frames come in order of showing, so the n-th earliest timestamp belongs to the n-th frame.
    ordered = np.sort(np.asarray(stamps, dtype=np.int64))
    steps = np.arange(len(ordered))
    strictly = np.maximum.accumulate(ordered - steps) + steps  # Equal stamps move apart by one unit.
    return Timeline.from_stamps(strictly.tolist(), video.time_base, video.origin, last_units=None, rate=video.rate)


def _counted(frames: int, video: OpenVideo) -> Timeline:
    rate = video.rate or USUAL_RATE
    return Timeline.from_stamps(range(frames), 1 / Fraction(rate), 0.0, last_units=1, rate=rate)
