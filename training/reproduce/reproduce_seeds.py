"""A row of the paper from several seeds: each a reproduction in a folder of its own, and the spread of their figures."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from colbert_video.base.user_files import user_path
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError, printable
from colbert_video.training.evaluation.seed_spread import SUMMARY, spread_of
from colbert_video.training.reproduce.plan import ReproducePlan
from colbert_video.training.reproduce.reproduce import reproduce
from colbert_video.training.reproduce.reproduce_report import METRICS, NOTHING, Reproduction

Spread = Mapping[str, Mapping[str, Any]]
"""Mean, standard deviation and values by seed of each metric."""


@dataclass(frozen=True)
class SeveralReproductions:
    """The reproductions of one row from several seeds."""

    runs: Mapping[int, Reproduction]
    """By seed."""

    @property
    def complete(self) -> bool:
        """True if every seed's test split is whole."""
        return all(run.complete for run in self.runs.values())

    @property
    def first(self) -> Reproduction:
        """Any of them, for what they have in common."""
        return next(iter(self.runs.values()))

    @property
    def ours(self) -> dict[str, Spread]:
        """The spread of our figures by interaction, in the units of papers."""
        return {name: spread_of({seed: run.ours[name] for seed, run in self.runs.items()}) for name in self.first.ours}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: all reports, and the spread of their figures."""
        return {
            "row": self.first.row,
            "ours": self.ours,
            "seeds": {str(seed): run.to_dict() for seed, run in self.runs.items()},
        }

    def report(self) -> list[RenderableType]:
        """Return the result for people: means beside published figures, then what keeps them from being compared."""
        table = Table(title=f"{self.first.row}, seeds {', '.join(map(str, self.runs))}", title_justify="left")
        table.add_column("", overflow="fold")
        for name in METRICS:
            table.add_column(name, justify="right")
        for interaction, references in self.first.references.items():
            spread = self.ours[interaction]
            table.add_row(f"ours, {interaction}, mean", *(_cell(name, spread, "mean") for name in METRICS))
            table.add_row("standard deviation", *(_cell(name, spread, "std") for name in METRICS))
            for one in references:
                cells = (
                    f"{one.figures[name]:.{_digits(name)}f}" if name in one.figures else NOTHING for name in METRICS
                )
                table.add_row(one.source, *cells)
                table.add_row("difference of the mean", *(_difference(name, spread, one.figures) for name in METRICS))
        reasons = dict.fromkeys(reason for run in self.runs.values() for reason in run.reservations)
        if not reasons:
            return [table]
        lines = ["NOT COMPARABLE with the published figures:", *(printable(f"  {reason}") for reason in reasons)]
        return [table, Text("\n".join(lines), style="bold red")]


def reproduce_seeds(
    plan: ReproducePlan, output: str | Path, seeds: Sequence[int], **options: Any
) -> SeveralReproductions:
    """Reproduce a row from each seed in `output/seed-N`, and write `output/seeds.json`; finished seeds are not repeated.

    Args:
        plan: The row; its seed is replaced.
        output: Folder of the reproductions.
        seeds: Of the trainings.
        **options: As for `reproduce`.

    Raises:
        SettingsError: If nothing is trained, several processes train together, or as for `reproduce`.
    """
    if plan.zero_shot:
        raise SettingsError("a zero-shot row is not trained and has no seeds; leave --seeds out.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            "several processes train one seed at a time: give --seed N and a folder of its own to each torchrun command."
        )
    output = user_path(output, "output")
    runs = {}
    for seed in seeds:
        found = reproduce(replace(plan, seed=seed), output / f"seed-{seed}", **options)
        if found is not None:
            runs[seed] = found
    result = SeveralReproductions(runs)
    write_text(output / SUMMARY, json.dumps(result.to_dict(), indent=2) + "\n")
    return result


def _digits(metric: str) -> int:
    return 3 if metric.startswith("nDCG") else 1


def _cell(metric: str, spread: Spread, which: str) -> str:
    value = spread[metric][which] if metric in spread else None
    return NOTHING if value is None else f"{value:.{_digits(metric)}f}"


def _difference(metric: str, spread: Spread, figures: Mapping[str, float]) -> str:
    if metric not in figures or metric not in spread:
        return NOTHING
    return f"{spread[metric]['mean'] - figures[metric]:+.{_digits(metric)}f}"
