"""The pictures of a part of a video, encoded as H.264: what players show, upright, in SDR, with square pixels."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from colbert_video.errors import DependencyError
from colbert_video.video.decode.container import Deadline, OpenVideo, open_video
from colbert_video.video.decode.decoding import FrameDecoder, stands_alone
from colbert_video.video.decode.in_order import USUAL_RATE, FrameClock
from colbert_video.video.decode.resize import FrameResizer
from colbert_video.video.frames import SamplingSettings, SourcePicture

ENCODER = "libx264"
TIME_BASE = Fraction(1, 90_000)
OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0"}  # without B-frames packets come in the order of showing
SOUGHT = ("mov", "matroska")
"""Containers in which decoding begins shortly before the part; others are decoded from their start."""
SAME_TIME = 1e-3
BT709 = 1
LIMITED_RANGE = 1


def check_encoder() -> None:
    """Check that PyAV can encode H.264.

    Raises:
        DependencyError: If it cannot.
    """
    if ENCODER not in av.codecs_available:
        raise DependencyError(f"this PyAV has no {ENCODER}: pip install --force-reinstall av")


class ClipEncoder:
    """Encodes a part of one video stream.

    Args:
        source: The video file.
        picture: How players show its pictures.
        output: The open clip, to which a stream is added.
        deadline: Time limit.
        settings: Limits of decoding.
        max_side: Longest side in pixels; None to keep the size.
    """

    def __init__(
        self,
        source: str,
        picture: SourcePicture,
        output: Any,
        deadline: Deadline,
        settings: SamplingSettings,
        *,
        max_side: int | None = None,
    ) -> None:
        self.source, self.picture, self.deadline = source, picture, deadline
        width, height = even_size(picture, max_side)
        self.settings = replace(settings, width=width, height=height)
        self.end: float | None = None
        """End of the last picture in the source, in seconds; None until one was encoded."""
        self.warnings: tuple[str, ...] = ()
        self._lengths: dict[int, int] = {}
        self._shown_until = 0.0
        self._stream = output.add_stream(ENCODER, options=OPTIONS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        _tag_colours(self._stream.codec_context)

    def packets(self, start: float, end: float) -> Iterator[tuple[float, Any]]:
        """Encode the pictures shown in [start, end); yield packets, each with its time in the clip in seconds."""
        held: tuple[float, Any] | None = None
        for time, pixels in self._pictures(start, end):
            if held is not None:
                yield from self._encoded(*held, until=time - start)
            held = max(time - start, 0.0), pixels
        if held is not None:
            self.end = min(end, self._shown_until)
            yield from self._encoded(*held, until=self.end - start)
            yield from self._timed(self._stream.encode(None))

    def _encoded(self, time: float, pixels: Any, *, until: float) -> Iterator[tuple[float, Any]]:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = round(time / TIME_BASE), TIME_BASE
        self._lengths[frame.pts] = max(round(until / TIME_BASE) - frame.pts, 1)
        yield from self._timed(self._stream.encode(frame))

    def _timed(self, packets: list[Any]) -> Iterator[tuple[float, Any]]:
        for packet in packets:
            packet.duration = self._lengths.pop(packet.pts)  # the encoder knows no length of the last one
            yield float(packet.pts * TIME_BASE), packet

    def _pictures(self, start: float, end: float) -> Iterator[tuple[float, Any]]:
        """Yield time and pixels of the picture shown at the start, then of the following ones."""
        sought = True
        for time, pixels in self._shown(start, end, seek=True):
            if sought and time > start + SAME_TIME:
                break
            sought = False
            yield time, pixels
        if sought:  # the keyframe came too late, or the file begins later
            yield from self._shown(start, end, seek=False)

    def _shown(self, start: float, end: float, *, seek: bool) -> Iterator[tuple[float, Any]]:
        waiting: tuple[float, Any] | None = None
        with open_video(self.source, self.deadline, self.settings.max_pixels, self.settings.stream) as video:
            resizer = FrameResizer(self.source, self.settings, video.shape)
            decoder = FrameDecoder(video, resizer)
            for time, length, frame in _decoded(video, decoder, start if seek else None):
                if time >= end:
                    self._shown_until = end
                    break
                self._shown_until = time + length
                if time > start + SAME_TIME:
                    if waiting is not None:
                        yield waiting[0], resizer(waiting[1])
                        waiting = None
                    yield time, resizer(frame)
                else:
                    waiting = time, frame
            else:
                if self._shown_until <= start:
                    waiting = None  # the video ends before the part begins
            if waiting is not None:
                yield waiting[0], resizer(waiting[1])
            self.warnings = decoder.warnings


def even_size(picture: SourcePicture, max_side: int | None) -> tuple[int, int]:
    """Return the even width and height of an H.264 copy, in the shape that players show."""
    width = picture.width * picture.pixel_aspect
    fits = 1.0 if max_side is None else min(1.0, max_side / max(width, picture.height))
    return max(2, 2 * int(width * fits / 2 + 1e-6)), max(2, 2 * int(picture.height * fits / 2 + 1e-6))


def _decoded(video: OpenVideo, decoder: FrameDecoder, seconds: float | None) -> Iterator[tuple[float, float, Any]]:
    """Yield time and length in seconds, and the frame, from the keyframe before a time on, else from the start."""
    sought = seconds is not None and video.format.partition(",")[0] in SOUGHT and seconds > 0
    if sought and seconds is not None:
        sought = video.seek(int((seconds + video.origin) / video.time_base))
    clock, usual = FrameClock(video.format), 1 / (video.rate or USUAL_RATE)
    begun = not sought
    for number, frame in enumerate(decoder.frames(video.packets())):
        begun = begun or stands_alone(frame)
        if not begun:
            continue
        stamp = clock.stamp(frame)
        time = number * usual if stamp is None else video.seconds(stamp)
        length = float(frame.duration * video.time_base) if frame.duration else usual
        yield time, length, frame


def _tag_colours(context: Any) -> None:
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE
