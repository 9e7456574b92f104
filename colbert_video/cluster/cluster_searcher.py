"""Search on a Ray cluster: one actor per shard, the query sent to all of them, the best of their answers."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from colbert_video.base.checks import real_number, whole_number
from colbert_video.cluster.fan_out import fan_out
from colbert_video.cluster.replicas import ENDLESS, ShardReplicas, start_replicas
from colbert_video.cluster.session import Session, connect
from colbert_video.device import Device
from colbert_video.errors import ClusterError, ColBERTVideoError, ShardsUnavailableError, shown
from colbert_video.model.loading import Model
from colbert_video.model.precision import Precision
from colbert_video.model.query_runtime import QueryRuntime
from colbert_video.search.sharded.corpus_view import Answers
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

logger = logging.getLogger(__name__)

DEADLINE = 5.0
"""Seconds until a shard that has not answered is given up."""
HEDGE = 0.5
"""Seconds until a second replica is asked as well."""
START_SECONDS = 300.0
"""Time for shards to open."""
PRELOAD_SECONDS = 3600.0
"""The same if their files are read ahead first: a busy disk delays the hints."""
REFRESH_SECONDS = 30.0
"""Time for actors to refresh; slower ones refresh themselves later."""


class ClusterSearcher(ShardedSearcher):
    """Searches a sharded corpus on a Ray cluster; called as `Searcher` is, and safe to share between threads.

    The query is encoded here, once; its tokens go to one actor of each shard. What the actors answer within the deadline
    is merged: shards that did not answer are named in `Hits.shards_failed`. An actor that dies is started again
    by Ray, on another machine if its own is lost; meanwhile another replica is asked, or the shard is waited for as long
    as the deadline lets. The actors end with this process.

    Args:
        path: The sharded corpus; every machine sees it under this path.
        cluster: "auto" for the cluster of this machine, which is started if there is none, or an address.
        replicas: Actors of each shard, on different machines if there are so many.
        deadline: Seconds until a shard that has not answered is given up.
        hedge: Seconds until a second replica is asked as well; the first answer counts.
        threads: Queries that an actor scores at once, each on one core; `search_all` sends so many at a time.
        cpus: Processors that Ray keeps free for each actor; with 0, actors start however busy the machines are.
        preload: Each actor asks its machine to read its shard's files ahead before it answers; see `Searcher`.
        model: Encodes queries; None for the model that the shards name, loaded at the first text query.
        device: Where that model runs.
        precision: Precision in which the model computes; None for "auto", and for that of an encoder in memory.
        compile: True to compile the model with `torch.compile`: its first query takes a minute or more, for services.
        query_runtime: "onnx" or "openvino" to run the text tower by ONNX Runtime or OpenVINO, which is faster on CPUs
            and takes up to half a minute when the model is loaded; None for torch.
        observe: Called with the shard's name and the seconds of each answer, in threads of Ray's; None for nobody.
        bag_weights: How much each bag counts, where a search says nothing else; None for what the shards say.

    Raises:
        IndexFolderError: If there is no sharded corpus, or a shard is damaged or does not belong to the others.
        DependencyError: If Ray is not installed.
        SettingsError: If a number is out of range, or `bag_weights` is not valid.
        ShardsUnavailableError: If shards do not open in time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        cluster: str = "auto",
        replicas: int = 1,
        deadline: float = DEADLINE,
        hedge: float = HEDGE,
        threads: int = 2,
        cpus: float = 0.0,
        preload: bool = False,
        model: Model | None = None,
        device: Device | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        query_runtime: QueryRuntime | None = None,
        observe: Callable[[str, float], None] | None = None,
        bag_weights: Mapping[str, float] | None = None,
    ) -> None:
        replicas, threads = (
            whole_number(name, number, least=1) for name, number in (("replicas", replicas), ("threads", threads))
        )
        self._process = os.getpid()
        self._set_defaults(threads, bag_weights)
        self._open_corpus(path, model, device, precision=precision, compile=compile, query_runtime=query_runtime)
        self.deadline: float = real_number("deadline", deadline, above=0)
        self._hedge = real_number("hedge", hedge, above=0)
        self.shards: list[ShardReplicas] = []
        self._session: Session | None = None
        try:
            self.catalogs.settings.weights(bag_weights)  # raises before actors start
            self._session = connect(cluster)
            folders = zip(self.corpus.names, self.corpus.folders, strict=True)
            self.shards = start_replicas(
                {name: str(folder.absolute()) for name, folder in folders},
                replicas=replicas,
                threads=threads,
                cpus=cpus,
                preload=preload,
                observe=observe,
            )
            seconds = PRELOAD_SECONDS if preload else START_SECONDS
            _wait_until_open(self._session.ray, self.shards, self.corpus.names, seconds)
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> NoReturn:
        """Refuse to be sent elsewhere: the actors end with this process.

        Raises:
            ClusterError: Always.
        """
        raise ClusterError(
            "a ClusterSearcher cannot be pickled or copied: its actors end with this process. Open one where it is "
            f"needed: ClusterSearcher({shown(str(self.path))}, cluster=...)."
        )

    def close(self) -> None:
        """End the actors, and the connection to the cluster if it was opened for them; a second call does nothing."""
        self._closed = True
        if self._session is not None and self._process == os.getpid():  # a forked process leaves them to the other
            for shard in self.shards:
                for replica in shard.replicas:
                    self._session.ray.kill(replica.handle)
            self._session.close()
        self.shards, self._session = [], None
        self.catalogs.close()

    def refresh(self) -> bool:
        """Let every actor see what was committed to its shard; True if there was anything new.

        An actor that does not answer opens the newest commit when it is started again.
        """
        self._check_open()
        return any(self._ask_every_actor("refresh", REFRESH_SECONDS))

    def preload(self) -> None:
        """Let every actor ask its machine to read its shard's files ahead; as `Searcher.preload`."""
        self._check_open()
        self._ask_every_actor("preload", PRELOAD_SECONDS)

    def _ask_every_actor(self, method: str, seconds: float) -> list[Any]:
        single = [ShardReplicas([replica]) for shard in self.shards for replica in shard.replicas]
        asked: dict[int, tuple[Any, ...]] = dict.fromkeys(range(len(single)), ())
        return list(fan_out(single, method, asked, deadline=seconds, hedge=seconds).values())

    def _check_open(self) -> None:
        super()._check_open()
        if self._process != os.getpid():
            raise ClusterError(
                "this process was forked from the one that opened the ClusterSearcher, and Ray does not follow; open one "
                "here, or start processes with multiprocessing.get_context('spawn')."
            )

    def _ask(self, method: str, asked: Mapping[int, tuple[Any, ...]]) -> Answers:
        found = fan_out(self.shards, method, asked, deadline=self.deadline, hedge=self._hedge)
        return found, tuple(self.corpus.names[number] for number in sorted(asked) if number not in found)


def _wait_until_open(ray: ModuleType, shards: Sequence[ShardReplicas], names: Sequence[str], seconds: float) -> None:
    handles = [replica.handle for shard in shards for replica in shard.replicas]
    waiting = [handle.ready.options(max_task_retries=ENDLESS).remote() for handle in handles]
    done, late = ray.wait(waiting, num_returns=len(waiting), timeout=seconds)
    if late:
        raise ShardsUnavailableError(names, seconds)
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ColBERTVideoError):
            raise error.cause from None
        raise
