"""One process of `fuzz.py`: runs cases of one kind, and says before and after each what became of it.

    python benchmarks/fuzz_worker.py KIND SEED START ROOM

It reports one JSON line per event on its standard output. The process that started it sees what kills or hangs it.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = ROOT / "tests" / "support"
sys.path[:0] = [str(ROOT), *(str(path) for path in (SUPPORT, SUPPORT / "corpora", SUPPORT / "programs"))]

ADDRESS_SPACE = 12 * 2**30
"""Bytes that a process may map; this keeps the machine from harm, `MAX_GROWTH` is what is measured."""
MAX_GROWTH = 3 * 2**29
"""Bytes that one case may add to the memory in use."""
READABLE = (
    "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev/null", "/dev/urandom", "/dev/shm", "/etc/ld.so.cache",
    "/etc/mime.types", "/etc/localtime", "/etc/ssl",
)  # fmt: skip
"""What Python and its packages read on their own."""
WATCHED = 0x1 | 0x2 | 0x4 | 0x20 | 0x100 | 0x200 | 0x400 | 0xC0
"""Events of inotify: access, modify, attributes, open, create, delete, moves."""
CHANGES = (
    "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate", "os.chmod", "os.mkdir", "os.rename", "os.symlink",
)  # fmt: skip
"""Audit events that change the file which is their first argument."""


class Listener:
    """Counts the connections to a port of this machine."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections += 1
            connection.close()


class Watch:
    """What happens in a folder and to its files, by any process, as inotify of Linux says it."""

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._file = library.inotify_init1(os.O_NONBLOCK)
        if self._file < 0 or library.inotify_add_watch(self._file, os.fsencode(folder), WATCHED) < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")

    def events(self) -> list[str]:
        """Names of the files that were touched since the last call."""
        names = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._file, 2**16)
            while data:
                _, mask, _, size = struct.unpack_from("iIII", data)
                names.append(f"{data[16 : 16 + size].rstrip(bytes(1)).decode()} ({mask:#x})")
                data = data[16 + size :]
        return names


class Guard:
    """Python's own report of files, processes and connections, as audit events."""

    def __init__(self, room: Path, *, processes: bool) -> None:
        self._writable = (str(room), "/dev/null", "/dev/shm")
        roots = (str(ROOT), str(ROOT.resolve()), sys.prefix, sys.base_prefix)
        self._readable = (*self._writable, *roots, *READABLE)
        self._processes, self._own = processes, os.getpid()
        self.armed = False
        self.own_ports: set[int] = set()
        self.found: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed or os.getpid() != self._own:
            return
        if event == "open":
            self._opened(args[0], args[1], args[2])
        elif event in CHANGES:
            if not relative_to_folder(event, args):
                self._check(event, args[0], self._writable)
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and not self._processes:
            self.found.append(f"{event}: {args[0]!r:.200}")
        elif event == "pickle.find_class":
            self.found.append(f"{event}: {args!r:.200}")
        elif event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "localhost"):
            self.found.append(f"network: {args[:2]!r:.200}")
        elif event == "socket.connect" and isinstance(args[1], tuple) and args[1][1] not in self.own_ports:
            self.found.append(f"network: {args[1]!r:.200}")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        self._check("opened", path, self._writable if writes else self._readable)

    def _check(self, event: str, path: Any, allowed: tuple[str, ...]) -> None:
        if isinstance(path, int):
            return
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - does not follow links
        if not any(whole == root or whole.startswith(root + "/") for root in allowed):
            self.found.append(f"{event} outside: {whole[:200]}")


class Report:
    """Writes events as JSON lines, on what was the standard output."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def __call__(self, **event: Any) -> None:
        """Write one event."""
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()


def relative_to_folder(event: str, args: tuple[Any, ...]) -> bool:
    """Return whether a path lies in an open folder, as those of `shutil.rmtree`; the last argument is that folder."""
    return event != "os.truncate" and isinstance(args[-1], int) and args[-1] >= 0


def memory(name: str) -> int:
    """Bytes in /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Start measuring the peak of memory again."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def write_lures(folder: Path) -> None:
    """Files that nobody may touch."""
    from video_writer import write_clip

    folder.mkdir(parents=True)
    write_clip(folder / "secret.mp4", 12)
    (folder / "secret.txt").write_text("a secret\n")


def kinds() -> dict[str, Any]:
    """The kinds of cases by name."""
    from fuzz_files import Archives, Checkpoints, Indexes, Texts, Videos
    from fuzz_service import Requests

    made = {"indexes": Indexes, "archives": Archives, "videos": Videos, "checkpoints": Checkpoints, "texts": Texts}
    return {**made, "requests": Requests}


@contextlib.contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    """Note what the block opens, starts and connects to."""
    guard.armed = True
    try:
        yield
    finally:
        guard.armed = False


def seed_of(seed: int, kind: str, number: int) -> int:
    """The same for the same case, whatever ran before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{kind}/{number}".encode()).digest()[:8], "big")


def main() -> None:
    """Run cases from START on until the process that started this one ends it, or one case if COUNT is given."""
    name, seed, start, room = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]).resolve()
    count = int(sys.argv[5]) if len(sys.argv) > 5 else None
    report = Report()
    shutil.rmtree(room, ignore_errors=True)
    (room / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(room / "tmp")
    import torch

    torch.set_num_threads(1)
    from fuzz_files import Lures

    write_lures(room / "lures")
    listener = Listener()
    guard = Guard(room, processes=name == "requests")
    kind = kinds()[name](room / "originals", Lures(room / "lures", listener.address))
    guard.own_ports |= set(getattr(kind, "ports", ()))
    watch = Watch(room / "lures")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    number = start
    while count is None or number < start + count:
        one_case(kind, name, seed, number, room, guard, watch, listener, report)
        number += 1
    getattr(kind, "close", lambda: None)()


def one_case(
    kind: Any,
    name: str,
    seed: int,
    number: int,
    room: Path,
    guard: Guard,
    watch: Watch,
    listener: Listener,
    report: Report,
) -> None:
    """Run a case and report what it did."""
    from fuzz_files import Tried

    work = room / f"case-{number}"
    work.mkdir()
    report(case=number)
    forget_peak()
    before, connections, begun = memory("VmRSS"), listener.connections, time.monotonic()
    tried, problem = Tried(), None
    guard.found.clear()
    try:
        with guarded(guard):
            kind.run(random.Random(seed_of(seed, name, number)), work, tried)
    except Exception as error:
        problem = f"{type(error).__name__}: {error!s:.300}\n{traceback.format_exc()[-6000:]}"
    seconds, growth = time.monotonic() - begun, max(memory("VmHWM") - before, 0)
    findings = {
        "foreign error": problem,
        "outside": "\n".join([*guard.found, *watch.events()]),
        "network": "connected" if listener.connections > connections else None,
        "memory": f"{growth} bytes" if growth > MAX_GROWTH else None,
    }
    found = {what: text for what, text in findings.items() if text}
    if not found:
        shutil.rmtree(work, ignore_errors=True)
    report(case=number, refusals=tried.refusals, found=found, seconds=round(seconds, 3), growth=growth)


if __name__ == "__main__":
    main()
