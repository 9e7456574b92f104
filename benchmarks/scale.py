"""What 1 million, 100 million and 1 billion videos would need: the tables of docs/scale.md.

    python benchmarks/scale.py                      # from benchmarks/results, with the assumed machines
    python benchmarks/scale.py --assume cores=128 --assume memory_gigabytes=1024

`scale_model` holds the arithmetic. Nothing is measured here: the figures of the other benchmarks are read. `pages.py`
writes the tables.
"""

from dataclasses import asdict, fields, replace
from typing import Any

from pages import render
from reports import RESULTS, arguments, save
from scale_model import Assumed, Measured, improved, improvements, measured, plan

CORPORA = (1_000_000, 100_000_000, 1_000_000_000)
BLOCKS = ("measured", "assumed", "serving", "building", "improvements")
"""Tables of docs/scale.md."""


def figures_of(known: Measured, given: Assumed) -> dict[str, Any]:
    """Everything that the page says, in three parts: measured, assumed, extrapolated."""
    better = {videos: improved(known, given, videos) for videos in CORPORA}
    return {
        "measured": {**asdict(known), "resident_bytes": known.resident_bytes, "process_bytes": known.process_bytes},
        "assumed": asdict(given),
        "extrapolated": {
            "plans": [asdict(plan(videos, known, given)) for videos in CORPORA],
            "improvements": {str(videos): improvements(known, given, videos) for videos in CORPORA},
            "improved_plans": [asdict(plan(videos, better[videos], given)) for videos in CORPORA],
        },
    }


def assumptions(changes: list[str]) -> Assumed:
    """The assumptions with changes such as "cores=128"."""
    kinds = {field.name: field.type for field in fields(Assumed)}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in kinds:
            raise SystemExit(f"{name!r} is not assumed; one of {', '.join(kinds)} is.")
        values[name] = int(value) if kinds[name] is int else float(value)
    return replace(Assumed(), **values)


def main() -> None:
    """Extrapolate, print the tables and, without changed assumptions, write the figures down."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="another assumption; not written"
    )
    changes = parser.parse_args().assume
    figures = figures_of(measured(RESULTS), assumptions(changes))
    for block in BLOCKS:
        print(f"{block}\n\n{render('scale', block, figures)}\n")
    if not changes:
        save(RESULTS / "scale.json", figures)


if __name__ == "__main__":
    main()
