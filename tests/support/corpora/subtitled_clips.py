"""Clips with text streams, muxed by PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from video_writer import numbered_picture

TimedTexts = Sequence[tuple[float, float, str]]
ASS_HEADER = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,0,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def clock(seconds: float, *, comma: str = ",") -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{comma}{thousandths:03d}"


def srt(lines: TimedTexts) -> str:
    """A SubRip file."""
    return "".join(
        f"{number}\n{clock(start)} --> {clock(end)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(lines, start=1)
    )


def vtt(lines: TimedTexts) -> str:
    """A WebVTT file."""
    cues = (f"{clock(start, comma='.')} --> {clock(end, comma='.')} line:0\n{text}\n\n" for start, end, text in lines)
    return "WEBVTT\n\n" + "".join(cues)


def ass(lines: TimedTexts) -> str:
    """A file of Advanced SubStation Alpha."""

    def time(seconds: float) -> str:
        return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{seconds % 60:05.2f}"

    return ASS_HEADER + "".join(
        f"Dialogue: 0,{time(start)},{time(end)},Default,,0,0,0,,{text}\n" for start, end, text in lines
    )


WRITERS = {"srt": srt, "vtt": vtt, "ass": ass}


def write_subtitled(path: Path, streams: Sequence[tuple[str, TimedTexts]], *, frames: int = 50) -> Path:
    """Write a clip of `frames` frames, 10 a second, with a text stream for each kind ("srt", "vtt", "ass", "mov_text"); the last needs PyAV 18."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        packets = [packet for number, own in enumerate(streams) for packet in _packets(container, path, number, *own)]
        for number in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(numbered_picture(number % 256))))
        container.mux(video.encode())
        for packet in packets:
            container.mux(packet)
    return path


def _packets(container: Any, path: Path, number: int, kind: str, lines: TimedTexts) -> list[Any]:
    if kind == "mov_text":
        stream = container.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER.encode()  # from which FFmpeg takes its style
        return [_timed_text(stream, *line) for line in lines]
    file = path.with_name(f".{path.stem}.{number}.{kind}")
    file.write_text(WRITERS[kind](lines), encoding="utf-8")
    with av.open(str(file)) as source:
        template = source.streams.subtitles[0]
        stream = container.add_stream_from_template(template)
        packets = [packet for packet in source.demux(template) if packet.dts is not None]
    file.unlink()
    for packet in packets:
        packet.stream = stream
    return packets


def _timed_text(stream: Any, start: float, end: float, text: str) -> Any:
    """A sample of MP4's timed text: two bytes of length, then the text."""
    data = text.encode()
    packet = av.Packet(len(data).to_bytes(2, "big") + data)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round(start * 1000)
    packet.duration = round((end - start) * 1000)
    return packet
