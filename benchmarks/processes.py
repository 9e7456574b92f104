"""Measuring in processes of their own: orders go to them as lines of JSON, answers come back as such.

Only the standard library is used, so that a worker runs under any Python that has what it measures.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREADS, "1")
LAST_WORDS = 300
"""Characters of a dead process's log that are kept."""


class EndedError(RuntimeError):
    """A process ended instead of answering; the message says how."""


class WorkerProcess:
    """A process that carries out orders on one thread; what it prints goes to a log.

    Args:
        command: What to start.
        log: File for its errors and prints.
        environment: Variables besides those of this process.
    """

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **ONE_THREAD, **environment},
            )

    def ask(self, do: str, *, limit: float | None = None, **arguments: Any) -> Any:
        """Send an order and wait for the answer.

        Args:
            do: What to do.
            limit: Seconds to wait; None for as long as it takes.
            **arguments: Of the order.

        Raises:
            EndedError: If the process ended instead.
            TimeoutError: If the limit passed; the process is killed.
        """
        answer = b""
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            if limit is not None and not select.select([self._process.stdout], [], [], limit)[0]:
                self.kill()
                raise TimeoutError(f"no answer within {limit:g} seconds")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            code = self._process.wait()
            self.kill()
            words = self._log.read_text(encoding="utf-8", errors="replace").strip()[-LAST_WORDS:]
            raise EndedError(f"{do} ended with exit code {code}: {words}")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.communicate()


def carry_out(orders: Callable[[str], Callable[..., Any]]) -> None:
    """Answer orders until the input ends; what is printed meanwhile goes to the log.

    Args:
        orders: Gives the function for an order's name.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(orders(order.pop("do"))(**order)) + "\n")
        answers.flush()


def megabytes(kind: str) -> float | None:
    """Memory of this process from Linux's /proc: "VmRSS" now, "VmHWM" at its highest; None elsewhere.

    Unlike getrusage's, the highest is not inherited from the parent.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024
