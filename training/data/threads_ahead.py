"""Work done in threads before its result is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def done_ahead(do: Callable[[Given], Made], items: Iterable[Given], *, ahead: int = 1) -> Iterator[Made]:
    """Yield what a function makes of each item, in order; a thread makes the next ones meanwhile, and reads the items.

    Args:
        do: Called in the thread.
        items: Read in the thread.
        ahead: How many are made before they are asked for.
    """
    source = iter(items)
    ended = object()

    def make() -> Any:
        item: Any = next(source, ended)
        return ended if item is ended else do(item)

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        futures = deque(thread.submit(make) for _ in range(ahead))
        try:
            while (made := futures.popleft().result()) is not ended:
                futures.append(thread.submit(make))
                yield made
        finally:
            wait([future for future in futures if not future.cancel()])  # nobody reads the items any more


def done_together(do: Callable[[Given], Made], items: Iterable[Given], threads: int) -> Iterator[Made]:
    """Yield what a function makes of each item, in order, computed by a few threads and few items ahead of the reader.

    Args:
        do: Called in threads; gains where it waits for disks or lets other threads run.
        items: Read here.
        threads: How many; with one, nothing is computed ahead.
    """
    if threads == 1:
        yield from map(do, items)
        return
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="together") as pool:
        futures = deque(pool.submit(do, item) for item in islice(source, 2 * threads))
        try:
            while futures:
                made = futures.popleft().result()
                futures.extend(pool.submit(do, item) for item in islice(source, 1))
                yield made
        finally:
            for future in futures:
                future.cancel()
