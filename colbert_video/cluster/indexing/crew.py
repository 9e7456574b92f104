"""Workers of a cluster, and the jobs that they take.

Ray's own pipelines try a job that kills its worker again without end, or drop the whole block that it was in. Here a job
is given to one worker at a time, and ends once: as a result, as an error, or as lost with its worker. The caller decides
what follows. A worker that dies, or stands still, is replaced.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from colbert_video.cluster.session import Session
from colbert_video.errors import ClusterError

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""Longest wait for a result before workers are checked."""
PROGRESS_SECONDS = 10.0
"""From one question for a worker's progress to the next."""
START_SECONDS = 600.0
"""Until one worker must have started, its model loaded."""
START_TRIES = 3
"""Starts of a worker that fail before it is given up."""


@dataclass(frozen=True)
class Job:
    """A call of a worker's method."""

    method: str
    arguments: tuple[Any, ...]
    """Ray resolves object references among them."""
    tag: Any = None
    """Anything of the caller's."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    job: Job
    value: Any = None
    """What the method returned."""
    error: Exception | None = None
    """What it raised."""
    lost: str | None = None
    """Why its worker was lost, if that ended it."""


@dataclass(eq=False)
class _Worker:
    """A worker, its job, and what was last heard of it."""

    actor: Any
    starts: int
    job: Job | None = None
    started: bool = False
    call: Any = None
    """Reference to the result of its job; before it has started, to that of its start."""
    question: Any = None
    """Reference to its answer about its progress."""
    asked: float = 0.0
    done: int = -1
    moved: float = field(default_factory=time.monotonic)


class Crew:
    """Workers of one kind.

    Args:
        session: The cluster.
        actor: The class of the workers, as `ray.remote` gives it, with the resources that each takes; it has the methods
            `ready` and `progress`.
        arguments: What a worker is made with.
        count: How many workers.
        patience: Seconds without progress after which a worker is taken for stuck.
    """

    def __init__(
        self, session: Session, actor: Any, arguments: tuple[Any, ...], *, count: int, patience: float
    ) -> None:
        self._ray, self._actor, self._arguments = session.ray, actor, arguments
        self._patience = patience
        self._jobs: deque[Job] = deque()
        self._trouble = ""
        self._since = time.monotonic()
        self._workers = [self._start() for _ in range(count)]
        self.losses = 0

    def give(self, *jobs: Job) -> None:
        """Put jobs at the end of the queue."""
        self._jobs += jobs

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcomes of all jobs; the caller may give more jobs meanwhile.

        Raises:
            ClusterError: If no worker can be started.
        """
        while self._jobs or any(worker.job for worker in self._workers):
            self._check_standstill()
            for worker in self._workers:
                if worker.started and worker.job is None and self._jobs:
                    self._hand_over(worker, self._jobs.popleft())
            calls = {worker.call: worker for worker in self._workers if worker.call is not None}
            ready, _ = self._ray.wait(list(calls), num_returns=1, timeout=WAIT_SECONDS)
            for call in ready:
                yield from self._take(calls[call])
            yield from self._replace_stuck()

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []

    def _start(self, starts: int = 1) -> _Worker:
        actor = self._actor.remote(*self._arguments)
        return _Worker(actor, starts, call=actor.ready.remote())

    def _hand_over(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.moved, worker.asked = job, time.monotonic(), time.monotonic()
        worker.call = getattr(worker.actor, job.method).remote(*job.arguments)

    def _take(self, worker: _Worker) -> Iterator[Outcome]:
        """Take the result of a worker's call: of its job, or of its start."""
        job, call = worker.job, worker.call
        worker.job = worker.call = None
        try:
            value = self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            yield from self._replace(worker, job, _reason(error))
        except self._ray.exceptions.RayTaskError as error:
            if job is not None:
                yield Outcome(job, error=_cause(error))
        except self._ray.exceptions.RayError as error:  # the result was lost with the machine that held it
            yield from self._replace(worker, job, _reason(error))
        else:
            worker.started = True
            self._since = time.monotonic()
            if job is not None:
                yield Outcome(job, value)

    def _replace(self, worker: _Worker, job: Job | None, reason: str) -> Iterator[Outcome]:
        """Start another worker for one that was lost, unless starting failed again and again."""
        self._trouble = reason
        self._ray.kill(worker.actor)  # it may only be out of reach, and keep its cores
        self._workers.remove(worker)
        if worker.started or worker.starts < START_TRIES:
            self._workers.append(self._start(1 if worker.started else worker.starts + 1))
        if job is not None:
            self.losses += 1
            logger.warning("a worker was lost: %s", reason)
            yield Outcome(job, lost=reason)

    def _replace_stuck(self) -> Iterator[Outcome]:
        """Ask workers for their progress, and replace those that made none for too long."""
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.job is not None]:
            if worker.question is not None and self._ray.wait([worker.question], timeout=0)[0]:
                self._note_progress(worker, now)
            if worker.question is None and now - worker.asked > PROGRESS_SECONDS:
                worker.question, worker.asked = worker.actor.progress.remote(), now
            if now - worker.moved > self._patience:
                job, worker.job, worker.call = worker.job, None, None
                yield from self._replace(worker, job, f"no progress within {self._patience:g} seconds")

    def _note_progress(self, worker: _Worker, now: float) -> None:
        question, worker.question = worker.question, None
        try:
            done = self._ray.get(question)
        except self._ray.exceptions.RayError:
            return  # the call of its job fails the same way
        if done != worker.done:
            worker.done, worker.moved = done, now

    def _check_standstill(self) -> None:
        """Check that there are workers.

        Raises:
            ClusterError: If no worker is left, or none has started in time.
        """
        if not self._workers:
            raise ClusterError(
                f"no worker of the cluster could be started: {self._trouble}. Every machine needs the same Python, "
                "colbert_video, and the model."
            )
        if any(worker.started for worker in self._workers):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > START_SECONDS:
            raise ClusterError(
                f"no worker of the cluster has started within {START_SECONDS:g} seconds"
                f"{': ' + self._trouble if self._trouble else ''}; are its machines busy with other work (`ray status`)?"
            )


def _cause(error: Any) -> Exception:
    """The exception that a worker raised, without Ray's wrapping."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _reason(error: Exception) -> str:
    """Why an actor was lost, in one line of the many in Ray's error."""
    text = str(_cause(error))
    raised = re.findall(r"^[\w.]*(?:Error|Exception): .*$", text, re.MULTILINE)
    if raised and "error raised in its creation task" in text:
        return str(raised[-1])
    detail = re.search(r"Worker exit detail: (.*?)( Some common causes|$)", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    sentences = [line for line in lines if line.startswith("The ")]
    return detail.group(1) if detail else (sentences or lines or [type(error).__name__])[0]
