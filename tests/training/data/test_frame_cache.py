"""The cache of decoded frames: what it gives equals what decoding gives, and it heals, shares and stays in bounds."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from counting_clips import SAMPLING, SIZE, frame_numbers, write_counting_clip

from colbert_video.errors import SettingsError
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings

LARGE = 2**30
FRAME_BYTES = SIZE * SIZE * 3 + 4
"""A frame and its checksum on disk."""
ENTRY = 12 * FRAME_BYTES
"""Three candidates of each of four segments."""
RANDOM = replace(SAMPLING, placement="random", seed=5)


def keep(cache: FrameCache, path: Path, sampling: SamplingSettings = SAMPLING) -> bool:
    return cache.store(path, sampling, read_frames(path, cache.dense(sampling)).pixels)


def entries(cache: FrameCache) -> list[Path]:
    return sorted(cache.folder.glob("*/*.frames"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_counting_clip(tmp_path / "clip.mp4", frames=50)


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache", LARGE)


@pytest.mark.parametrize("candidates", [1, 3, 5])
@pytest.mark.parametrize("frames", [1, 3, 12, 50])
def test_centre_frames_are_those_of_the_file(tmp_path: Path, frames: int, candidates: int) -> None:
    clip = write_counting_clip(tmp_path / "clip.mp4", frames=frames)
    cache = FrameCache(tmp_path / "cache", LARGE, frames_per_segment=candidates)
    assert cache.read(clip, SAMPLING) is None
    assert keep(cache, clip)
    np.testing.assert_array_equal(cache.read(clip, SAMPLING), read_frames(clip, SAMPLING).pixels)


def test_random_frames_vary_and_stay_in_their_segments(cache: FrameCache, clip: Path) -> None:
    keep(cache, clip)
    seen = set()
    for seed in range(30):
        numbers = frame_numbers(cache.read(clip, replace(RANDOM, seed=seed)))
        assert [int(number // 12.5) for number in numbers] == [0, 1, 2, 3]
        seen.update(numbers)
    assert len(seen) == 12  # every candidate comes up


def test_short_videos_are_sampled_as_if_they_were_decoded(cache: FrameCache, tmp_path: Path) -> None:
    """Where the dense stack holds every frame, not even random sampling differs."""
    clip = write_counting_clip(tmp_path / "short.mp4", frames=12)
    keep(cache, clip)
    for seed in range(10):
        asked = replace(RANDOM, seed=seed)
        np.testing.assert_array_equal(cache.read(clip, asked), read_frames(clip, asked).pixels)


def test_frames_chosen_before_and_after_storing_are_the_same(cache: FrameCache, clip: Path) -> None:
    stack = read_frames(clip, cache.dense(RANDOM)).pixels
    fresh = cache.choose(stack, RANDOM)
    cache.store(clip, RANDOM, stack)
    np.testing.assert_array_equal(cache.read(clip, RANDOM), fresh)


def test_another_file_or_geometry_is_another_entry(cache: FrameCache, clip: Path) -> None:
    keep(cache, clip)
    for other in ({"num_frames": 5}, {"width": 18}, {"interpolation": "bilinear"}, {"window": (0.0, 1.0)}):
        assert cache.read(clip, replace(SAMPLING, **other)) is None
    for same in ({"timeout": 5.0}, {"placement": "random", "seed": 1}):
        assert cache.read(clip, replace(SAMPLING, **same)) is not None
    status = clip.stat()
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.read(clip, SAMPLING) is None
    assert cache.read(clip.with_name("gone.mp4"), SAMPLING) is None


def test_another_cache_object_finds_the_entries(cache: FrameCache, clip: Path) -> None:
    keep(cache, clip)
    assert frame_numbers(FrameCache(cache.folder, LARGE).read(clip, SAMPLING)) == [6, 18, 31, 43]


def damage(entry: Path, how: str) -> None:
    content = bytearray(entry.read_bytes())
    if how == "flipped":
        content[5 * FRAME_BYTES - 1] ^= 1  # the last pixel of frame 4, the middle of the second segment
    elif how == "zeroed":
        content[: len(content)] = bytes(len(content))
    entry.write_bytes({"cut": content[:-1], "longer": content + b"x", "empty": b""}.get(how, bytes(content)))


@pytest.mark.parametrize("how", ["flipped", "zeroed", "cut", "longer", "empty"])
def test_damaged_entries_are_dropped(cache: FrameCache, clip: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    keep(cache, clip)
    damage(entries(cache)[0], how)
    assert cache.read(clip, SAMPLING) is None
    assert "damaged entry" in caplog.text
    assert entries(cache) == []
    assert keep(cache, clip)
    assert cache.read(clip, SAMPLING) is not None


def test_a_full_cache_keeps_what_this_run_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = [write_counting_clip(tmp_path / f"{number}.mp4") for number in range(3)]
    cache = FrameCache(tmp_path / "cache", 2 * ENTRY)
    assert [keep(cache, clip) for clip in clips] == [True, True, False]
    assert [cache.read(clip, SAMPLING) is not None for clip in clips] == [True, True, False]
    assert f"is full ({2 * ENTRY} bytes)" in caplog.text


def test_entries_of_earlier_runs_make_room_oldest_first(tmp_path: Path) -> None:
    clips = [write_counting_clip(tmp_path / f"{number}.mp4") for number in range(4)]
    earlier = FrameCache(tmp_path / "cache", 3 * ENTRY)
    for clip in clips[:3]:
        keep(earlier, clip)
    earlier.read(clips[0], SAMPLING)  # the oldest entry, but the last one used
    later = FrameCache(tmp_path / "cache", 3 * ENTRY)
    assert keep(later, clips[3])
    assert [later.read(clip, SAMPLING) is not None for clip in clips] == [True, False, True, True]


def test_the_limit_holds_whatever_is_stored(tmp_path: Path) -> None:
    for run in range(3):
        cache = FrameCache(tmp_path / "cache", 5 * ENTRY + 7)
        for number in range(7):
            keep(cache, write_counting_clip(tmp_path / f"{run}-{number}.mp4"))
            assert sum(path.stat().st_size for path in entries(cache)) <= 5 * ENTRY + 7
        assert len(entries(cache)) == 5


def test_what_died_unfinished_is_removed(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "cache" / "ab").mkdir(parents=True)
    fresh, old = (tmp_path / "cache" / "ab" / f"{name}.unfinished" for name in ("fresh", "old"))
    fresh.touch()
    old.touch()
    os.utime(old, (0, 0))
    keep(FrameCache(tmp_path / "cache", LARGE), clip)
    assert fresh.exists()
    assert not old.exists()


def test_a_disk_that_cannot_be_written_stops_storing_alone(
    cache: FrameCache, clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert not keep(cache, clip)
    assert "No space left on device" in caplog.text
    assert list(cache.folder.glob("*/*")) == []
    monkeypatch.undo()
    assert not keep(cache, clip)


def test_readers_and_writers_in_parallel(cache: FrameCache, tmp_path: Path) -> None:
    clips = [write_counting_clip(tmp_path / f"{number}.mp4", first=number) for number in range(4)]
    stacks = [read_frames(clip, cache.dense(SAMPLING)).pixels for clip in clips]
    wrong: list[int] = []

    def work() -> None:
        other = FrameCache(cache.folder, LARGE)
        for _ in range(20):
            for number, clip in enumerate(clips):
                other.store(clip, SAMPLING, stacks[number])
                found = other.read(clip, SAMPLING)
                if found is None or frame_numbers(found)[0] != 2 + number:
                    wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(entries(cache)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_bytes": 0}, "max_bytes is 0; the frame cache needs room"),
        ({"max_bytes": 1, "frames_per_segment": 2}, "frames_per_segment is 2; give an odd number"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FrameCache(tmp_path, **arguments)


def test_a_file_is_no_cache(clip: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be made: File exists"):
        FrameCache(clip, LARGE)


def test_entries_of_another_way_of_decoding_are_not_used(
    cache: FrameCache, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("colbert_video.training.data.frame_cache.DECODING_VERSION", 1)
        assert keep(cache, clip)
        assert cache.read(clip, SAMPLING) is not None
    assert cache.read(clip, SAMPLING) is None
