"""Measuring engines side by side: they take turns, so that a busy or slow moment of the machine meets all of them.

Settings are chosen on the tuning queries: those that another setting beats in both recall and processor time are
dropped, where reading uncompressed tokens or not makes two kinds. What is reported comes from the other queries alone.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from processes import EndedError, WorkerProcess
from reports import HERE
from search_corpus import TUNING_QUERIES, Corpus

K = 10
THROUGHPUT_QUERIES, WARM_UP_QUERIES = 64, 4


@dataclass
class Contender:
    """An engine that takes part, and its figures so far."""

    name: str
    process: WorkerProcess
    row: dict[str, Any]
    """As in the report."""
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of each round, by setting."""


@dataclass(frozen=True)
class Contest:
    """Some engines on one corpus."""

    corpus: Corpus
    work: Path
    """Where indexes are kept."""
    pythons: Mapping[str, str]
    """Of engines that need another Python than this one."""
    rounds: int
    cores: Sequence[int]
    """The first measures, all together give queries a second."""

    def run(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Measure engines; one that fails is a row that says why."""
        rows = self.build(names)
        contenders = []
        for row in rows:
            if "failed" not in row:
                contenders += self._opened(row)
        for contender in contenders:
            self._guarded(contender, self._tune)
        for _ in range(self.rounds):
            for contender in contenders:
                self._guarded(contender, self._round)
        for contender in contenders:
            self._guarded(contender, self._finish)
            contender.process.close()
        return rows

    def build(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Build what has not been built."""
        return [self._built(name) for name in names]

    def _start(self, name: str, core: int | None) -> WorkerProcess:
        python, folder = self.pythons.get(name, sys.executable), self.work / name
        command = [python, str(HERE / "search_worker.py"), name, str(self.corpus.folder), str(folder)]
        if core is not None:
            command += ["--core", str(core)]
        return WorkerProcess(command, folder.with_name(f"{name}.log"))

    def _built(self, name: str) -> dict[str, Any]:
        """A process only for building: memory and caches of searching start again."""
        world = self.corpus.world
        row: dict[str, Any] = {"engine": name, "size": world.size, "corpus": world.kind, "dim": world.dim}
        row["tuning_queries"] = TUNING_QUERIES
        process = self._start(name, None)
        try:
            row |= process.ask("describe")
            row |= process.ask("build")
            process.close()
        except EndedError as error:
            row["failed"] = str(error)
        return row

    def _opened(self, row: dict[str, Any]) -> list[Contender]:
        contender = Contender(row["engine"], self._start(row["engine"], self.cores[0]), row)
        self._guarded(contender, lambda it: it.row.update(it.process.ask("open")))
        return [] if "failed" in row else [contender]

    def _guarded(self, contender: Contender, step: Any) -> None:
        if "failed" in contender.row:
            return
        try:
            step(contender)
        except EndedError as error:
            contender.row["failed"] = str(error)

    def _tune(self, contender: Contender) -> None:
        """Warm up, and keep the settings that no other one beats."""
        measured = {}
        for setting in contender.row.pop("settings"):
            answer = contender.process.ask("search", setting=setting, first=0, last=TUNING_QUERIES, k=K)
            measured[setting] = {
                "recall": recall(answer["found"], self.corpus.truth[:TUNING_QUERIES]),
                "cpu_ms": median(answer["cpu_ms"]),
            }
        contender.row["tuning"] = measured
        tokens = contender.row["reads_tokens"]
        groups = ([name for name in measured if (name in tokens) == reads] for reads in (False, True))
        kept = [name for group in groups for name in unbeaten({name: measured[name] for name in group})]
        contender.answers = {setting: [] for setting in kept}

    def _round(self, contender: Contender) -> None:
        last = len(self.corpus.queries)
        for setting, answers in contender.answers.items():
            order = {"setting": setting, "first": TUNING_QUERIES, "last": last, "k": K}
            answers.append(contender.process.ask("search", **order))

    def _finish(self, contender: Contender) -> None:
        row, tuning = contender.row, contender.row["tuning"]
        row["results"] = {setting: summary(answers, self.corpus) for setting, answers in contender.answers.items()}
        row["best"] = max(contender.answers, key=lambda setting: tuning[setting]["recall"])
        row["results"][row["best"]]["queries_per_second"] = self._throughput(contender, row["best"])

    def _throughput(self, contender: Contender, setting: str) -> float:
        """Queries a second by the clock, one process a core, all answering the same queries."""
        others = [self._start(contender.name, core) for core in self.cores[1:]]
        last = min(TUNING_QUERIES + THROUGHPUT_QUERIES, len(self.corpus.queries))
        order = {"setting": setting, "first": TUNING_QUERIES, "last": last, "k": K}
        for process in others:
            process.ask("open")
            process.ask("search", setting=setting, first=0, last=WARM_UP_QUERIES, k=K)
        processes = [contender.process, *others]
        started = time.monotonic()
        with ThreadPoolExecutor(len(processes)) as pool:
            answers = list(pool.map(lambda process: process.ask("search", **order), processes))
        seconds = time.monotonic() - started
        for process in others:
            process.close()
        return sum(len(answer["found"]) for answer in answers) / seconds


def recall(found: Sequence[Sequence[int]], truth: np.ndarray) -> float:
    """Share of the exact top 10 that was found."""
    hits = [len(set(videos[:K]) & set(best[:K])) for videos, best in zip(found, truth.tolist(), strict=True)]
    return sum(hits) / (K * len(hits))


def unbeaten(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Settings that no other setting beats: none is faster and finds as much."""
    ordered = sorted(measured, key=lambda name: (measured[name]["cpu_ms"], -measured[name]["recall"]))
    kept: list[str] = []
    for name in ordered:
        if not kept or measured[name]["recall"] > measured[kept[-1]]["recall"]:
            kept.append(name)
    return kept


def summary(answers: Sequence[Mapping[str, Any]], corpus: Corpus) -> dict[str, Any]:
    """Figures of the reported queries over all rounds."""
    found = answers[0]["found"]
    targets = corpus.targets[TUNING_QUERIES:].tolist()
    cpu = np.array([answer["cpu_ms"] for answer in answers])
    wall = np.array([answer["wall_ms"] for answer in answers])
    return {
        "queries": len(found),
        "recall": recall(found, corpus.truth[TUNING_QUERIES:]),
        "success": float(np.mean([bool(v) and v[0] == t for v, t in zip(found, targets, strict=True)])),
        "cpu_ms": {
            "p50": float(np.median(cpu)),
            "p95": float(np.percentile(cpu, 95)),
            "rounds": np.median(cpu, axis=1).tolist(),
        },
        "wall_ms": {"p50": float(np.median(wall)), "p95": float(np.percentile(wall, 95))},
        "peak_megabytes": max(answer["peak_megabytes"] or 0.0 for answer in answers),
    }
