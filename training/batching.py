"""Which rows meet in which batch: a fresh order every epoch, and who stands in for a row that cannot be read."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

ORDER, SUBSTITUTES, SAMPLING = range(3)
"""What a random number is for; keeps the streams of one (seed, epoch) apart."""


def plan_epoch(
    groups: Sequence[str | None], batch_size: int, *, seed: int, epoch: int, keep_groups: bool = False
) -> Int[np.ndarray, "batches batch_size"]:
    """Deal rows into full batches at random.

    Args:
        groups: The group of each row.
        batch_size: Rows of a batch.
        seed: The run's seed.
        epoch: Another epoch deals anew.
        keep_groups: Keep rows of one group in one batch; those of the last few batches may be parted where their
            numbers do not come out even.

    Returns:
        Row numbers; what does not fill a batch is left out until the next epoch.
    """
    rng = np.random.default_rng((seed, epoch, ORDER))
    order = rng.permutation(len(groups))
    if keep_groups:
        units = _units(order, groups)
        shuffled = [units[place] for place in rng.permutation(len(units))]  # large groups would come first
        order = np.array(_pack(shuffled, batch_size), dtype=np.int64)
    full = len(groups) // batch_size
    return order[: full * batch_size].reshape(full, batch_size)


def substitutes(
    batch: Int[np.ndarray, "batch_size"], position: int, rows: int, *, seed: int, epoch: int, number: int
) -> Int[np.ndarray, "candidates"]:
    """Rows that stand in for one place of a batch, in the order in which they are tried.

    They depend on nothing but the arguments: neither on when a video was found to be broken nor on which process
    reads it. Places of one batch try different rows first, so that no row comes twice where there are enough.

    Args:
        batch: The rows planned for the batch.
        position: The place in it.
        rows: How many rows there are.
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
    """The seed with which frames of a row are drawn."""
    return int(np.random.SeedSequence((seed, epoch, SAMPLING, row)).generate_state(1)[0])


def _units(order: Int[np.ndarray, "rows"], groups: Sequence[str | None]) -> list[list[int]]:
    """Rows of one group together, in the order of each group's first row."""
    units: dict[object, list[int]] = {}
    for row in order.tolist():
        group = groups[row]
        units.setdefault((row,) if group is None else group, []).append(row)
    return list(units.values())


def _pack(units: list[list[int]], batch_size: int) -> list[int]:
    """First fit: each unit joins the first open batch with room for it; what stays open comes last."""
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
