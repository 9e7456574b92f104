"""Speed, recall and size of search beside other late-interaction engines: the same videos, queries and questions.

    python benchmarks/search.py --work WORK --sizes 20000 --python fast-plaid=/venv/bin/python
    python benchmarks/search.py --work WORK --sizes 1000000 --corpus plain --engines ours-4bit
    python benchmarks/pages.py --plots                      # docs/performance.md from the figures so far

Both bags count: the question is always for the ten videos of highest MMS_F + MMS_V. `search_world` generates videos
and queries, `search_corpus` computes the exact answers, `rivals` holds the engines, `search_measures` says what is
measured. Corpora and indexes stay in the work folder; figures that the report holds
are not measured again unless `--again` is given, so a command that was interrupted is simply repeated.

Every engine runs on one thread in a process of its own, under this Python or another one (`--python`) that has its
packages: fast-plaid (pip install fast-plaid), lancedb (pip install lancedb), qdrant and qdrant-hnsw (pip install
qdrant-edge-py), faiss-hnsw and faiss-ivf (pip install faiss-cpu), colbert (pip install
colbert-ai faiss-cpu ninja; needs a C++ compiler), the others this package. CPU time is what the processor worked on a
query; it hardly depends on what else the machine does. Queries a second by the clock does.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from processes import ONE_THREAD
from reports import HERE, arguments, load, machine, save
from rivals import ENGINES
from search_corpus import Corpus
from search_measures import Contest
from search_world import KINDS


class Report:
    """The file of figures: one row for each size, kind of corpus and engine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = load(path, default={"rows": []})["rows"]

    def missing(self, size: int, kind: str, engines: list[str]) -> list[str]:
        """Engines without figures for a corpus."""
        measured = {
            row["engine"] for row in self._rows if (row["size"], row["corpus"]) == (size, kind) and "failed" not in row
        }
        return [name for name in engines if name not in measured]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Put rows in the place of older ones and write the file."""
        new = {_key(row): row for row in rows}
        kept = [row for row in self._rows if _key(row) not in new]
        order = list(ENGINES)
        self._rows = sorted([*kept, *rows], key=lambda row: (row["corpus"], row["size"], order.index(row["engine"])))
        save(self.path, {"machine": machine(), "rows": self._rows})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["size"], row["corpus"], row["engine"]


def prepare(folder: Path, size: int, kind: str, dim: int) -> Corpus:
    """Make the corpus in another process, so that this one stays small."""
    script = [sys.executable, str(HERE / "search_corpus.py"), str(folder)]
    subprocess.run(
        [*script, "--size", str(size), "--kind", kind, "--dim", str(dim)], check=True, env={**os.environ, **ONE_THREAD}
    )
    return Corpus(folder)


def line(row: dict[str, Any]) -> str:
    """A row in short."""
    head = f"{row['corpus']:8} {row['size']:8} {row['engine']:11}"
    if "failed" in row:
        return f"{head} failed: {row['failed']}"
    return "\n".join(
        f"{head} {setting:28} {result['recall']:6.3f} {result['success']:6.3f} {result['cpu_ms']['p50']:8.2f} "
        f"{result['cpu_ms']['p95']:8.2f} {row['build_cpu_seconds']:8.1f} {row['index_bytes_per_video']:8.0f}"
        for setting, result in row["results"].items()
    )


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__, "search")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[20_000])
    parser.add_argument("--corpus", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3, help="times that all engines take a turn")
    parser.add_argument("--cores", nargs="+", type=int, default=[0, 1], help="the first one measures")
    parser.add_argument("--work", type=Path, required=True, help="folder for corpora and indexes")
    parser.add_argument("--python", nargs="+", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--build", action="store_true", help="only build the indexes that are missing")
    parser.add_argument("--again", action="store_true", help="measure what the report holds already")
    parser.add_argument("--rebuild", action="store_true", help="build the engines' indexes again")
    return parser.parse_args()


def main() -> None:
    """Measure every engine on every corpus."""
    options = options_given()
    report = Report(options.output)
    pythons = dict(pair.split("=", 1) for pair in options.python)
    for kind in options.corpus:
        for size in options.sizes:
            names = options.engines if options.again else report.missing(size, kind, options.engines)
            if not names:
                continue
            folder = options.work.resolve() / f"{kind}-{size}-{options.dim}"
            corpus = prepare(folder / "corpus", size, kind, options.dim)
            if options.rebuild:
                for name in names:
                    shutil.rmtree(folder / name, ignore_errors=True)
            contest = Contest(corpus, folder, pythons, options.rounds, options.cores)
            if options.build:
                failed = [row for row in contest.build(names) if "failed" in row]
                print("\n".join(map(line, failed)), end="", flush=True)
                continue
            rows = contest.run(names)
            report.add(rows)
            print("\n".join(map(line, rows)), flush=True)


if __name__ == "__main__":
    main()
