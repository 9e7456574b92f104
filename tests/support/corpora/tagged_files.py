"""Copy videos and change only what their streams and pictures say of themselves."""

from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext


def filtered(source: Path, target: Path, bitstream_filter: str) -> Path:
    """Copy packets through one of FFmpeg's bitstream filters."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        changed = BitStreamFilterContext(bitstream_filter, stream, copy)
        for packet in [*old.demux(stream), None]:
            if packet is not None and not packet.size:
                continue
            for out in changed.filter(packet):
                out.stream = copy
                new.mux(out)
    return target


def mux_pictures(target: Path, pictures: list[bytes], width: int, height: int) -> Path:
    """Put finished JPEG files into a video of 25 frames a second."""
    with av.open(str(target), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base = 1 / stream.average_rate
            packet.is_keyframe = True
            packet.stream = stream
            container.mux(packet)
    return target
