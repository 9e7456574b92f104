"""One question to many shards, with a deadline; of each shard the first answer counts.

If a replica fails, another is asked at once; if it is slow, after a while. A shard whose replicas are all dead is waited
for while there is time. Answers come through a queue, never by waiting for one replica: calls to a lost machine would
hang for many seconds.
"""

import logging
import queue
import time
from collections.abc import Mapping, Sequence
from typing import Any

from colbert_video.cluster.replicas import Replica, ShardReplicas

logger = logging.getLogger(__name__)

Answer = tuple["_Question", Replica, Any, BaseException | None]


def fan_out(
    shards: Sequence[ShardReplicas], method: str, asked: Mapping[int, tuple[Any, ...]], *, deadline: float, hedge: float
) -> dict[int, Any]:
    """Ask shards and collect what they answer in time.

    Args:
        shards: All shards.
        method: What is called.
        asked: Its arguments, by the numbers of the shards that are asked.
        deadline: Seconds until shards that have not answered are given up.
        hedge: Seconds until a second replica is asked as well.

    Returns:
        The answers by number; shards that failed, or were too slow, are left out.
    """
    begun = time.monotonic()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    open_questions = {
        number: _Question(number, shards[number], method, given, answers) for number, given in asked.items()
    }
    found: dict[int, Any] = {}
    hedged = False
    while open_questions:
        passed = time.monotonic() - begun
        if passed >= deadline:
            break
        try:
            until = deadline if hedged else min(hedge, deadline)
            question, replica, value, error = answers.get(timeout=max(until - passed, 0.0))
        except queue.Empty:
            if not hedged:
                for slow in open_questions.values():
                    slow.hedge()
            hedged = True
            continue
        if question.number not in open_questions:
            continue  # the other replica was faster
        if error is None:
            found[question.number] = value
            del open_questions[question.number]
        elif not question.failed(replica, error):
            del open_questions[question.number]
    for late in open_questions.values():
        late.give_up()
    return found


class _Question:
    """What one shard is asked, and which of its replicas were asked."""

    def __init__(
        self,
        number: int,
        shard: ShardReplicas,
        method: str,
        arguments: tuple[Any, ...],
        answers: "queue.SimpleQueue[Answer]",
    ) -> None:
        self.number = number
        self._method, self._arguments, self._answers = method, arguments, answers
        self._unasked = shard.in_turn()
        self._waiting: list[Replica] = []
        self._dead: list[Replica] = []
        self._next()

    def hedge(self) -> None:
        """Ask another replica too, as those that were asked are slow."""
        for slow in self._waiting:
            if self._unasked:
                slow.distrust()
        self._next()

    def failed(self, replica: Replica, error: BaseException) -> bool:
        """Ask further replicas after one failed; return whether any may still answer."""
        from ray.exceptions import RayTaskError

        self._waiting.remove(replica)
        if isinstance(error, RayTaskError):  # the shard itself refused: it would do so again
            logger.warning("%s failed: %s", replica.name, error)
        else:
            self._dead.append(replica)
        if self._unasked:
            self._next()
        elif not self._waiting:
            for dead in self._dead:  # Ray is starting them again
                self._call(dead, patient=True)
            self._dead = []
        return bool(self._waiting)

    def give_up(self) -> None:
        """Ask the replicas that have not answered last from now on."""
        for late in self._waiting:
            late.distrust()

    def _next(self) -> None:
        if self._unasked:
            self._call(self._unasked.pop(0), patient=False)

    def _call(self, replica: Replica, *, patient: bool) -> None:
        self._waiting.append(replica)
        replica.ask(self._method, self._arguments, self._answered, patient=patient)

    def _answered(self, replica: Replica, value: Any, error: BaseException | None) -> None:
        self._answers.put((self, replica, value, error))
