"""A reproduced row beside the published one, with all reasons why the two cannot be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from colbert_video.errors import printable
from colbert_video.training.data.manifest import reason_lines
from colbert_video.training.evaluation.evaluation import MAX_MISSING, RANKS, Evaluation
from colbert_video.training.reproduce.paper_rows import PAPER_ROWS, ZERO_SHOT_ROWS, Figures

PAPERS = ("R@1", "R@5", "R@10", "nDCG@10")
"""Metrics that the paper prints."""
METRICS = (*PAPERS, "MdR", "MnR")
"""Metrics of a report."""
NOTHING = "–"
"""Shown where a source prints no figure."""


@dataclass(frozen=True)
class Reference:
    """Published figures."""

    source: str
    figures: Figures
    note: str = ""
    """Possible difference from our evaluation."""


@dataclass(frozen=True)
class Reproduction:
    """Our figures of a row and the published ones."""

    row: str
    split: str
    """Protocol of the dataset."""
    model: str
    seed: int | None
    """Seed of the training; None without training."""
    evaluation: Evaluation
    references: Mapping[str, Sequence[Reference]]
    """Published figures by the interaction that they are compared with."""
    expected_videos: int
    """Videos of the published test split."""
    expected_queries: int | None
    """Queries of the published test split."""
    departures: Sequence[str] = ()
    """Differences from the published run."""
    notes: Sequence[str] = ()
    """What the test split shares with the training split, if anything; the published split may share it too."""
    provenance: Mapping[str, Any] | None = None
    """Versions, and digests of weights and data; None where an older version evaluated."""

    @property
    def complete(self) -> bool:
        """True if the test split is whole: no video missing, and as many videos and queries as published."""
        queries = self.expected_queries in (None, self.evaluation.queries)
        return self.evaluation.complete and self.evaluation.videos == self.expected_videos and queries

    @property
    def reservations(self) -> list[str]:
        """Reasons why the figures cannot be compared; empty if they can."""
        reservations = list(self.departures)
        if not self.complete:
            reservations.append(
                f"incomplete: {self.evaluation.videos:,} of {self.expected_videos:,} videos, "
                f"{self.evaluation.queries:,} of {self.expected_queries or 0:,} queries"
            )
        return reservations

    @property
    def ours(self) -> dict[str, dict[str, float]]:
        """Our figures by interaction, in the units of papers."""
        return {name: as_printed(metrics) for name, metrics in self.evaluation.interactions.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; R@k in percent, as papers print it."""
        return {
            "row": self.row,
            "split": self.split,
            "model": self.model,
            "seed": self.seed,
            "queries": self.evaluation.queries,
            "videos": self.evaluation.videos,
            "expected_queries": self.expected_queries,
            "expected_videos": self.expected_videos,
            "complete": self.complete,
            "comparable": not self.reservations,
            "reservations": self.reservations,
            "comparisons": [
                {
                    "interaction": name,
                    "source": reference.source,
                    "note": reference.note,
                    "published": dict(reference.figures),
                    "ours": self.ours[name],
                    "difference": _differences(self.ours[name], reference.figures),
                }
                for name, references in self.references.items()
                for reference in references
            ],
            "ours": self.ours,
            "missing": dict(self.evaluation.missing),
            "protocol": self.evaluation.protocol,
            "notes": list(self.notes),
            "provenance": self.provenance,
        }

    def report(self) -> list[RenderableType]:
        """Return the result for people; reasons against a comparison come last, where they are seen."""
        training = "no training" if self.seed is None else f"seed {self.seed}"
        size = f"{self.evaluation.queries:,} queries, {self.evaluation.videos:,} of {self.expected_videos:,} videos"
        lines = [
            f"{size}; split {self.split}; {training}; {self.evaluation.protocol}",
            printable(f"model: {self.model}"),
            *(f"{one.source}: {one.note}" for two in self.references.values() for one in two if one.note),
            *(printable(f"note: {note}") for note in self.notes),
        ]
        parts: list[RenderableType] = [self._table(), Text("\n".join(lines))]
        if self.reservations:
            warning = ["NOT COMPARABLE with the published figures:", *(printable(f"  {x}") for x in self.reservations)]
            warning += reason_lines({f"missing {x}": y for x, y in self.evaluation.missing.items()}, MAX_MISSING)
            parts.append(Text("\n".join(warning), style="bold red"))
        return parts

    def _table(self) -> Table:
        table = _figures_table(self.row)
        for name, references in self.references.items():
            table.add_row(f"ours, {name}", *_cells(self.ours[name]))
            for reference in references:
                table.add_row(reference.source, *_cells(reference.figures))
                differences = _differences(self.ours[name], reference.figures)
                table.add_row("difference", *_cells(differences, sign="+"), end_section=True)
        return table


def as_printed(metrics: Mapping[str, float]) -> dict[str, float]:
    """Convert metrics to the units of papers: R@k in percent, nDCG as a share, ranks unchanged."""
    shares = (*RANKS, "nDCG@10")
    return {name: value if name in shares else 100 * value for name, value in metrics.items()}


def rows_table() -> list[RenderableType]:
    """Return tables of all rows that can be reproduced, and of the known zero-shot figures."""
    paper = _figures_table("Video-ColBERT (Reddy et al., CVPR 2025)", PAPERS, "printed in", "run here")
    for row in PAPER_ROWS:
        paper.add_row(row.name, row.source, row.ran or "no", *_cells(row.figures, PAPERS))
    shown = [name for name in METRICS if any(name in one.figures for one in ZERO_SHOT_ROWS)]
    known = _figures_table("zero-shot figures of mp_f, none of them run here", shown, "model", "printed in")
    for one in ZERO_SHOT_ROWS:
        split = f"{one.dataset}, {one.split_name}"
        known.add_row(split, one.model, one.source, *_cells(one.figures, shown))
    return [paper, known]


def rows_dict() -> dict[str, Any]:
    """Return the rows of `rows_table` as plain values for JSON."""
    return {
        "paper": [
            {
                "row": row.name,
                "dataset": row.dataset,
                "backbone": row.backbone,
                "variant": row.variant,
                "source": row.source,
                "figures": dict(row.figures),
                "ran": row.ran,
            }
            for row in PAPER_ROWS
        ],
        "zero_shot": [
            {
                "dataset": row.dataset,
                "split": row.split_name,
                "model": row.model,
                "interaction": row.interaction,
                "source": row.source,
                "note": row.note,
                "figures": dict(row.figures),
            }
            for row in ZERO_SHOT_ROWS
        ],
    }


def _figures_table(title: str, metrics: Sequence[str] = METRICS, *more: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=bool(more))  # names are there to be copied
    for name in more:
        table.add_column(name, overflow="fold")
    for name in metrics:
        table.add_column(name, justify="right")
    return table


def _differences(ours: Figures, theirs: Figures) -> dict[str, float]:
    return {name: ours[name] - value for name, value in theirs.items()}


def _cells(figures: Figures, metrics: Sequence[str] = METRICS, *, sign: str = "") -> list[str]:
    return [
        f"{figures[name]:{sign}.{3 if name.startswith('nDCG') else 1}f}" if name in figures else NOTHING
        for name in metrics
    ]
