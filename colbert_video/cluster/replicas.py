"""The actors of each shard: where they run, which of them answer, and how one is called."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from colbert_video.cluster.actor import ShardActor
from colbert_video.cluster.session import import_ray

logger = logging.getLogger(__name__)

Done = Callable[["Replica", Any, BaseException | None], None]
"""Called in a thread of Ray's with the answer, or the error in its place."""
ENDLESS = -1
"""Ray starts an actor, or a call, again as often as needed."""
PROBE_SECONDS = 5.0
"""Until a replica that answered a probe with an error is probed again."""


class Replica:
    """One actor of a shard.

    Args:
        name: For the log.
        handle: Ray's handle of the actor.
        observe: Called with the seconds of each answer; None if nobody counts.
    """

    def __init__(self, name: str, handle: Any, observe: Callable[[float], None] | None = None) -> None:
        self.name = name
        self.handle = handle
        self.trusted = True
        self._observe = observe
        self._probing = threading.Lock()
        self._probe_again = 0.0

    def ask(self, method: str, arguments: tuple[Any, ...], done: Done, *, patient: bool = False) -> None:
        """Call a method of the shard.

        Args:
            method: Its name.
            arguments: Its arguments.
            done: Called when it has answered or failed.
            patient: True to wait until a dead actor is started again; otherwise the call fails.
        """
        call = self.handle.call.options(max_task_retries=ENDLESS if patient else 0)
        future = call.remote(method, arguments).future()
        future.add_done_callback(partial(self._answered, time.perf_counter(), done))

    def _answered(self, begun: float, done: Done, future: Any) -> None:
        error = future.exception()
        if error is None:
            self.trusted = True
            if self._observe is not None:
                self._observe(time.perf_counter() - begun)
            done(self, future.result(), None)
            return
        self.distrust()
        done(self, None, error)

    def distrust(self) -> None:
        """Ask others first, until this one answers again."""
        if self.trusted:
            logger.warning("%s does not answer", self.name)
        self.trusted = False
        self.probe()

    def probe(self) -> None:
        """Ask whether it is back; one probe at a time, and not too often."""
        if time.monotonic() < self._probe_again or not self._probing.acquire(blocking=False):
            return
        probe = self.handle.ready.options(max_task_retries=ENDLESS).remote().future()
        probe.add_done_callback(self._probed)

    def _probed(self, future: Any) -> None:
        back = future.exception() is None
        if back:
            logger.info("%s answers again", self.name)
            self.trusted = True
        else:
            self._probe_again = time.monotonic() + PROBE_SECONDS
        self._probing.release()


class ShardReplicas:
    """The actors of one shard.

    Args:
        replicas: At least one.
    """

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._turn = 0

    def in_turn(self) -> list[Replica]:
        """Return all of them, those that answer first; calls take turns among these."""
        self._turn += 1  # threads may count one turn twice, which costs nothing
        start = self._turn % len(self.replicas)
        turned = self.replicas[start:] + self.replicas[:start]
        for replica in turned:
            if not replica.trusted:
                replica.probe()
        return sorted(turned, key=lambda replica: not replica.trusted)


def start_replicas(
    shards: dict[str, str],
    *,
    replicas: int,
    threads: int,
    cpus: float,
    preload: bool,
    observe: Callable[[str, float], None] | None,
) -> list[ShardReplicas]:
    """Start the actors of all shards, those of one shard on different nodes if there are so many.

    Args:
        shards: Folders of the shards by their names.
        replicas: Actors of each shard.
        threads: Calls that an actor answers at once.
        cpus: Processors that Ray keeps for each actor.
        preload: True to let actors ask their system to read their shard's files ahead.
        observe: Called with a shard's name and the seconds of each answer.
    """
    ray = import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
    actor = ray.remote(ShardActor)
    started = []
    for number, (name, folder) in enumerate(shards.items()):
        own = []
        for copy in range(replicas):
            node = nodes[(number + copy) % len(nodes)]
            handle = actor.options(
                num_cpus=cpus,
                max_restarts=ENDLESS,
                max_concurrency=threads,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),  # elsewhere if it is lost
            ).remote(folder, preload)
            noted = None if observe is None else partial(observe, name)
            own.append(Replica(f"shard {name}, replica {copy}", handle, noted))
        started.append(ShardReplicas(own))
    return started
