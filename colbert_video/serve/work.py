"""Threads for what would block the event loop, with a bounded number of waiting calls."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from colbert_video.model.tokens import QueryTokens
from colbert_video.serve.http_errors import busy

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
        """Number of calls that run or wait."""
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
        # The call of a client that went away runs on: its slot is free only when the thread is.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._taken -= 1

    def close(self) -> None:
        """Wait for running calls; cancel waiting ones."""
        self._threads.shutdown(wait=True, cancel_futures=True)


@runtime_checkable
class TextEncoder(Protocol):
    """What encodes texts: `VideoColBERT`, or a stand-in."""

    def encode_queries(self, texts: list[str]) -> QueryTokens:
        """Return the tokens of each text."""
        ...


@dataclass
class _Waiting:
    """A text that a request waits for."""

    model: TextEncoder
    text: str
    tokens: "asyncio.Future[Tensor]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class QueryEncoder:
    """Collects texts for a few milliseconds and encodes them in one thread; remembers the last ones.

    While one batch is encoded the next one collects, so batches grow with the load by themselves.

    Args:
        batch: Most texts encoded at once.
        wait: Seconds that the first text of a batch waits for others.
        waiting: Most texts that wait.
        cached: Texts whose tokens are kept.
        observe: Called with the size of each batch.
    """

    def __init__(
        self, *, batch: int, wait: float, waiting: int, cached: int, observe: Callable[[int], None] = lambda size: None
    ) -> None:
        self._batch, self._wait, self._observe = batch, wait, observe
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(waiting)
        self._cache: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._cached = cached
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="serve-encoder")
        self._task: asyncio.Task[None] | None = None
        self.hits = self.misses = 0

    @property
    def waiting(self) -> int:
        """Number of texts not yet taken into a batch."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start to encode; within a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Wait for the batch that is being encoded; cancel what waits."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        while not self._queue.empty():
            self._queue.get_nowait().tokens.cancel()
        self._thread.shutdown(wait=True)

    async def encode(self, model: TextEncoder, text: str) -> Float[Tensor, "query_tokens dim"]:
        """Return the scored tokens of a query.

        Args:
            model: Encodes it.
            text: The query.

        Raises:
            ServiceError: 503, if too many texts are waiting.
            SettingsError: If the model does not take the text.
        """
        known = self._cache.get((model, text))
        if known is not None:
            self.hits += 1
            self._cache.move_to_end((model, text))
            return known
        self.misses += 1
        waiting = _Waiting(model, text)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise busy("queries") from error
        return await waiting.tokens

    def forget(self, model: TextEncoder) -> None:
        """Drop the tokens of a model that is no longer used."""
        for key in [key for key in self._cache if isinstance(key, tuple) and key[0] is model]:
            del self._cache[key]

    async def _run(self) -> None:
        while True:
            batch = await self._collect()
            self._observe(len(batch))
            for model in {id(one.model): one.model for one in batch}.values():
                await self._answer(model, [one for one in batch if one.model is model])

    async def _collect(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait
        while len(batch) < self._batch:
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), end - loop.time()))
            except asyncio.TimeoutError:
                break
        return batch

    async def _answer(self, model: TextEncoder, group: Sequence[_Waiting]) -> None:
        """Encode the texts of one model; if that fails, one by one, so that each gets its own error."""
        texts = list(dict.fromkeys(one.text for one in group))
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, _encode, model, texts)
        except Exception as error:  # whatever the encoder raises belongs to those who wait
            if len(texts) == 1:
                _fail(group, error)
                return
            for text in texts:
                await self._answer(model, [one for one in group if one.text == text])
            return
        for text, tokens in found.items():
            self._remember((model, text), tokens)
        for one in group:
            if not one.tokens.done():  # its request may have been given up
                one.tokens.set_result(found[one.text])

    def _remember(self, key: Hashable, tokens: Tensor) -> None:
        self._cache[key] = tokens
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)


def _encode(model: TextEncoder, texts: list[str]) -> dict[str, Tensor]:
    encoded = model.encode_queries(texts).to("cpu")
    return {text: encoded[row] for row, text in enumerate(texts)}  # of each, (query_tokens, dim)


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for one in group:
        if not one.tokens.done():
            one.tokens.set_exception(error)
