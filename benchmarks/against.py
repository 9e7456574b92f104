"""Search, build and encoding of another commit beside this one's, in turns, as ratios of one run.

    python benchmarks/against.py c690e56 --work WORK --sizes 20000 100000

The other commit is checked out in the work folder, with kernels compiled from its own source, and runs under this
Python with its own code alone. Machines differ and so do their hours; both commits take every step in turn in
processes of one core each, so that a ratio of their times means the same anywhere. Corpora and the indexes that a commit
built stay in the work folder. Both search the same index, the one that this commit built, unless `--own-index` is given.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from processes import ONE_THREAD, WorkerProcess
from reports import HERE, arguments, machine, save
from search import prepare
from search_corpus import TUNING_QUERIES, Corpus
from search_measures import K, summary
from search_world import KINDS

ENGINE, SETTING = "ours-4bit", "default"


def checkout(revision: str, work: Path) -> Path:
    """Return a folder with another commit and its compiled kernels."""
    folder = work / f"checkout-{revision}"
    if not folder.is_dir():
        git = ["git", "-C", str(HERE.parent)]
        subprocess.run([*git, "worktree", "add", "--detach", str(folder), revision], check=True)
    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return folder


def worker(root: Path, corpus: Corpus, index: Path, core: int | None) -> WorkerProcess:
    """Start a commit's engine."""
    script = root / "benchmarks" / "search_worker.py"
    command = [sys.executable, str(script), ENGINE, str(corpus.folder), str(index)]
    command += [] if core is None else ["--core", str(core)]
    return WorkerProcess(command, index.with_name(f"{index.name}.log"), PYTHONPATH=str(root))


def built(roots: dict[str, Path], corpus: Corpus, folder: Path) -> dict[str, dict[str, Any]]:
    """Build every commit's index, unless it is there."""
    reports = {}
    for name, root in roots.items():
        process = worker(root, corpus, folder / name, None)
        reports[name] = process.ask("build")
        process.close()
    return reports


def searched(
    roots: dict[str, Path], indexes: dict[str, Path], corpus: Corpus, *, rounds: int, core: int
) -> dict[str, dict[str, Any]]:
    """Have every commit answer the same queries, in turns."""
    processes = {name: worker(root, corpus, indexes[name], core) for name, root in roots.items()}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in roots}
    for process in processes.values():
        process.ask("open")
        process.ask("search", setting=SETTING, first=0, last=TUNING_QUERIES, k=K)
    for number in range(rounds):
        for name, process in list(processes.items())[:: -1 if number % 2 else 1]:
            order: dict[str, Any] = {"setting": SETTING, "first": TUNING_QUERIES, "last": len(corpus.queries), "k": K}
            answers[name].append(process.ask("search", **order))
    for process in processes.values():
        process.close()
    return {name: summary(found, corpus) for name, found in answers.items()}


def encoded(roots: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Median of processor milliseconds of a query and of a clip of 12 frames, every commit in turn."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in roots}
    for _ in range(rounds):
        for name, root in roots.items():
            command = [sys.executable, str(HERE / "against_encoding.py")]
            environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(root)}
            printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            query, clip = map(float, printed.split())
            taken[name].append({"query_ms": query, "clip_ms": clip})
    return {name: {key: median(one[key] for one in ones) for key in ones[0]} for name, ones in taken.items()}


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__, "against")
    parser.add_argument("revision", help="the other commit")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkout, corpora and indexes")
    parser.add_argument("--sizes", nargs="+", type=int, default=[20_000])
    parser.add_argument("--corpus", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3, help="times that both commits take a turn")
    parser.add_argument("--core", type=int, default=0, help="the core that measures")
    parser.add_argument("--own-index", action="store_true", help="each commit builds and searches its own index")
    return parser.parse_args()


def compare(options: argparse.Namespace, roots: dict[str, Path], kind: str, size: int) -> dict[str, Any]:
    """Figures of both commits on one corpus, and this commit's processor time divided by the other's."""
    folder = options.work / f"{kind}-{size}-{options.dim}"
    corpus = prepare(folder / "corpus", size, kind, options.dim)
    row: dict[str, Any] = {"corpus": kind, "size": size}
    indexes = dict.fromkeys(roots, folder / ENGINE)
    if options.own_index:
        indexes = {name: folder / name for name in roots}
        row["build_cpu_seconds"] = {
            name: one["build_cpu_seconds"] for name, one in built(roots, corpus, folder).items()
        }
    else:
        builder = worker(roots["this"], corpus, folder / ENGINE, None)
        builder.ask("build")
        builder.close()
    row["search"] = searched(roots, indexes, corpus, rounds=options.rounds, core=options.core)
    this, other = (row["search"][name]["cpu_ms"]["p50"] for name in roots)
    row["cpu_ratio"] = round(this / other, 3)
    return row


def main() -> None:
    """Measure both commits and write the figures."""
    options = options_given()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    other = f"other-{options.revision}"
    roots = {"this": HERE.parent, other: checkout(options.revision, options.work)}
    report: dict[str, Any] = {"machine": machine(), "revision": options.revision, "rows": []}
    for kind in options.corpus:
        for size in options.sizes:
            row = compare(options, roots, kind, size)
            report["rows"].append(row)
            figures = ", ".join(
                f"{name} {one['cpu_ms']['p50']:.2f} ms at recall {one['recall']:.3f}"
                for name, one in row["search"].items()
            )
            print(f"{kind:8} {size:8} {figures}, ratio {row['cpu_ratio']:.2f}", flush=True)
            save(options.output, report)
    report["encoding"] = encoded(roots, options.rounds)
    print(report["encoding"])
    save(options.output, report)


if __name__ == "__main__":
    main()
