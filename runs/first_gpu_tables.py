"""The tables of `first_gpu.py`, made of what its steps have written so far: Markdown, and the same figures as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from first_gpu_plan import FirstGpuPlan, read_json

from colbert_video.durable import write_text
from colbert_video.training.evaluation.seed_spread import SUMMARY

RANKS = ("R@1", "R@5", "R@10", "nDCG@10", "MdR", "MnR")
PAPER_LATENCY = {"indexing, MMS_F": 8.90, "indexing, MMS_FV": 9.64, "query": 11.2}
"""Table 11 of the paper, on an A5000: milliseconds a video without decoding, and a query."""
NOTHING = "–"
NO_MEANING = "Stand-ins of clips and models: these figures mean nothing."


def write_tables(plan: FirstGpuPlan) -> list[Path]:
    """Write a table for each kind of step that has results.

    Returns:
        The Markdown files.
    """
    made = {
        "zero-shot": _zero_shot(plan),
        "timings": _timings(plan),
        "paper-row": _paper_row(plan),
        "mteb": _mteb(plan),
    }
    plan.tables.mkdir(exist_ok=True)
    written = []
    for name, (lines, figures) in ((name, one) for name, one in made.items() if one is not None):
        notes = [NO_MEANING, ""] if plan.tiny else []
        path = plan.tables / f"{name}.md"
        write_text(path, "\n".join([*notes, *lines]) + "\n")
        write_text(path.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
        written.append(path)
    return written


def _zero_shot(plan: FirstGpuPlan) -> tuple[list[str], Any] | None:
    report = plan.zero_shot / "report.json"
    if not report.is_file():
        return None
    values = read_json(report)
    rows = [(f"ours, {name}", values["ours"][name]) for name in values["ours"]]
    rows += [(one["source"], one["published"]) for one in values["comparisons"]]
    return [*_metric_table("CLIP ViT-B/32 as it is, MSR-VTT 1K-A", rows), *_reservations([values])], values


def _paper_row(plan: FirstGpuPlan) -> tuple[list[str], Any] | None:
    summary = plan.paper / SUMMARY
    if not summary.is_file():
        return None
    values = read_json(summary)
    reports = list(values["seeds"].values())
    (compared,) = reports[0]["comparisons"]
    spread = values["ours"][compared["interaction"]]
    rows = [
        (f"ours, mean of seeds {', '.join(values['seeds'])}", {name: one["mean"] for name, one in spread.items()}),
        ("standard deviation", {name: one["std"] for name, one in spread.items()}),
        *((f"ours, seed {seed}", report["ours"][compared["interaction"]]) for seed, report in values["seeds"].items()),
        (compared["source"], compared["published"]),
    ]
    return [*_metric_table("Video-ColBERT with CLIP ViT-B/32, MSR-VTT", rows), *_reservations(reports)], values


def _timings(plan: FirstGpuPlan) -> tuple[list[str], Any] | None:
    if not plan.timings.is_file():
        return None
    values = read_json(plan.timings)
    where = values["gpu"]["name"] if "gpu" in values else values["machine"]["processor"]
    lines = [f"Milliseconds on {where} (the paper's Table 11: A5000), videos of 12 frames without decoding", ""]
    lines += _table(("", "a video, both bags", "one query"), _timing_rows(values["parts"]))
    failed = {name: part["error"] for name, part in values["parts"].items() if "error" in part}
    lines += [line for name, error in failed.items() for line in ("", f"Part {name} failed: {error.splitlines()[-1]}")]
    return lines, values


def _timing_rows(parts: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        (
            f"ours, {row['precision']}{', compiled' if name.endswith('compiled') else ''}",
            f"{row['ms_per_video_on_device']:.2f}",
            f"{row['ms_one_query']:.2f}",
        )
        for name in ("encoding", "encoding_compiled")
        for row in parts.get(name, {}).get("figures", {"rows": []})["rows"]
    ]
    return [*rows, ("the paper", f"{PAPER_LATENCY['indexing, MMS_FV']:.2f}", f"{PAPER_LATENCY['query']:.1f}")]


def _mteb(plan: FirstGpuPlan) -> tuple[list[str], Any] | None:
    done = [read_json(plan.mteb(task)) for task in plan.tasks if plan.mteb(task).is_file()]
    if not done:
        return None
    shown = [name for name in ("ndcg_at_10", "recall_at_1", "recall_at_5", "recall_at_10") if name in done[0]]
    rows = [
        (
            one["task"],
            *(f"{100 * one[name]:.2f}" if name in one else NOTHING for name in shown),
            str(len(one["refused"])),
        )
        for one in done
    ]
    heads = ("task", *shown, "videos that cannot be read")
    title = f"MTEB, text to video, in percent; the model of seed {plan.seeds[0]}"
    return [title, "", *_table(heads, rows)], done


def _metric_table(title: str, rows: Iterable[tuple[str, Mapping[str, float | None]]]) -> list[str]:
    cells = [(name, *(_figure(metric, figures.get(metric)) for metric in RANKS)) for name, figures in rows]
    return [title, "", *_table(("", *RANKS), cells)]


def _figure(metric: str, value: float | None) -> str:
    return NOTHING if value is None else f"{value:.{3 if metric.startswith('nDCG') else 1}f}"


def _reservations(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    reasons = dict.fromkeys(reason for report in reports for reason in report["reservations"])
    return (
        ["", "Not comparable with the published figures:", "", *(f"- {reason}" for reason in reasons)]
        if reasons
        else []
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *("--:" for _ in heads[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
