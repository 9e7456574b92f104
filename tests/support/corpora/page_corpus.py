"""Clips for tests of the page: toy scenes, a long video in windows, a format browsers refuse, a file that is gone."""

import shutil
from pathlib import Path

import av

from colbert_video import Indexer
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.world.clip_files import render_moments, write_clip
from colbert_video.training.world.render import render
from colbert_video.training.world.sample import sample_scenes
from colbert_video.training.world.scene import Scene
from colbert_video.video.sources import VideoRecord

HOSTILE = "<img src=x onerror=alert(1)> & #1?.mp4"
"""A file name that would run a script, were it ever taken for HTML."""
TOUR_SCENES = 5
SCENE_SECONDS = 3.0


def build_page_index(folder: Path, *, count: int, size: int = 96) -> Path:
    """Render clips and index them with the shipped model.

    The first clip is there four times: as itself, under a file name full of HTML, as an AVI of MPEG-4, and as a file
    that is gone afterwards. "tour.mp4" shows several scenes and is cut into windows.
    """
    clips = folder / "clips"
    clips.mkdir(parents=True)
    scenes = page_scenes(count)
    records = [_record(clips / f"clip-{row + 1:04d}.mp4", scene, size) for row, scene in enumerate(scenes[:count])]
    render_moments(scenes[count:], clips / "tour.mp4", size=size)
    records.append(VideoRecord("tour.mp4", str(clips / "tour.mp4"), {"motion": "several"}))
    records += [_copy(records[0], clips / name) for name in (HOSTILE, "gone.mp4")]
    _write_avi(Path(records[0].path), clips / "old camera.avi")
    records.append(VideoRecord("old camera.avi", str(clips / "old camera.avi"), records[0].metadata))
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    Indexer(folder / "index", model=model, window=SCENE_SECONDS, stride=SCENE_SECONDS, workers=1).index(records)
    (clips / "gone.mp4").unlink()
    return folder / "index"


def page_scenes(count: int) -> list[Scene]:
    """What the clips show, then what the parts of the tour show."""
    return sample_scenes(count + TOUR_SCENES, seed=0, paired_fraction=0.5, split="test")


def _record(path: Path, scene: Scene, size: int) -> VideoRecord:
    write_clip(render(scene, size=size), path)
    metadata = {"text": scene.caption, "background": scene.background, "motion": scene.motion_class}
    return VideoRecord(path.name, str(path), metadata)


def _copy(record: VideoRecord, path: Path) -> VideoRecord:
    shutil.copy(record.path, path)
    return VideoRecord(path.name, str(path), {"note": "<b>bold</b>"})


def _write_avi(source: Path, path: Path) -> None:
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        old = read.streams.video[0]
        new = written.add_stream("mpeg4", rate=12)
        new.width, new.height, new.pix_fmt = old.width, old.height, "yuv420p"
        for frame in read.decode(old):
            written.mux(new.encode(frame.reformat(format="yuv420p")))
        written.mux(new.encode())
