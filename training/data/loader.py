"""Training batches: captions with newly sampled frames of their videos, the same in every run of one seed.

A batch depends on seed, epoch and batch number alone: not on the number of decoding or training processes, nor on what
was read before. So a run that is resumed in the middle of an epoch continues with the batches it would have seen.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from colbert_video.base.checks import whole_number
from colbert_video.errors import SettingsError, VideoError, shown
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import ManifestRow, list_some, missing_videos
from colbert_video.training.data.reading import FrameReader
from colbert_video.training.data.threads_ahead import done_ahead
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.pool import FrameRequest

logger = logging.getLogger(__name__)
VIDEOS_PER_ROUND = 128
"""Videos requested together, at least a batch: decoding processes idle only at the end of a round."""
BATCHES_AHEAD = 2
"""Batches read while the one before is trained on."""
ORDER, SUBSTITUTES, SAMPLING = range(3)
"""Purposes of random numbers; they separate the streams of one (seed, epoch)."""


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Captions and the frames of their videos, row by row."""

    pixels: UInt8[Tensor, "videos frames height width 3"]
    """RGB frames."""
    frame_mask: Bool[Tensor, "videos frames"]
    """True where a frame is real."""
    captions: list[str]
    video_ids: list[str]
    """Rows of one id show the same video."""

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True, eq=False)
class _Slot:
    """One row of a batch: the manifest row planned for it, then its substitutes."""

    batch: int
    position: int
    rows: Iterator[int]


class CaptionLoader:
    """Full batches of an epoch, in an order drawn from its seed.

    A video that cannot be read is reported once, as a warning and in `failures`. From then on, rows drawn from the seed
    replace its rows; they are the same in every run with the same broken videos.

    Args:
        rows: Captions and their videos.
        sampling: Number and form of the frames; one of each segment is drawn at random.
        batch_size: Rows of a batch, over all training processes.
        seed: Decides order and frames.
        workers: Decoding processes; None for one per core, 0 to decode in this process.
        cache: Keeps decoded frames.
        group_batches: True to keep rows of one group in one batch, as hard negatives of each other.
        random_shift: Largest shift of a clip's frames in pixels, drawn again in every epoch; see `shift_frames`.
        rank: Number of this training process, which gets its equal part of every batch.
        world_size: Number of training processes.
        missing: "refuse" manifests that name files which do not exist, or "report" these as broken videos.

    Raises:
        SettingsError: If a number is out of range, the data do not fill a batch, a group does not fit into one, or
            videos are missing.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        *,
        sampling: SamplingSettings,
        batch_size: int,
        seed: int,
        workers: int | None = None,
        cache: FrameCache | None = None,
        group_batches: bool = False,
        random_shift: int = 0,
        rank: int = 0,
        world_size: int = 1,
        missing: Literal["refuse", "report"] = "refuse",
    ) -> None:
        self.rows = list(rows)
        self.sampling = replace(sampling, placement="random", seed=seed)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._workers = workers
        self._cache = cache
        self._keep_groups = group_batches
        self._random_shift = random_shift
        _check_numbers(len(self.rows), batch_size, seed, rank, world_size)
        if whole_number("random_shift", random_shift) < 0:
            raise SettingsError(f"random_shift is {random_shift}; give 0 or more pixels.")
        _check_groups(self.rows if group_batches else [], batch_size)
        if missing == "refuse":
            _check_missing(self.rows)
        share = batch_size // world_size
        self._positions = range(rank * share, (rank + 1) * share)
        self._broken: dict[Path, VideoError] = {}

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.rows) // self.batch_size

    @property
    def left_out(self) -> int:
        """Rows that an epoch leaves out because they do not fill a batch; other rows in every epoch."""
        return len(self.rows) % self.batch_size

    @property
    def failures(self) -> list[VideoError]:
        """Errors of the videos that this process could not read so far."""
        return list(self._broken.values())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that `iterate` starts; from 0."""
        self.epoch = epoch

    def iterate(self, start_batch: int = 0) -> Generator[TrainingBatch, None, None]:
        """Yield this process's part of each batch of the epoch; the next ones are read in the background.

        Args:
            start_batch: First batch to read.

        Raises:
            SettingsError: If too few videos can be read to fill a batch.
        """
        stream = self._read_epoch(start_batch, self.epoch)
        with closing(stream):  # ends the decoding processes
            yield from done_ahead(lambda batch: batch, stream, ahead=BATCHES_AHEAD)

    def _read_epoch(self, start: int, epoch: int) -> Generator[TrainingBatch, None, None]:
        plan = plan_epoch(
            [row.group for row in self.rows],
            self.batch_size,
            seed=self.seed,
            epoch=epoch,
            keep_groups=self._keep_groups,
        )
        step = max(1, VIDEOS_PER_ROUND // len(self._positions))
        with FrameReader(self.sampling, workers=self._workers, cache=self._cache) as reader:
            for first in range(start, len(plan), step):
                numbers = range(first, min(first + step, len(plan)))
                slots = [slot for number in numbers for slot in self._slots(plan, number, epoch)]
                yield from self._read_round(reader, slots, epoch)

    def _slots(self, plan: Int[np.ndarray, "batches batch_size"], number: int, epoch: int) -> Iterator[_Slot]:
        for position in self._positions:
            yield _Slot(number, position, self._candidates(plan[number], number, position, epoch))

    def _candidates(
        self, batch: Int[np.ndarray, "batch_size"], number: int, position: int, epoch: int
    ) -> Iterator[int]:
        """Yield the planned row, then its substitutes, which are computed only if it fails."""
        yield int(batch[position])
        others = substitutes(batch, position, len(self.rows), seed=self.seed, epoch=epoch, number=number)
        yield from others.tolist()

    def _read_round(self, reader: FrameReader, slots: list[_Slot], epoch: int) -> Iterator[TrainingBatch]:
        """Read some batches; yield each when it and all before it are complete."""
        batches = {slot.batch: _PartBatch(len(self._positions)) for slot in slots}
        while slots:
            requests = [self._request(slot, epoch) for slot in slots]
            slots = []
            for reading in reader.read_many(requests):
                slot, row = reading.request.tag
                if reading.pixels is None:
                    self._leave_out(row, reading.error)
                    slots.append(slot)
                    continue
                down, right = self._shift(row, epoch)
                batches[slot.batch].put(slot.position - self._positions.start, row, reading.pixels, down, right)
                yield from self._complete(batches)

    def _complete(self, batches: "dict[int, _PartBatch]") -> Iterator[TrainingBatch]:
        while batches and next(iter(batches.values())).complete:
            yield batches.pop(next(iter(batches))).batch(self.rows)

    def _request(self, slot: _Slot, epoch: int) -> FrameRequest:
        row = next(row for row in slot.rows if self.rows[row].path not in self._broken)
        seed = sampling_seed(self.seed, epoch, row)
        return FrameRequest(str(self.rows[row].path), seed=seed, tag=(slot, row))

    def _leave_out(self, row: int, error: VideoError | None) -> None:
        path = self.rows[row].path
        if path in self._broken or error is None:
            return
        self._broken[path] = error
        logger.warning("left out of training: %s", error)
        readable = sum(row.path not in self._broken for row in self.rows)
        if readable < self.batch_size:
            raise SettingsError(
                f"only {readable} of {len(self.rows)} rows have a video that can be read, too few for a batch of "
                f"{self.batch_size}; the last error is {error}."
            )

    def _shift(self, row: int, epoch: int) -> tuple[int, int]:
        """Draw how far a clip is shifted in this epoch, down and to the right."""
        if self._random_shift == 0:
            return 0, 0
        rng = np.random.default_rng((sampling_seed(self.seed, epoch, row), self._random_shift))
        down, right = rng.integers(-self._random_shift, self._random_shift, 2, endpoint=True).tolist()
        return down, right


class _PartBatch:
    """A batch that fills up: each clip is copied once, to its place.

    Args:
        size: Rows of this process's part.
    """

    def __init__(self, size: int) -> None:
        self._rows: list[int | None] = [None] * size
        self._pixels: UInt8[np.ndarray, "videos frames height width 3"] | None = None  # made at the first clip

    @property
    def complete(self) -> bool:
        """True if every row has its clip."""
        return None not in self._rows

    def put(
        self, place: int, row: int, pixels: UInt8[np.ndarray, "frames height width 3"], down: int, right: int
    ) -> None:
        """Take the clip of a manifest row, shifted."""
        if self._pixels is None:
            self._pixels = _empty((len(self._rows), *pixels.shape))
        shift_frames(pixels, down, right, out=self._pixels[place])
        self._rows[place] = row

    def batch(self, rows: Sequence[ManifestRow]) -> TrainingBatch:
        """Return the complete batch."""
        own = [rows[row] for row in self._rows if row is not None]
        assert self._pixels is not None
        return TrainingBatch(
            pixels=torch.from_numpy(self._pixels),
            frame_mask=torch.ones(self._pixels.shape[:2], dtype=torch.bool, device="cpu"),  # short videos repeat frames
            captions=[row.caption for row in own],
            video_ids=[row.video for row in own],
        )


def _empty(shape: tuple[int, ...]) -> UInt8[np.ndarray, "videos frames height width 3"]:
    """Return memory for a batch; pinned, which a GPU copies by itself, where this process uses one."""
    if torch.cuda.is_initialized():
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return np.empty(shape, dtype=np.uint8)  # NumPy asks for large pages


def shift_frames(
    pixels: UInt8[np.ndarray, "frames height width 3"],
    down: int,
    right: int,
    *,
    out: UInt8[np.ndarray, "frames height width 3"] | None = None,
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Shift a clip's frames together and repeat the edge in the border (Kostrikov et al., ICLR 2021).

    Args:
        pixels: The frames.
        down: Pixels; negative values move the picture up.
        right: Pixels; negative values move it left.
        out: Where to write the result; None for a new array.
    """
    height, width = pixels.shape[1:3]
    out = np.empty_like(pixels) if out is None else out
    down, right = max(min(down, height - 1), 1 - height), max(min(right, width - 1), 1 - width)
    top, left = max(down, 0), max(right, 0)  # where the moved picture begins
    bottom, end = min(height, height + down), min(width, width + right)  # and ends
    out[:, top:bottom, left:end] = pixels[:, top - down : bottom - down, left - right : end - right]
    out[:, top:bottom, :left] = out[:, top:bottom, left : left + 1]
    out[:, top:bottom, end:] = out[:, top:bottom, end - 1 : end]
    out[:, :top] = out[:, top : top + 1]
    out[:, bottom:] = out[:, bottom - 1 : bottom]
    return out


def _check_numbers(rows: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
    for name, value in (("batch_size", batch_size), ("seed", seed), ("rank", rank), ("world_size", world_size)):
        whole_number(name, value)
    if batch_size < 2:
        raise SettingsError(
            f"batch_size is {batch_size}; a caption needs the video of another as a negative; give at least 2."
        )
    if batch_size > rows:
        raise SettingsError(f"batch_size is {batch_size} and there are {rows} rows; give a smaller batch or more data.")
    if world_size < 1 or not 0 <= rank < world_size:
        raise SettingsError(f"rank is {rank} and world_size {world_size}; ranks go from 0 to world_size - 1.")
    if batch_size % world_size:
        raise SettingsError(
            f"batch_size is {batch_size}, which {world_size} processes cannot share equally; give a multiple of it."
        )
    if seed < 0:
        raise SettingsError(f"seed is {seed}; give 0 or more.")


def _check_groups(rows: Sequence[ManifestRow], batch_size: int) -> None:
    sizes: dict[str, int] = {}
    for row in rows:
        if row.group is not None:
            sizes[row.group] = sizes.get(row.group, 0) + 1
    largest = max(sizes, key=lambda group: sizes[group], default=None)
    if largest is not None and sizes[largest] > batch_size:
        raise SettingsError(
            f"group {shown(largest)} has {sizes[largest]} rows and batch_size is {batch_size}; a group must fit into a "
            "batch."
        )


def _check_missing(rows: Sequence[ManifestRow]) -> None:
    missing = missing_videos(rows)
    if missing:
        raise SettingsError(
            f"videos of the manifest that do not exist: {list_some(missing)}. Paths are relative to the manifest's "
            "folder; correct them, or pass missing='report' to train without these videos."
        )


def plan_epoch(
    groups: Sequence[str | None], batch_size: int, *, seed: int, epoch: int, keep_groups: bool = False
) -> Int[np.ndarray, "batches batch_size"]:
    """Deal rows into full batches at random; rows that do not fill a batch are left out of this epoch.

    With `keep_groups`, rows of one group are in one batch; in the last few batches groups may be split where their sizes do
    not fit.

    Args:
        groups: The group of each row.
        batch_size: Rows of a batch.
        seed: The run's seed.
        epoch: Epoch, from 0; each has another order.
        keep_groups: True to keep rows of one group together.
    """
    rng = np.random.default_rng((seed, epoch, ORDER))
    order = rng.permutation(len(groups))
    if keep_groups:
        units = _units(order, groups)
        shuffled = [units[number] for number in rng.permutation(len(units))]  # large groups would come first
        order = np.array(_pack(shuffled, batch_size), dtype=np.int64)
    full = len(groups) // batch_size
    return order[: full * batch_size].reshape(full, batch_size)


def substitutes(
    batch: Int[np.ndarray, "batch_size"], position: int, rows: int, *, seed: int, epoch: int, number: int
) -> Int[np.ndarray, "candidates"]:
    """Return the rows that replace one row of a batch, in the order in which they are tried.

    They depend on nothing but the arguments: neither on when a video was found to be broken nor on which process
    reads it. Positions of one batch try different rows first, so that no row comes twice where there are enough.

    Args:
        batch: The rows planned for the batch.
        position: Position of the row to replace.
        rows: Number of all rows.
        seed: The run's seed.
        epoch: The epoch.
        number: The batch's number in the epoch.

    Returns:
        Every row but the planned one; those of the batch itself come last.
    """
    rng = np.random.default_rng((seed, epoch, SUBSTITUTES, number))
    others = rng.permutation(np.setdiff1d(np.arange(rows), batch))
    reserved = np.arange(len(others)) % len(batch) == position
    return np.concatenate([others[reserved], others[~reserved], np.delete(batch, position)])


def sampling_seed(seed: int, epoch: int, row: int) -> int:
    """Return the seed that draws the frames of a row."""
    return int(np.random.SeedSequence((seed, epoch, SAMPLING, row)).generate_state(1)[0])


def _units(order: Int[np.ndarray, "rows"], groups: Sequence[str | None]) -> list[list[int]]:
    """Join rows of one group, in the order of each group's first row."""
    units: dict[object, list[int]] = {}
    for row in order.tolist():
        group = groups[row]
        units.setdefault((row,) if group is None else group, []).append(row)
    return list(units.values())


def _pack(units: list[list[int]], batch_size: int) -> list[int]:
    """Pack by first fit: each unit joins the first open batch with room for it; batches that stay open come last."""
    full: list[int] = []
    open_batches: list[list[int]] = []
    for unit in units:
        batch = next((batch for batch in open_batches if len(batch) + len(unit) <= batch_size), None)
        if batch is None:
            batch = []
            open_batches.append(batch)
        batch += unit
        if len(batch) == batch_size:
            open_batches.remove(batch)
            full += batch
    return full + [row for batch in open_batches for row in batch]
