"""Every kind of file that users have: the frames that the ffmpeg program shows, or a named refusal."""

import importlib
import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import BENCHMARKS
from thorough import amount
from video_writer import write_clip, write_sound

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video import FramePool, FrameRequest, SamplingSettings, read_frames

OPENS = amount(160, thorough=500)
REFUSALS = {
    "lost.mp4": FailureKind.UNREADABLE,
    "sound.mp4": FailureKind.NO_VIDEO,
    "album.m4a": FailureKind.NO_VIDEO,
    "locked.mp4": FailureKind.ENCRYPTED,
    "empty.mp4": FailureKind.EMPTY,
    "text.mp4": FailureKind.UNREADABLE,
    "playlist.mp4": FailureKind.UNREADABLE,
}
DAMAGED = {
    "cut.mp4": "the file breaks off",
    "cut.mkv": "the file breaks off",
    "wiped.mp4": "wanted frames do not decode",
    "one.mp4": "1 distinct frames of 12",
}


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    """The benchmark's file maker and its judge."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return {name: importlib.import_module(name) for name in ("decode_files", "decode_truth")}


@pytest.fixture(scope="module")
def files(modules: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    if shutil.which("ffmpeg") is None:
        pytest.skip("makes its files with the ffmpeg program")
    folder = tmp_path_factory.mktemp("kinds")
    source = modules["decode_files"].source_clip(folder / "source.mp4", size="160x120", seconds=3)
    return modules["decode_files"].kind_files(folder / "files", source)


@pytest.mark.slow
def test_each_kind_yields_the_frames_of_ffmpeg_or_a_named_refusal(
    files: dict[Any, Path], modules: dict[str, Any]
) -> None:
    truths = modules["decode_truth"]
    assert len(files) > 25
    for kind, path in files.items():
        started = time.process_time()
        if not kind.shows:
            with pytest.raises(VideoError) as caught:
                read_frames(path, SamplingSettings(timeout=30.0))
            assert caught.value.kind is REFUSALS[path.name], kind.title
            continue
        frames = read_frames(path, SamplingSettings(timeout=30.0))
        assert time.process_time() - started < 30
        assert frames.pixels.shape == (12, 224, 224, 3)
        small = read_frames(path, SamplingSettings(width=truths.SIDE, height=truths.SIDE)).pixels
        assert truths.wrong_frames(small, frames.times, truths.ffmpeg_frames(path)) == 0, kind.title
        assert DAMAGED.get(path.name, "") in " ".join(frames.warnings), kind.title
        if path.name not in DAMAGED:
            assert frames.warnings == (), kind.title


def test_the_judge_tells_right_from_wrong(modules: dict[str, Any]) -> None:
    truths = modules["decode_truth"]
    pictures = np.random.default_rng(0).integers(0, 256, (60, 96, 96, 3), dtype=np.uint8)
    truth = truths.Truth(pictures, np.arange(60) / 25)
    wanted = pictures[truth.wanted]
    assert truth.wanted.tolist() == [2, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57]
    assert truths.wrong_frames(wanted, None, truth) == 0
    assert truths.wrong_frames(wanted, truth.times[truth.wanted] + 0.2, truth) == 0
    near = pictures[truth.wanted + 1]
    assert truths.wrong_frames(near, None, truth) == 12
    assert truths.wrong_frames(near, truth.times[truth.wanted + 1], truth) == 0
    far = pictures[(truth.wanted + 20) % 60]
    assert truths.wrong_frames(far, truth.times[(truth.wanted + 20) % 60], truth) == 12
    assert truths.wrong_frames(255 - wanted, None, truth) == 12


def test_in_a_pool_every_kind_costs_only_itself(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", 20)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    empty = tmp_path / "empty.mp4"
    empty.touch()
    sound = write_sound(tmp_path / "sound.mp4")
    expected = {good: None, cut: "unreadable", empty: "empty", sound: "no_video", tmp_path / "none.mp4": "missing"}
    requests = [FrameRequest(str(path)) for path in [*expected, *expected]]
    with FramePool(SamplingSettings(num_frames=2), workers=1) as pool:
        results = list(pool.read_many(requests))
    assert len(results) == 10
    for result in results:
        kind = result.error.kind.value if result.error else None
        assert kind == expected[Path(result.request.path)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_stays_flat_over_many_opens(tmp_path: Path) -> None:
    good = [
        write_clip(tmp_path / "a.mp4", 40, options={"bf": "3", "g": "12"}),
        write_clip(tmp_path / "b.webm", 20, codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"}),
        write_clip(tmp_path / "c.avi", 20, codec="mpeg4"),
    ]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good[0].read_bytes()[:-1000])
    paths = [*good, cut, write_sound(tmp_path / "sound.mp4")]
    held = []
    for number in range(OPENS):
        path = paths[number % len(paths)]
        with nullcontext() if path in good else pytest.raises(VideoError):
            read_frames(path)
        if number in (100, OPENS - 1):
            held.append(resident_megabytes())
    assert held[1] - held[0] < 8


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
