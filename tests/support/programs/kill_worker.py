"""What child processes do in tests of kills and of concurrency: change an index without end, or read it without end."""

import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from operations import QUERY, add_tokens, everything

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError

IDS = "abcdefgh"
Step = tuple[str, list[str], int]
"""Kind, ids, and a number that the metadata of its videos carries."""
State = dict[str, int]
"""The number of each live video."""


def preloaded() -> ForkServerContext:
    """Starts processes that have imported the library already."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs the forkserver of POSIX systems")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kill_worker"])
    with pytest.MonkeyPatch.context() as patch:  # the server finds what it loads by the environment alone
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


def after(step: Step, state: State) -> State:
    """What is live once a step is done."""
    kind, ids, number = step
    if kind == "remove":
        return {name: seed for name, seed in state.items() if name not in ids}
    if kind == "index":
        return dict.fromkeys(ids, number)
    return {**state, **dict.fromkeys(ids, number)}


def take(step: Step, path: Path) -> None:
    """Take one step on the index."""
    kind, ids, number = step
    if kind == "index":
        add_tokens(path, ids, seed=number, add=False, overwrite=True)
    elif kind == "add":
        add_tokens(path, ids, seed=number)
    elif kind == "remove":
        Indexer(path).remove(ids)
    else:
        Indexer(path).compact(retrain="stored" if kind == "retrain" else None)


def next_step(state: State, generator: random.Random, number: int) -> Step:
    """A random step; the first one makes the index."""
    if not state:
        return "index", generator.sample(IDS, 3), number
    kind = generator.choices(["add", "remove", "compact", "retrain", "index"], [5, 2, 3, 1, 1])[0]
    if kind in ("compact", "retrain"):
        return kind, [], number
    if kind == "remove":
        return kind, generator.sample(sorted(state), min(len(state), generator.randint(1, 2))), number
    return kind, generator.sample(IDS, generator.randint(1, 3)), number


def change_without_end(path: Path, state: State, seed: int, pipe: Connection) -> None:
    """Take random steps, announcing each and acknowledging each, until killed."""
    torch.set_num_threads(1)
    generator = random.Random(seed)
    for count in range(1000):
        step = next_step(state, generator, seed * 1000 + count)
        pipe.send(("begun", step))
        take(step, path)
        pipe.send(("done", step))
        state = after(step, state)


def live(path: Path) -> State:
    """What can be found in an index, or nothing where none was finished."""
    try:
        return {name: metadata["seed"] for name, (*_, metadata) in everything(path).items()}
    except IndexFolderError as error:
        if "there is no index" in str(error) or "is not finished" in str(error):
            return {}
        raise


def read_without_end(path: Path, pipe: Connection) -> None:
    """Open the index again and again, and refresh one searcher, until told to stop; report what was seen."""
    torch.set_num_threads(1)
    seen: list[State] = []
    try:
        with Searcher(path) as kept:
            pipe.send("ready")
            while not pipe.poll():
                seen.append(live(path))
                kept.refresh()
                seen.append({hit.id: hit.metadata["seed"] for hit in kept.search_tokens(QUERY, k=999)})
        pipe.send(seen)
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")


def try_to_write(path: Path, pipe: Connection) -> None:
    """Add a video; report how that ends."""
    pipe.send(_outcome(lambda: add_tokens(path, "z", seed=1)))


def _outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"
