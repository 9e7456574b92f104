"""The sound of a part of a video: copied where MP4 takes it, else encoded as AAC."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from colbert_video.video.decode.container import OpenSound

COPIED = ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac")
COPIED_FROM = ("mov", "matroska")
RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
"""Samples per second that AAC takes."""
GAP_SECONDS = 0.05
"""Longer gaps between decoded frames stay silent; shorter ones are rounding."""


class ClipSound:
    """The sound of a part [start, end) of a file, in seconds; nothing for a file without sound.

    Args:
        sound: The open file; None without sound.
        stream: The clip's stream; None without sound.
        start: Seconds.
        end: Seconds, exclusive.
    """

    def __init__(self, sound: OpenSound | None, stream: Any, start: float, end: float) -> None:
        self.warnings: tuple[str, ...] = ()
        self._sound, self._stream, self._start, self._end = sound, stream, start, end

    @classmethod
    def added_to(cls, output: Any, sound: OpenSound | None, start: float, end: float) -> "ClipSound":
        """Add a stream for the sound of an open file to an open clip."""
        if sound is None:
            return cls(None, None, start, end)
        if _is_copied(sound):
            return cls(sound, output.add_stream_from_template(sound.stream, opaque=True), start, end)
        context = sound.stream.codec_context
        if not context.sample_rate:  # no decoder, or nothing is known of it
            silent = cls(None, None, start, end)
            silent.warnings = ("the sound is left out: it cannot be decoded",)
            return silent
        rate = min(RATES, key=lambda offered: abs(offered - context.sample_rate))
        stream = output.add_stream("aac", rate=rate, layout="mono" if context.channels == 1 else "stereo")
        return cls(sound, stream, start, end)

    def packets(self) -> Iterator[tuple[float, Any]]:
        """Yield packets, each with its time in the clip in seconds; sound that breaks off ends there."""
        if self._sound is None:
            return
        try:
            self._sound.seek(self._start)
            yield from self._copied(self._sound) if _is_copied(self._sound) else self._encoded(self._sound)
        except av.error.ExitError:
            raise
        except av.error.FFmpegError as error:
            self.warnings = (f"the sound breaks off: {error.strerror}",)

    def _copied(self, sound: OpenSound) -> Iterator[tuple[float, Any]]:
        begin = None
        for packet in sound.packets():
            if packet.pts is None or packet.dts is None:
                continue
            time = sound.seconds(packet.pts)
            if time < self._start - 1e-6:
                continue
            if time >= self._end:
                return
            begin = round((self._start + sound.origin) / sound.time_base) if begin is None else begin
            packet.pts, packet.dts = max(packet.pts - begin, 0), max(packet.dts - begin, 0)
            packet.stream = self._stream
            yield float(packet.dts * sound.time_base), packet

    def _encoded(self, sound: OpenSound) -> Iterator[tuple[float, Any]]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(format="fltp", layout=context.layout, rate=context.sample_rate)
        sample = None
        for time, frame in sound.frames():
            if time + frame.samples / frame.sample_rate <= self._start:
                continue
            if time >= self._end:
                break
            exact = round((time - self._start) * context.sample_rate)
            if sample is not None and exact > sample + GAP_SECONDS * context.sample_rate:
                self.warnings = ("parts of the sound do not decode",)
                sample = exact
            for piece in resampler.resample(frame):
                sample = exact if sample is None else sample
                piece.pts, piece.time_base = sample, Fraction(1, context.sample_rate)
                sample += piece.samples
                yield from _timed(self._stream.encode(piece))
        if sample is not None:
            yield from _timed(self._stream.encode(None))


def _is_copied(sound: OpenSound) -> bool:
    return sound.codec in COPIED and sound.format.partition(",")[0] in COPIED_FROM


def _timed(packets: list[Any]) -> Iterator[tuple[float, Any]]:
    for packet in packets:
        yield float((packet.pts or 0) * packet.time_base), packet
