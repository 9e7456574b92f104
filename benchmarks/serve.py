"""Queries a second and time to answer of `colbert-video serve`, at 1, 8 and 64 clients; and how it bears hours of load.

    python benchmarks/serve.py --build WORK/index --videos 100000 --model toy      # a synthetic index, once
    python benchmarks/serve.py --index WORK/index --model toy --output results.json
    python benchmarks/serve.py --index WORK/index --model toy --soak 30            # minutes, with commits beside

Clients ask one question after the other over a connection of their own. "cached" asks a few texts again and again, whose
tokens the service remembers, so it measures the scoring and the service itself; "encoded" never asks a text twice, so
every query goes through the text encoder. The service is a process of its own; its processor time is read from its own
metrics. The soak runs on a copy of the index, to which another process adds videos and removes them again.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from reports import arguments

from colbert_video.durable import write_text

PROGRAM = "from colbert_video.cli import main; main()"
TEXTS = [
    f"{how} {colour} {shape} {what}"
    for how in ("a small", "a large", "one")
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square", "triangle")
    for what in ("moves to the left", "stands still")
]
MEASURES = {"cpu": "process_cpu_seconds_total", "memory": "process_resident_memory_bytes"}
COMMIT_SECONDS = 5.0
ADDED = 20
"""Videos of a commit of the soak."""


@dataclass
class Outcome:
    """What clients met."""

    seconds: list[float] = field(default_factory=list)
    """Time to each good answer."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Answers by status; "broken" where a connection ended."""

    def summary(self, elapsed: float) -> dict[str, Any]:
        """The figures of a run."""
        times = np.array(self.seconds or [float("nan")]) * 1000
        return {
            "queries": len(self.seconds),
            "queries_per_second": round(len(self.seconds) / elapsed, 1),
            **{f"p{level}_ms": round(float(np.percentile(times, level)), 2) for level in (50, 90, 99)},
            "statuses": dict(self.statuses),
        }


class Client:
    """One keep-alive connection that asks one question at a time."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextmanager
def service(index: Path, options: argparse.Namespace) -> Iterator[str]:
    """A running service; yields its address and checks that it ends well."""
    command = [sys.executable, "-c", PROGRAM, "serve", str(index), "--port", "0", "--threads", str(options.threads)]
    command += ["--model", options.model] if options.model else []
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("serving "):
            raise SystemExit(f"the service did not start: {line!r}")
        yield line.split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        print(f"the service ended with exit code {code}")


async def ready(address: str) -> None:
    """Wait until queries are answered."""
    client = Client(address)
    while (await client.get("/readyz"))[0] != 200:
        await asyncio.sleep(0.1)
    client.close()


async def measured(address: str) -> dict[str, float]:
    """Processor time and memory of the service."""
    client = Client(address)
    text = (await client.get("/metrics"))[1].decode()
    client.close()
    return {
        name: float(re.search(rf"^{metric} (\S+)", text, re.MULTILINE)[1])  # type: ignore[index]
        for name, metric in MEASURES.items()
    }


def paths(mode: str, number: int, k: int) -> Iterator[str]:
    """Questions of one client, without end."""
    for count in itertools.count():
        text = TEXTS[(number + count) % len(TEXTS)]
        own = text if mode == "cached" else f"{text} {number} {count} {time.monotonic_ns() % 100_000}"
        yield f"/api/search?k={k}&query={quote(own)}"


async def ask(address: str, questions: Iterator[str], end: float, outcome: Outcome) -> None:
    """Ask until the time is over."""
    client = Client(address)
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            status, _ = await client.get(next(questions))
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome.statuses[f"broken: {type(error).__name__}"] += 1
            client.close()
            continue
        outcome.statuses[str(status)] += 1
        if status == 200:
            outcome.seconds.append(time.perf_counter() - begun)
        else:
            await asyncio.sleep(0.05)
    client.close()


async def load(address: str, mode: str, clients: int, seconds: float, k: int) -> Outcome:
    """Some clients at once."""
    outcome = Outcome()
    end = time.monotonic() + seconds
    await asyncio.gather(*(ask(address, paths(mode, number, k), end, outcome) for number in range(clients)))
    return outcome


async def speeds(address: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each way of asking and number of clients."""
    await ready(address)
    rows = []
    for mode in options.modes:
        await load(address, mode, 4, min(2.0, options.seconds), options.k)  # warm
        for clients in options.clients:
            before, begun = await measured(address), time.monotonic()
            outcome = await load(address, mode, clients, options.seconds, options.k)
            elapsed, after = time.monotonic() - begun, await measured(address)
            row = {"mode": mode, "clients": clients, **outcome.summary(elapsed)}
            row["cpu_ms_per_query"] = round(1000 * (after["cpu"] - before["cpu"]) / max(row["queries"], 1), 2)
            row["memory_mb"] = round(after["memory"] / 2**20)
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


async def soak(address: str, index: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Load for minutes, commits beside; errors and memory."""
    await ready(address)
    seconds = options.soak * 60
    writer = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--commit-to", str(index), "--soak", str(options.soak)
    )
    memory: list[int] = []

    async def watch() -> None:
        while True:
            memory.append(round((await measured(address))["memory"] / 2**20))
            print(f"{memory[-1]} MB", flush=True)
            await asyncio.sleep(max(seconds / 20, 1.0))

    watching = asyncio.ensure_future(watch())
    begun = time.monotonic()
    outcomes = await asyncio.gather(
        *(load(address, mode, options.clients[-1] // 2 or 1, seconds, options.k) for mode in options.modes)
    )
    watching.cancel()
    code = await writer.wait()
    both = Outcome(
        [one for outcome in outcomes for one in outcome.seconds],
        sum((outcome.statuses for outcome in outcomes), Counter()),
    )
    client = Client(address)
    version = json.loads((await client.get("/api/indexes"))[1])["indexes"][0]["version"]
    client.close()
    return {**both.summary(time.monotonic() - begun), "memory_mb": memory, "version": version, "writer_exit": code}


def commit_for(index: Path, minutes: float) -> None:
    """Add videos and remove them again, a commit every few seconds."""
    from colbert_video import Indexer
    from colbert_video.indexing.upkeep.contents import describe_index

    description = describe_index(index)
    rng = np.random.default_rng(1)
    end = time.monotonic() + 60 * minutes
    for number in itertools.count():
        if time.monotonic() > end:
            return
        ids = [f"soak/{number}/{place}" for place in range(ADDED)]
        bags = [unit_tokens(rng, ADDED, 12 + 2 * kind, description["dim"]) for kind in range(2)]
        Indexer(index, dim=description["dim"]).index_tokens(ids, *bags, add=True)
        time.sleep(COMMIT_SECONDS / 2)
        Indexer(index).remove(ids)
        time.sleep(COMMIT_SECONDS / 2)


def unit_tokens(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random unit vectors."""
    tokens = rng.standard_normal(shape, dtype=np.float32)
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def build(path: Path, videos: int, model: str) -> None:
    """Index random tokens of a model's dimensions."""
    from colbert_video import Indexer, VideoColBERT

    dim = VideoColBERT.from_pretrained(model, device="cpu").dim
    rng = np.random.default_rng(0)
    frame, video = unit_tokens(rng, videos, 12, dim), unit_tokens(rng, videos, 14, dim)
    Indexer(path, dim=dim).index_tokens([f"video/{number}.mp4" for number in range(videos)], frame, video)


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__)
    parser.add_argument("--index", type=Path, help="index to serve")
    parser.add_argument("--build", type=Path, help="only make a synthetic index here")
    parser.add_argument("--videos", type=int, default=100_000, help="of the synthetic index")
    parser.add_argument("--model", help="encodes queries; needed for indexes that name none")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--modes", nargs="+", choices=["cached", "encoded"], default=["cached", "encoded"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=2, help="searches scored at once")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--soak", type=float, help="minutes of load with commits beside")
    parser.add_argument("--commit-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="file for the figures")
    options = parser.parse_args()
    if not (options.index or options.build or options.commit_to):
        parser.error("give --index, or --build to make one")
    return options


def main() -> None:
    """Build, measure or soak."""
    options = options_given()
    if options.commit_to:
        commit_for(options.commit_to, options.soak)
        return
    if options.build:
        build(options.build, options.videos, options.model or "toy")
        return
    with tempfile.TemporaryDirectory() as work:
        index = options.index
        if options.soak:
            index = Path(shutil.copytree(index, Path(work) / "soak.index"))
        with service(index, options) as address:
            run = soak(address, index, options) if options.soak else speeds(address, options)
            figures = asyncio.run(run)  # type: ignore[arg-type]
    text = json.dumps({"cores": os.cpu_count(), "threads": options.threads, "figures": figures}, indent=1)
    print(text)
    if options.output:
        write_text(options.output, text + "\n")


if __name__ == "__main__":
    main()
