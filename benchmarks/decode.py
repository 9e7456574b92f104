"""Reading twelve frames of video files: right frames and processor time beside other readers.

    python benchmarks/decode.py --work WORK --clips CLIPS --python decord2=/venv/bin/python opencv=/venv2/bin/python
    python benchmarks/pages.py                              # the tables of docs/video.md from the figures so far

`decode_files` makes the files with the ffmpeg program, `decode_truth` compares with the frames that program shows,
`decode_readers` holds the readers, and `decode_measures` says what is measured. Files stay in the work
folder. Without a folder of real clips, generated pictures take their place.

Every reader runs in a process of its own, under this Python or another one (`--python`) that has its packages and
Pillow: decord (pip install decord torchvision), decord2 (pip install decord2), torchcodec (pip install torch torchcodec;
needs FFmpeg's shared libraries), opencv (pip install opencv-python-headless), the others this package.
"""

import argparse
from pathlib import Path
from typing import Any

from decode_files import hour_files, kind_files, source_clip, speed_files
from decode_measures import Contestant, contestants, hours, memory, outcomes, speed
from decode_readers import READERS
from pages import render
from reports import arguments, load, machine, save

PARTS = ("speed", "hours", "kinds", "clips", "memory")
OPENS = 500


def here(figures: dict[str, Any]) -> dict[str, Any]:
    """This machine, with the releases of the ffmpeg program that outcomes so far were compared with."""
    found = machine()
    known = figures.get("machine", {}).get("ffmpeg", "").split(", ")
    return {**found, "ffmpeg": ", ".join(sorted({*known, found.get("ffmpeg", "")} - {""}))}


def with_others(found: dict[str, dict[str, Any]], known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Outcomes with those of an earlier run for readers that were not asked now; costs would need one run for all."""
    return {
        title: {**entry, "readers": {**known.get(title, {}).get("readers", {}), **entry["readers"]}}
        for title, entry in found.items()
    }


def measured(part: str, readers: dict[str, Contestant], options: argparse.Namespace, known: Any) -> Any:
    """The figures of one part; `known` are those of an earlier run."""
    work: Path = options.work
    if part == "speed":
        return speed(speed_files(work / "speed", options.clips), readers, options.rounds)
    if part == "hours":
        return hours(hour_files(work / "hours", options.clips), readers, options.rounds)
    kinds = kind_files(work / "kinds", source_clip(work / "source.mp4"))
    if part == "kinds":
        files = {kind.title: (path, kind.shows) for kind, path in kinds.items()}
        return with_others(outcomes(files, readers), known)
    if part == "memory":
        return {"ours": memory(readers["ours"], list(kinds.values()), OPENS)}
    clips = sorted(path for path in options.clips.iterdir() if path.suffix != ".md") if options.clips else []
    return with_others(outcomes({path.name: (path, True) for path in clips}, readers), known)


def options_given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__, "decode")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--rounds", type=int, default=3, help="times that all readers take a turn")
    parser.add_argument("--work", type=Path, required=True, help="folder for the files")
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--python", nargs="+", default=[], metavar="READER=PATH")
    return parser.parse_args()


def main() -> None:
    """Measure, part by part; figures of a part take the place of older ones."""
    options = options_given()
    options.work = options.work.resolve()
    figures = load(options.output, default={})
    pythons = dict(pair.split("=", 1) for pair in options.python)
    readers = contestants(options.readers, pythons, options.work)
    try:
        described = {name: reader.ask("describe", limit=120.0) for name, reader in readers.items()}
        for name, answer in described.items():
            if "versions" not in answer:
                print(f"{name} cannot be measured: {answer['detail']}")
                del readers[name]
        versions = {name: described[name]["versions"] for name in readers}
        figures |= {"machine": here(figures), "versions": figures.get("versions", {}) | versions}
        for part in options.parts:
            figures[part] = measured(part, readers, options, figures.get(part, {}))
            save(options.output, figures)
            print(render("decode", part, figures), flush=True)
    finally:
        for reader in readers.values():
            reader.close()


if __name__ == "__main__":
    main()
