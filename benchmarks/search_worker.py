"""The process in which one engine is built and searched; orders come as lines of JSON, answers go back as such.

It does not import this package, so that it runs under any Python that has the engine and numpy. What engines print goes
to the log with their errors.
"""

import argparse
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from processes import carry_out, megabytes
from rivals import ENGINES, Engine
from search_corpus import BAGS, Corpus

BUILT = "built.json"
"""Written into an engine's folder when its index is complete."""


def bytes_of(folder: Path) -> int:
    """Size of all files, without what this benchmark adds."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file() and path.name != BUILT]
    return sum({file.st_ino: file.st_size for file in files}.values())  # a file with two names takes its space once


class Worker:
    """One engine on one corpus."""

    def __init__(self, name: str, corpus: Corpus, folder: Path) -> None:
        self._corpus, self._folder = corpus, folder
        self._engine: Engine = ENGINES[name].load()

    def describe(self) -> dict[str, Any]:
        """What there is to measure."""
        return {
            "versions": f"{self._engine.versions()}, Python {platform.python_version()}",
            "settings": self._engine.settings,
            "reads_tokens": list(self._engine.reads_tokens),
        }

    def build(self) -> dict[str, Any]:
        """Make the index unless a complete one is there; generating tokens is not counted."""
        report = self._folder / BUILT
        if not report.is_file():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            started, wall = time.process_time(), time.monotonic()
            self._engine.build(self._corpus, self._folder)
            seconds = time.process_time() - started
            if not self._corpus.stored:
                seconds -= self._corpus.cache.seconds
            size = bytes_of(self._folder)
            built = {
                "build_cpu_seconds": seconds,
                "build_wall_seconds": time.monotonic() - wall,
                "build_peak_megabytes": megabytes("VmHWM"),
                "index_bytes_per_video": size / self._corpus.world.size,
                "token_bytes_per_video": sum(BAGS.values()) * self._corpus.world.dim * self._engine.value_bytes,
            }
            report.write_text(json.dumps(built), encoding="utf-8")
        return json.loads(report.read_text(encoding="utf-8"))

    def open(self) -> dict[str, Any]:
        """Open the index."""
        started, wall = time.process_time(), time.monotonic()
        self._engine.open(self._corpus, self._folder)
        return {"open_cpu_seconds": time.process_time() - started, "open_wall_seconds": time.monotonic() - wall}

    def search(self, setting: str, first: int, last: int, k: int) -> dict[str, Any]:
        """Answer the queries [first, last), one by one."""
        found, cpu, wall = [], [], []
        for query in self._corpus.queries[first:last]:
            worked, started = time.process_time(), time.perf_counter()
            videos = self._engine.search(query, k, **self._engine.settings[setting])
            wall.append(1000 * (time.perf_counter() - started))
            cpu.append(1000 * (time.process_time() - worked))
            found.append([int(video) for video in videos])
        return {"found": found, "cpu_ms": cpu, "wall_ms": wall, "peak_megabytes": megabytes("VmHWM")}


def main() -> None:
    """Carry out orders until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--core", type=int, help="the only core to run on")
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    worker = Worker(options.engine, Corpus(options.corpus), options.folder)
    carry_out(lambda order: getattr(worker, order))


if __name__ == "__main__":
    main()
