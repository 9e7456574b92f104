"""The paper's ablations on the synthetic world: one command, several seeds, a table each (Reddy et al., CVPR 2025).

    python benchmarks/ablations.py                        # everything, three seeds: about half an hour a seed on a core
    python benchmarks/ablations.py --only loss --seeds 0  # one table, one seed
    python benchmarks/ablations.py --budget quick         # two steps a run, to see that all of it works
    python benchmarks/pages.py                            # docs/ablations.md from the figures so far

Every run is added to the figures as soon as it is measured, and a run that the figures hold is not repeated: a command
that was interrupted is simply given again. `ablation_variants` says what is compared, `ablation_training` how it is
trained, and `ablation_measures` what is measured.
"""

import argparse
import logging
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from ablation_measures import Measurement, measure
from ablation_training import BUDGETS, Budget, Workshop, training_arguments
from ablation_variants import TABLES, Settings, choose_variants, runs_of
from reports import RESULTS, load, save

from colbert_video.errors import SettingsError


@dataclass(frozen=True)
class Ledger:
    """The file of figures, which grows run by run."""

    path: Path
    """A JSON file."""
    budget: Budget
    """How much each of its runs was trained."""

    def read(self) -> list[Measurement]:
        """All runs so far.

        Raises:
            SettingsError: If they were made with another budget.
        """
        report = load(self.path)
        if report is None:
            return []
        if report["budget"] != asdict(self.budget):
            raise SettingsError(
                f"{self.path} holds runs of the budget {report['budget']}, not {asdict(self.budget)}; choose another "
                "--output."
            )
        return [Measurement.from_dict(run) for run in report["runs"]]

    def add(self, measurement: Measurement) -> None:
        """Write the file again with one more run; an interruption leaves it as it was."""
        runs = [run.to_dict() for run in [*self.read(), measurement]]
        report = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "budget": asdict(self.budget),
            "runs": runs,
        }
        save(self.path, report)


def open_runs(ledger: Ledger, wanted: list[Settings], seeds: list[int]) -> list[tuple[int, Settings]]:
    """The runs that are still to be made: all of one seed before any of the next."""
    done = {(run.seed, run.settings) for run in ledger.read()}
    return [(seed, settings) for seed in seeds for settings in wanted if (seed, settings) not in done]


def run_all(shop: Workshop, ledger: Ledger, wanted: list[Settings], seeds: list[int]) -> None:
    """Train and measure every run that is still to be made."""
    todo = open_runs(ledger, wanted, seeds)
    shop.render()
    for number, (seed, settings) in enumerate(todo, start=1):
        measurement = measure(shop, settings, seed)
        ledger.add(measurement)
        print(f"{number}/{len(todo)} {line(measurement)}", flush=True)


def line(measurement: Measurement) -> str:
    """A run's figures, with what its settings differ in from the paper's."""
    default = asdict(Settings())
    changed = {name: value for name, value in asdict(measurement.settings).items() if value != default[name]}
    figures = ", ".join(
        f"{name} R@1 {100 * values['R@1']:.1f} pairs {100 * values['motion pairs']:.1f}"
        for name, values in measurement.metrics.items()
    )
    return f"seed {measurement.seed} {changed or 'default'}: {figures} ({measurement.cpu_seconds:.0f} CPU s)"


def options_given(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = training_arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    options = parser.parse_args(given)
    if options.output is None:  # figures that mean nothing stay out of the repository
        kept = options.budget == "full"
        options.output = RESULTS / "ablations.json" if kept else options.cache / f"{options.budget}.json"
    return options


def main(given: list[str] | None = None) -> None:
    """Train what is missing."""
    options = options_given(given)
    budget = BUDGETS[options.budget]
    ledger = Ledger(options.output, budget)
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(options.threads)
    shop = Workshop(options.cache / options.budget, budget, options.device)
    run_all(shop, ledger, runs_of(choose_variants(options.only)), options.seeds)


if __name__ == "__main__":
    main()
