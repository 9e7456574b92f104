"""Small clips whose frames carry their own number, so that tests can tell which frame they got."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIDE = 64
BITS = 8


def numbered_picture(number: int) -> np.ndarray:
    """RGB picture, (64, 64, 3): four bits of the number in the upper half, four in the lower, dark or bright."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    grid = np.array(bits, dtype=np.uint8).reshape(2, BITS // 2) * 190 + 30
    grey = np.kron(grid, np.ones((SIDE // 2, 2 * SIDE // BITS), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def read_number(pixels: np.ndarray) -> int:
    """The number in a picture of any size."""
    height, width, _ = pixels.shape
    cells = pixels.mean(axis=2).reshape(2, height // 2, BITS // 2, 2 * width // BITS).mean(axis=(1, 3))
    return sum(int(bright) << bit for bit, bright in enumerate((cells > 125).ravel()))


def read_numbers(frames: Any) -> list[int]:
    """The numbers in the pictures of `SampledFrames`."""
    return [read_number(picture) for picture in frames.pixels]


def write_clip(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    rate: int = 25,
    options: dict[str, str] | None = None,
    milliseconds: Sequence[int] | None = None,
    rotation: int = 0,
    muxer: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    noise: int = 0,
    first: int = 0,
    side: int = SIDE,
) -> Path:
    """Write `count` frames numbered from `first`; `milliseconds` gives them times of their own, noise makes them large."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width = stream.height = side
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            row = (first + number) % 2**BITS
            picture = numbered_picture(row) + rng.integers(0, noise + 1, (SIDE, SIDE, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame if side == SIDE else frame.reformat(side, side)
            frame.pts = number if milliseconds is None else milliseconds[number]
            frame.time_base = Fraction(1, rate) if milliseconds is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


FILM_COLOURS = ((220, 20, 20), (20, 20, 220))
"""Colours of the two films of `write_two_films`."""


def write_two_films(path: Path) -> Path:
    """A small red film first, then a large blue one, as frames and players without a choice show different ones."""
    with av.open(str(path), "w") as container:
        streams = []
        for side in (32, 128):
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            streams.append(stream)
        for number in range(10):
            for stream, colour in zip(streams, FILM_COLOURS, strict=True):
                picture = np.full((stream.height, stream.width, 3), colour, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def trim_without_decoding(source: Path, target: Path, first_shown: int) -> Path:
    """Copy packets so that frames before `first_shown` lie at negative times: the muxer hides them by an edit list."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        step = int(1 / (stream.average_rate * stream.time_base))
        for packet in old.demux(stream):
            if packet.size:
                packet.pts -= first_shown * step
                packet.dts -= first_shown * step
                packet.stream = copy
                new.mux(packet)
    return target


def write_sound(path: Path) -> Path:
    """Write half a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
