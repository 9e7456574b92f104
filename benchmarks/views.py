"""What templates in `pages/` need beside the figures of a report: comparisons, judgements and words for outcomes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from statistics import mean, stdev
from typing import Any

from reports import HERE

Figures = Mapping[str, Any]
View = Callable[[Figures], dict[str, Any]]
MINUS = "−"


def minus(text: str) -> str:
    """A number with the sign that typesetters use."""
    return text.replace("-", MINUS)


def decimal(value: float | None, sign: str = "") -> str:
    """One decimal, with a plus sign for "+"; a dash for no figure."""
    return "–" if value is None else minus(format(value, f"{sign}.1f"))


def spread(by_seed: Mapping[int, float], sign: str = "") -> str:
    """Mean and standard deviation over seeds; a dash for no figure."""
    values = list(by_seed.values())
    middle = decimal(mean(values) if values else None, sign)
    return middle if len(values) < 2 else f"{middle} ± {stdev(values):.1f}"


# search: who is how fast at which recall

KIND_TITLES = {"plain": "plain corpus", "outliers": "outlier dimensions"}
SAME_RECALL = 0.005
"""Recalls this close count as equal: 1,280 results are compared."""
CLOSE_RECALL = 0.01
"""The table has the cheapest setting that is this close to the best."""


def search(figures: Figures) -> dict[str, Any]:
    """Corpora with their rows, and the settings that their tables show."""
    from rivals.ours import TYPICAL_QUERIES

    measured = [row for row in figures["rows"] if "failed" not in row]
    results = [result for row in measured for result in row["results"].values()]
    queries = sorted({result["queries"] for result in results}, reverse=True)
    rounds = sorted({len(result["cpu_ms"]["rounds"]) for result in results})
    every = sorted(figures["rows"], key=lambda row: (row["corpus"], row["size"]))
    return {
        "corpora": list(_corpora(measured)),
        "everything": list(_corpora(every)),
        "engine": _engine_title,
        "dim": measured[0]["dim"],
        "queries": " or ".join(map(str, queries)),
        "rounds": " or ".join(map(str, rounds)),
        "tuning": measured[0]["tuning_queries"],
        "TYPICAL_QUERIES": TYPICAL_QUERIES,
    }


def _corpora(rows: Iterable[Figures]) -> Iterator[dict[str, Any]]:
    from rivals import ENGINES

    for (kind, size), group in groupby(rows, lambda row: (row["corpus"], row["size"])):
        found = list(group)
        measured = [row for row in found if "failed" not in row]
        names = {row["engine"] for row in found}
        yield {
            "title": f"{size:,} videos, {KIND_TITLES[kind]}",
            "rows": found,
            "headlines": [_headline(row, measured) for row in measured if row["engine"].startswith("ours")],
            "shown": [(row, setting) for row in measured for setting in shown_settings(row)],
            "missing": [engine.title for name, engine in ENGINES.items() if name not in names],
        }


def _engine_title(row: Figures) -> str:
    from rivals import ENGINES

    return ENGINES[row["engine"]].title


def _headline(row: Figures, rows: Iterable[Figures]) -> dict[str, Any]:
    """Our engine beside the cheapest other one of the same recall; `rival` is None where there is none."""
    result = row["results"][row["best"]]
    rivals = [
        {"title": _engine_title(other), "setting": setting, "cost": found["cpu_ms"]["p50"], "recall": found["recall"]}
        for other in rows
        if not other["engine"].startswith("ours")
        for setting, found in other["results"].items()
        if found["recall"] >= result["recall"] - SAME_RECALL
    ]
    return {
        "title": _engine_title(row),
        "cost": result["cpu_ms"]["p50"],
        "recall": result["recall"],
        "rival": min(rivals, key=lambda rival: rival["cost"], default=None),
    }


def shown_settings(row: Figures) -> list[str]:
    """Settings in the table, of those that read uncompressed tokens and of the others.

    Of each kind the best by the tuning queries, and before it the cheapest within `CLOSE_RECALL`.
    """
    tuning, chosen = row["tuning"], []
    for reads in (False, True):
        names = [name for name in row["results"] if (name in row["reads_tokens"]) == reads]
        best = max((tuning[name]["recall"] for name in names), default=0.0)
        close = [name for name in names if tuning[name]["recall"] >= best - CLOSE_RECALL]
        close.sort(key=lambda name: tuning[name]["cpu_ms"])
        chosen += close[:1] + [name for name in close[1:] if tuning[name]["recall"] == best]
    return chosen


# decode: which reader reads what

BASE = "decord"
"""The reader that others are compared with in speed: decord as most users write it."""
READERS_IN_TABLES = ("ours", "decord", "decord2", "torchcodec", "opencv")
"""Readers whose frames differ; the others are the same with another way to resize."""


def decode(figures: Figures) -> dict[str, Any]:
    """Titles of readers, words for outcomes, and speeds."""
    from decode_readers import READERS

    def title(name: str) -> str:
        return READERS[name].title

    return {
        "title": title,
        "short": lambda name: title(name).split(",")[0],  # without its way to resize
        "outcome": outcome_words,
        "hour": _hour_words,
        "compared": _compared,
        "right_of": _right_of,
        "speeds": _videos_per_second(figures.get("speed", {})),
        "uneven": _uneven(figures.get("clips", {})),
        "BASE": BASE,
        "READERS_IN_TABLES": READERS_IN_TABLES,
    }


def outcome_words(outcome: Figures | None, shows: bool) -> str:
    """An outcome in a word or two, "–" if the reader was not asked; `shows` is True for a file that holds frames."""
    from colbert_video.errors import FailureKind

    if outcome is None:
        return "–"
    word, kind = outcome["outcome"], outcome.get("detail", "").split(":")[0]
    if word == "wrong":
        return f"**{outcome['wrong']} wrong**"
    if word == "right":
        return "right, with a warning" if outcome["warnings"] else "right"
    if word == "refused" and kind in [each.value for each in FailureKind]:
        return f"`{kind}`"
    if word in ("refused", "error"):
        return "error" if shows else "refused"
    return f"**{word}**"


def _hour_words(outcome: Figures) -> str:
    if outcome["outcome"] != "frames":
        return outcome["outcome"]
    wrong = f" ({outcome['wrong']} wrong)" if "wrong" in outcome else ""
    return f"{outcome['cpu_ms']:.0f}{wrong}"


def _compared(files: Figures) -> list[str]:
    return [name for name in READERS_IN_TABLES if name in next(iter(files.values()))["readers"]]


def _right_of(files: Figures, name: str) -> str:
    shown = [entry["readers"][name] for entry in files.values() if entry["shows"] and name in entry["readers"]]
    return f"{sum(outcome['outcome'] == 'right' for outcome in shown)} of {len(shown)}"


def _videos_per_second(sets: Figures) -> dict[str, float]:
    """Videos per CPU second of each reader, over all sets together."""
    costs: dict[str, list[float]] = {}
    for readers in sets.values():
        for name, milliseconds in readers.items():
            costs.setdefault(name, []).extend(milliseconds)
    return {name: 1000 * len(each) / sum(each) for name, each in costs.items()}


def _uneven(files: Figures) -> dict[str, Any]:
    """Files that not all readers get right."""
    return {
        name: entry
        for name, entry in files.items()
        if any(
            entry["readers"][reader]["outcome"] != "right" for reader in READERS_IN_TABLES if reader in entry["readers"]
        )
    }


def indexing(_: Figures) -> dict[str, Any]:
    """The stages of indexing a video."""
    return {"STAGES": ("decode", "encode", "write", "compress", "other")}


# scale: what very many videos would need


def scale(figures: Figures) -> dict[str, Any]:
    """Assumptions in words, and hours that are added up."""
    return {"described": {name: _described(name) for name in figures["assumed"]}, "added_hours": _added_hours}


def _added_hours(plan: Figures, names: Sequence[str]) -> str:
    hours = sum(plan[name] for name in names)
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:,.1f}"


def _described(name: str) -> str:
    """An assumption in words: its docstring's first sentence."""
    source = (HERE / "scale_model.py").read_text(encoding="utf-8")
    found = re.search(rf'    {name}: \w+ = [^\n]*\n    """(.*?)\.?"""', source)
    return name if found is None else found[1].rstrip(".")


# ablations: the paper's tables beside ours

COUNTS = 2.0
"""Points of R@1 that a difference has to exceed: about the standard error of R@1 on 500 captions."""


def ablations(figures: Figures) -> dict[str, Any]:
    """Rows of all tables, and how far the runs have come."""
    from ablation_measures import LENGTHS, Measurement
    from ablation_training import INFONCE, SIGMOID, Budget
    from ablation_variants import VARIANTS, Settings

    runs = [Measurement.from_dict(run) for run in figures["runs"]]
    seeds = sorted({run.seed for run in runs})
    wanted = len({variant.settings for variant in VARIANTS})
    return {
        "budget": Budget(**figures["budget"]),
        "runs": runs,
        "seeds": seeds,
        "wanted": wanted,
        "complete": sum(sum(run.seed == seed for run in runs) == wanted for seed in seeds),
        "seconds": [run.cpu_seconds for run in runs if run.settings == Settings()],
        "rows_of": partial(ablation_rows, runs=runs),
        "verdicts": verdicts,
        "paired": paired,
        "LENGTHS": {f"{name} ({_range(*LENGTHS[name])})": name for name in LENGTHS},
        "SIGMOID": SIGMOID,
        "INFONCE": INFONCE,
        "COUNTS": COUNTS,
    }


@dataclass(frozen=True)
class AblationRow:
    """A row of a table, with one run of each seed and the row of the paper's choice."""

    variant: Any
    runs: Mapping[int, Any]
    default: "AblationRow | None" = None
    """The row of the paper's choice; None for that row itself."""

    @property
    def reference(self) -> "AblationRow":
        """The row of the paper's choice."""
        return self.default or self

    @property
    def paper_gain(self) -> float | None:
        """R@1 against the paper's choice in the paper; None where it has none, and for that choice itself."""
        ours, reference = self.variant.paper, self.reference.variant.paper
        return None if None in (ours, reference) or self.default is None else ours - reference

    def figures(self, metric: str) -> dict[int, float]:
        """A metric in percent, by seed."""
        return self._percent(metric, "metrics")

    def by_length(self, length: str) -> dict[int, float]:
        """R@1 of the captions of one length in percent, by seed."""
        return self._percent(length, "by_length")

    def gains(self) -> dict[int, float]:
        """R@1 against the paper's choice, for every seed that both have."""
        return paired(self.figures("R@1"), self.reference.figures("R@1"))

    def _percent(self, name: str, kind: str) -> dict[int, float]:
        found = {seed: getattr(run, kind)[self.variant.interaction] for seed, run in self.runs.items()}
        return {seed: 100 * values[name] for seed, values in found.items() if name in values}


def ablation_rows(table: str, runs: Sequence[Any]) -> list[AblationRow]:
    """The rows of a table, those without a run too."""
    from ablation_variants import choose_variants

    made = {
        variant: {run.seed: run for run in runs if run.settings == variant.settings}
        for variant in choose_variants([table])
    }
    (default,) = (AblationRow(variant, found) for variant, found in made.items() if variant.is_default)
    return [
        default if variant is default.variant else AblationRow(variant, found, default)
        for variant, found in made.items()
    ]


def paired(figures: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Differences by seed."""
    return {seed: value - reference[seed] for seed, value in figures.items() if seed in reference}


def verdicts(rows: Sequence[AblationRow]) -> dict[str, list[str]]:
    """For every row with figures on both sides, whether paper and toy agree about it."""
    judged: dict[str, list[str]] = {"As in the paper": [], "Other than in the paper": [], "Undecided": []}
    for row in rows:
        gains = list(row.gains().values())
        if row.paper_gain is not None and gains:
            found = f"{decimal(row.paper_gain, '+')} in the paper, {decimal(mean(gains), '+')} here"
            judged[judgement(row.paper_gain, gains)].append(f"{row.variant.name} ({found})")
    return judged


def judgement(paper: float, ours: Sequence[float]) -> str:
    """Whether differences of some seeds have the sign of the paper's."""
    one_sign = len({difference > 0 for difference in ours}) == 1
    if len(ours) < 2 or not one_sign or abs(mean(ours)) <= COUNTS:
        return "Undecided"
    return "As in the paper" if (mean(ours) > 0) == (paper > 0) else "Other than in the paper"


def _range(least: int, most: int) -> str:
    from ablation_measures import LENGTHS

    if least == 0:
        return f"up to {most}"
    return f"{least} and more" if most == LENGTHS["long"][1] else f"{least} to {most}"


# nested_dims: tokens whose first dimensions can be used alone


def nested_dims(figures: Figures) -> dict[str, Any]:
    """R@1 in percent by row, dimensions and seed, and the gain of the nested row over the other in each seed."""
    from ablation_training import Budget
    from nested_dims import ROWS, SEARCHED

    dims = [str(dim) for dim in SEARCHED]
    rows: dict[str, dict[str, dict[int, float]]] = {name: {dim: {} for dim in dims} for name in ROWS}
    for run in figures["runs"]:
        for dim in dims:
            rows[run["row"]][dim][run["seed"]] = 100 * run["metrics"][dim]["R@1"]
    plain, nested = rows.values()
    return {
        "budget": Budget(**figures["facts"]["budget"]),
        "dims": dims,
        "rows": rows,
        "seeds": sorted({run["seed"] for run in figures["runs"]}),
        "gains": {dim: paired(nested[dim], plain[dim]) for dim in dims},
    }


# loss_study: losses tuned alike


def loss_study(figures: Figures) -> dict[str, Any]:
    """Tried settings, rows at each length with their differences, and how sure these are."""
    from itertools import combinations

    from ablation_training import Budget
    from loss_study import TUNED, TUNING_SEED
    from loss_study_runs import LossFigures
    from paired_tests import compare, verdicts

    made = [LossFigures.from_dict(run) for run in figures["runs"]]
    tried = {loss: [one for one in made if one.run.loss == loss and one.run.seed == TUNING_SEED] for loss in TUNED}
    pairs = [int(number) for number in figures["pairs"].split()]
    rows_at = {steps: loss_rows(made, steps) for steps in figures["facts"]["lengths"]}
    differences = {
        steps: [
            found
            for one, other in combinations(rows.items(), 2)
            if (found := compare(_row_hits(one), _row_hits(other), pairs)) is not None
        ]
        for steps, rows in rows_at.items()
    }
    return {
        "budget": Budget(**figures["facts"]["budget"]),
        "validation_clips": figures["facts"]["validation_clips"],
        "tried": {loss: runs for loss, runs in tried.items() if runs},
        "TUNED": TUNED,
        "rows_at": {steps: rows for steps, rows in rows_at.items() if rows},
        "verdicts_at": {steps: verdicts(found) for steps, found in differences.items() if found},
        "best_of": lambda runs: max(runs, key=lambda one: one.last),
        "spread_of": lambda row, name: {seed: 100 * one.metrics[name] for seed, one in row.items()},
        "setting": _loss_setting,
    }


def loss_rows(made: Sequence[Any], steps: int) -> dict[str, dict[int, Any]]:
    """The rows of one length by name, with their figures by seed; rows without any are left out."""
    from loss_study import TUNED, TUNING_SEED, fixed_rows, tuned_rows

    rows: dict[str, dict[int, Any]] = {}
    for one in made:
        if one.run.steps != steps or one.run.seed == TUNING_SEED or not one.metrics:
            continue
        whole = {loss for loss in TUNED if any(two.run.loss == loss and two.run.seed == TUNING_SEED for two in made)}
        named = tuned_rows(made, steps, one.run.seed) if whole == {*TUNED} else {}
        for name, run in (named | fixed_rows(steps, one.run.seed)).items():
            if run == one.run:
                rows.setdefault(name, {})[one.run.seed] = one
    return rows


def _row_hits(row: tuple[str, Mapping[int, Any]]) -> tuple[str, dict[int, str]]:
    return row[0], {seed: one.hits for seed, one in row[1].items()}


def _loss_setting(run: Any) -> str:
    """Scale, and the decision point or how it is set."""
    if run.loss.endswith("infonce"):
        return f"{run.scale:g}"
    bias = "calibrated" if run.bias == "calibrate" else f"{-run.bias / run.scale:.2f}"
    return f"{run.scale:g}, {bias}"


# cli: the help texts

HELP_WIDTH = 100


def cli(_: Figures) -> dict[str, Any]:
    """What `--help` prints for the program and each verb, in lines of one width wherever it runs."""
    import click

    from colbert_video.cli.program import app

    def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> str:
        context = click.Context(
            command, info_name=name, parent=parent, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
        )
        context.help_option_names = ["-h", "--help"]
        return command.get_help(context)

    program = click.Context(app, info_name="colbert-video")
    verbs = {name: help_of(command, name, program) for name, command in app.commands.items()}
    return {"verbs": {"": help_of(app, "colbert-video"), **verbs}}


VIEWS: dict[str, View] = {
    "search": search,
    "decode": decode,
    "indexing": indexing,
    "scale": scale,
    "ablations": ablations,
    "loss_study": loss_study,
    "nested_dims": nested_dims,
    "cli": cli,
}
