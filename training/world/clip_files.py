"""Synthetic clips as real H.264 files, one by one, as a captioned folder, or joined with known moments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError
from colbert_video.progress import progress_bar
from colbert_video.training.world.render import render
from colbert_video.training.world.sample import sample_scenes
from colbert_video.training.world.scene import Scene, scene_split

# Every frame is coded alone and with the same quantiser: were frames predicted from earlier ones, traces of
# the past in single frames would reveal the direction of time, which only the order of the frames may reveal.
ENCODER_OPTIONS = {"preset": "ultrafast", "g": "1", "qp": "24", "threads": "1"}
MUXER_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}


@dataclass(frozen=True)
class WorldClip:
    """One written clip."""

    id: str
    """Name of the file without its ending, such as "clip-0001"."""
    path: Path
    scene: Scene
    split: str
    pair: str | None
    """Id of the clip that is this one played in reverse, or None if it was not written."""

    @property
    def caption(self) -> str:
        """Caption of the scene, true of no other clip."""
        return self.scene.caption

    @property
    def row(self) -> dict[str, str | None]:
        """The clip's line in `captions.jsonl`."""
        return {
            "video": self.path.name,
            "caption": self.caption,
            "split": self.split,
            "pair": self.pair,
            "motion": self.scene.motion_class,
        }


def write_clip(pixels: UInt8[np.ndarray, "frames height width 3"], path: str | Path, *, fps: int = 12) -> None:
    """Write RGB frames as an H.264 4:2:0 mp4 whose header comes first; the same frames give the same bytes.

    Args:
        pixels: RGB frames of even height and width.
        path: The file; an older one is replaced.
        fps: Frames per second.

    Raises:
        SettingsError: If there are no frames, a side is odd, or `fps` is less than 1.
    """
    frames, height, width, _ = pixels.shape
    if not frames or height % 2 or width % 2 or not height * width:
        raise SettingsError(f"pixels are {pixels.shape}: H.264 4:2:0 needs frames of even height and width.")
    if whole_number("fps", fps) < 1:
        raise SettingsError(f"fps is {fps}: give at least 1.")
    with av.open(str(user_path(path)), "w", format="mp4", options=MUXER_OPTIONS) as container:
        stream = container.add_stream("libx264", rate=fps, options=ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_world(
    folder: str | Path,
    *,
    count: int,
    seed: int,
    split: str | None = None,
    paired_fraction: float = 0.5,
    size: int = 96,
    frames: int = 36,
    fps: int = 12,
) -> list[WorldClip]:
    """Draw scenes and write them as `clip-0001.mp4` and so on, with `captions.jsonl` beside them.

    Each line of `captions.jsonl` has the fields video (file name), caption, split, pair (id of the clip that is
    this one played in reverse, or null) and motion (the motion class). It is written last.

    Args:
        folder: Made if missing.
        count: Number of clips.
        seed: The same seed gives the same clips.
        split: Draw from this split alone; None for all of them.
        paired_fraction: Share of the clips that come with their time reversal, in [0, 1].
        size: Height and width in pixels.
        frames: Frames of each clip.
        fps: Frames per second.

    Returns:
        The clips, in the order of their names.

    Raises:
        SettingsError: If an argument is out of range, or the folder already holds a world.
    """
    folder = user_path(folder, "the folder")
    scenes = sample_scenes(count, seed=seed, paired_fraction=paired_fraction, split=split)
    _check_unused(folder)
    folder.mkdir(parents=True, exist_ok=True)
    clips = _name_clips(folder, scenes)
    with progress_bar("rendering clips", len(clips)) as bar:
        for clip in clips:
            write_clip(render(clip.scene, size=size, frames=frames), clip.path, fps=fps)
            bar.advance()
    lines = [json.dumps(clip.row) + "\n" for clip in clips]
    write_text(folder / "captions.jsonl", "".join(lines))
    return clips


def render_moments(
    scenes: Sequence[Scene], path: str | Path, *, size: int = 96, frames: int = 36, fps: int = 12
) -> list[tuple[float, float]]:
    """Write the clips of several scenes one after another into one file.

    Args:
        scenes: At least one, in order.
        path: The file; an older one is replaced.
        size: Height and width in pixels.
        frames: Frames of each scene.
        fps: Frames per second.

    Returns:
        Time of each scene: [start, end) in seconds.

    Raises:
        SettingsError: If there are no scenes, or an argument is out of range.
    """
    if not scenes:
        raise SettingsError("scenes is empty: give at least one scene.")
    pixels = [render(scene, size=size, frames=frames) for scene in scenes]
    write_clip(np.concatenate(pixels), path, fps=fps)
    return [(number * frames / fps, (number + 1) * frames / fps) for number in range(len(scenes))]


def _name_clips(folder: Path, scenes: list[Scene]) -> list[WorldClip]:
    digits = max(4, len(str(len(scenes))))
    ids = {scene: f"clip-{number:0{digits}d}" for number, scene in enumerate(scenes, start=1)}
    return [
        WorldClip(name, folder / f"{name}.mp4", scene, scene_split(scene), _partner(scene, ids))
        for scene, name in ids.items()
    ]


def _partner(scene: Scene, ids: dict[Scene, str]) -> str | None:
    reverse = scene.reversed()
    return ids.get(reverse) if reverse is not None else None


def _check_unused(folder: Path) -> None:
    """Check that the folder holds no clips: those of two worlds must not share one list of captions."""
    if (folder / "captions.jsonl").exists() or any(folder.glob("clip-*.mp4")):
        raise SettingsError(f"{folder} already holds clips: give another folder or delete them first.")
