"""Killing a writer at any moment loses nothing that it acknowledged, and leaves nothing but whole commits.

Children that take random steps (index, add, remove, compact) are killed with SIGKILL at random moments. What is found
afterwards must be exactly what was acknowledged, or that and the step in flight; every file must be intact; and the
next writer must go on. The default run kills a few; `COLBERT_VIDEO_KILLS=200 pytest tests/durability/test_kills.py`
kills as many.
"""

import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from kill_worker import State, Step, after, change_without_end, live, preloaded
from operations import add_tokens, everything
from thorough import amount

from colbert_video.indexing.index.folder import is_index
from colbert_video.indexing.upkeep.verify import verify_index

KILLS = int(os.environ.get("COLBERT_VIDEO_KILLS", amount(3, thorough=20)))
LIVES = 4
"""Kills that one index survives before a new one is begun."""
SECONDS = 0.4
"""The longest life of a child: a few steps."""


def received(pipe: Connection) -> list[tuple[str, Step]]:
    """Everything that a dead child had sent."""
    messages: list[Any] = []
    try:
        while True:
            messages.append(pipe.recv())
    except EOFError:
        return messages


def killed_child(path: Path, state: State, seed: int, seconds: float) -> list[tuple[str, Step]]:
    """Let a child change an index for a while, kill it, and return what it said."""
    context = preloaded()
    pipe, end = context.Pipe(duplex=False)
    child = context.Process(target=change_without_end, args=(path, state, seed, end))
    child.start()
    end.close()
    assert pipe.poll(120), "the child did not begin"
    time.sleep(seconds)
    child.kill()
    child.join()
    assert child.exitcode == -9, "the child ended before it was killed"
    return received(pipe)


def possible(state: State, messages: list[tuple[str, Step]]) -> list[State]:
    """What may be live: all that was acknowledged, and that with the step in flight."""
    for word, step in messages:
        if word == "done":
            state = after(step, state)
    word, step = messages[-1]
    return [state, after(step, state)] if word == "begun" else [state]


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, record_property: Any) -> None:
    generator, acknowledged, in_flight = random.Random(0), 0, 0
    path, state = tmp_path / "i0", State()
    for number in range(1, KILLS + 1):
        messages = killed_child(path, state, number, generator.uniform(0, SECONDS))
        expected = possible(state, messages)
        state = live(path)
        assert state in expected, messages
        if is_index(path):
            assert verify_index(path).problems == ()
        acknowledged += sum(word == "done" for word, _ in messages)
        in_flight += len(expected) - 1
        if number % LIVES == 0:
            add_tokens(path, "z", seed=0, add=bool(state), overwrite=not state)
            assert set(everything(path)) == {*state, "z"}
            assert verify_index(path).leftovers == ()
            path, state = tmp_path / f"i{number}", State()
    record_property("steps acknowledged, killed in flight", (acknowledged, in_flight))
    assert in_flight >= KILLS // 2  # most kills hit a step
