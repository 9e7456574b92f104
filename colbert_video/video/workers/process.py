"""One decoding process as its pool sees it: started when needed, killed when late, replaced when dead."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from colbert_video.errors import ColBERTVideoError, FailureKind, VideoError
from colbert_video.video.frames import SampledFrames, SamplingSettings, SourcePicture, VideoHeader
from colbert_video.video.subtitles.timed_line import ReadLines
from colbert_video.video.workers.environment import plain_environment
from colbert_video.video.workers.wire import create_shared_memory, read_answer, read_message, write_message

MODULE = "colbert_video.video.workers.worker"
WITHOUT_WORKING_FOLDER = (
    "import sys; sys.path.remove(''); from runpy import run_module; run_module(sys.argv.pop(1), run_name='__main__')"
)
"""Before Python 3.11, which knows PYTHONSAFEPATH, this keeps the worker from importing modules of the working folder."""


def command_of(module: str) -> tuple[str, ...]:
    """Return the command that runs a module of this package in another process, with `worker_environment`."""
    if sys.version_info >= (3, 11):
        return sys.executable, "-m", module
    return sys.executable, "-c", WITHOUT_WORKING_FOLDER, module


COMMAND = command_of(MODULE)
START_TIMEOUT = 120.0
"""Seconds until a started process must be ready; a cold disk or a busy machine can make it slow."""
PATIENCE = 5.0
"""Seconds that a process whose pipes are closed has to end by itself."""
LAST_WORDS = 2000
"""Bytes of a dead process's standard error to look at."""


class WorkerProcess:
    """Decodes one file at a time in a process of its own, which is started again after a crash.

    Args:
        command: What to start; the descriptor of the shared memory is added to its arguments, if there is any.
        grace: Seconds beyond a file's own time limit after which the process is killed.
    """

    def __init__(self, command: Sequence[str], grace: float) -> None:
        self.command = tuple(command)
        self.grace = grace
        self._running: _Running | None = None
        self._closed = False
        self._lock = threading.Lock()

    def read(self, path: str, settings: SamplingSettings) -> SampledFrames | VideoError:
        """Decode one file; return its frames, or the reason for the refusal.

        Raises:
            ColBERTVideoError: If no process can be started; the file is not to blame for that.
        """
        return self._ask(path, {"settings": settings.to_dict()}, settings.timeout)

    def prepare(self) -> None:
        """Start the process, unless it runs, so that the start is not part of a file's time."""
        self._ready()

    def read_header(self, path: str, seconds: float, stream: int | None = None) -> VideoHeader | VideoError:
        """Read the container and the codec of one stream within the given seconds; returns and raises as `read`."""
        return self._ask(path, {"seconds": seconds, "stream": stream}, seconds)

    def read_source(self, path: str, settings: SamplingSettings) -> SourcePicture | VideoError:
        """Read how players show the pictures of a file; returns and raises as `read`."""
        return self._ask(path, {"source": settings.to_dict()}, settings.timeout)

    def read_texts(self, path: str, settings: SamplingSettings) -> ReadLines | VideoError:
        """Read the lines of a file's text streams; returns and raises as `read`."""
        request = {"text_seconds": settings.timeout, "max_memory": settings.max_memory}
        return self._ask(path, request, settings.timeout)

    def _ask(self, path: str, request: dict[str, Any], seconds: float) -> Any:
        running = self._ready()
        alarm = Alarm(running.process, seconds + self.grace)
        try:
            write_message(running.requests, {"path": path, **request})
            answer = read_answer(running.replies, running.memory)
        except (EOFError, OSError):
            answer = None
        if alarm.cancelled() and answer is not None:
            return answer
        died = self._stop()
        if answer is not None:
            return answer
        if alarm.rang:
            limit = f"{seconds:g} + {self.grace:g} seconds"
            return VideoError(path, FailureKind.TIMEOUT, f"the decoder hung and was killed after {limit}")
        return VideoError(path, FailureKind.CRASHED, f"the decoder {died}")

    def kill(self) -> None:
        """End the process, from any thread, and start no other; `close` must follow."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                self._running.process.kill()

    def close(self) -> None:
        """End the process and release its resources; only once no thread is reading."""
        self.kill()
        self._stop()

    def _ready(self) -> "_Running":
        if self._running is not None and self._running.process.poll() is not None:
            self._stop()  # It died between two files: the next one is not to blame.
        if self._running is None:
            self._start()
        running = self._running
        if running is None:
            raise ColBERTVideoError("the pool of decoding processes is closed; open a new one.")
        running.forget_words()
        return running

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._running = _Running(self.command)
        alarm = Alarm(self._running.process, START_TIMEOUT)
        try:
            read_message(self._running.replies)
        except EOFError as error:
            words = self._running.last_words()
            died = self._stop()
            raise ColBERTVideoError(
                f"the decoding process {' '.join(self.command)} did not start but {died}; check the installation. It "
                f"said:\n{words}"
            ) from error
        finally:
            alarm.cancelled()

    def _stop(self) -> str:
        """End the process if it still runs, release its pipes, and return how it ended, in words."""
        with self._lock:
            running, self._running = self._running, None
        return "" if running is None else running.stop()


class _Running:
    """A started process with its pipes and its shared memory; the next process gets memory of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `stop`
        self.memory = create_shared_memory()
        inherited = () if self.memory is None else (self.memory.descriptor,)
        self.process = subprocess.Popen(
            [*command, *map(str, inherited)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=worker_environment(),
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its workers.
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise ColBERTVideoError("the decoding process has no pipes.")
        self.requests = self.process.stdin
        self.replies = self.process.stdout

    def forget_words(self) -> None:
        """Empty standard error, so that it cannot grow and its last words concern the last file."""
        self.errors.seek(0)  # Moves the process's own position too: both share one open file.
        self.errors.truncate()

    def last_words(self) -> str:
        """Return the end of what the process wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read()[-LAST_WORDS:].decode("utf-8", "replace").strip()

    def stop(self) -> str:
        """Release everything, wait for the end, and return how the process died and what it said last."""
        for pipe in (self.requests, self.replies):
            with suppress(OSError):  # Flushing an unsent request to a dead process fails.
                pipe.close()
        died = death(self._exit_code())
        if self.memory is not None:
            self.memory.close()
        line = self.last_words().rpartition("\n")[2]
        self.errors.close()
        return f"{died}; its last words: {line}" if line else died

    def _exit_code(self) -> int:
        try:
            return self.process.wait(PATIENCE)  # A crashing process may still be writing its core.
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Alarm:
    """Kills a process after the given seconds, unless it is cancelled before."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self.rang = False
        self._process = process
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def cancelled(self) -> bool:
        """Stop the clock; return False if the process has been killed already."""
        self._timer.cancel()
        self._timer.join()
        return not self.rang

    def _ring(self) -> None:
        self.rang = True
        self._process.kill()


def worker_environment() -> dict[str, str]:
    """Return an environment in which a worker finds this package, no module of the working folder, and no secrets."""
    environment = {**plain_environment(), "PYTHONSAFEPATH": "1"}
    home = Path(__file__).resolve().parents[3]
    # The folders of installed packages are left out: modules there would hide those of the standard library.
    if home.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH"))))
    return environment


def death(code: int) -> str:
    """Return how a process ended, such as "was killed by SIGSEGV"; a negative exit code is a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
