"""docs/performance.md and its plots, from the figures of `search.py`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rivals import ENGINES
from rivals.ours import TYPICAL_QUERIES
from search_figures import draw_cost, draw_pooling, draw_recall

Row = Mapping[str, Any]
OURS = tuple(name for name in ENGINES if name.startswith("ours"))
KIND_TITLES = {"plain": "plain corpus", "outliers": "outlier dimensions"}
SAME_RECALL = 0.005
"""Recalls this close count as equal: 1,280 results are compared."""
HEADINGS = (
    "engine",
    "setting",
    "recall@10",
    "success@1",
    "CPU ms p50",
    "p95",
    "queries/s",
    "build CPU s",
    "open s",
    "kB/video",
    "peak GB",
)
INTRODUCTION = """# Search performance

How fast and how completely the ten videos of highest MMS_F + MMS_V are found, beside other late-interaction engines.
All figures come from one command, `python benchmarks/search.py`; this page and its plots are written by
`python benchmarks/search.py --page` from `benchmarks/results/{results}`.
"""
METHOD = """## How it is measured

- **Videos**: synthetic token bags of {dim} dimensions, 12 frame tokens and 14 video tokens a video, 32 tokens a query
  (`benchmarks/search_world.py`). The corpus with outlier dimensions adds a large common component in a few fixed
  dimensions, as features of CLIP have it. Clear scenes and concepts favour every index that clusters; ratios on real
  features may differ.
- **Recall@10** is the share of the ten best videos by exact single-precision scores of both bags. **Success@1** is how
  often the video that a query was made from comes first; exact search does not always put it there either.
- **CPU ms** is processor time of a query on one thread and one core, median and 95th percentile over {queries}
  queries and {rounds} rounds in which the engines take turns. **Queries/s** is by the clock, one process on each of
  two cores: other work ran on the machine, so take it as a lower bound and as noisy.
- **Settings** are chosen on {tuning} other queries. Of the settings that read uncompressed tokens, and of those that
  do not, the table has the one of best recall there, and the cheapest within one point of it; the plots have all that
  no other setting beats in both recall and time. In bold: the engine's best recall, whose queries/s are measured.
- **Both bags, the same way for all**: each bag's index retrieves, the union is scored by the sum. Settings marked
  fp32, both faiss engines and exhaustive search read uncompressed tokens, which kB/video includes; without that mark
  an engine uses its own compressed tokens. Stock ColBERT scores in the other bag only what that bag did not retrieve.
- **Stock ColBERT** builds and searches with its own code; only its text encoder is replaced, by one that hands over
  tokens. Reading tokens is part of every build, encoding videos of none.
- **colbert_video** is handed {typical} queries of another random stream when it builds, as many as an index run of videos
  encodes with the model's own text tower; [what they bring](#rounding-along-the-direction-of-queries) was measured.
- **Open s** is the time by the clock until an index can be searched; how much of its files the system still held in
  memory is as it happened.
- **Peak GB** is the resident memory of the searching process, mapped files included.

Machine: {processor}, {cores} cores, {system}.
"""


POOLING = "pooling.json"
POOLING_SECTION = """
## Fewer tokens a video

`Indexer(pool_factor=...)` and `Indexer(pool_similarity=...)` let frames that look alike share a token before compression
(`colbert_video/model/pooling.py`). Measured by `python benchmarks/pooling.py` with the shipped toy model on {clips:,} freshly
rendered clips of its synthetic world: MMS_F + MMS_V over tokens read back from {nbits} bits, bytes of codes and residuals
in both bags ({dim} dimensions). Clips are short and mostly still; how much real videos shrink depends on them.

![Recall against bytes a video](figures/pooling.svg)

| rule | tokens a video | bytes a video | R@1 | R@10 |
|---|--:|--:|--:|--:|
"""

FEEDBACK = "feedback.json"
FEEDBACK_SECTION = """
## Rounding along the direction of queries

All tokens of all queries share a direction, and errors of stored tokens along it add up in a score.
[Error feedback](how-it-works.md#compression) makes them cancel, at the price of slightly larger errors elsewhere. Measured by
`python benchmarks/feedback.py` on {videos:,} videos of each synthetic corpus and {clips:,} rendered clips of the toy model, all
read back and searched exhaustively: recall@10, and the root mean square error of the scores of the 60 best videos. *Shared*
is the length of the mean query. Where much is shared much is gained, where little is, nothing to speak of is gained or lost.

| corpus | shared | bits | error, plain rounding | with feedback | recall@10, plain rounding | with feedback |
|---|--:|--:|--:|--:|--:|--:|
"""


def feedback_section(report: Mapping[str, Any]) -> str:
    """Errors and recall with and without error feedback."""
    pairs = zip(report["rows"][::2], report["rows"][1::2], strict=True)
    lines = [
        f"| {plain['corpus']} | {plain['length']:.2f} | {plain['nbits']} | {plain['error']:.2e} | {fed['error']:.2e} | "
        f"{plain['recall@10']:.3f} | {fed['recall@10']:.3f} |"
        for plain, fed in pairs
    ]
    return FEEDBACK_SECTION.format(**report) + "\n".join(lines) + "\n"


def pooling_section(report: Mapping[str, Any]) -> str:
    """Recall against bytes, with tokens of like frames pooled."""
    lines = []
    for row in report["rows"]:
        rule = "none" if row["value"] is None else f"{row['rule']} {row['value']:g}"
        lines.append(
            f"| {rule} | {row['tokens_per_video']:.1f} | {row['bytes_per_video']:.0f} | {row['R@1']:.3f} | "
            f"{row['R@10']:.3f} |"
        )
    return POOLING_SECTION.format(**report) + "\n".join(lines) + "\n"


def write_page(results: Path, page: Path) -> None:
    """Write the page, and its plots into `figures/` beside it."""
    rows = measured_rows(json.loads(results.read_text(encoding="utf-8")))
    figures = page.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    draw_recall(rows, figures / "search_recall.svg")
    draw_cost(rows, figures / "search_cost.svg")
    pooling = report_beside(results, POOLING)
    if pooling is not None:
        draw_pooling(pooling["rows"], figures / "pooling.svg")
    page.write_text(page_text(results), encoding="utf-8")


def page_text(results: Path) -> str:
    """The whole page in Markdown."""
    report = json.loads(results.read_text(encoding="utf-8"))
    parts = [text_of(report, measured_rows(report), results.name)]
    for name, section in ((FEEDBACK, feedback_section), (POOLING, pooling_section)):
        further = report_beside(results, name)
        if further is not None:
            parts.append(section(further))
    return "".join(parts)


def measured_rows(report: Mapping[str, Any]) -> list[Row]:
    """Rows of the engines that did not fail."""
    return [row for row in report["rows"] if "failed" not in row]


def report_beside(results: Path, name: str) -> Mapping[str, Any] | None:
    """The figures of another benchmark, if they lie beside those of the search."""
    path = results.parent / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def text_of(report: Mapping[str, Any], rows: Sequence[Row], results: str) -> str:
    """What the page says about search."""
    facts = {
        **report["machine"],
        "dim": rows[0]["dim"],
        "queries": " or ".join(map(str, sorted(queries_of(rows), reverse=True))),
        "rounds": " or ".join(map(str, sorted(rounds_of(rows)))),
        "tuning": rows[0]["tuning_queries"],
        "typical": TYPICAL_QUERIES,
    }
    corpora = [(key, list(group)) for key, group in groupby(rows, lambda row: (row["corpus"], row["size"]))]
    return "\n".join(
        [
            INTRODUCTION.format(results=results),
            "![Recall against processor time](figures/search_recall.svg)\n",
            "![Processor time against corpus size](figures/search_cost.svg)\n",
            "## In short\n",
            *(headline(kind, size, group) for (kind, size), group in corpora),
            "",
            METHOD.format(**facts),
            *(table(kind, size, group) for (kind, size), group in corpora),
            "## Not measured\n",
            *not_measured(report["rows"]),
            "",
        ]
    )


def rounds_of(rows: Iterable[Row]) -> set[int]:
    """How often engines took a turn."""
    return {len(result["cpu_ms"]["rounds"]) for row in rows for result in row["results"].values()}


def queries_of(rows: Iterable[Row]) -> set[int]:
    """How many queries were asked; of large corpora fewer."""
    return {result["queries"] for row in rows for result in row["results"].values()}


def headline(kind: str, size: int, rows: Sequence[Row]) -> str:
    """Ours beside the cheapest rival of the same recall, on one corpus."""
    ours = [(row, row["results"][row["best"]]) for row in rows if row["engine"] in OURS]
    sentences = [f"- **{size:,} videos, {KIND_TITLES[kind]}:**"]
    for row, result in ours:
        name, cost = ENGINES[row["engine"]].title, result["cpu_ms"]["p50"]
        sentences.append(f"{name}: {cost:.2f} ms at recall {result['recall']:.3f};")
        rival = cheapest_rival(rows, result["recall"] - SAME_RECALL)
        if rival is None:
            sentences.append("no other engine reached that recall.")
        else:
            rival_name, setting, rival_result = rival
            rival_cost = rival_result["cpu_ms"]["p50"]
            sentences.append(
                f"the cheapest other engine of that recall is {rival_name} ({setting}), {rival_cost:.2f} ms at "
                f"{rival_result['recall']:.3f}, {rival_cost / cost:.1f} times as long."
            )
    return " ".join(sentences)


def cheapest_rival(rows: Iterable[Row], least_recall: float) -> tuple[str, str, Mapping[str, Any]] | None:
    """Title, setting and result of the cheapest other engine with enough recall."""
    enough = [
        (ENGINES[row["engine"]].title, setting, result)
        for row in rows
        if row["engine"] not in OURS
        for setting, result in row["results"].items()
        if result["recall"] >= least_recall
    ]
    return min(enough, key=lambda candidate: candidate[2]["cpu_ms"]["p50"], default=None)


def shown(row: Row) -> list[str]:
    """Settings in the table, of those that read uncompressed tokens and of the others.

    Of each kind the best by the tuning queries, and before it the cheapest within a point of its recall.
    """
    tuning, chosen = row["tuning"], []
    for reads in (False, True):
        names = [name for name in row["results"] if (name in row["reads_tokens"]) == reads]
        most = max((tuning[name]["recall"] for name in names), default=0.0)
        close = [name for name in names if tuning[name]["recall"] >= most - 0.01]
        close.sort(key=lambda name: tuning[name]["cpu_ms"])
        chosen += close[:1] + [name for name in close[1:] if tuning[name]["recall"] == most]
    return chosen


def table(kind: str, size: int, rows: Iterable[Row]) -> str:
    """All engines on one corpus."""
    lines = [f"## {size:,} videos, {KIND_TITLES[kind]}\n", f"| {' | '.join(HEADINGS)} |"]
    lines.append("|---|---|" + "--:|" * (len(HEADINGS) - 2))
    rows = list(rows)
    for row in rows:
        lines += [table_line(row, setting) for setting in shown(row)]
    notes = [f"\n{row['note']}" for row in rows if "note" in row]
    return "\n".join([*lines, *notes, ""])


def table_line(row: Row, setting: str) -> str:
    """One engine with one setting."""
    result = row["results"][setting]
    size = row["index_bytes_per_video"]
    if setting in row["reads_tokens"]:
        size += row["token_bytes_per_video"]
    throughput = result.get("queries_per_second")
    cells = [
        ENGINES[row["engine"]].title,
        f"**{setting}**" if setting == row["best"] else setting,
        f"{result['recall']:.3f}",
        f"{result['success']:.3f}",
        f"{result['cpu_ms']['p50']:.2f}",
        f"{result['cpu_ms']['p95']:.2f}",
        "" if throughput is None else f"{throughput:.1f}",
        f"{row['build_cpu_seconds']:.0f}",
        f"{row['open_wall_seconds']:.1f}",
        f"{size / 1000:.1f}",
        f"{result['peak_megabytes'] / 1024:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def not_measured(rows: Iterable[Row]) -> list[str]:
    """What the report lacks, and what failed."""
    rows = list(rows)
    lines = []
    for kind, size in sorted({(row["corpus"], row["size"]) for row in rows}):
        there = {row["engine"]: row for row in rows if (row["corpus"], row["size"]) == (kind, size)}
        absent = [entry.title for name, entry in ENGINES.items() if name not in there]
        where = f"{size:,} videos, {KIND_TITLES[kind]}"
        if absent:
            lines.append(f"- {where}: not run: {', '.join(absent)}.")
        for name, row in there.items():
            if "failed" in row:
                lines.append(f"- {where}: {ENGINES[name].title} failed: `{row['failed'].splitlines()[-1]}`")
    lines.append("- Engines that are servers (Qdrant, Milvus, Vespa, Weaviate), and anything on a GPU.")
    lines.append("- Features of a real model: none can be fetched where this was measured.")
    return lines
