"""Whether all of it runs on a GPU, and how fast: one command of at most eight minutes, one report.

    python benchmarks/gpu.py                                # on the first GPU; benchmarks/results/gpu.json
    python benchmarks/gpu.py --parts encoding search        # some parts alone
    python benchmarks/gpu.py --device cpu --tiny            # whether the script runs; the report goes to standard output

The parts, the most valuable first: the tests that need a GPU (`pytest -m cuda`, which fail without one); encoding with
ViT-B/32 in each precision; a training step of 256 pairs and 12 frames, plain and with GradCache; search with the index
in the GPU's memory, at 20,000 and 1,000,000 videos of random codes, against the CPU; encoding with compiled towers.
Weights are random, since they take as long as trained ones, and nothing is downloaded.

Each part runs in a process of its own within its share of the time, so that one that fails, hangs or runs out of memory
costs no other. The report is written after each part; the exit status is 1 if one failed. `gpu_parts` measures.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts import PARTS, Setup
from reports import RESULTS, arguments, machine, save

SECONDS = 480
"""Time of all parts together."""
MAX_ERROR = 2000
"""Characters of a failed part's last words that the report keeps."""
ON_GPU = RESULTS / "gpu.json"


def run_apart(name: str, setup: Setup, seconds: float) -> dict[str, Any]:
    """Run a part in a fresh process; return its figures, or what went wrong."""
    started = time.monotonic()
    command = [sys.executable, __file__, "--part", name, "--device", setup.device, *(["--tiny"] if setup.tiny else [])]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, problems = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return {"seconds": time.monotonic() - started, "error": f"it took longer than its {seconds:.0f} s"}
    took = {"seconds": time.monotonic() - started}
    if process.returncode:
        words = (problems or out).strip()[-MAX_ERROR:]
        return {**took, "error": f"exit code {process.returncode}: {words}"}
    return {**took, "figures": json.loads(out.splitlines()[-1])}


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process and those that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def measure(names: list[str], setup: Setup, output: Path | None) -> dict[str, Any]:
    """Run the parts one after the other, writing the report after each."""
    report: dict[str, Any] = {**_described(setup), "parts": {}}
    ends = time.monotonic() + SECONDS
    for name in names:
        left = ends - time.monotonic()
        if left < 1:
            report["parts"][name] = {"seconds": 0.0, "error": f"not run: the {SECONDS} s of all parts were over"}
        else:
            report["parts"][name] = run_apart(name, setup, min(PARTS[name].seconds, left))
        print(_line(name, report["parts"][name]), file=sys.stderr, flush=True)
        if output is not None:
            save(output, report)
    return report


def _described(setup: Setup) -> dict[str, Any]:
    facts = {"machine": machine(), "torch": torch.__version__, "device": setup.device, "tiny": setup.tiny}
    if setup.device == "cpu":
        return facts
    seen = torch.cuda.get_device_properties(setup.device)
    gpu = {"name": seen.name, "gigabytes": seen.total_memory / 2**30, "capability": [seen.major, seen.minor]}
    return {**facts, "cuda": torch.version.cuda, "gpu": gpu}


def _line(name: str, part: dict[str, Any]) -> str:
    said = f"FAILED: {part['error'].splitlines()[-1]}" if "error" in part else PARTS[name].summary(part["figures"])
    return f"{name:20} {part['seconds']:6.1f} s  {said}"


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda:0", help="the GPU, or cpu to try the script")
    parser.add_argument("--tiny", action="store_true", help="small models and corpora, to try the script")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which parts to run")
    parser.add_argument("--output", type=Path, help="file of the figures; of a GPU's by default results/gpu.json")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, and end with status 1 if a part failed."""
    options = options_given()
    setup = Setup(options.device, options.tiny)
    if options.part:
        print(json.dumps(PARTS[options.part].measure(setup)))
        return
    if setup.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu --tiny tries the script.")
    whole_run = setup.device != "cpu" and not setup.tiny
    output = options.output or (ON_GPU if whole_run else None)
    report = measure(options.parts, setup, output)
    if output is None:
        print(json.dumps(report, indent=1))
    if any("error" in part for part in report["parts"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
