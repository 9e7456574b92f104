"""Which frames are right: those that the ffmpeg program shows, all of them, in order of showing.

A reader is asked for the middle frames of twelve equal segments. A frame is right if it looks like the wanted one: no
other frame of the file resembles it more by over one grey level of 255, and it is within twelve (colours are handled
differently). Where a reader says at what time its frame is shown, as long as that is within the segment, it may also
be the frame of that time.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FRAMES = 12
SIDE = 96
SAME, CLOSE = 1.0, 12.0
"""Grey levels: as similar as another frame, and similar at all."""


@dataclass(frozen=True)
class Truth:
    """All frames of a file."""

    pictures: np.ndarray
    """UInt8 (frames, 96, 96, 3); no frames if ffmpeg shows none."""
    times: np.ndarray
    """Seconds, (frames,)."""

    @property
    def wanted(self) -> np.ndarray:
        """Positions of the middle frames of equal segments."""
        return middles(len(self.pictures))


def middles(frames: int, wanted: int = FRAMES) -> np.ndarray:
    """Positions of the middle frames of equal segments."""
    return frames * (2 * np.arange(wanted) + 1) // (2 * wanted)


def ffmpeg_frames(path: Path, *before: str, limit: int | None = None) -> Truth:
    """Decode a file with the ffmpeg program, which is to ignore damage as players do.

    Args:
        path: The file.
        before: Options for reading it.
        limit: Most frames to read.
    """
    chain = f"scale={SIDE}:{SIDE}:flags=area+accurate_rnd+full_chroma_int,format=rgb24,showinfo"
    only = () if limit is None else ("-frames:v", str(limit))
    output = ("-an", "-vf", chain, "-fps_mode", "passthrough", *only, "-f", "rawvideo", "-")
    # The whitelist keeps playlists from being followed; the prefix keeps names with colons from being protocols.
    command = ["ffmpeg", "-v", "info", "-nostdin", "-protocol_whitelist", "file,pipe", *before]
    done = subprocess.run([*command, "-i", os.fsencode(f"file:{path}"), *output], capture_output=True, check=False)
    lines = done.stderr.decode(errors="replace").splitlines()
    times = [float(line.split("pts_time:")[1].split()[0]) for line in lines if "pts_time:" in line]
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, SIDE, SIDE, 3)
    return Truth(pictures, np.array(times[: len(pictures)]))


def wrong_frames(found: np.ndarray, times: np.ndarray | None, truth: Truth) -> int:
    """How many frames are not the wanted ones.

    Args:
        found: UInt8 (12, 96, 96, 3).
        times: Seconds at which they are shown, as the reader says; None if it does not.
        truth: All frames.
    """
    differences = np.abs(found[:, None].astype(np.int16) - truth.pictures[None]).mean((2, 3, 4))
    least = differences.min(axis=1)  # (12,)
    rows = np.arange(len(found))
    right = alike(differences[rows, truth.wanted], least)
    if times is not None:
        nearest = np.abs(times[:, None] - truth.times[None]).argmin(axis=1)
        in_segment = np.abs(nearest - truth.wanted) <= len(truth.pictures) / FRAMES / 2 + 1
        right |= in_segment & alike(differences[rows, nearest], least)
    return int((~right).sum())


def alike(difference: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Whether a picture looks like the right one, given both differences: to that one and to the most similar one."""
    return (difference <= least + SAME) & (difference <= CLOSE)
