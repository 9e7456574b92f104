"""Threads for work that runs without Python's global lock, such as compiled kernels."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
LIMIT = "OMP_NUM_THREADS"
"""The variable by which people, schedulers and libraries say how many threads a process may compute with."""
ITEMS_AHEAD = 4
"""Items for each thread that run or wait."""


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return with how many threads to compute: one per core that this process may use, `OMP_NUM_THREADS` at most."""
    own = available_cores()
    first = os.environ.get(LIMIT, "").partition(",")[0].strip()  # "4,2" gives nested regions 2 threads
    limit = int(first) if first.isascii() and first.isdigit() else 0
    return min(own, limit) if limit else own


def spread(call: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> list[Result]:
    """Call a function with each item, several at a time, and return the results in order.

    The first error in the order of the items is raised, and an interrupt (Ctrl-C) at once; calls that have not begun are
    then dropped, and those that run are waited for.

    Args:
        call: The function.
        items: What it is called with; they are read one by one in this thread, a few ahead of the calls.
        threads: Calls at a time; with 1 they run in this thread.
    """
    return list(spread_in_order(call, items, threads=threads))


def spread_in_order(
    call: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int = ITEMS_AHEAD
) -> Iterator[Result]:
    """Yield the results of `spread` while later ones are computed, for each thread `ahead` of them at most."""
    if threads < 2:
        yield from map(call, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="colbert-video")
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(call, item))
            if len(running) == ahead * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
