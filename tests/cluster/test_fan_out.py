"""Whom a question goes to when replicas die, hang or refuse: with stand-ins for Ray's actors."""

import time
from concurrent.futures import Future
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, RayTaskError

from colbert_video.cluster.fan_out import fan_out
from colbert_video.cluster.replicas import Replica, ShardReplicas


class StandIn:
    """An actor's handle. `mood` is "well", "dead" (calls fail; patient ones wait), "slow" (calls wait) or "refuses"."""

    def __init__(self, name: str, mood: str = "well") -> None:
        self.name, self.mood = name, mood
        self.asked: list[bool] = []
        self.waiting: list[Future[Any]] = []
        self.call, self.ready = Method(self, counted=True), Method(self, counted=False)

    def recover(self) -> None:
        self.mood = "well"
        for future in self.waiting:
            future.set_result(self.name)
        self.waiting = []


class Method:
    """A method of the handle; calls are noted by whether they are patient."""

    def __init__(self, actor: StandIn, *, counted: bool, patient: bool = False) -> None:
        self.actor, self.counted, self.patient = actor, counted, patient

    def options(self, *, max_task_retries: int) -> "Method":
        return Method(self.actor, counted=self.counted, patient=max_task_retries != 0)

    def remote(self, *_: Any) -> "Method":
        return self

    def future(self) -> "Future[Any]":
        made: Future[Any] = Future()
        actor = self.actor
        if self.counted:
            actor.asked.append(self.patient)
        if actor.mood == "well":
            made.set_result(actor.name)
        elif actor.mood == "refuses":
            made.set_exception(RayTaskError("call", "no such file", ValueError("no such file")))
        elif actor.mood == "dead" and not self.patient:
            made.set_exception(ActorDiedError())
        else:
            actor.waiting.append(made)
        return made


def shard_of(*actors: StandIn) -> ShardReplicas:
    """A shard whose next question goes to the first of the actors."""
    shard = ShardReplicas([Replica(actor.name, actor) for actor in actors])
    shard._turn = len(actors) - 1
    return shard


def ask(*shards: ShardReplicas, deadline: float = 5.0, hedge: float = 0.02) -> dict[int, Any]:
    return fan_out(shards, "hits", dict.fromkeys(range(len(shards)), ()), deadline=deadline, hedge=hedge)


def test_replicas_take_turns() -> None:
    actors = [StandIn("a"), StandIn("b")]
    shard = shard_of(*actors)
    assert [ask(shard)[0] for _ in range(4)] == ["a", "b", "a", "b"]


def test_another_replica_answers_for_a_dead_one_at_once() -> None:
    dead, well = StandIn("dead", "dead"), StandIn("well")
    shard = shard_of(dead, well)
    assert ask(shard, hedge=5.0) == {0: "well"}
    assert [ask(shard)[0] for _ in range(3)] == ["well"] * 3  # it is not asked again
    assert dead.asked == [False]
    dead.recover()
    assert {ask(shard)[0] for _ in range(2)} == {"dead", "well"}


def test_a_shard_without_live_replicas_is_waited_for() -> None:
    actors = [StandIn("a", "dead"), StandIn("b", "dead")]
    shard = shard_of(*actors)
    assert ask(shard, deadline=0.1) == {}
    assert [actor.asked for actor in actors] == [[False, True], [False, True]]
    actors[1].recover()
    assert ask(shard) == {0: "b"}


def test_a_slow_replica_is_asked_last_until_it_answers() -> None:
    slow, well = StandIn("slow", "slow"), StandIn("well")
    shard = shard_of(slow, well)
    begun = time.monotonic()
    assert ask(shard, hedge=0.05) == {0: "well"}
    assert 0.05 <= time.monotonic() - begun < 2
    assert [ask(shard)[0] for _ in range(3)] == ["well"] * 3
    assert len(slow.asked) == 1
    slow.recover()
    assert {ask(shard)[0] for _ in range(2)} == {"slow", "well"}


def test_late_shards_are_left_out_and_the_others_answer() -> None:
    slow = StandIn("slow", "slow")
    begun = time.monotonic()
    assert ask(shard_of(StandIn("a")), shard_of(slow), shard_of(StandIn("c")), deadline=0.1) == {0: "a", 2: "c"}
    assert 0.1 <= time.monotonic() - begun < 2
    assert slow.asked == [False]


def test_a_shard_that_refuses_is_not_waited_for() -> None:
    begun = time.monotonic()
    assert ask(shard_of(StandIn("a", "refuses")), shard_of(StandIn("b"))) == {1: "b"}
    assert ask(shard_of(StandIn("a", "refuses"), StandIn("b"))) == {0: "b"}
    assert time.monotonic() - begun < 2


def test_nobody_asked_is_nobody_waited_for() -> None:
    assert fan_out([], "hits", {}, deadline=5.0, hedge=0.1) == {}
