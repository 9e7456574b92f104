"""What training, evaluation and the service keep of a path: it stays what it was when the working folder changes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_clips import SAMPLING, frame_numbers, write_counting_clip

from colbert_video.ecosystem.media import MediaFolder
from colbert_video.errors import SettingsError
from colbert_video.serve.indexes import _named_folders
from colbert_video.serve.service_settings import ServeSettings
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import read_manifest
from colbert_video.training.datasets.download_folder import DownloadFolder, VideoFiles
from colbert_video.training.evaluation.trec_folder import TrecFolder
from colbert_video.training.reproduce.paper_rows import find_row
from colbert_video.training.reproduce.plan import ReproducePlan
from colbert_video.training.reproduce.reproduce_folder import ReproduceFolder
from colbert_video.training.run.run_folder import RunFolder
from colbert_video.training.run.training_config import DataConfig
from colbert_video.video.workers.pool import FramePool, FrameRequest

KEPT: dict[str, Callable[[str], Any]] = {
    "frame cache": lambda name: FrameCache(name).folder,
    "run": lambda name: RunFolder(name).path,
    "runs of an evaluation": lambda name: TrecFolder(Path(name)).path,
    "reproduction": lambda name: ReproduceFolder(name).path,
    "media": lambda name: MediaFolder(name).path,
    "download": lambda name: DownloadFolder(name).path,
    "videos": lambda name: VideoFiles(name).folder,
    "served index": lambda name: _named_folders([f"n={name}"])["n"],
    "copies": lambda name: ServeSettings(copies_folder=Path(name)).copies_folder,
    "media root": lambda name: ServeSettings(media_roots=(Path(name),)).media_roots[0],
    "annotations": lambda name: ReproducePlan(find_row("msvd", "clip-b32", None), Path(name), Path(name)).annotations,
    "manifest": lambda name: DataConfig(manifest=name).manifest_path,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which holds the folder "x"; the working folder holds one too."""
    for folder in ("home", "here"):
        (tmp_path / folder / "x").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("kept", KEPT)
def test_a_kept_path_is_absolute(home: Path, kept: str) -> None:
    assert KEPT[kept]("x") == Path.cwd() / "x"
    assert KEPT[kept]("~/x") == home / "x"
    if kept not in ("runs of an evaluation", "copies", "media root", "annotations"):  # these take a Path, never empty
        with pytest.raises(SettingsError, match="is empty"):
            KEPT[kept]("")


def test_rows_of_a_manifest_keep_their_files(home: Path) -> None:
    Path("m.csv").write_text("video,caption,split\na.mp4,a,test\n~/b.mp4,b,test\n")
    rows = read_manifest("m.csv")
    assert [row.video for row in rows] == ["a.mp4", "~/b.mp4"]
    assert [row.path for row in rows] == [Path.cwd() / "a.mp4", home / "b.mp4"]


def test_decoding_processes_read_the_file_that_was_asked_for(home: Path) -> None:
    """A process has the working folder in which it was started."""
    write_counting_clip(Path("a.mp4"), first=0)
    write_counting_clip(home / "a.mp4", first=10)
    with FramePool(SAMPLING, workers=1) as pool:

        def numbers(path: str) -> list[int]:
            (result,) = pool.read_many([FrameRequest(path)])
            assert result.frames is not None
            assert result.request.path == path
            return frame_numbers(np.asarray(result.frames.pixels))

        here = numbers("a.mp4")
        os.chdir(home)
        assert pool.read_header("a.mp4").codec == "h264"
        assert numbers("a.mp4") == [number + 10 for number in here]
        assert numbers("~/a.mp4") == numbers("a.mp4")
