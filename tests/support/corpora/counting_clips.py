"""Clips whose every frame shows its own number as a shade of grey, so that tests can tell which frames were read."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.world import write_clip
from colbert_video.video.frames import SamplingSettings

SIZE = 16
STEP = 4
"""Grey levels between frames; far more than the codec and the resizing blur."""
SAMPLING = SamplingSettings(num_frames=4, height=SIZE, width=SIZE)


def write_counting_clip(path: Path, frames: int = 20, first: int = 0) -> Path:
    """Write a clip whose frame i is grey level 20 + STEP * (first + i)."""
    levels = 20 + STEP * (first + np.arange(frames, dtype=np.uint8))
    write_clip(np.tile(levels[:, None, None, None], (1, SIZE, SIZE, 3)), path)
    return path


def frame_numbers(pixels: np.ndarray) -> list[int]:
    """The numbers of frames (frames, height, width, 3), as the clip counts them."""
    return [round((float(frame.mean()) - 20) / STEP) for frame in np.asarray(pixels)]


def write_manifest(folder: Path, rows: Iterable[dict]) -> list[ManifestRow]:
    """Write rows as `captions.jsonl` and read them back."""
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_manifest(path)
