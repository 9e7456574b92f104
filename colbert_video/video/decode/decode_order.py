"""Read AVI, which stores when packets are decoded and not when frames are shown, without decoding all of it.

FFmpeg shows such a frame when it leaves the decoder, so its time is that of the packet that pushes it out. Every packet
pushes out one frame, but for the first few, which the decoder holds back to put frames in order. As that is the same from
every keyframe on, the times of all frames follow from the list of packets, and decoding begins at the keyframe before a
wanted frame. A file that turns out to be different is decoded in order.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import numpy as np
from jaxtyping import Int

from colbert_video.video.decode.container import OpenVideo
from colbert_video.video.decode.decoding import MAX_BACK, ChosenFrames, FrameDecoder, stands_alone
from colbert_video.video.decode.in_order import dated, filled
from colbert_video.video.decode.packets import restore_state, state_before, state_changes
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.decode.timeline import Timeline, within_window
from colbert_video.video.frames import MAX_SNAP, SamplingSettings


@dataclass(frozen=True)
class StoredPackets:
    """The packets of a stream in decoding order, from its first keyframe on."""

    stamps: Sequence[int]
    """When each is decoded, in units of the stream's time base; strictly ascending."""
    keys: Sequence[int]
    """Rows of the keyframes, ascending; the first is 0."""
    read: Callable[[int], Iterable[Any]]
    """Returns the `av.Packet`s from a row on."""

    @classmethod
    def from_rows(
        cls, rows: Sequence[tuple[int | None, bool]], read: Callable[[int], Iterable[Any]]
    ) -> "StoredPackets | None":
        """Make the list of packets from their timestamps and marks as keyframes; None if these are of no use."""
        first = next((row for row, (_, is_key) in enumerate(rows) if is_key), len(rows))
        stamps = [stamp for stamp, _ in rows[first:] if stamp is not None]
        if not stamps or len(stamps) < len(rows) - first or (np.diff(stamps) <= 0).any():
            return None
        keys = [row for row, (_, is_key) in enumerate(rows[first:]) if is_key]
        return cls(stamps, keys, lambda row: read(first + row))


def read_in_decode_order(
    video: OpenVideo,
    settings: SamplingSettings,
    resizer: FrameResizer,
    *,
    listed: Callable[[OpenVideo], "StoredPackets | None"],
    long_seconds: float,
) -> ChosenFrames | None:
    """Sample a file that has no presentation times.

    Args:
        video: The open file.
        settings: What to read.
        resizer: Makes the pictures.
        listed: Lists the packets: `kept_packets` or `indexed_packets`.
        long_seconds: Frames of longer videos may be moved to keyframes, as `SamplingSettings.snap` says.

    Returns:
        The chosen frames; None if the packets cannot be listed, or some of them give no frame.
    """
    packets = listed(video)
    reader = None if packets is None else RowReader(video, packets, resizer)
    if reader is None or reader.delay is None:
        return None
    timeline = reader.timeline()
    chosen = _chosen(reader, timeline, settings, long_seconds)
    pictures = reader.read(sorted(set(chosen.tolist())))
    if pictures is None:
        return None
    times = within_window(timeline.times[chosen], settings.window).tolist()
    pixels = [pictures[row] for row in chosen.tolist()]
    return ChosenFrames(times, pixels, timeline.duration, timeline.fps, reader.decoder.warnings)


def kept_packets(video: OpenVideo) -> StoredPackets | None:
    """Read all packets into memory; None if their timestamps are of no use."""
    packets = list(video.packets())
    changes = state_changes(packets)

    def read(row: int) -> Iterable[Any]:
        restore_state(packets[row], state_before(row, changes))
        return packets[row:]

    return StoredPackets.from_rows([(packet.dts, packet.is_keyframe) for packet in packets], read)


def indexed_packets(video: OpenVideo) -> StoredPackets | None:
    """List the packets of a large or long file by its index, and seek to them; None if it does not know all."""
    if video.context.pix_fmt == "pal8":
        return None  # a seek can jump over a change of the palette
    entries = [entry for entry in video.stream.index_entries if entry.size]
    rows = [(entry.timestamp, entry.is_keyframe) for entry in entries]
    packets = StoredPackets.from_rows(rows, lambda row: _from(video, entries[row].timestamp))
    if packets is None:
        return None
    last = [packet.dts for packet in packets.read(packets.keys[-1])]
    return packets if last == list(packets.stamps[packets.keys[-1] :]) else None


def _from(video: OpenVideo, stamp: int) -> Iterator[Any]:
    if not video.seek(stamp):
        return iter(())
    return dropwhile(lambda packet: packet.dts != stamp, video.packets())


def _chosen(
    reader: "RowReader", timeline: Timeline, settings: SamplingSettings, long_seconds: float
) -> Int[np.ndarray, "wanted"]:
    """Return rows of the timeline: exact frames, or keyframes near them where the settings allow it."""
    usual = MAX_SNAP if timeline.duration > long_seconds else 0.0
    snap = usual if settings.snap is None else settings.snap
    return timeline.choose_near(np.asarray(reader.packets.keys), reader.video.path, settings, snap)


class RowReader:
    """Decodes wanted frames by their row, in order of showing, of a file whose packets each push out one frame."""

    def __init__(self, video: OpenVideo, packets: StoredPackets, resizer: FrameResizer) -> None:
        self.video = video
        self.packets = packets
        self.decoder = FrameDecoder(video, resizer)
        self._rows = {stamp: row for row, stamp in enumerate(packets.stamps)}
        pushed: int | None = next((frame.dts for frame in self._frames(0)), None)
        self.delay = None if pushed is None else self._rows.get(pushed)
        """Packets that the decoder takes before it shows the first frame; None if it shows none before the end."""

    def timeline(self) -> Timeline:
        """Return the frames as FFmpeg times them; those that stay in the decoder at the end come at the usual distance."""
        held = self.delay or 0
        return dated(filled([*self.packets.stamps[held:], *[None] * held]), self.video)

    def read(self, wanted: Sequence[int]) -> dict[int, np.ndarray] | None:
        """Decode frames.

        Args:
            wanted: Their rows, ascending.

        Returns:
            The pixels by row; None if packets do not each push out one frame, or no keyframe is one.
        """
        pictures: dict[int, np.ndarray] = {}
        for start, rows in self._runs(wanted):
            missing, back = set(rows), 1
            key = bisect_right(self.packets.keys, start) - 1
            while missing and back <= MAX_BACK:
                found = self._decode(self.packets.keys[key], missing)
                if found is None:
                    return None
                pictures |= found
                missing -= found.keys()
                if missing and key == 0:
                    return None
                key, back = max(key - back, 0), 2 * back
            if missing:
                return None
        return pictures

    def _runs(self, wanted: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the keyframe to begin at with the rows to decode from there; it shows in its own row or later."""
        keys = self.packets.keys
        rows: list[int] = []
        for row in wanted:
            if rows and keys[bisect_right(keys, row) - 1] > rows[-1] + (self.delay or 0):
                yield rows[0], rows
                rows = []
            rows.append(row)
        if rows:
            yield rows[0], rows

    def _decode(self, start: int, wanted: Collection[int]) -> dict[int, np.ndarray] | None:
        """Decode from a keyframe on; frames are left out that come before one which refers to no other.

        Returns:
            The pixels by row; None if not every packet pushes out one frame.
        """
        found: dict[int, np.ndarray] = {}
        begun, last, end = False, None, max(wanted)
        for frame in self._frames(start):
            row = self._row(frame, last)
            if row is None or (last is not None and row != last + 1):
                return None
            begun, last = begun or stands_alone(frame), row
            if begun and row in wanted:
                found[row] = self.decoder.resizer(frame)
            if row >= end:
                break
        return found

    def _row(self, frame: Any, last: int | None) -> int | None:
        """Return the row of a frame; None for one that no packet has pushed out before there was another."""
        if frame.dts is None:
            return None if last is None else last + 1
        packet = self._rows.get(frame.dts)
        return None if packet is None else packet - (self.delay or 0)

    def _frames(self, start: int) -> Iterator[Any]:
        return self.decoder.frames(self.packets.read(start))
