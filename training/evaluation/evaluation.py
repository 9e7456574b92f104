"""The result of an evaluation: metrics with the protocol, missing videos and the tie rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from colbert_video.base.wording import counted
from colbert_video.training.data.manifest import reason_lines

TIES = "expected over random orders of videos with equal scores"
RANKS = ("MdR", "MnR")
"""Metrics that are ranks; all others are shares."""
MAX_MISSING = 20
"""Missing videos that tables list; `to_dict` has them all."""

Metrics = dict[str, float]
"""R@1, R@5, R@10, MdR, MnR and nDCG@10 by name."""


@dataclass(frozen=True)
class GroupEvaluation:
    """Retrieval among hard negatives: the videos of a group alone."""

    queries: int
    """Captions whose video has others of its group in the gallery."""
    interactions: Mapping[str, Metrics]
    """By interaction, R@1 of these captions among the videos of the group alone."""
    name: str = "groups"
    """Kind of the groups; key in `Evaluation.to_dict`."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of caption-to-video retrieval."""

    interactions: Mapping[str, Metrics]
    """Metrics by interaction; "index" for a searched index and "run" for a file."""
    protocol: str
    """Which captions are queries and how they are averaged."""
    queries: int
    """Queries that the metrics are averaged over."""
    videos: int
    """Size of the gallery."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Videos that should be in the gallery and are not, each with the reason; their captions are no queries."""
    unranked: int = 0
    """Queries whose ranking ends before it reaches a relevant video; they count as ranked last."""
    groups: GroupEvaluation | None = None
    """Retrieval among hard negatives; None if the data name no groups."""
    transductive: Mapping[str, Mapping[str, Metrics]] | None = None
    """By interaction and normalisation, metrics of scores that all test queries decide together; None if not asked for. Never
    comparable with `interactions`."""

    @property
    def complete(self) -> bool:
        """True if every video is in the gallery; a smaller one makes each query easier."""
        return not self.missing

    @property
    def expected(self) -> int:
        """Size of the gallery if no video were missing."""
        return self.videos + len(self.missing)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the groups' part has their name as key."""
        values: dict[str, Any] = {
            "interactions": {name: dict(metrics) for name, metrics in self.interactions.items()},
            "protocol": self.protocol,
            "ties": TIES,
            "queries": self.queries,
            "videos": self.videos,
            "complete": self.complete,
            "missing": dict(self.missing),
            "unranked": self.unranked,
        }
        if self.groups is not None:
            metrics = {name: dict(metrics) for name, metrics in self.groups.interactions.items()}
            values[self.groups.name] = {"queries": self.groups.queries, "interactions": metrics}
        if self.transductive is not None:
            values["transductive"] = {
                name: {how: dict(metrics) for how, metrics in rows.items()} for name, rows in self.transductive.items()
            }
        return values

    def table(self) -> RenderableType:
        """Return the result for people; missing videos come first."""
        parts: list[RenderableType] = []
        if self.missing:
            parts.append(Text("\n".join(self._missing_lines()), style="bold red"))
        parts += [self._metric_table(), Text("\n".join(self._notes()))]
        if self.transductive is not None:
            parts.append(self._transductive_table(self.transductive))
        return Group(*parts)

    def _missing_lines(self) -> list[str]:
        return [
            f"{len(self.missing)} of {self.expected} videos are missing; these figures are not those of the whole gallery:",
            *reason_lines(self.missing, MAX_MISSING),
        ]

    def _metric_table(self) -> Table:
        title = None if self.complete else f"incomplete: {self.videos} of {self.expected} videos"
        table = Table(title=title, title_justify="left", title_style="bold red")
        names = list(next(iter(self.interactions.values())))
        table.add_column("interaction")
        for name in names:
            table.add_column(name, justify="right")
        if self.groups is not None:
            table.add_column(f"R@1 in {self.groups.name.replace('_', ' ')}", justify="right")
        for interaction, metrics in self.interactions.items():
            cells = [_figure(name, metrics[name]) for name in names]
            if self.groups is not None:
                cells.append(_figure("R@1", self.groups.interactions[interaction]["R@1"]))
            table.add_row(interaction, *cells)
        return table

    def _transductive_table(self, rows: Mapping[str, Mapping[str, Metrics]]) -> Table:
        title = (
            "transductive: all test queries decide together, as no search can; not comparable with the figures above"
        )
        table = Table(title=title, title_justify="left")
        names = list(next(iter(self.interactions.values())))
        table.add_column("scores")
        for name in names:
            table.add_column(name, justify="right")
        for interaction, normalised in rows.items():
            for how, metrics in normalised.items():
                table.add_row(f"{interaction} with {how}", *(_figure(name, metrics[name]) for name in names))
        return table

    def _notes(self) -> list[str]:
        notes = [f"{counted(self.queries, 'query')}, {counted(self.videos, 'video')}; {self.protocol}; {TIES}"]
        if self.groups is not None:
            name = self.groups.name.replace("_", " ")
            notes.append(
                f"{name}: {counted(self.groups.queries, 'query')}, each among the videos of its own group alone"
            )
        if self.unranked:
            notes.append(f"queries that found none of their videos and count as ranked last: {self.unranked}")
        return notes


def _figure(name: str, value: float) -> str:
    if name in RANKS:
        return f"{value:.1f}"
    return f"{value:.3f}" if name.startswith("nDCG") else f"{100 * value:.1f}"
