"""Read many video files at once, in processes with a time limit, so that no file can stop or kill a run."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from colbert_video.base.checks import check_fields, whole_number
from colbert_video.base.threads import available_cores
from colbert_video.errors import ClosedError, FailureKind, VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings, SourcePicture, VideoHeader, check_window
from colbert_video.video.subtitles.timed_line import ReadLines
from colbert_video.video.workers.process import COMMAND, WorkerProcess

Answer = TypeVar("Answer")


SECONDS_PER_TIMEOUT = 60.0
"""Seconds of windows that the time limit of one file is for."""


class TimeBudget:
    """Seconds that reading all parts of one file may take together, in whichever processes.

    Args:
        timeout: Time limit for one part, in seconds.
        seconds: Length of all parts together.
    """

    def __init__(self, timeout: float, seconds: float) -> None:
        self.seconds = timeout * max(1.0, seconds / SECONDS_PER_TIMEOUT)
        self._spent = 0.0
        self._lock = threading.Lock()

    def left(self) -> float:
        """Return the seconds left; 0 or less if there are none."""
        with self._lock:
            return self.seconds - self._spent

    def spend(self, seconds: float) -> None:
        """Note that a part has taken so many seconds."""
        with self._lock:
            self._spent += seconds

    def error(self, path: str) -> VideoError:
        """Return the error for a part for which no time is left."""
        what = f"the parts of this file took longer than {self.seconds:g} seconds together; raise timeout"
        return VideoError(path, FailureKind.TIMEOUT, what)


@dataclass(frozen=True)
class FrameRequest:
    """One file to read.

    Raises:
        SettingsError: If the window holds no moment.
    """

    path: str
    """A local file."""
    window: tuple[float, float] | None = None
    """Only frames with start <= time < end, in seconds; None takes the pool's window."""
    seed: int | None = None
    """Seed of random placement; None takes the pool's seed."""
    stream: int | None = None
    """Which video stream to read, counted from 0; None takes the pool's choice."""
    tag: Any = field(default=None, compare=False)
    """Anything the caller wants back with the result; it is sent nowhere."""
    budget: TimeBudget | None = field(default=None, compare=False)
    """Time that all requests for the same file share; None where each has the pool's time limit."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window is not None:
            check_window(self.window)


@dataclass(frozen=True)
class FrameResult:
    """Result of one request: either frames or an error."""

    request: FrameRequest
    frames: SampledFrames | None
    """None if the file was refused."""
    error: VideoError | None
    """The reason for the refusal; None if there are frames."""


class FramePool:
    """Reads frames in several processes at once.

    A decoder that hangs is killed after its time limit and one that crashes is replaced; either costs one file. Use the
    pool as a context manager: leaving the block ends all processes at once.

    Args:
        settings: What to read of each file; None for the defaults.
        workers: Number of processes; None for one per core.
        grace: Seconds beyond a file's time limit until its process is killed, should the decoder not stop by itself.
        command: Another program to start as worker; None for this library's own. Where the system has shared memory,
            its descriptor is the last argument.

    Raises:
        SettingsError: If `workers` is below 1.
        DependencyError: If decord or torchcodec is asked for and not installed.
    """

    def __init__(
        self,
        settings: SamplingSettings | None = None,
        *,
        workers: int | None = None,
        grace: float = 10.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self.workers = available_cores() if workers is None else whole_number("workers", workers, least=1)
        self.settings = settings or SamplingSettings()
        _check_decoder(self.settings.decoder)
        self._processes = [WorkerProcess(command or COMMAND, grace) for _ in range(self.workers)]
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="frame-pool")
        self._closed = False

    def __enter__(self) -> "FramePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read_many(self, requests: Iterable[FrameRequest], *, ahead: int | None = None) -> Iterator[FrameResult]:
        """Read files, each in the next idle process.

        Requests are taken as results are handed out, so neither an endless iterable nor a slow consumer fills the
        memory: at most `ahead` results wait in it, and one per process.

        Args:
            requests: The files.
            ahead: Results that may be ready before they are asked for. A caller that takes several at once, and is then
                busy with them, finds the next several ready if so many are allowed. None for one per process.

        Yields:
            Exactly one result for each request, in the order in which they get ready.

        Raises:
            SettingsError: If random placement has no seed, or `ahead` is below 1.
            ClosedError: If the pool is closed, also while results are taken.
            ColBERTVideoError: If processes cannot be started.
        """
        self._check_open()
        ahead = self.workers if ahead is None else whole_number("ahead", ahead, least=1)
        pending: set[Future[FrameResult]] = set()
        ready: queue.SimpleQueue[Future[FrameResult]] = queue.SimpleQueue()
        try:
            for request in requests:
                future = self._submit(request)
                pending.add(future)
                future.add_done_callback(ready.put)
                if len(pending) > self.workers + ahead:
                    yield self._next(ready, pending)
            while pending:
                yield self._next(ready, pending)
        finally:
            for future in pending:
                future.cancel()

    def read_header(self, path: str, stream: int | None = None) -> VideoHeader:
        """Read the container and codec of a file from its header, in the next idle process.

        Args:
            path: A local file.
            stream: Whose codec, counted from 0 among the video streams; None for the one that is read by default.

        Raises:
            VideoError: If the file is missing, empty, no readable container, or not read within the pool's time limit.
            ClosedError: If the pool is closed.
            ColBERTVideoError: If processes cannot be started.
        """
        path = _absolute(path)
        return self._answer(lambda process: process.read_header(path, self.settings.timeout, stream))

    def read_source(self, path: str, stream: int | None = None) -> SourcePicture:
        """Read how players show the pictures of a file, in the next idle process.

        Args:
            path: A local file.
            stream: Which of its video streams, counted from 0; None for the pool's choice.

        Raises:
            VideoError: If the file cannot be used.
            ClosedError: If the pool is closed.
            ColBERTVideoError: If processes cannot be started.
        """
        path = _absolute(path)
        settings = self.settings.with_request(None, None, stream)
        return self._answer(lambda process: process.read_source(path, settings))

    def read_texts(self, path: str) -> ReadLines:
        """Read the lines of a file's text streams, in the next idle process; several threads may ask at once.

        Args:
            path: A local file, or a member of an archive.

        Raises:
            VideoError: If the file cannot be opened, or its process dies or hangs.
            ClosedError: If the pool is closed.
            ColBERTVideoError: If processes cannot be started.
        """
        path = _absolute(path)
        return self._answer(lambda process: process.read_texts(path, self.settings))

    def close(self) -> None:
        """End all processes at once, also those that are reading a file."""
        self._closed = True
        for process in self._processes:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.close()

    def _answer(self, call: Callable[[WorkerProcess], Answer | VideoError]) -> Answer:
        answer = self._start(self._with_process, call).result()
        if isinstance(answer, VideoError):
            raise answer
        return answer

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"this {type(self).__name__} is closed: open a new one.")

    def _start(self, call: Callable[..., Answer], *given: Any) -> "Future[Answer]":
        self._check_open()
        try:
            return self._threads.submit(call, *given)
        except RuntimeError:
            self._check_open()  # another thread closed the pool
            raise

    def _submit(self, request: FrameRequest) -> "Future[FrameResult]":
        settings = self.settings.with_request(request.window, request.seed, request.stream)
        settings.check_seed()
        return self._start(self._read, request, _absolute(request.path), settings)

    def _read(self, request: FrameRequest, path: str, settings: SamplingSettings) -> FrameResult:
        if request.budget is None:
            answer = self._with_process(lambda process: process.read(path, settings))
        else:
            answer = self._with_process(partial(_read_within, request.budget, path=path, settings=settings))
        if isinstance(answer, VideoError):
            return FrameResult(request, None, answer)
        return FrameResult(request, answer, None)

    def _with_process(self, call: Callable[[WorkerProcess], Answer]) -> Answer:
        process = self._idle.get()
        try:
            return call(process)
        finally:
            self._idle.put(process)

    def _next(self, ready: "queue.SimpleQueue[Future[FrameResult]]", pending: set[Future[FrameResult]]) -> FrameResult:
        self._check_open()
        future = ready.get()
        pending.remove(future)
        self._check_open()  # processes that were ended refuse their files
        return future.result()


def _read_within(
    budget: TimeBudget, process: WorkerProcess, *, path: str, settings: SamplingSettings
) -> SampledFrames | VideoError:
    """Read a part of a file in what is left of the file's time."""
    process.prepare()
    left = budget.left()
    if left <= 0:
        return budget.error(path)
    begun = time.monotonic()
    answer = process.read(path, replace(settings, timeout=min(settings.timeout, left)))
    budget.spend(time.monotonic() - begun)
    late = isinstance(answer, VideoError) and answer.kind is FailureKind.TIMEOUT and left < settings.timeout
    return budget.error(path) if late else answer


def _absolute(path: str) -> str:
    """Return the absolute path of a file: the worker processes may have another working folder."""
    return str(Path(os.path.expanduser(path)).absolute()) if path else path  # noqa: PTH111 - keeps "./~"


def _check_decoder(decoder: str) -> None:
    if decoder != "pyav" and find_spec(decoder) is None:
        # Imported here, because a process that only starts workers needs no PyAV.
        from colbert_video.video.decode.other_decoders import OTHER_DECODERS

        OTHER_DECODERS[decoder].load()
