"""Read large and long files: seek to each wanted moment instead of reading everything, in bounded memory.

The true start and end come from the packets there. For each moment, the keyframe before it is taken if it lies within a
quarter of the spacing between moments (or what the settings allow); that costs one decoded frame, and the frame stays
in its segment. Otherwise all wanted frames that depend on one keyframe are decoded together. Segments are equal in time
here, not in number of frames; the two agree at constant frame rate.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, dropwhile, groupby, islice
from typing import Any

import av
import numpy as np

from colbert_video.video.decode.container import OpenVideo
from colbert_video.video.decode.decoding import ChosenFrames, FrameDecoder, PacketRun
from colbert_video.video.decode.packets import is_shown, restore_state
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.sampling import moments_in_segments
from colbert_video.video.decode.timeline import empty_window, noticed, within_window
from colbert_video.video.frames import MAX_SNAP, SamplingSettings

UNSEEN_STATE_FORMATS = ("flv", "live_flv", "kux")
"""Formats in which a seek can jump over what decoders must know, such as the header of a second recording."""
REORDERED = 32
"""Frames looked at to find the first one shown; codecs reorder 16 at most."""
FIRST_STEP = 2.0
"""Seconds to go back when a seek lands too late; doubled until it lands early enough."""
USUAL_STEP = 12.0
"""The same where a keyframe that far back will do: most files have one in that time."""


@dataclass(frozen=True)
class StampSpan:
    """A range of timestamps in units of the stream's time base."""

    first: int
    """Timestamp of the first frame."""
    end: int
    """End of the last frame."""
    spacing: float
    """Median distance between the frames looked at."""


@dataclass(frozen=True)
class FoundFrame:
    """A wanted frame and how to reach it, in timestamps."""

    seek: int
    """What to seek to."""
    key: int
    """The keyframe to start decoding from."""
    stamp: int
    """The frame itself."""
    packet: Any = None
    """The frame's packet if it is a keyframe, else None."""


def read_by_seeking(
    video: OpenVideo, settings: SamplingSettings, resizer: FrameResizer, *, shortest: float = 0.0
) -> ChosenFrames | None:
    """Sample a large or long file.

    Returns:
        The chosen frames; None if the file cannot be sought through, lasts less than `shortest` seconds, or fewer than
        half of the frames decode.

    Raises:
        VideoError: If no frame lies in the window.
    """
    seeker = Seeker(video)
    whole = seeker.find_span()
    if whole is None or video.seconds(whole.end) - video.seconds(whole.first) < shortest:
        return None
    part = _within_window(video, whole, settings.window)
    moments = moments_in_segments(part.first, part.end, settings.num_frames, settings.rng)
    snap = MAX_SNAP if settings.snap is None else settings.snap
    tolerance = snap * (part.end - part.first) / settings.num_frames
    found = (seeker.find_frame(int(moment), tolerance, part) for moment in moments)
    wanted = [frame for frame in found if frame is not None]
    if len(wanted) < len(moments):
        return None
    if settings.window and wanted[0].stamp >= part.end:
        raise empty_window(video.path, settings.window, video.seconds(whole.end))
    decoder = FrameDecoder(video, resizer)
    frames = decoder.read([frame.stamp for frame in wanted], seeker.runs(wanted), seeker.wider_run)
    if frames is None or (decoder.damaged and video.format in UNSEEN_STATE_FORMATS):
        return None
    shown = np.array([video.seconds(frame.stamp) for frame in frames])
    times = within_window(shown, settings.window).tolist()
    fps = 1 / (whole.spacing * float(video.time_base))
    return ChosenFrames(times, [frame.pixels for frame in frames], video.seconds(whole.end), fps, decoder.warnings)


def _within_window(video: OpenVideo, whole: StampSpan, window: tuple[float, float] | None) -> StampSpan:
    if window is None:
        return whole
    base = float(video.time_base)
    first, end = (int(np.ceil((second + video.origin) / base)) for second in window)
    part = StampSpan(max(first, whole.first), min(end, whole.end), whole.spacing)
    if part.first >= part.end:
        raise empty_window(video.path, window, video.seconds(whole.end))
    return part


class Seeker:
    """Finds frames of one open file by seeking.

    Formats and their indexes differ in where a seek lands, so every landing is checked against the packets found there,
    and tried again further back where it came too late.
    """

    def __init__(self, video: OpenVideo) -> None:
        self.video = video
        self.first = 0
        self.found: dict[int, FoundFrame] = {}
        self._hides_frames = video.codec == "vp8"

    def find_span(self) -> StampSpan | None:
        """Find where frames begin and end; None if the file has no timestamps or refuses to seek."""
        head = self._head()
        if not head:
            return None
        self.first = self.video.first = min(head)
        tail = self._tail()
        if not tail:
            return None
        last = max(tail, key=lambda packet: packet.pts)
        stamps = np.unique([*head, *(packet.pts for packet in tail)])
        spacing = float(np.median(np.diff(stamps))) if len(stamps) > 1 else float(last.duration or 1)
        return StampSpan(self.first, int(last.pts + (last.duration or spacing)), spacing)

    def find_frame(self, moment: int, tolerance: float, part: StampSpan) -> FoundFrame | None:
        """Find the frame shown at a moment, or a keyframe shortly before it.

        Args:
            moment: A timestamp within `part`.
            tolerance: How much earlier a keyframe may be.
            part: The part of the file that is read.

        Returns:
            The frame; it comes after the moment only where `part` has none before, and before `part` only if it stays
            into it, as slides do. None if no seek lands on a keyframe before the moment.
        """
        step = min(max(tolerance * float(self.video.time_base), FIRST_STEP), USUAL_STEP)
        for target, packets in self._seeks(moment, step):
            frame = self._find_at(target, packets, moment, tolerance, part)
            if frame is not None:
                self.found[frame.stamp] = frame
                return frame
        return None

    def runs(self, frames: Iterable[FoundFrame]) -> Iterator[PacketRun]:
        """Group frames that depend on one keyframe; a run that needs more than it seeks again and decodes as it reads."""
        for _, group in groupby(frames, key=lambda frame: frame.key):
            same = list(group)
            wanted = frozenset(frame.stamp for frame in same)
            packet = same[0].packet if len(wanted) == 1 else None
            packets = partial(self._through, same[0], wanted) if packet is None else partial(iter, [packet])
            yield PacketRun(packets, wanted, partial(self._earlier_run, same[0].key, wanted))

    def wider_run(self, stamp: int) -> PacketRun:
        """Return the packets around a frame that does not decode, from an earlier keyframe to some frames after it."""
        return PacketRun(partial(self._around, self.found[stamp]), frozenset([stamp]))

    def _earlier_run(self, key: int, wanted: frozenset[int], seconds: int) -> PacketRun | None:
        """Return the run that begins so many seconds before a keyframe; None if that is where the file begins."""
        if key <= self.first:
            return None
        target = max(key - self._units(float(seconds)), self.first)
        return PacketRun(partial(self._from, target, wanted), wanted, partial(self._earlier_run, target, wanted))

    def _head(self) -> list[int]:
        """Return the timestamps of the first frames that can be decoded."""
        packets = self._from_keyframe()
        key = next(packets, None)
        if key is None or key.pts is None:
            return []
        shown = islice(filter(self._is_shown, chain([key], packets)), REORDERED)
        stamps = [packet.pts for packet in shown]
        return [] if None in stamps else [stamp for stamp in stamps if stamp >= key.pts]

    def _tail(self) -> list[Any]:
        """Return the last packets shown, whatever duration the header claims."""
        claimed = (self.video.container.duration or 0) / av.time_base
        for _, packets in self._seeks(self.first + self._units(claimed)):
            shown = (packet for packet in packets if self._is_shown(packet) and packet.pts is not None)
            tail = deque(shown, maxlen=REORDERED)
            if tail:
                return list(tail)
        return []

    def _seeks(self, stamp: int, step: float = FIRST_STEP) -> Iterator[tuple[int, Iterator[Any]]]:
        """Seek to a timestamp, then further and further back; yield each target with the packets there."""
        back = 0.0
        target = stamp
        while self.video.seek(target):
            yield target, self.video.packets()
            if target <= self.first:
                return
            back = max(2 * back, step)
            target = max(stamp - self._units(back), self.first)

    def _find_at(
        self, target: int, packets: Iterator[Any], moment: int, tolerance: float, part: StampSpan
    ) -> FoundFrame | None:
        key = None
        reach = Reach(moment, part.first)
        for packet in packets:
            if packet.is_keyframe and packet.pts is not None and (key is None or packet.pts <= moment):
                key = packet.pts
                if key > moment:
                    return None
                if self._is_shown(packet) and key >= max(moment - tolerance, part.first):
                    restore_state(packet, self.video.state.values())
                    return FoundFrame(target, key, key, packet)
            if key is not None and self._is_shown(packet) and reach.passed(packet):
                break
        stamp = reach.shown(part.end, self._units(noticed(part.spacing * float(self.video.time_base))))
        return None if key is None or stamp is None else FoundFrame(target, key, stamp)

    def _through(self, frame: FoundFrame, wanted: frozenset[int]) -> Iterator[Any]:
        """Yield packets from a frame's keyframe to the last wanted frame."""
        self.video.seek(frame.seek)
        packets = dropwhile(lambda packet: packet.pts != frame.key, self.video.packets())
        yield from self._until(wanted, packets)

    def _from(self, target: int, wanted: frozenset[int]) -> Iterator[Any]:
        """Yield packets from the keyframe that a seek leads to, to the last wanted frame."""
        self.video.seek(target)
        yield from self._until(wanted, self._from_keyframe())

    def _until(self, wanted: frozenset[int], packets: Iterator[Any]) -> Iterator[Any]:
        missing = set(wanted)
        for number, packet in enumerate(packets):
            if number == 0:
                restore_state(packet, self.video.state.values())
            yield packet
            missing.discard(packet.pts)
            if not missing:
                return

    def _around(self, frame: FoundFrame) -> Iterator[Any]:
        self.video.seek(max(frame.key - self._units(FIRST_STEP), self.first))
        reach = Reach(frame.stamp, self.first)
        for packet in self._from_keyframe():
            yield packet
            if reach.passed(packet):
                return

    def _from_keyframe(self) -> Iterator[Any]:
        return dropwhile(lambda packet: not packet.is_keyframe, self.video.packets())

    def _is_shown(self, packet: Any) -> bool:
        return is_shown(packet, self._hides_frames)

    def _units(self, seconds: float) -> int:
        return int(seconds / self.video.time_base)


class Reach:
    """Follows packets in decoding order until no later one can be shown at or before a moment.

    Args:
        moment: A timestamp.
        first: Where the part of interest begins.
    """

    def __init__(self, moment: int, first: int) -> None:
        self.moment = moment
        self.first = first
        self.before: int | None = None
        """The last frame at or before the moment."""
        self.after: int | None = None
        """The first frame after it."""
        self.earlier: int | None = None
        """The last frame before `first`."""
        self._later = 0

    def passed(self, packet: Any) -> bool:
        """Note a packet; return True once the frame shown at the moment is known."""
        if packet.pts is None:
            return False
        if packet.pts < self.first:
            self.earlier = packet.pts if self.earlier is None else max(self.earlier, packet.pts)
            return False
        if packet.pts <= self.moment:
            self.before = packet.pts if self.before is None else max(self.before, packet.pts)
            return False
        self.after = packet.pts if self.after is None else min(self.after, packet.pts)
        self._later += 1
        return self._later > REORDERED or (packet.dts is not None and packet.dts > self.moment)

    def shown(self, end: int, stay: int) -> int | None:
        """Return the frame that stands for the moment, by the rule of `Timeline.span`; None if there is none.

        Args:
            end: Where the part of interest ends.
            stay: How long a frame from before the part must stay in it.
        """
        if self.before is not None or self.earlier is None:
            return self.after if self.before is None else self.before
        until = end if self.after is None else self.after
        return self.earlier if until >= end or until - self.first > stay else self.after
