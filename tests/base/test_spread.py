"""Work spread over threads: results in order, errors and interrupts at once, and how many threads there are."""

import os
import signal
import threading
import time

import pytest

from colbert_video.base import threads
from colbert_video.base.threads import available_cores, default_threads, spread


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_results_are_in_order(workers: int) -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.01 if number < 2 else 0)
        return number * number

    assert spread(slow_first, range(7), threads=workers) == [number * number for number in range(7)]
    assert spread(slow_first, [], threads=workers) == []


def test_as_many_calls_run_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=30)
    used = set(spread(lambda _: (together.wait(), threading.get_ident())[1], range(9), threads=3))
    assert len(used) == 3
    assert set(spread(lambda _: threading.get_ident(), range(9), threads=1)) == {threading.get_ident()}


def test_the_first_error_is_raised_and_what_has_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def fails(number: int) -> None:
        begun.append(number)
        time.sleep(0.005)
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        spread(fails, range(1000), threads=2)
    assert len(begun) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("colbert-video")]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends a signal as a terminal does")
def test_an_interrupt_ends_it_soon() -> None:
    begun: list[int] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it

    def slow(number: int) -> None:
        begun.append(number)
        if number == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.01)

    try:
        with pytest.raises(KeyboardInterrupt):
            spread(slow, range(3000), threads=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(begun) < 300
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("colbert-video")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 8), ("", 8), ("3", 3), (" 2 ", 2), ("4,2", 4), ("64", 8), ("0", 8), ("many", 8), ("²", 8)],
)
def test_omp_num_threads_is_a_limit(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: int) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert default_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_the_cores_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)
