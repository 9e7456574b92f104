"""The books that are kept of workers and their jobs, with workers that are none: what each call comes to is written down."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from colbert_video.cluster.indexing import crew as crew_module
from colbert_video.cluster.indexing.crew import Crew, Job, Outcome
from colbert_video.cluster.session import Session
from colbert_video.errors import ClusterError


class RayError(Exception):
    """As Ray's."""


class ActorError(RayError):
    """A worker is gone."""


class TaskError(RayError):
    """A worker raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(eq=False)
class Call:
    """A reference to what a call will come to."""

    result: Any
    ready: bool = True


class FakeRay:
    """Ray with workers whose answers are a script: `calls` for jobs, `starts` for starts, `progress` for looks."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=ActorError, RayTaskError=TaskError)

    def __init__(self, answer: Callable[..., Call]) -> None:
        self.answer = answer
        self.starts: deque[Call] = deque()
        self.made = 0
        self.killed = 0
        self.progress = 0

    def remote(self, *arguments: Any) -> Any:
        self.made += 1
        start = self.starts.popleft() if self.starts else Call(None)

        def method(call: Callable[..., Call]) -> Any:
            return SimpleNamespace(remote=call)

        return SimpleNamespace(
            ready=method(lambda: start), work=method(self.answer), progress=method(lambda: Call(self.progress))
        )

    def wait(self, calls: list[Call], *, num_returns: int = 1, timeout: float) -> tuple[list[Call], list[Call]]:
        ready = [call for call in calls if call.ready][:num_returns]
        return ready, [call for call in calls if call not in ready]

    def get(self, call: Call) -> Any:
        if isinstance(call.result, Exception):
            raise call.result
        return call.result

    def kill(self, actor: Any) -> None:
        self.killed += 1


def started(ray: FakeRay, *, count: int = 2, patience: float = 100.0) -> Crew:
    session = Session(ray, "", started=False, ours=False)  # type: ignore[arg-type]
    return Crew(session, ray, (), count=count, patience=patience)


def jobs(*names: str) -> list[Job]:
    return [Job("work", (name,), tag=name) for name in names]


def ends(outcomes: Any) -> dict[str, Any]:
    return {outcome.job.tag: outcome.value or outcome.lost or outcome.error for outcome in outcomes}


def test_every_job_ends_once() -> None:
    bug = ValueError("a bug")
    ends_of = {"bug": TaskError(bug), "fatal": ActorError("The actor died because of it.\nmore")}
    ray = FakeRay(lambda name: Call(ends_of.get(name, name.upper())))
    crew = started(ray)
    crew.give(*jobs("a", "bug", "b", "fatal", "c"))
    found = ends(crew.outcomes())
    assert found == {"a": "A", "b": "B", "c": "C", "bug": bug, "fatal": "The actor died because of it."}
    assert (ray.made, crew.losses) == (3, 1)  # the lost worker's place was taken
    assert ray.killed == 1  # it may only have been out of reach
    crew.close()
    assert ray.killed == 3


def test_jobs_may_follow_from_outcomes() -> None:
    crew = started(FakeRay(lambda name: Call(name)), count=1)
    crew.give(*jobs("ab"))
    seen: list[Outcome] = []
    for outcome in crew.outcomes():
        seen.append(outcome)
        if len(outcome.job.tag) > 1:
            crew.give(*jobs(*outcome.job.tag))
    assert [outcome.value for outcome in seen] == ["ab", "a", "b"]


def test_a_stuck_worker_is_killed_and_a_slow_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(crew_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    slow, stuck = Call("slow", ready=False), Call("stuck", ready=False)
    ray = FakeRay({"slow": slow, "stuck": stuck}.__getitem__)

    def wait(calls: list[Call], *, num_returns: int = 1, timeout: float) -> Any:
        clock.now += 6.0
        if clock.now < 300:
            ray.progress += 1  # parts are read, one by one
        slow.ready = slow.ready or clock.now > 250
        return FakeRay.wait(ray, calls, num_returns=num_returns, timeout=timeout)

    ray.wait = wait  # type: ignore[method-assign]
    crew = started(ray, count=1)
    crew.give(*jobs("slow", "stuck"))
    assert ends(crew.outcomes()) == {"slow": "slow", "stuck": "no progress within 100 seconds"}
    assert clock.now > 400
    assert ray.killed == 1


def test_workers_that_never_start_end_the_run() -> None:
    ray = FakeRay(lambda name: Call(name))
    told = "The actor died because of an error raised in its creation task, ray::W.__init__()\n  File x, line 1"
    told += "\nRuntimeError: W failed to import:\n    ^^^\nModuleNotFoundError: No module named 'w'"
    ray.starts += [Call(ActorError(told))] * 6
    crew = started(ray)
    crew.give(*jobs("a"))
    with pytest.raises(
        ClusterError, match=r"could be started: ModuleNotFoundError: No module named 'w'\. Every machine needs"
    ):
        list(crew.outcomes())
    assert ray.made == 6  # three times each


def test_one_worker_that_does_not_start_is_done_without() -> None:
    ray = FakeRay(lambda name: Call(name))
    ray.starts += [Call(None), Call(None, ready=False)]
    crew = started(ray)
    crew.give(*jobs("a", "b", "c"))
    assert ends(crew.outcomes()).keys() == {"a", "b", "c"}


def test_a_busy_cluster_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "START_SECONDS", 0.0)
    ray = FakeRay(lambda name: Call(name))
    ray.starts += [Call(None, ready=False)] * 2
    crew = started(ray)
    crew.give(*jobs("a"))
    with pytest.raises(
        ClusterError, match=r"no worker of the cluster has started within 0 seconds; are its machines busy"
    ):
        list(crew.outcomes())
