"""Work in threads: results in order, errors where they belong, nothing read far ahead, nothing left running."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from training_fakes import training_batch

from colbert_video.base.threads import spread_in_order
from colbert_video.training.data.loader import TrainingBatch
from colbert_video.training.data.sending import sent_ahead
from colbert_video.training.data.threads_ahead import done_ahead


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_results_come_in_order(threads: int, count: int) -> None:
    gate = threading.Event()

    def slow_first(number: int) -> int:
        if number == 0 and threads > 1 and count > 1:
            gate.wait(10)  # a later one is done before
        gate.set()
        return -number

    assert list(spread_in_order(slow_first, range(count), threads=threads, ahead=2)) == [
        -number for number in range(count)
    ]
    assert list(done_ahead(lambda number: -number, range(count))) == [-number for number in range(count)]


def test_few_items_are_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = spread_in_order(lambda number: number, items(), threads=2, ahead=2)
    assert next(results) == 0
    assert len(read) <= 5
    ahead = done_ahead(lambda number: number, items(), ahead=2)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 5 + 5


@pytest.mark.parametrize("how", [done_ahead, lambda do, items: spread_in_order(do, items, threads=2, ahead=2)])
def test_an_error_comes_at_its_place(how: Any) -> None:
    def fails(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = how(fails, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_on_the_cpu_batches_are_those_of_the_loader_and_it_is_closed() -> None:
    closed = []
    batches = [training_batch(2, seed) for seed in range(3)]

    def loader() -> Iterator[TrainingBatch]:
        try:
            yield from batches
        finally:
            closed.append(True)

    given: Any = loader()
    with closing(sent_ahead(given, torch.device("cpu"))) as sent:
        assert next(sent) is batches[0]
    assert closed == [True]
