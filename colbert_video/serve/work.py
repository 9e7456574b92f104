"""Threads for what would block the event loop, with a bounded number of waiting calls."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from colbert_video.serve.errors import busy

Result = TypeVar("Result")


class WorkPool:
    """Runs calls in a few threads.

    Args:
        name: What the calls are, in the plural, for errors and thread names.
        threads: Calls at once.
        waiting: Most calls that wait.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self.name = name
        self._most = threads + waiting
        self._taken = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"serve-{name}")

    @property
    def taken(self) -> int:
        """Calls that run or wait."""
        return self._taken

    async def run(self, call: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run a call in a thread.

        Raises:
            ServiceError: 503, if too many are waiting.
        """
        if self._taken >= self._most:
            raise busy(self.name)
        loop = asyncio.get_running_loop()
        future = self._threads.submit(partial(call, *arguments, **options))
        self._taken += 1
        # A caller that went away leaves its call running: its place is free only when the thread is.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._taken -= 1

    def close(self) -> None:
        """Wait for running calls; waiting ones are given up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
