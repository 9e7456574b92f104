"""What 1 million, 100 million and 1 billion videos would need: the tables of docs/scale.md.

    python benchmarks/scale.py                      # from benchmarks/results, with the assumed machines
    python benchmarks/scale.py --assume cores=128 --assume memory_gigabytes=1024

`scale_model` holds the arithmetic. Nothing is measured here: the figures of the other benchmarks are read.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from decode_page import table
from fanout_page import SECTIONS as FANOUT_SECTIONS
from scale_model import GIGA, Assumed, Measured, improved, improvements, measured, plan

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "scale.md"
CORPORA = (1_000_000, 100_000_000, 1_000_000_000)
SECTION = re.compile(r"(<!-- scale: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Figures = Mapping[str, Any]


def figures_of(known: Measured, given: Assumed) -> dict[str, Any]:
    """Everything that the page says, in three parts: measured, assumed, extrapolated."""
    better = {videos: improved(known, given, videos) for videos in CORPORA}
    return {
        "measured": {
            **asdict(known),
            "resident_bytes": known.resident_bytes,
            "process_bytes": known.process_bytes,
        },
        "assumed": asdict(given),
        "extrapolated": {
            "plans": [asdict(plan(videos, known, given)) for videos in CORPORA],
            "improvements": {str(videos): improvements(known, given, videos) for videos in CORPORA},
            "improved_plans": [asdict(plan(videos, better[videos], given)) for videos in CORPORA],
        },
    }


def measured_table(figures: Figures) -> str:
    """What went in, and from where."""
    known = figures["measured"]
    sizes = ", ".join(f"{size:,}" for size in known["sizes"])
    queries = ", ".join(f"{milliseconds:.1f}" for milliseconds in known["query_ms"])
    stages = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in known["stages"].items())
    rows = [
        [f"CPU ms of a query on {sizes} videos", queries, "search.json"],
        ["of these in the largest shard, by stage", stages, "scan.json"],
        ["bytes on disk, a video", f"{known['disk_bytes']:,.0f}", "search.json"],
        [
            "bytes in memory, a video (slope over the sizes)",
            f"{known['resident_bytes']:,.0f}",
            "search.json",
        ],
        ["memory of a searching process besides, GB", f"{known['process_bytes'] / GIGA:.2f}", "search.json"],
        ["CPU s to open the largest shard", f"{known['open_seconds']:.1f}", "search.json"],
        ["CPU ms to compress, codec training included, a video", f"{known['build_ms']:.2f}", "search.json"],
        ["CPU ms to decode, a generated clip", f"{known['decode_ms']:.0f}", "indexing.json"],
        [
            f"CPU ms to encode {known['frames']} frames, ViT-B/32 on a CPU",
            f"{known['encode_ms']:,.0f}",
            "indexing.json",
        ],
    ]
    return table(["measured", "figure", "file in `benchmarks/results`"], rows)


def assumed_table(figures: Figures) -> str:
    """What nobody measured here."""
    given = figures["assumed"]
    rows = [
        [_doc(name), f"{value:,}" if isinstance(value, int) else f"{value:,g}"]
        for name, value in given.items()
    ]
    return table(["assumed", "figure"], rows)


def serving_table(figures: Figures) -> str:
    """Machines, memory, disk and queries."""
    given = figures["assumed"]
    lines: dict[str, Callable[[Figures], str]] = {
        "shards": lambda row: f"{row['shards']:,}",
        "in memory, GB": lambda row: f"{row['resident_gigabytes']:,.0f}",
        "on disk, TB, copies and room to compact": lambda row: f"{row['disk_terabytes']:,.2f}",
        "machines for one copy": lambda row: f"{row['machines']:,}",
        "CPU s a query": lambda row: f"{row['query_cpu_seconds']:,.2f}",
        "queries/s of one copy": lambda row: f"{row['queries_a_second']:,.1f}",
        f"machines for {given['wanted_qps']:g} queries/s": lambda row: f"{row['wanted_machines']:,}",
        "codes of all tokens, which a query reads, GB": lambda row: f"{row['scanned_gigabytes']:,.1f}",
        "kB over the network a query, each machine asked once": lambda row: f"{row['query_kilobytes']:,.0f}",
        "kB, each shard asked by itself": lambda row: f"{row['query_kilobytes_flat']:,.0f}",
        "hits to merge, each shard asked by itself": lambda row: f"{row['merged_hits']:,}",
    }
    return _by_corpus(figures["extrapolated"]["plans"], lines)


def building_table(figures: Figures) -> str:
    """Hours to build, and to build again."""
    lines: dict[str, Callable[[Figures], str]] = {
        "decode, CPU hours": lambda row: _hours(row["decode_hours"]),
        "encode, GPU hours (assumed speed)": lambda row: _hours(row["encode_gpu_hours"]),
        "encode, CPU hours instead": lambda row: _hours(row["encode_cpu_hours"]),
        "compress, CPU hours": lambda row: _hours(row["compress_hours"]),
        "days on the assumed cores and GPUs": lambda row: f"{row['build_days']:,.2g}",
        "new model: decode, encode and compress again, CPU hours": lambda row: _hours(
            row["decode_hours"] + row["compress_hours"]
        ),
        "new codec from stored tokens, CPU hours": lambda row: _hours(row["recode_hours"]),
    }
    return _by_corpus(figures["extrapolated"]["plans"], lines)


def improvements_table(figures: Figures) -> str:
    """CPU of one shard, change by change, and what the whole corpus would then need."""
    part = figures["extrapolated"]
    names = list(next(iter(part["improvements"].values())))
    rows = [
        [
            f"CPU ms a shard: {name}",
            *(f"{part['improvements'][str(videos)][name]:.1f}" for videos in CORPORA),
        ]
        for name in names
    ]
    wanted = f"{figures['assumed']['wanted_qps']:g}"
    for title, name in (("machines", "plans"), ("machines with all of these", "improved_plans")):
        cells = [f"{row['wanted_machines']:,}" for row in part[name]]
        rows.append([f"{title} for {wanted} queries/s", *cells])
    return table(["", *(f"{videos:,} videos" for videos in CORPORA)], rows)


def _by_corpus(plans: list[Figures], lines: Mapping[str, Callable[[Figures], str]]) -> str:
    rows = [[name, *(cell(row) for row in plans)] for name, cell in lines.items()]
    return table(["extrapolated", *(f"{row['videos']:,} videos" for row in plans)], rows)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:,.1f}"


def _doc(name: str) -> str:
    """An assumption in words: its docstring's first sentence."""
    source = (HERE / "scale_model.py").read_text(encoding="utf-8")
    found = re.search(rf'    {name}: \w+ = [^\n]*\n    """(.*?)\.?"""', source)
    return name if found is None else found[1].rstrip(".")


SECTIONS: dict[str, Callable[[Figures], str]] = {
    "measured": measured_table,
    "assumed": assumed_table,
    "serving": serving_table,
    "building": building_table,
    "improvements": improvements_table,
}


def filled(text: str, figures: Figures, fanout: Figures | None) -> str:
    """The page's text with its tables written again; those of `fanout.py` stay if its figures are missing."""

    def section(match: re.Match[str]) -> str:
        name = match[2]
        if name in SECTIONS:
            return f"{match[1]}\n{SECTIONS[name](figures)}\n\n{match[3]}"
        return match[0] if fanout is None else f"{match[1]}\n{FANOUT_SECTIONS[name](fanout)}\n\n{match[3]}"

    return SECTION.sub(section, text)


def write_page(results: Path, page: Path) -> None:
    """Write the tables into the page."""
    figures, fanout = results / "scale.json", results / "fanout.json"
    text = filled(
        page.read_text(encoding="utf-8"),
        json.loads(figures.read_text(encoding="utf-8")),
        json.loads(fanout.read_text(encoding="utf-8")) if fanout.is_file() else None,
    )
    page.write_text(text, encoding="utf-8")


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
    """Extrapolate, print the tables and, without changed assumptions, write them down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="another assumption; not written"
    )
    changes = parser.parse_args().assume
    figures = figures_of(measured(RESULTS), assumptions(changes))
    for name, section in SECTIONS.items():
        print(f"{name}\n\n{section(figures)}\n")
    if not changes:
        (RESULTS / "scale.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        write_page(RESULTS, PAGE)


if __name__ == "__main__":
    main()
