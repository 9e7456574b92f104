"""Work done in threads before its result is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
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
