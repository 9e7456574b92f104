"""Epoch plans: full batches, groups that stay together, and substitutes that depend on nothing but their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.training.data.loader import plan_epoch, sampling_seed, substitutes


@st.composite
def grouped_rows(draw: st.DrawFn) -> tuple[list[str | None], int]:
    """Rows of which some come in groups of up to a batch."""
    batch_size = draw(st.integers(2, 9))
    sizes = draw(st.lists(st.integers(1, batch_size), min_size=1, max_size=25))
    groups: list[str | None] = []
    for number, size in enumerate(sizes):
        groups += [None] if size == 1 else [f"g{number}"] * size
    return groups, batch_size


@given(grouped_rows(), st.booleans(), st.integers(0, 99))
def test_an_epoch_deals_every_row_at_most_once_into_full_batches(
    rows: tuple[list[str | None], int], keep_groups: bool, seed: int
) -> None:
    groups, batch_size = rows
    plan = plan_epoch(groups, batch_size, seed=seed, epoch=3, keep_groups=keep_groups)
    assert plan.shape == (len(groups) // batch_size, batch_size)
    assert len(set(plan.flatten().tolist())) == plan.size
    again = plan_epoch(groups, batch_size, seed=seed, epoch=3, keep_groups=keep_groups)
    assert np.array_equal(plan, again)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 8), st.integers(0, 99))
def test_groups_stay_in_one_batch(pairs: int, singles: int, half: int, seed: int) -> None:
    groups = [f"p{number // 2}" for number in range(2 * pairs)] + [None] * singles
    plan = plan_epoch(groups, 2 * half, seed=seed, epoch=0, keep_groups=True)
    home = {int(row): number for number, batch in enumerate(plan) for row in batch}
    parted = sum(home.get(2 * pair) != home.get(2 * pair + 1) for pair in range(pairs))
    assert parted <= 1 + half  # those among the last rows that fill no batch


def test_rows_of_a_group_lie_apart_unless_asked_for() -> None:
    groups = [f"p{number // 2}" for number in range(400)]
    plan = plan_epoch(groups, 8, seed=0, epoch=0)
    home = {int(row): number for number, batch in enumerate(plan) for row in batch}
    assert sum(home[2 * pair] == home[2 * pair + 1] for pair in range(200)) < 20


def test_epochs_and_seeds_differ() -> None:
    plans = [plan_epoch([None] * 64, 8, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(plan.flatten().tolist()) for plan in plans}) == 4


def test_all_rows_take_turns_at_being_left_out() -> None:
    left_out = [
        set(range(10)) - set(plan_epoch([None] * 10, 4, seed=0, epoch=epoch).flatten().tolist()) for epoch in range(40)
    ]
    assert set.union(*left_out) == set(range(10))


@given(st.integers(2, 8), st.integers(8, 40), st.integers(0, 99))
def test_substitutes_are_all_other_rows_and_places_do_not_compete(batch_size: int, rows: int, seed: int) -> None:
    batch = np.random.default_rng(seed).permutation(rows)[:batch_size]
    chosen = [
        substitutes(batch, position, rows, seed=seed, epoch=1, number=2).tolist() for position in range(batch_size)
    ]
    for position, candidates in enumerate(chosen):
        assert sorted([*candidates, int(batch[position])]) == list(range(rows))
        outside = rows - batch_size
        assert set(candidates[:outside]).isdisjoint(batch.tolist())
    if rows >= 2 * batch_size:
        assert len({candidates[0] for candidates in chosen}) == batch_size


@pytest.mark.parametrize("other", [(1, 2, 3), (0, 3, 3), (0, 2, 4)])
def test_sampling_seeds_differ_by_seed_epoch_and_row(other: tuple[int, int, int]) -> None:
    assert sampling_seed(0, 2, 3) == sampling_seed(0, 2, 3)
    assert sampling_seed(0, 2, 3) != sampling_seed(*other)


def test_large_groups_are_spread_over_the_epoch() -> None:
    groups = [f"group {row // 4}" if row < 400 else None for row in range(800)]  # 100 groups of 4, 400 single rows
    shares = []
    for epoch in range(20):
        plan = plan_epoch(groups, 20, seed=0, epoch=epoch, keep_groups=True)
        shares.append((plan[: len(plan) // 2] < 400).mean())
    assert 0.45 < np.mean(shares) < 0.55  # rows of groups in the first half of an epoch
