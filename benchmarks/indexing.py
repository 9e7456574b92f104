"""Indexing from end to end: what each stage costs a video, how long the model waits for frames, and memory.

    python benchmarks/indexing.py --work WORK                                      # CPU: some minutes
    python benchmarks/indexing.py --work WORK --models ViT-B-32-quickgelu --device cuda
    python benchmarks/pages.py                                  # the tables of docs/video.md from the figures so far

`indexing_measures` says what is measured. The clips are generated with the ffmpeg
program and stay in the work folder. Models but the toy have random weights, which take as long as trained ones.
"""

import argparse
from pathlib import Path

import torch
from indexing_measures import cases, clips, measure_apart
from pages import render
from reports import arguments, load, machine, save


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__, "indexing")
    parser.add_argument("--work", type=Path, required=True, help="folder for the files")
    parser.add_argument("--models", nargs="+", default=["toy", "ViT-B-32-quickgelu"])
    parser.add_argument(
        "--sizes", nargs=2, type=int, default=[64, 256], help="videos in the toy's corpora; a quarter for others"
    )
    parser.add_argument("--device", help="cpu or cuda; by default the GPU if there is one")
    return parser.parse_args()


def main() -> None:
    """Measure, case by case; figures of a case take the place of older ones."""
    options = options_given()
    sources = clips(options.work.resolve())
    rows = {_key(row): row for row in load(options.output, default={"rows": []})["rows"]}
    for case in cases(options.models, options.sizes, options.device):
        row = measure_apart(case, sources)
        rows[_key(row)] = row
        figures = {"machine": machine(), "torch": torch.__version__, "rows": list(rows.values())}
        save(options.output, figures)
        print(render("indexing", "throughput", {"rows": [row]}), flush=True)


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("model", "device", "videos", "workers", "threads"))


if __name__ == "__main__":
    main()
