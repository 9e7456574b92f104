"""Decoding processes that stay between tests: a start takes a third of a second, and hundreds of tests read videos."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from colbert_video.video.workers import pool
from colbert_video.video.workers.process import COMMAND, WorkerProcess, _Running, worker_environment

MAX_IDLE = 2


class IdleProcesses:
    """Started processes that no pool has; only the process that started them may use them."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._kept: list[tuple[dict[str, str], _Running]] = []

    def keep(self, running: _Running) -> bool:
        """Keep a process for the next pool, unless there are enough."""
        if os.getpid() != self._owner:
            return False
        with self._lock:
            if len(self._kept) >= MAX_IDLE or running.process.poll() is not None:
                return False
            self._kept.append((worker_environment(), running))
        return True

    def take(self) -> _Running | None:
        """One that runs in the environment of now; None if there is none."""
        if os.getpid() != self._owner:
            return None
        wanted = worker_environment()
        with self._lock:
            for row, (environment, running) in enumerate(self._kept):
                if environment == wanted and running.process.poll() is None:
                    del self._kept[row]
                    return running
        return None

    def close(self) -> None:
        for _, running in self._kept:
            running.stop()
        self._kept.clear()


class WarmWorker(WorkerProcess):
    """Starts with a process that another pool left, and leaves its own if that is not in the middle of a file."""

    idle: IdleProcesses

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._reading = False

    def kill(self) -> None:
        with self._lock:
            running = self._running
            if running is not None and self.command == COMMAND and not self._reading and self.idle.keep(running):
                self._running = None
        super().kill()

    def _start(self) -> None:
        with self._lock:
            if self.command == COMMAND and not self._closed:
                self._running = self.idle.take()
        if self._running is None:
            super()._start()

    def _ask(self, *given: Any) -> Any:
        with self._lock:
            self._reading = True
        answer = super()._ask(*given)
        self._reading = False  # after an error the process is not at the start of an answer
        return answer


@contextmanager
def warm_workers() -> Iterator[None]:
    """Have the pools of this process share their processes."""
    WarmWorker.idle = IdleProcesses()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "WorkerProcess", WarmWorker)
        yield
    WarmWorker.idle.close()
