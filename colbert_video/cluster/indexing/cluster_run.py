"""An index run on a Ray cluster: its machines encode and compress, this process keeps the catalog.

Workers are plain Ray actors, and the bookkeeping is `Crew`'s and this module's, not that of Ray Data: there, a video that
kills its worker is tried without end, or takes its whole block with it, and an interrupted job counts what it had done as
undone. Here

- a file that cannot be decoded costs only itself, as everywhere: decoders are processes with a time limit;
- videos whose worker died, or raised, are given out again one by one, and one that loses `LONE_TRIES` workers while it is
  alone is listed as refused, with the reason;
- a finished chunk of videos is in the index folder, and its receipt in the catalog, before the next one is given out: a run
  that is interrupted, killed or loses its head goes on with what is missing;
- the codec is trained once, here, on a sample; workers compress with it; this process joins what they compressed into one
  segment, byte by byte that of a run on one machine, and commits it.
"""

import copy
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from colbert_video.cluster.indexing.cluster_worker import ChunkRows, Encoder, Receipt, read_compressed
from colbert_video.cluster.indexing.crew import Crew, Job, Outcome
from colbert_video.cluster.indexing.machines import Share, divide
from colbert_video.cluster.indexing.retries import LONE_TRIES, RetryPolicy, jobs
from colbert_video.cluster.session import Session, check_address, connect
from colbert_video.device import Device
from colbert_video.durable import delete_leftover, make_folder_durably, new_name
from colbert_video.errors import ClusterError
from colbert_video.indexing.build.encoding import VIDEOS_PER_BATCH
from colbert_video.indexing.build.index_run import Staged, Work
from colbert_video.indexing.build.ingest import refusal
from colbert_video.indexing.build.segment_builder import CompressedChunk
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.drift import SampledSource
from colbert_video.indexing.index.staging import STAGING, StagedSource, chunk_file
from colbert_video.model.encoder import VideoEncoder
from colbert_video.progress import Bar, progress_bar
from colbert_video.video.sources import VideoRecord

logger = logging.getLogger(__name__)

VIDEOS_PER_JOB = 32
"""Videos that a worker stages at once, at most."""
LONG_VIDEOS_PER_JOB = 4
"""The same where videos are cut into windows, of which each may have hundreds."""
JOBS_PER_WORKER = 4
"""Jobs for each worker, at least, if there are enough videos: the last ones to finish then wait little for each other."""
ROWS_PER_JOB = 2048
"""Staged rows that a worker compresses at once, or more where one chunk has more."""
PATIENCE = 900.0
"""Seconds beyond a file's time limit in which a worker must have read another part of a video."""
SEEN_SECONDS = 60.0
"""Until a file that a worker wrote must be visible here: network file systems cache that it was missing."""


class RayCluster:
    """A Ray cluster that works for `Indexer.index`, `add` and `sync`: pass it as `cluster=`.

    It is connected to while a run lasts. Only then Ray is imported.

    Args:
        address: "auto" for the cluster that this process is connected to, else that of RAY_ADDRESS, else the one that runs
            on this machine, else a new one here; "local" for a new one here; or HOST:PORT of a cluster's head.

    Raises:
        SettingsError: If the address is not valid.
    """

    def __init__(self, address: str = "auto") -> None:
        check_address(address)
        self.address = address
        self._sessions: list[Session] = []

    def __enter__(self) -> "RayCluster":
        self._sessions.append(connect(self.address))
        return self

    def __exit__(self, *exception: object) -> None:
        self._sessions.pop().close()

    @contextmanager
    def helpers(
        self, work: Work, model: VideoEncoder, *, by_name: bool, device: Device | None
    ) -> Iterator["ClusterHelpers"]:
        """Give the workers of a run, which start with the first job, and end with the block.

        Args:
            work: What they do; its folder is on storage that all machines share. None for the decoding processes of a
                worker means one for each core of its share.
            model: The model, which is sent once to each machine.
            by_name: Let workers load it by its name instead.
            device: Where workers run the model; None for a GPU each if the cluster has any, else the CPU.
        """
        work = replace(work, folder=work.folder.resolve())
        helpers = ClusterHelpers(self._sessions[-1], work, model, by_name=by_name, device=device)
        try:
            yield helpers
        finally:
            helpers.close()


class ClusterHelpers:
    """The machines of a cluster as `Helpers` of an index run.

    Args:
        session: The cluster.
        work: What all workers share.
        model: The model.
        by_name: True if workers load it by its name.
        device: Where workers run it; None to choose.
    """

    def __init__(
        self, session: Session, work: Work, model: VideoEncoder, *, by_name: bool, device: Device | None
    ) -> None:
        self._session, self._work, self._model = session, work, model
        self._by_name, self._device = by_name, device
        self._crew: Crew | None = None
        self._size = 0

    def close(self) -> None:
        """End all workers."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def stage(self, catalog: Catalog, records: Sequence[VideoRecord]) -> Staged:
        """Encode records; each chunk is in the catalog as soon as its receipt is here."""
        if not records:
            return Staged(0, (), {}, 0.0)
        make_folder_durably(self._work.folder / STAGING)
        crew, policy = self._workers(-(-len(records) // VIDEOS_PER_BATCH)), RetryPolicy()
        crew.give(*jobs(records, self._per_job(len(records))))
        failures: list[Failure] = []
        damaged: dict[str, tuple[str, ...]] = {}
        waited = 0.0
        texts: set[str] = set()
        with progress_bar("encoding videos", len(records)) as bar:
            for outcome in crew.outcomes():
                if outcome.value is None:
                    again, given_up = policy.after(outcome)
                    crew.give(*again)
                    failures += _noted(given_up, bar)
                    bar.advance(len(given_up))
                    continue
                receipt: Receipt = outcome.value
                self._keep(catalog, receipt)
                failures += _noted(receipt.staged.failures, bar)
                damaged |= receipt.staged.damaged
                waited += receipt.staged.waited
                texts |= receipt.staged.texts
                bar.advance(len(outcome.job.tag))
        return Staged(0, tuple(failures), damaged, waited / self._size, frozenset(texts))

    def compress(self, source: TokenSource, codecs: Mapping[str, ResidualCodec]) -> Iterator[CompressedChunk]:
        """Compress what was staged, in its order, whoever is done first."""
        if isinstance(source, SampledSource):
            for _ in source:  # draws the sample that shows how far added videos have drifted
                pass
            source = source.source
        if not isinstance(source, StagedSource):
            raise TypeError(f"only staged videos can be compressed by a cluster, not a {type(source).__name__}")
        batches = list(_batches(source))
        crew, shared, name = self._workers(len(batches)), self._session.ray.put(dict(codecs)), new_name()
        crew.give(*(_compression(number, batch, shared, name) for number, batch in enumerate(batches)))
        waiting: dict[int, tuple[str, int]] = {}
        following = 0
        for outcome in crew.outcomes():
            if outcome.value is None:
                self._give_again(crew, outcome)
                continue
            waiting[outcome.job.tag[0]] = outcome.value
            while following in waiting:
                yield from self._compressed(batches[following], *waiting.pop(following))
                following += 1

    def _give_again(self, crew: Crew, outcome: Outcome) -> None:
        """Put lost compressing back in the queue, a bounded number of times."""
        number, tries = outcome.job.tag
        if outcome.error is not None:
            raise outcome.error
        if tries == LONE_TRIES:
            raise ClusterError(
                f"compressing lost {tries} workers, the last one so: {outcome.lost}. Look into their logs, and repeat "
                "the run: it goes on where it stopped."
            )
        crew.give(replace(outcome.job, tag=(number, tries + 1)))

    def _compressed(
        self, batch: Sequence[tuple[ChunkRows, list[VideoEntry]]], name: str, size: int
    ) -> Iterator[CompressedChunk]:
        """Read what a worker compressed, and delete its file."""
        path = self._work.folder / STAGING / name
        _await_file(path, size)
        for number, (_, entries) in enumerate(batch):
            yield read_compressed(path, number, self._work.settings.bags, entries)
        delete_leftover(path)

    def _keep(self, catalog: Catalog, receipt: Receipt) -> None:
        """Make the videos of a receipt known to the catalog."""
        if receipt.chunk is None:
            return
        _await_file(chunk_file(self._work.folder / STAGING, receipt.chunk), receipt.size)
        catalog.stage(receipt.chunk, receipt.entries)

    def _per_job(self, videos: int) -> int:
        """How many videos a job has: whole batches of the model, and enough jobs for all workers."""
        most = VIDEOS_PER_JOB if self._work.settings.cutting is None else LONG_VIDEOS_PER_JOB
        even = -(-videos // (JOBS_PER_WORKER * self._size))
        return min(most, -(-even // VIDEOS_PER_BATCH) * VIDEOS_PER_BATCH)

    def _workers(self, most: int) -> Crew:
        """The workers, which are started when they are first needed, no more than `most`."""
        if self._crew is None:
            share = divide(self._session, self._work.decoding.workers, self._device)
            self._size = min(share.workers, most)
            logger.info("%d workers of the cluster, each with %g CPUs, %s", self._size, share.cpus, share.device)
            self._crew = Crew(
                self._session,
                self._actor(share),
                (self._worker_work(share), self._worker_model(), share.device),
                count=self._size,
                patience=self._work.decoding.timeout + PATIENCE,
            )
        return self._crew

    def _actor(self, share: Share) -> Any:
        """The class of the workers: Ray repeats nothing, and a second thread answers for progress."""
        return self._session.ray.remote(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )(Encoder)

    def _worker_work(self, share: Share) -> Work:
        decoding = self._work.decoding
        return replace(self._work, decoding=replace(decoding, workers=decoding.workers or int(share.cpus)))

    def _worker_model(self) -> Any:
        """The model's name, or a reference to the model in the cluster's memory."""
        name = self._model.name
        if self._by_name and name is not None:
            return str(Path(name).resolve()) if Path(name).is_dir() else name
        model: Any = self._model
        moved = isinstance(model, nn.Module) and model.device.type != "cpu"
        return self._session.ray.put(copy.deepcopy(model).cpu() if moved else model)


def _noted(failures: Sequence[Failure], bar: Bar) -> Sequence[Failure]:
    for failure in failures:
        bar.note(refusal(failure))
    return failures


def _batches(source: StagedSource) -> Iterator[list[tuple[ChunkRows, list[VideoEntry]]]]:
    """The staged videos in order, those of several chunks at once."""
    batch: list[tuple[ChunkRows, list[VideoEntry]]] = []
    for path, rows in source.runs():
        batch.append((ChunkRows(path.stem, tuple(rows)), list(rows.values())))
        if sum(len(part.rows) for part, _ in batch) >= ROWS_PER_JOB:
            yield batch
            batch = []
    if batch:
        yield batch


def _compression(number: int, batch: Sequence[tuple[ChunkRows, list[VideoEntry]]], codecs: Any, name: str) -> Job:
    return Job("compress", (tuple(part for part, _ in batch), codecs, name), tag=(number, 1))


def _await_file(path: Path, size: int) -> None:
    """Wait until a file that a worker has written is visible here.

    Raises:
        ClusterError: If it is not in time: the worker's index folder is not this one.
    """
    ends = time.monotonic() + SEEN_SECONDS
    while not (path.is_file() and path.stat().st_size == size):
        if time.monotonic() > ends:
            raise ClusterError(
                f"a worker wrote {path.name}, but {path.parent} does not hold it here; the index folder must lie on storage "
                "that all machines of the cluster share, at the same path."
            )
        time.sleep(0.1)
