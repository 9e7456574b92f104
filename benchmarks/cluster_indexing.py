"""An index run on three machines of which things go wrong: what is lost, what is done twice, and what it costs.

    python benchmarks/cluster_indexing.py --work WORK        # some minutes

Three machines of a Ray cluster, all of them this one, index small clips with the toy model. Among the clips are files that
are no video, files whose decoder aborts or hangs, and a video that kills every worker which takes it. The process that runs
the index is killed with SIGKILL in the middle; the same command is repeated, and then a worker is killed, and later a whole
machine: its scheduler and all its processes at once. What comes out is compared with the index that one process builds here.

Seconds are by the clock, with whatever else the machine does; processor seconds are sampled from the process tree.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from reports import arguments, machine, save

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from paths import CORPORA, PROGRAMS, python_path  # noqa: E402

sys.path[:0] = [str(CORPORA), str(PROGRAMS)]
from cluster_fixture import kill_machine, start_cluster  # noqa: E402
from counting_clips import write_counting_clip  # noqa: E402
from poison_encoder import COMMAND, PoisonEncoder  # noqa: E402

from colbert_video import Indexer  # noqa: E402
from colbert_video.errors import IndexFolderError  # noqa: E402
from colbert_video.indexing.catalog.catalog import Catalog  # noqa: E402
from colbert_video.indexing.upkeep.verify import verify_index  # noqa: E402
from colbert_video.video.sources import VideoRecord  # noqa: E402
from colbert_video.video.workers import pool  # noqa: E402

TORN, ABORTS, HANGS = 5, 2, 1
TIMEOUT = 10.0
"""Seconds that a file may take to decode, so that hanging costs little, and good clips get by on a busy machine."""
DRIVER, WORKER, MACHINE = 0.2, 0.45, 0.65
"""Shares of the clips that must be staged before each is killed."""


def corpus(folder: Path, count: int) -> list[VideoRecord]:
    """Clips and poison among them, the same in every run."""
    folder.mkdir(parents=True, exist_ok=True)
    bad = {f"torn-{number}": folder / f"torn-{number}.mp4" for number in range(TORN)}
    bad |= {f"aborts-{number}": folder / f"{number}" / "signal-SIGABRT" for number in range(ABORTS)}
    bad |= {f"hangs-{number}": folder / f"{number}" / "sleep-600" for number in range(HANGS)}
    for path in bad.values():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no video")
    good = count - len(bad) - 1
    records = []
    for number in range(good):
        path = folder / f"{number:04}.mp4"
        if not path.exists():
            write_counting_clip(path, frames=3 + number % 5, first=number % 50)
        records.append(VideoRecord(path.name, str(path), {"number": number}))
    bad["fatal"] = Path(records[0].path)
    step = good // len(bad)
    for place, (name, path) in enumerate(bad.items()):
        records.insert(place * (step + 1), VideoRecord(name, str(path)))
    return records


def drive(work: Path, address: str, count: int) -> None:
    """Index on the cluster, in a process of its own, which prints its report."""
    import poison_encoder
    from ray import cloudpickle

    from colbert_video.cluster.indexing import cluster_run as indexing

    cloudpickle.register_pickle_by_value(poison_encoder)
    indexing.Encoder = PoisonEncoder  # type: ignore[misc]
    torch.set_num_threads(1)
    indexer = Indexer(work / "run" / "i", model="toy", device="cpu", timeout=TIMEOUT)
    report = indexer.index(corpus(work / "clips", count), cluster=address)
    print(json.dumps(report.to_dict()), flush=True)


def driver(work: Path, address: str, count: int) -> "subprocess.Popen[str]":
    """Start `drive`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, __file__, "--work", str(work), "--clips", str(count), "--drive", address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def staged(path: Path) -> set[str]:
    """Ids of the videos that are staged now."""
    try:
        with Catalog.open(path) as catalog:
            return catalog.staged_ids()
    except IndexFolderError:
        return set()


def wait_until(path: Path, share: float, count: int, process: "subprocess.Popen[str]") -> int:
    """Wait until such a share of the clips is staged; return how many are."""
    while process.poll() is None:
        known = len(staged(path))
        if known >= share * count:
            return known
        time.sleep(0.2)
    raise SystemExit(f"the run ended before {share:.0%} of the clips were staged")


def kill_worker(cluster: Any, process: "subprocess.Popen[str]") -> None:
    """Kill the worker of the second machine while it encodes."""
    raylet = min(map(scheduler, cluster.worker_nodes))
    while process.poll() is None:
        for pid, parent, name, _ in processes():
            if parent == raylet and "Encoder.encode" in name:
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.1)
    raise SystemExit("the run ended before a worker could be killed")


def scheduler(node: Any) -> int:
    """Process number of a machine's scheduler."""
    return int(node.all_processes["raylet"][0].process.pid)


def processes() -> Iterator[tuple[int, int, str, float]]:
    """Number, parent, command line and processor seconds (children that ended included) of all processes."""
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                name = (folder / "cmdline").read_text(errors="replace")
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), int(fields[1]), name, sum(map(int, fields[11:15])) / tick


@contextmanager
def processor_seconds() -> Iterator[dict[str, float]]:
    """Sample what this process and all that descend from it take while the block runs."""
    most: dict[int, float] = {}
    ended, result = threading.Event(), {"cpu_seconds": 0.0}

    def sample() -> None:
        found = {pid: (parent, seconds) for pid, parent, _, seconds in processes()}
        for pid, (parent, seconds) in found.items():
            while parent not in (os.getpid(), 0) and parent in found:
                parent = found[parent][0]
            if parent == os.getpid() or pid == os.getpid():
                most[pid] = max(most.get(pid, 0.0), seconds)

    def watch() -> None:
        while not ended.wait(0.5):
            sample()

    sample()
    before = sum(most.values())
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield result
    finally:
        ended.set()
        thread.join()
        sample()
        result["cpu_seconds"] = sum(most.values()) - before


def contents(path: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Rows and arrays of an index of one segment."""
    with Catalog.open(path) as catalog:
        rows = [{**vars(entry), "segment": None} for entry in catalog.entries()]
    (segment,) = (path / "segments").iterdir()
    arrays = {file.relative_to(segment).as_posix(): file.read_bytes() for file in segment.rglob("*.*")}
    return rows, arrays


def locally(work: Path, records: list[VideoRecord]) -> dict[str, Any]:
    """The same videos in one process; the one that kills workers is left out."""
    pool.COMMAND = COMMAND
    os.environ["PYTHONPATH"] = python_path(os.environ.get("PYTHONPATH", ""))
    here = [record for record in records if record.id != "fatal"]
    with processor_seconds() as spent:
        report = Indexer(work / "local", model="toy", device="cpu", timeout=TIMEOUT, workers=1).index(here)
    return {"seconds": report.seconds, **spent, "indexed": report.indexed, "failed": len(report.failures)}


def on_the_cluster(work: Path, count: int) -> dict[str, Any]:
    """The run that is killed, and the one that goes on and loses a worker and a machine."""
    index, log = work / "run" / "i", work / "run" / "encoded.txt"
    cluster = start_cluster()
    try:
        with processor_seconds() as spent:
            first = driver(work, cluster.address, count)
            wait_until(index, DRIVER, count, first)
            first.kill()
            first.wait()
            before, tried = staged(index), log.read_text().split()
            started = time.monotonic()
            second = driver(work, cluster.address, count)
            wait_until(index, WORKER, count, second)
            kill_worker(cluster, second)
            wait_until(index, MACHINE, count, second)
            kill_machine(cluster, max(cluster.worker_nodes, key=scheduler))
            output, _ = second.communicate(timeout=3600)
            seconds = time.monotonic() - started
    finally:
        cluster.shutdown()
    report = json.loads(output.splitlines()[-1])
    again = Counter(log.read_text().split()[len(tried) :])
    return {
        "seconds_after_the_driver_died": seconds,
        **spent,
        "indexed": report["indexed"],
        "staged_when_the_driver_died": len(before),
        "resumed": report["resumed"],
        "finished_videos_given_out_again": sum(again[name] for name in before),
        "videos_given_out_more_than_once": sum(times > 1 for times in again.values()),
        "most_tries_of_a_video": max(again.values()),
        "failures": {failure["id"]: f"{failure['kind']}: {failure['detail']}" for failure in report["failures"]},
    }


def main() -> None:
    """Run both and compare."""
    parser = arguments(__doc__, "cluster_indexing")
    parser.add_argument("--work", type=Path, required=True, help="folder for clips and indexes")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = options.work.resolve()
    if options.drive:
        drive(work, options.drive, options.clips)
        return
    torch.set_num_threads(1)
    (work / "run").mkdir(parents=True)
    records = corpus(work / "clips", options.clips)
    cluster, local = on_the_cluster(work, options.clips), locally(work, records)
    ours, theirs = contents(work / "run" / "i"), contents(work / "local")
    same = [name for name in theirs[1] if ours[1].get(name) == theirs[1][name]]
    checks = {
        "every_good_clip_once_and_in_order": ours[0] == theirs[0],
        "arrays_equal_those_of_the_local_index": len(same) == len(theirs[1]) == len(ours[1]),
        "every_bad_clip_named": len(cluster["failures"]) == TORN + ABORTS + HANGS + 1,
        "nothing_finished_was_encoded_again": cluster["finished_videos_given_out_again"] == 0,
        "index_verifies": not verify_index(work / "run" / "i").problems,
    }
    figures = {
        "machine": machine(),
        "clips": options.clips,
        "poison": {"torn": TORN, "aborts": ABORTS, "hangs": HANGS, "kills_workers": 1},
        "cluster": cluster,
        "local": local,
        "arrays": {"compared": len(theirs[1]), "equal": len(same)},
        "checks": checks,
    }
    save(options.output, figures)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
