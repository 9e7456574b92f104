"""The tables of docs/video.md, from the figures of `decode.py`: all between `<!-- figures: NAME -->` and `<!-- end -->`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from decode_readers import READERS

from colbert_video.errors import FailureKind

Figures = Mapping[str, Any]
BASE = "decord"
"""Whom speed is compared with: decord as most users write it."""
IN_TABLES = ("ours", "decord", "decord2", "torchcodec", "opencv")
"""Readers whose frames differ; the others are the same with another way to resize."""
REFUSALS = [kind.value for kind in FailureKind]
SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_page(results: Path, page: Path) -> None:
    """Write the tables into the page."""
    figures = json.loads(results.read_text(encoding="utf-8"))
    page.write_text(filled(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


def filled(text: str, figures: Figures) -> str:
    """The page's text with its sections of figures written again."""
    return SECTION.sub(
        lambda match: f"{match[1]}\n{SECTIONS[match[2]](figures)}\n\n{match[3]}",
        text,
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column holds words, the others what the rows say."""
    lines = [f"| {' | '.join(headings)} |", "|---|" + "--:|" * (len(headings) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def speed(figures: Figures) -> str:
    """CPU milliseconds a file, videos a CPU second, and how that compares."""
    sets = figures["speed"]
    names = list(next(iter(sets.values())))
    throughput = {name: videos_per_second(sets, name) for name in names}
    rows = [
        [
            READERS[name].title,
            *(f"{sum(costs[name]) / len(costs[name]):.0f}" for costs in sets.values()),
            f"{throughput[name]:.2f}",
            f"{throughput[name] / throughput[BASE]:.2f}",
        ]
        for name in names
    ]
    return table(["CPU ms a file", *sets, "videos per CPU s", f"times {READERS[BASE].title}"], rows)


def videos_per_second(sets: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> float:
    """Of all sets together."""
    costs = [cost for readers in sets.values() for cost in readers[name]]
    return 1000 * len(costs) / sum(costs)


def hours(figures: Figures) -> str:
    """CPU milliseconds for files of an hour, and wrong frames where they could be told."""
    files = figures["hours"]
    names = list(next(iter(files.values())))
    rows = [
        [READERS[name].title, *(_hour_cell(readers[name]) for readers in files.values())] for name in names
    ]
    return table(["CPU ms", *files], rows)


def _hour_cell(outcome: Mapping[str, Any]) -> str:
    if outcome["outcome"] != "frames":
        return outcome["outcome"]
    wrong = f" ({outcome['wrong']} wrong)" if "wrong" in outcome else ""
    return f"{outcome['cpu_ms']:.0f}{wrong}"


def kinds(figures: Figures) -> str:
    """What becomes of each kind of file with each reader."""
    return _outcome_table("kind of file", figures["kinds"])


def clips(figures: Figures) -> str:
    """Real clips that not all readers get right."""
    files = figures["clips"]
    uneven = {
        name: entry
        for name, entry in files.items()
        if any(entry["readers"][reader]["outcome"] != "right" for reader in IN_TABLES if reader in entry["readers"])
    }  # fmt: skip
    return f"{len(files) - len(uneven)} of {len(files)} clips all readers read right; the others:\n\n" + (
        _outcome_table("clip", {f"`{name}`": entry for name, entry in uneven.items()})
    )


def _outcome_table(heading: str, files: Mapping[str, Any]) -> str:
    names = [name for name in IN_TABLES if name in next(iter(files.values()))["readers"]]
    rows = [
        [title, *(outcome_text(entry["readers"][name], entry["shows"]) for name in names)]
        for title, entry in files.items()
    ]
    return table([heading, *(short(name) for name in names)], rows)


def short(name: str) -> str:
    """A reader without its way to resize."""
    return READERS[name].title.split(",")[0]


def outcome_text(outcome: Mapping[str, Any], shows: bool) -> str:
    """An outcome in a word or two."""
    if outcome["outcome"] == "wrong":
        return f"**{outcome['wrong']} wrong**"
    if outcome["outcome"] == "refused" and outcome["detail"].split(":")[0] in REFUSALS:
        return f"`{outcome['detail'].split(':')[0]}`"
    if outcome["outcome"] == "right":
        return "right, with a warning" if outcome["warnings"] else "right"
    if outcome["outcome"] in ("refused", "error"):
        return "error" if shows else "refused"
    return f"**{outcome['outcome']}**"


def right(figures: Figures) -> str:
    """How many files each reader gets right."""
    parts = {"kinds of file": figures["kinds"], "real clips": figures["clips"]}
    names = [name for name in IN_TABLES if name in figures["versions"]]
    rows = [[short(name), *(right_of(files, name) for files in parts.values())] for name in names]
    return table(["all twelve frames right", *parts], rows)


def right_of(files: Mapping[str, Any], name: str) -> str:
    """Files read right, of those that hold frames."""
    shown = [entry["readers"][name] for entry in files.values() if entry["shows"]]
    return f"{sum(outcome['outcome'] == 'right' for outcome in shown)} of {len(shown)}"


def memory(figures: Figures) -> str:
    """Memory early and late in many opens."""
    held = figures["memory"]["ours"]
    return (
        f"Memory of a process that opens the files of the table above {held['opens']} times in all, good ones and bad: "
        f"{held['early_megabytes']:.0f} MB after {held['opens'] // 5} opens, {held['late_megabytes']:.0f} MB after all."
    )


def machine(figures: Figures) -> str:
    """What was measured with what."""
    facts = figures["machine"]
    versions = "; ".join(dict.fromkeys(figures["versions"].values()))
    return (
        f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['system']}, busy with other work; reference: "
        f"ffmpeg {facts['ffmpeg']}. Versions: {versions}."
    )


SECTIONS: dict[str, Callable[[Figures], str]] = {
    "speed": speed,
    "hours": hours,
    "kinds": kinds,
    "clips": clips,
    "right": right,
    "memory": memory,
    "machine": machine,
}
