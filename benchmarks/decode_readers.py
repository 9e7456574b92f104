"""Readers under comparison, each as its users would write it: twelve frames of 224 x 224 pixels.

None imports this package but the first two, so that they run under any Python that has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from decode_truth import FRAMES, middles

SIDE = 224


class Refused(Exception):  # noqa: N818 - refusing a file is no error here
    """The reader refuses the file for a stated reason."""


@dataclass(frozen=True)
class Sample:
    """What a reader returns."""

    pixels: np.ndarray
    """UInt8 (12, 224, 224, 3)."""
    times: np.ndarray | None = None
    """Seconds, (12,), if the reader says."""
    warnings: tuple[str, ...] = ()
    """What it found wrong."""


@dataclass(frozen=True)
class Reader:
    """A line of the list of readers."""

    title: str
    """In tables."""
    packages: tuple[str, ...]
    """Whose versions are reported."""
    load: Callable[..., Callable[[str], Sample]]
    """Imports the packages and returns the function that reads a file."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of `load`."""


def ours(snap: float | None = None) -> Callable[[str], Sample]:
    """This package with its default settings, or with frames taken from keyframes nearby."""
    from colbert_video.errors import VideoError
    from colbert_video.video import SamplingSettings, read_frames

    settings = SamplingSettings(num_frames=FRAMES, width=SIDE, height=SIDE, snap=snap)

    def read(path: str) -> Sample:
        try:
            frames = read_frames(path, settings)
        except VideoError as error:
            raise Refused(f"{error.kind.value}: {error.detail}") from error
        return Sample(frames.pixels, frames.times, frames.warnings)

    return read


def decord(resize: str) -> Callable[[str], Sample]:
    """Either decord or decord2, which have one interface: frames at their own size, or resized while decoding."""
    import decord as package

    def read(path: str) -> Sample:
        size = {"width": SIDE, "height": SIDE} if resize == "decord" else {}
        reader = package.VideoReader(path, **size)
        frames = reader.get_batch(middles(len(reader))).asnumpy()
        return Sample(frames if resize == "decord" else RESIZES[resize](frames))

    return read


def with_pillow(frames: np.ndarray) -> np.ndarray:
    """CLIP's preprocessing: Pillow, bicubic."""
    from PIL import Image

    bicubic = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), bicubic)) for frame in frames])


def with_torchvision(frames: np.ndarray) -> np.ndarray:
    """The same on a uint8 tensor."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (12, 3, height, width)
    resized = resize(batch, [SIDE, SIDE], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return resized.permute(0, 2, 3, 1).numpy()


RESIZES = {"pillow": with_pillow, "torchvision": with_torchvision}


def torchcodec() -> Callable[[str], Sample]:
    """Its exact mode and its own resizing."""
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    torch.set_num_threads(1)

    def read(path: str) -> Sample:
        decoder = VideoDecoder(path, dimension_order="NHWC", transforms=[Resize((SIDE, SIDE))])
        batch = decoder.get_frames_at(middles(len(decoder)).tolist())
        return Sample(batch.data.numpy())

    return read


def opencv() -> Callable[[str], Sample]:
    """Seeks to each frame and reads it."""
    import cv2

    cv2.setNumThreads(1)

    def read(path: str) -> Sample:
        capture = cv2.VideoCapture(path)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not capture.isOpened() or count <= 0:
            raise Refused(f"opened: {capture.isOpened()}, frames: {count}")
        frames = []
        for position in middles(count):
            capture.set(cv2.CAP_PROP_POS_FRAMES, int(position))
            there, frame = capture.read()
            if not there:
                raise Refused(f"no frame at {position}")
            resized = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            frames.append(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
        capture.release()
        return Sample(np.stack(frames))

    return read


READERS = {
    "ours": Reader("colbert_video", ("av",), ours),
    "ours-snap": Reader("colbert_video, snap 0.25", ("av",), ours, {"snap": 0.25}),
    "decord": Reader("decord, Pillow", ("decord", "pillow"), decord, {"resize": "pillow"}),
    "decord-torchvision": Reader("decord, torchvision", ("decord", "torchvision"), decord, {"resize": "torchvision"}),
    "decord-resized": Reader("decord, its own resizing", ("decord",), decord, {"resize": "decord"}),
    "decord2": Reader("decord2, Pillow", ("decord2", "pillow"), decord, {"resize": "pillow"}),
    "torchcodec": Reader("torchcodec, its own resizing", ("torchcodec", "torch"), torchcodec),
    "opencv": Reader("OpenCV", ("opencv-python-headless",), opencv),
}
