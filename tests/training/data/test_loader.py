"""Training batches: the same whoever reads them, fresh every epoch, and undeterred by broken videos."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_clips import SAMPLING, frame_numbers, write_counting_clip, write_manifest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import FailureKind, SettingsError
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.loader import CaptionLoader, TrainingBatch, shift_frames
from colbert_video.training.data.manifest import ManifestRow
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SampledFrames, SamplingSettings

VIDEOS = 10


def dataset(folder: Path, broken: tuple[int, ...] = ()) -> list[ManifestRow]:
    """One caption for each of ten clips, which come in pairs; frame numbers tell the clips apart."""
    for number in range(VIDEOS):
        path = folder / f"{number}.mp4"
        if number in broken:
            path.write_bytes(b"no video at all")
        else:
            write_counting_clip(path, frames=32, first=number)
    return write_manifest(
        folder,
        (
            {"video": f"{number}.mp4", "caption": f"clip {number}", "split": "train", "group": f"g{number // 2}"}
            for number in range(VIDEOS)
        ),
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[ManifestRow]:
    return dataset(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def broken_rows(tmp_path_factory: pytest.TempPathFactory) -> list[ManifestRow]:
    return dataset(tmp_path_factory.mktemp("broken"), broken=(2, 3, 7))


def load(rows: list[ManifestRow], **settings: Any) -> CaptionLoader:
    return CaptionLoader(rows, sampling=SAMPLING, **{"batch_size": 4, "seed": 0, "workers": 0, **settings})


def epoch(loader: CaptionLoader, number: int = 0, start: int = 0) -> list[TrainingBatch]:
    loader.set_epoch(number)
    return list(loader.iterate(start))


def content(batches: list[TrainingBatch]) -> list[tuple[str, str, list[int]]]:
    """Video, caption and frames of every row."""
    return [
        (video, caption, frame_numbers(pixels.numpy()))
        for batch in batches
        for video, caption, pixels in zip(batch.video_ids, batch.captions, batch.pixels, strict=True)
    ]


def test_a_batch_holds_captions_with_frames_of_their_videos(rows: list[ManifestRow]) -> None:
    batches = epoch(load(rows))
    assert len(batches) == len(load(rows)) == 2
    assert load(rows).left_out == 2
    for batch in batches:
        assert len(batch) == 4
        assert batch.pixels.dtype == torch.uint8
        assert batch.pixels.shape == (4, 4, 16, 16, 3)
        assert batch.frame_mask.shape == (4, 4)
        assert batch.frame_mask.all()
    for video, caption, numbers in content(batches):
        assert caption == f"clip {video.removesuffix('.mp4')}"
        own = [number - int(video.removesuffix(".mp4")) for number in numbers]
        assert [frame // 8 for frame in own] == [0, 1, 2, 3]  # one of each segment
    assert len({video for video, _, _ in content(batches)}) == 8


def test_epochs_differ_in_order_and_frames_and_seeds_too(rows: list[ManifestRow]) -> None:
    loader = load(rows)
    first, second, again = (content(epoch(loader, number)) for number in (0, 1, 0))
    assert first == again
    assert [video for video, _, _ in first] != [video for video, _, _ in second]
    frames = [{video: numbers for video, _, numbers in rows} for rows in (first, second)]
    assert any(frames[0][video] != frames[1][video] for video in frames[0].keys() & frames[1].keys())
    assert content(epoch(load(rows, seed=1))) != first


@pytest.mark.parametrize("fixture", ["rows", "broken_rows"])
def test_worker_processes_change_nothing(fixture: str, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(fixture)
    assert content(epoch(load(rows, workers=2), 1)) == content(epoch(load(rows), 1))


@pytest.mark.parametrize("fixture", ["rows", "broken_rows"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(fixture: str, world_size: int, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(fixture)
    whole = epoch(load(rows))
    parts = [epoch(load(rows, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        joined = [row for part in parts for row in content([part[number]])]
        assert joined == content([batch])


@pytest.mark.parametrize("fixture", ["rows", "broken_rows"])
def test_a_resumed_epoch_goes_on_with_the_batches_it_would_have_seen(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    rows = request.getfixturevalue(fixture)
    loader = load(rows, batch_size=2)
    seen = epoch(loader, 0) + epoch(loader, 1)
    assert content(epoch(load(rows, batch_size=2), 1, start=3)) == content(seen[5 + 3 :])
    assert epoch(load(rows, batch_size=2), 1, start=5) == []


def test_the_cache_replaces_decoding_in_later_epochs(
    rows: list[ManifestRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FrameCache(tmp_path / "cache", 2**30)
    loader = load(rows, cache=cache)
    decoded = [content(epoch(loader, number)) for number in range(4)]  # every video has had its turn by then
    monkeypatch.setattr("colbert_video.training.data.reading.read_frames", None)
    assert [content(epoch(loader, number)) for number in range(4)] == decoded
    assert decoded[0] != decoded[1]


def test_clips_are_shifted_anew_in_every_epoch(rows: list[ManifestRow], monkeypatch: pytest.MonkeyPatch) -> None:
    shifts: list[tuple[int, int]] = []

    def recorded(pixels: np.ndarray, down: int, right: int, *, out: np.ndarray) -> np.ndarray:
        shifts.append((down, right))
        return pixels

    monkeypatch.setattr("colbert_video.training.data.loader.shift_frames", recorded)
    for number in (0, 1, 1):
        epoch(load(rows, batch_size=5, random_shift=2), number)
    first, second, again = shifts[:10], shifts[10:20], shifts[20:]
    assert second == again
    assert first != second
    assert {amount for shift in shifts for amount in shift} == {-2, -1, 0, 1, 2}


def test_shifted_frames_repeat_the_edge() -> None:
    pixels = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
    assert shift_frames(pixels, 1, 0)[0, :, :, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert shift_frames(pixels, 0, -2)[0, :, :, 0].tolist() == [[2, 2, 2], [5, 5, 5], [8, 8, 8]]
    assert (shift_frames(pixels, 0, 0) == pixels).all()


@given(height=st.integers(1, 6), width=st.integers(1, 6), down=st.integers(-8, 8), right=st.integers(-8, 8))
def test_shifts_of_any_length_take_the_nearest_pixel(height: int, width: int, down: int, right: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, height, width, 3), dtype=np.uint8)
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    assert (shift_frames(pixels, down, right) == pixels[:, rows[:, None], columns]).all()


def test_groups_meet_in_one_batch(rows: list[ManifestRow]) -> None:
    for number in range(3):
        for batch in epoch(load(rows, group_batches=True), number):
            videos = {int(video.removesuffix(".mp4")) for video in batch.video_ids}
            assert {video ^ 1 for video in videos} == videos


def test_broken_videos_are_reported_once_and_replaced(
    broken_rows: list[ManifestRow], caplog: pytest.LogCaptureFixture
) -> None:
    loader = load(broken_rows)
    for number in range(4):
        batches = epoch(loader, number)
        assert len(batches) == 2
        assert all(len(set(batch.video_ids)) == 4 for batch in batches)
        assert {"2.mp4", "3.mp4", "7.mp4"}.isdisjoint(video for batch in batches for video in batch.video_ids)
    assert sorted(Path(error.path).name for error in loader.failures) == ["2.mp4", "3.mp4", "7.mp4"]
    assert {error.kind for error in loader.failures} == {FailureKind.UNREADABLE}
    assert len([record for record in caplog.records if "left out of training" in record.message]) == 3


def test_broken_videos_are_not_opened_again(broken_rows: list[ManifestRow], monkeypatch: pytest.MonkeyPatch) -> None:
    loader = load(broken_rows)
    for number in range(4):
        epoch(loader, number)
    opened: list[str] = []

    def read(path: str, settings: SamplingSettings) -> SampledFrames:
        opened.append(Path(path).name)
        return read_frames(path, settings)

    monkeypatch.setattr("colbert_video.training.data.reading.read_frames", read)
    epoch(loader, 4)
    assert len(opened) == 8
    assert {"2.mp4", "3.mp4", "7.mp4"}.isdisjoint(opened)


def test_batches_do_not_depend_on_when_a_video_is_found_broken(broken_rows: list[ManifestRow]) -> None:
    experienced = load(broken_rows)
    for number in range(3):
        epoch(experienced, number)
    assert len(experienced.failures) == 3
    assert content(epoch(experienced, 3)) == content(epoch(load(broken_rows), 3))


def test_too_few_readable_videos_stop_training(tmp_path: Path) -> None:
    rows = dataset(tmp_path, broken=tuple(range(3, VIDEOS)))
    with pytest.raises(
        SettingsError, match="only 3 of 10 rows have a video that can be read, too few for a batch of 4"
    ):
        epoch(load(rows))


def test_missing_videos_are_refused_or_reported(rows: list[ManifestRow], tmp_path: Path) -> None:
    gone = ManifestRow("gone.mp4", tmp_path / "gone.mp4", "a clip", "train")
    with pytest.raises(
        SettingsError, match=r"videos of the manifest that do not exist: gone\.mp4\. Paths are relative"
    ):
        load([*rows, gone])
    loader = load([*rows, gone], missing="report")
    for number in range(6):
        epoch(loader, number)
    assert [error.kind for error in loader.failures] == [FailureKind.MISSING]


def test_leaving_an_epoch_early_ends_its_processes(rows: list[ManifestRow]) -> None:
    loader = load(rows, workers=1, batch_size=2)
    batches = loader.iterate()
    next(batches)
    batches.close()
    assert len(epoch(loader)) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1; a caption needs the video of another as a negative"),
        ({"batch_size": 11}, "batch_size is 11 and there are 10 rows"),
        ({"batch_size": 4, "world_size": 3}, "batch_size is 4, which 3 processes cannot share equally"),
        ({"rank": 2, "world_size": 2}, "rank is 2 and world_size 2"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"random_shift": -1}, "random_shift is -1; give 0 or more"),
    ],
)
def test_bad_settings_are_refused(rows: list[ManifestRow], settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(rows, **settings)


def test_groups_larger_than_a_batch_are_refused(rows: list[ManifestRow]) -> None:
    crowd = [ManifestRow(row.video, row.path, row.caption, row.split, "crowd") for row in rows]
    with pytest.raises(SettingsError, match="group 'crowd' has 10 rows and batch_size is 4"):
        load(crowd, group_batches=True)
    assert len(epoch(load(crowd))) == 2
