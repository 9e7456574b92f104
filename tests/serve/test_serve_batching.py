"""Texts of many requests encoded together, searches in threads, and an event loop that never waits for either."""

import asyncio
import threading
import time
from typing import Any

import pytest
import torch

from colbert_video.errors import SettingsError
from colbert_video.model.tokens import QueryTokens
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.work import QueryEncoder, WorkPool


class FakeModel:
    """Encodes a text as its length; counts what it is asked; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.asked = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def encode_queries(self, texts: list[str]) -> QueryTokens:
        self.batches.append(texts)
        self.asked.set()
        self.go.wait(30)
        if "bad" in texts:
            raise SettingsError("a bad query")
        tokens = torch.tensor([[[float(len(text))]] for text in texts])
        return QueryTokens(
            tokens, torch.ones(len(texts), 1, dtype=torch.bool), torch.zeros(len(texts), dtype=torch.long)
        )


def encoder(**settings: Any) -> QueryEncoder:
    return QueryEncoder(**({"batch": 4, "wait": 0.02, "waiting": 8, "cached": 3} | settings))


def run(scenario: Any, **settings: Any) -> None:
    async def whole() -> None:
        made = encoder(**settings)
        made.start()
        try:
            await asyncio.wait_for(scenario(made), 60)
        finally:
            await made.close()

    asyncio.run(whole())


async def lengths(made: QueryEncoder, model: FakeModel, texts: list[str]) -> list[float]:
    found = await asyncio.gather(*(made.encode(model, text) for text in texts))
    return [float(tokens[0, 0]) for tokens in found]


def test_texts_of_one_moment_are_encoded_together() -> None:
    model = FakeModel()
    sizes: list[int] = []

    async def scenario(made: QueryEncoder) -> None:
        texts = ["a", "bb", "ccc", "bb", "dddd", "eeeee"]
        assert await lengths(made, model, texts) == [1, 2, 3, 2, 4, 5]

    run(scenario, observe=sizes.append)
    assert model.batches == [["a", "bb", "ccc"], ["dddd", "eeeee"]]  # four places, one of them a repeat
    assert sizes == [4, 2]


def test_the_last_texts_are_remembered() -> None:
    model, other = FakeModel(), FakeModel()

    async def scenario(made: QueryEncoder) -> None:
        for text in ("a", "bb", "ccc", "a", "dddd", "bb"):
            await made.encode(model, text)
        assert [batch[0] for batch in model.batches] == ["a", "bb", "ccc", "dddd", "bb"]
        assert (made.hits, made.misses) == (1, 5)
        await made.encode(other, "bb")
        assert other.batches == [["bb"]]

    run(scenario, wait=0.0001)


def test_each_text_gets_its_own_error() -> None:
    async def scenario(made: QueryEncoder) -> None:
        model = FakeModel()
        found = await asyncio.gather(
            *(made.encode(model, text) for text in ("a", "bad", "ccc")), return_exceptions=True
        )
        assert float(found[0][0, 0]) == 1  # type: ignore[index]
        assert isinstance(found[1], SettingsError)
        assert float(found[2][0, 0]) == 3  # type: ignore[index]
        assert await lengths(made, model, ["eeeee"]) == [5]

    run(scenario)


def test_more_texts_than_fit_are_sent_away() -> None:
    model = FakeModel()
    model.go.clear()

    async def scenario(made: QueryEncoder) -> None:
        first = asyncio.ensure_future(made.encode(model, "first"))
        assert await asyncio.to_thread(model.asked.wait, 30)
        waiting = [asyncio.ensure_future(made.encode(model, f"text {n}")) for n in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="too many queries are waiting") as refused:
            await made.encode(model, "one more")
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        waiting[0].cancel()  # a client that went away
        model.go.set()
        await asyncio.gather(first, *waiting[1:])

    run(scenario)


def test_those_who_wait_at_the_end_are_let_go() -> None:
    model = FakeModel()
    model.go.clear()

    async def whole() -> None:
        made = encoder()
        made.start()
        running = asyncio.ensure_future(made.encode(model, "running"))
        assert await asyncio.to_thread(model.asked.wait, 30)
        queued = asyncio.ensure_future(made.encode(model, "queued"))
        await asyncio.sleep(0)  # now it is in the queue
        model.go.set()
        await made.close()
        with pytest.raises(asyncio.CancelledError):
            await queued
        running.cancel()

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_the_event_loop_stays_awake_while_threads_work() -> None:
    """A heartbeat is never late by more than a fraction of what a search and an encoding take."""
    model = FakeModel()
    model.go.clear()
    late: list[float] = []

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            late.append(time.perf_counter() - before - 0.005)

    async def scenario(made: QueryEncoder) -> None:
        searches = WorkPool("searches", threads=2, waiting=20)
        beat = asyncio.ensure_future(heartbeat())
        encoded = asyncio.ensure_future(made.encode(model, "x"))
        await asyncio.gather(*(searches.run(time.sleep, 0.1) for _ in range(8)))
        model.go.set()
        await encoded
        beat.cancel()
        searches.close()

    run(scenario)
    assert len(late) > 20
    assert sorted(late)[int(len(late) * 0.9)] < 0.1


def test_searches_that_do_not_fit_are_sent_away() -> None:
    async def whole() -> None:
        pool = WorkPool("searches", threads=1, waiting=2)
        gate = threading.Event()
        running = [asyncio.ensure_future(pool.run(gate.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0)  # now they are in the pool
        assert pool.taken == 3
        with pytest.raises(ServiceError, match="too many searches are waiting"):
            await pool.run(gate.wait, 30)
        running[2].cancel()  # it has not begun: its slot is free again
        while pool.taken == 3:
            await asyncio.sleep(0)
        running[0].cancel()  # it runs: its thread, and so its slot, is taken until it ends
        with pytest.raises(asyncio.CancelledError):
            await running[0]
        assert pool.taken == 2
        gate.set()
        assert await running[1] is True
        assert await pool.run(lambda: 3) == 3
        pool.close()

    asyncio.run(asyncio.wait_for(whole(), 60))
