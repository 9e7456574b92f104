"""Read small files: keep all packets, list frames by their timestamps, decode the runs that hold the chosen ones."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from jaxtyping import Int

from colbert_video.video.decode.container import DECODER_STATE, OpenVideo
from colbert_video.video.decode.decoding import ChosenFrames, FrameDecoder, PacketRun
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.timeline import Timeline, within_window
from colbert_video.video.frames import SamplingSettings

NEW_HEADER: Final = "new_extradata"
"""FFmpeg's name of side data with another header for the decoder."""


def read_from_packets(video: OpenVideo, settings: SamplingSettings, resizer: FrameResizer) -> ChosenFrames | None:
    """Sample a file whose packets fit into memory.

    Returns:
        The chosen frames; None if the timestamps cannot be trusted, or fewer than half of the frames decode.
    """
    header = video.context.extradata
    packets = PacketList(list(video.packets()), hides_frames=video.codec == "vp8", header=header)
    if not packets.ordered:
        return None
    timeline = packets.timeline(video)
    stamps = timeline.stamps[_chosen(packets, timeline, video.path, settings)].tolist()
    decoder = FrameDecoder(video, resizer)
    frames = decoder.read(stamps, packets.runs(sorted(set(stamps))), packets.wider_run)
    if frames is None:
        return None
    shown = timeline.seconds(np.array([frame.stamp for frame in frames]))
    times = within_window(shown, settings.window).tolist()
    pixels = [frame.pixels for frame in frames]
    return ChosenFrames(times, pixels, timeline.duration, timeline.fps, packets.warnings + decoder.warnings)


def _chosen(
    packets: "PacketList", timeline: Timeline, path: str, settings: SamplingSettings
) -> Int[np.ndarray, "wanted"]:
    """Return rows of the timeline: exact frames, or keyframes near them where the settings allow it."""
    if not settings.snap:
        return timeline.choose(path, settings)
    keys = np.searchsorted(timeline.stamps, packets.shown_keys)
    return timeline.choose_near(keys, path, settings, settings.snap)


class PacketList:
    """All packets of a stream in decoding order, from its first keyframe on.

    Args:
        packets: `av.Packet`s in decoding order.
        hides_frames: True to look into packets for frames that are not to be shown.
        header: What the container tells the decoder before the first packet.
    """

    def __init__(self, packets: Sequence[Any], *, hides_frames: bool, header: bytes | None = None) -> None:
        if len(packets) > 1 and packets[-1].is_corrupt:
            packets = packets[:-1]  # Where a file breaks off, half a frame may be left.
        first = next((i for i, packet in enumerate(packets) if packet.is_keyframe), len(packets))
        self.packets = packets[first:]
        self.changes = [(row - first, data) for row, data in state_changes(packets)]
        if header and any(data.data_type == NEW_HEADER for _, data in self.changes):
            self.changes.insert(0, (-1, header_data(header)))  # for when the decoder goes back behind a change
        self.warnings = (f"{first} packets before the first keyframe cannot be decoded",) if first else ()
        self.keys = [i for i, packet in enumerate(self.packets) if packet.is_keyframe]
        shown = [i for i, packet in enumerate(self.packets) if is_shown(packet, hides_frames)]
        self.position = {self.packets[i].pts: i for i in shown}
        self.ordered = bool(shown) and None not in self.position and len(self.position) == len(shown)
        """True if every shown frame has a timestamp of its own."""

    @property
    def shown_keys(self) -> list[int]:
        """Timestamps of the keyframes that are shown."""
        return [stamp for stamp, position in self.position.items() if self.packets[position].is_keyframe]

    def timeline(self, video: OpenVideo) -> Timeline:
        """Return the frames that the packets hold."""
        video.first = min(self.position)
        last = self.packets[self.position[max(self.position)]]
        return Timeline.from_stamps(
            list(self.position), video.time_base, video.origin, last_units=last.duration, rate=video.rate
        )

    def runs(self, wanted: Sequence[int]) -> list[PacketRun]:
        """Return the fewest packets that hold the frames of distinct timestamps, as runs that do not overlap."""
        spans = sorted((self._start(stamp), self.position[stamp], stamp) for stamp in wanted)
        merged: list[tuple[int, int, list[int]]] = []
        for start, end, stamp in spans:
            if merged and start <= merged[-1][1]:
                begin, until, stamps = merged.pop()
                merged.append((begin, max(until, end), [*stamps, stamp]))
            else:
                merged.append((start, end, [stamp]))
        return [self._run(start, end, stamps) for start, end, stamps in merged]

    def wider_run(self, stamp: int) -> PacketRun:
        """Return the packets around a frame that does not decode, from two keyframes earlier to the next keyframe."""
        key = bisect_right(self.keys, self._start(stamp)) - 1
        after = bisect_right(self.keys, self.position[stamp])
        end = self.keys[after] if after < len(self.keys) else len(self.packets) - 1
        return self._run(self.keys[max(key - 2, 0)], end, [stamp])

    def _start(self, stamp: int) -> int:
        """Return the index of the keyframe to start from.

        Frames shown before a keyframe but decoded after it (leading pictures of an open GOP) also refer to frames
        before the keyframe, so these need the keyframe before that.
        """
        for i in reversed(range(bisect_right(self.keys, self.position[stamp]))):
            key = self.packets[self.keys[i]].pts
            if key is not None and key <= stamp:
                return self.keys[i]
        return 0

    def _run(self, start: int, end: int, stamps: Sequence[int]) -> PacketRun:
        packets = self.packets[start : end + 1]
        self._restore_state(start)

        def earlier(back: int) -> PacketRun | None:
            key = bisect_left(self.keys, start) - back
            return self._run(self.keys[max(key, 0)], end, stamps) if start > self.keys[0] else None

        return PacketRun(lambda: packets, frozenset(stamps), earlier)

    def _restore_state(self, start: int) -> None:
        """Give the packet from which decoding begins what packets before it told the decoder, such as a palette."""
        restore_state(self.packets[start], state_before(start, self.changes))


def header_data(header: bytes) -> PacketSideData:
    """Return a decoder's header as side data that makes the decoder take it again."""
    made: Any = PacketSideData  # its types do not say that it can be made
    data: PacketSideData = made(packet_sidedata_type_from_literal(NEW_HEADER), len(header))
    data.update(header)
    return data


def state_changes(packets: Iterable[Any]) -> list[tuple[int, Any]]:
    """List the side data that decoders keep using, each with the row of the packet that brings it."""
    return [
        (row, data)
        for row, packet in enumerate(packets)
        for data in packet.iter_sidedata()
        if data.data_type in DECODER_STATE
    ]


def state_before(row: int, changes: Iterable[tuple[int, Any]]) -> Iterable[Any]:
    """Return what the packets before a row leave in force, of the changes that `state_changes` lists."""
    return {data.data_type: data for changed, data in changes if changed < row}.values()


def restore_state(packet: Any, state: Iterable[Any]) -> None:
    """Give a packet side data that is still in force there, unless it brings newer of the kind."""
    for data in state:
        if not packet.has_sidedata(data.data_type):
            packet.set_sidedata(data)


def is_shown(packet: Any, hides_frames: bool) -> bool:
    """Return True if a player shows the frame of a packet.

    Not shown are parts that an edit list cuts away, and VP8's alternate reference frames.

    Args:
        packet: An `av.Packet`.
        hides_frames: True for VP8: bit 4 of its frame tag says if it is shown (RFC 6386, section 9.1).
    """
    return not packet.is_discard and (not hides_frames or bool(memoryview(packet)[0] >> 4 & 1))
