"""Reading many videos: processes, this process and the cache must agree."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from counting_clips import SAMPLING, frame_numbers, write_counting_clip

from colbert_video.errors import FailureKind, SettingsError
from colbert_video.training.data import reading
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.reading import FrameReader, ReadFrames
from colbert_video.video.workers.pool import FrameRequest

RANDOM = replace(SAMPLING, placement="random")


@pytest.fixture
def requests(tmp_path: Path) -> list[FrameRequest]:
    """Three clips and a file that is none."""
    paths = [write_counting_clip(tmp_path / f"{number}.mp4", frames=30) for number in range(3)]
    paths.append(tmp_path / "broken.mp4")
    paths[3].write_bytes(b"no video")
    return [FrameRequest(str(path), seed=number, tag=number) for number, path in enumerate(paths)]


def read(reader: FrameReader, requests: Sequence[FrameRequest]) -> dict[int, ReadFrames]:
    with reader:
        return {found.request.tag: found for found in reader.read_many(requests)}


@pytest.mark.parametrize("cached", [False, True])
def test_processes_read_what_this_process_reads(requests: list[FrameRequest], tmp_path: Path, cached: bool) -> None:
    caches = [FrameCache(tmp_path / name, 2**30) if cached else None for name in ("a", "b")]
    here = read(FrameReader(RANDOM, workers=0, cache=caches[0]), requests)
    there = read(FrameReader(RANDOM, workers=1, cache=caches[1]), requests)
    for tag in range(3):
        np.testing.assert_array_equal(here[tag].pixels, there[tag].pixels)
        assert len(here[tag].pixels) == 4
    for found in (here[3], there[3]):
        assert found.pixels is None
        assert found.error.kind is FailureKind.UNREADABLE
    assert len({tuple(frame_numbers(here[tag].pixels)) for tag in range(3)}) > 1  # each request has its own seed


def test_kept_videos_are_not_decoded_again(
    requests: list[FrameRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FrameCache(tmp_path / "cache", 2**30)
    first = read(FrameReader(RANDOM, workers=0, cache=cache), requests[:3])

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(reading, "read_frames", refuse)
    monkeypatch.setattr(reading, "FramePool", refuse)
    for workers in (0, 1):
        again = read(FrameReader(RANDOM, workers=workers, cache=cache), requests[:3])
        for tag in range(3):
            np.testing.assert_array_equal(again[tag].pixels, first[tag].pixels)


def test_what_is_read_does_not_depend_on_what_the_cache_keeps(requests: list[FrameRequest], tmp_path: Path) -> None:
    roomy = read(FrameReader(RANDOM, workers=0, cache=FrameCache(tmp_path / "a", 2**30)), requests[:3])
    full = read(FrameReader(RANDOM, workers=0, cache=FrameCache(tmp_path / "b", 1)), requests[:3])
    for tag in range(3):
        np.testing.assert_array_equal(roomy[tag].pixels, full[tag].pixels)


def test_negative_workers_are_refused() -> None:
    with pytest.raises(SettingsError, match="workers is -1; give 0 or more"):
        FrameReader(SAMPLING, workers=-1)
