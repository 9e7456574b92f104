"""Forge files and requests as strangers could, and count what becomes of them.

    python benchmarks/fuzz.py --minutes 30                  # all kinds, each an equal share of the time
    python benchmarks/fuzz.py --kinds videos --minutes 5
    python benchmarks/fuzz.py --case videos:1234 --seed 0   # one case again

Kinds: index folders (bytes, tensors, JSON, rows of the catalog, links; mostly with true checksums), archives of videos
and exported indexes, video files, checkpoints, text files, and requests to a service over a socket. Cases run in
processes of their own with a time limit. Good ends are a result, and an error of this library; for requests, any status
but 500.

Findings are foreign errors, hangs, crashes, memory without measure, and anything outside of the case's folder that is
read or changed: Python's audit events, inotify on files that forged ones name, and a listener on an address that they
name say so. Each is kept in `--findings`, with its input. The same seed makes the same cases. Linux only.
"""

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports import HERE, arguments, machine, save

KINDS = ("indexes", "archives", "videos", "checkpoints", "texts", "requests")
DEADLINE_SECONDS = 90.0
"""A case that takes longer hangs. Decoding runs in the case's process, so the library's own limits do not end it."""
START_SECONDS = 240.0
"""Time that a process has to make its originals."""


@dataclass
class Counts:
    """What became of the cases of one kind."""

    cases: int = 0
    fine: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Cases by the first error of ours, or status, that they ended in."""
    findings: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    most_memory_bytes: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Count a case that ended."""
        self.cases += 1
        self.slowest_seconds = max(self.slowest_seconds, event["seconds"])
        self.most_memory_bytes = max(self.most_memory_bytes, event["growth"])
        self.findings.update(list(event["found"]))
        if not event["found"]:
            self.refused.update(event["refusals"][:1])
            self.fine += not event["refusals"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        refused = dict(self.refused.most_common())
        return {**vars(self), "seconds": round(self.seconds, 1), "refused": refused, "findings": dict(self.findings)}


class Worker:
    """A process that runs cases of one kind, from a number on."""

    def __init__(self, kind: str, seed: int, start: int, room: Path, log: Path, count: int | None = None) -> None:
        self.current = start
        self._log = log.open("ab")
        command = [sys.executable, str(HERE / "fuzz_worker.py"), kind, str(seed), str(start), str(room)]
        self._process = subprocess.Popen(
            [*command, *([] if count is None else [str(count)])],
            stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._buffer = b""

    def event(self, seconds: float) -> dict[str, Any] | None:
        """The next event; None if there is none in that time.

        Raises:
            EOFError: If the process ended.
        """
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([self._process.stdout], [], [], max(end - time.monotonic(), 0))[0]:
                return None
            data = os.read(self._process.stdout.fileno(), 2**16)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        self.current = event["case"]
        return event

    def close(self) -> int:
        """End the process, and those that it started."""
        try:
            status = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            status = self._process.wait()
        self._log.close()
        return status


def run_kind(kind: str, options: argparse.Namespace, room: Path, seconds: float) -> Counts:
    """Run cases of a kind until the time is over."""
    counts, number, begun = Counts(), 0, time.monotonic()
    end = begun + seconds
    while time.monotonic() < end:
        number = run_worker(kind, options, room, number, end, counts)
    counts.seconds = time.monotonic() - begun
    return counts


def run_worker(kind: str, options: argparse.Namespace, room: Path, start: int, end: float, counts: Counts) -> int:
    """Run cases in one process until the time is over or it ends; return the number of the next case."""
    work = room / kind
    worker = Worker(kind, options.seed, start, work, options.findings / f"{kind}.log")
    number, patience = start, START_SECONDS
    try:
        while time.monotonic() < end:
            event = worker.event(patience)
            if event is None:
                raise TimeoutError
            number, patience = event["case"], DEADLINE_SECONDS
            if "found" in event:
                finish(kind, event, counts, work, options.findings)
                number += 1
        return number
    except (EOFError, TimeoutError) as error:
        status = worker.close()
        what = f"crash ({status})" if isinstance(error, EOFError) else "hang"
        event = {"case": number, "refusals": [], "found": {what: "see the log"}, "seconds": 0.0, "growth": 0}
        finish(kind, event, counts, work, options.findings)
        return number + 1
    finally:
        worker.close()


def finish(kind: str, event: dict[str, Any], counts: Counts, work: Path, findings: Path) -> None:
    """Count a case, and keep its input if something was found."""
    counts.add(event)
    if event["found"]:
        kept = findings / f"{kind}-{event['case']}"
        shutil.rmtree(kept, ignore_errors=True)
        case = work / f"case-{event['case']}"
        if case.exists():
            shutil.move(case, kept)
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "found.json").write_text(json.dumps(event, indent=1))
        first = {what: str(text).splitlines()[0][:200] for what, text in event["found"].items()}
        print(f"{kind}:{event['case']} {first}", flush=True)


def again(case: str, options: argparse.Namespace, room: Path) -> None:
    """Run one case and print what became of it."""
    kind, _, number = case.partition(":")
    work = room / kind
    worker = Worker(kind, options.seed, int(number), work, options.findings / f"{kind}.log", count=1)
    try:
        while (event := worker.event(START_SECONDS)) is not None:
            if "found" in event:
                finish(kind, event, Counts(), work, options.findings)
                print(json.dumps(event, indent=1).replace("\\n", "\n"))
    except EOFError:
        print("the process ended with", worker.close())
    finally:
        worker.close()


def main() -> None:
    """Run the campaign and write its report."""
    parser = arguments(__doc__, "fuzz")
    parser.add_argument("--minutes", type=float, default=30.0, help="time for all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same cases")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of cases")
    parser.add_argument("--case", help="KIND:NUMBER, one case again; writes no report")
    parser.add_argument(
        "--findings", type=Path, default=Path(tempfile.gettempdir()) / "colbert-video-fuzz", help="where findings go"
    )
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="colbert-video-fuzz-") as room:
        if options.case:
            again(options.case, options, Path(room))
            return
        share = options.minutes * 60 / len(options.kinds)
        counts = {}
        for kind in options.kinds:
            counts[kind] = run_kind(kind, options, Path(room), share).to_dict()
            print(kind, json.dumps(counts[kind]), flush=True)
    save(options.output, {"machine": machine(), "seed": options.seed, "minutes": options.minutes, "kinds": counts})


if __name__ == "__main__":
    main()
