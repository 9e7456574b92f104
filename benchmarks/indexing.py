"""Indexing from end to end: what each stage costs a video, how long the model waits for frames, and memory.

    python benchmarks/indexing.py --work WORK                                      # CPU: some minutes
    python benchmarks/indexing.py --work WORK --models ViT-B-32-quickgelu --device cuda
    python benchmarks/indexing.py --page                        # the tables of docs/video.md from the figures so far

`indexing_measures` says what is measured, `indexing_page` writes the tables. The clips are generated with the ffmpeg
program and stay in the work folder. Models but the toy have random weights, which take as long as trained ones.
"""

import argparse
import json
from pathlib import Path

import torch
from decode import machine, save
from indexing_measures import cases, clips, measure_apart
from indexing_page import PAGE, RESULTS, SECTIONS, write_page


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder for the files")
    parser.add_argument("--models", nargs="+", default=["toy", "ViT-B-32-quickgelu"])
    parser.add_argument(
        "--sizes",
        nargs=2,
        type=int,
        default=[64, 256],
        help="videos in the toy's corpora; a quarter for others",
    )
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write the page's tables")
    options = parser.parse_args()
    if not options.page and options.work is None:
        parser.error("--work is needed: a folder for the files")
    return options


def main() -> None:
    """Measure, case by case; figures of a case take the place of older ones."""
    options = arguments()
    if options.page:
        write_page(options.output, PAGE)
        return
    sources = clips(options.work.resolve())
    old = json.loads(options.output.read_text(encoding="utf-8"))["rows"] if options.output.is_file() else []
    rows = {_key(row): row for row in old}
    for case in cases(options.models, options.sizes, options.device):
        row = measure_apart(case, sources)
        rows[_key(row)] = row
        figures = {"machine": machine(), "torch": torch.__version__, "rows": list(rows.values())}
        save(options.output, figures)
        print(SECTIONS["throughput"]({"rows": [row]}), flush=True)


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("model", "device", "videos", "workers", "threads"))


if __name__ == "__main__":
    main()
