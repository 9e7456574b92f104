"""The losses of the paper's Table 4, each tuned alike on validation clips, at two lengths of training, several seeds.

    python benchmarks/loss_study.py                 # everything: about an hour and a half of one core
    python benchmarks/loss_study.py --seeds 0 1     # fewer seeds
    python benchmarks/loss_study.py --budget quick  # a few steps a run, to see that all of it works
    python benchmarks/pages.py --plots              # docs/ablations.md and the learning curves from the figures so far

First every loss is trained with settings of its own, six of InfoNCE and eight of sigmoid losses, which have two numbers to
set, from a seed that no row uses, and the one with the best R@1 on
validation clips is kept; test clips are not looked at. Then the rows are trained: the kept settings, and the untuned ones that
they are compared with. Every run is written as soon as it is measured, and a run that the figures hold is not repeated.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ablation_training import BUDGETS, Workshop, training_arguments
from loss_study_runs import VALIDATION_CLIPS, LossFigures, LossRun, LossShop, measure_loss
from reports import RESULTS, load, machine, save

from colbert_video.training.run.losses import BIAS, LOG_SCALE
from colbert_video.training.run.training_config import LossName

TUNING_SEED = 100
"""The seed that settings are chosen with; no row uses it."""
LENGTHS = {"quick": (2, 4), "full": (120, 480)}
"""Steps of the rows by budget; settings are chosen with the shorter ones."""
SIGMOID_GRID = [(scale, point) for point in (0.35, 0.5, 0.6) for scale in (30.0, 60.0, 100.0)][:-1]
"""Scales, and scores at which a pair is as likely a match as not; of a combined loss half the scale and twice the score."""
INFONCE_GRID = (10.0, 20.0, 30.0, 50.0, 80.0, 120.0)
"""Scales; half of them for a combined loss."""
TUNED: dict[LossName, str] = {
    "dual_sigmoid": "dual sigmoid, tuned",
    "dual_infonce": "dual InfoNCE, tuned",
    "combined_sigmoid": "combined sigmoid, tuned",
    "combined_infonce": "combined InfoNCE, tuned",
}
"""Losses and the names of their rows."""


def grid(loss: LossName, steps: int) -> list[LossRun]:
    """The settings that a loss is tried with."""
    levels = 2 if loss.startswith("combined") else 1
    if loss.endswith("infonce"):
        return [LossRun(loss, scale / levels, None, steps, TUNING_SEED) for scale in INFONCE_GRID]
    return [LossRun(loss, scale / levels, -scale * point, steps, TUNING_SEED) for scale, point in SIGMOID_GRID]


def fixed_rows(steps: int, seed: int) -> dict[str, LossRun]:
    """The rows that nothing was tuned for."""
    paper = round(float(torch.tensor(LOG_SCALE).exp()), 4)
    return {
        "dual sigmoid, calibrated": LossRun("dual_sigmoid", 30.0, "calibrate", steps, seed),
        "dual sigmoid, 30 and −20": LossRun("dual_sigmoid", 30.0, -20.0, steps, seed),
        "dual sigmoid, the paper's constants": LossRun("dual_sigmoid", paper, BIAS, steps, seed),
    }


def tuned_rows(made: list[LossFigures], steps: int, seed: int) -> dict[str, LossRun]:
    """The rows of the settings that did best on validation clips."""
    return {name: replace(best(made, loss), steps=steps, seed=seed) for loss, name in TUNED.items()}


def best(made: list[LossFigures], loss: LossName) -> LossRun:
    """The tried settings of a loss with the best R@1 on validation clips; the first of equals."""
    tried = [figures for figures in made if figures.run.loss == loss and figures.run.seed == TUNING_SEED]
    return max(tried, key=lambda figures: figures.last).run


class LossLedger:
    """The file of figures, which grows run by run.

    Args:
        path: A JSON file.
        facts: What the figures depend on; a file with others is not added to.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts, self.pairs = path, facts, ""
        report = load(path, {})
        if report and report["facts"] != facts:
            raise SystemExit(f"{path} holds runs of {report['facts']}, not {facts}; choose another --output.")
        self.made = [LossFigures.from_dict(run) for run in report.get("runs", [])]

    def get(self, run: LossRun, measure: Callable[[], LossFigures]) -> LossFigures:
        """A run's figures, measured and written unless they are there."""
        for figures in self.made:
            if figures.run == run:
                return figures
        self.made.append(measure())
        self.write()
        print(line(self.made[-1]), flush=True)
        return self.made[-1]

    def write(self) -> None:
        """Write all figures; an interruption leaves the file as it was."""
        runs = [figures.to_dict() for figures in self.made]
        where = {"machine": machine(), "torch": torch.__version__}
        save(self.path, {**where, "facts": self.facts, "pairs": self.pairs, "runs": runs})


def line(figures: LossFigures) -> str:
    """A run in one line."""
    run = figures.run
    test = f", test {100 * figures.metrics['R@1']:.1f}" if figures.metrics else ""
    return (
        f"seed {run.seed}, {run.steps} steps, {run.loss} {run.scale:g} {run.bias}: validation {100 * figures.last:.1f}{test}"
        f" ({figures.cpu_seconds:.0f} CPU s)"
    )


def wanted(ledger: LossLedger, lengths: tuple[int, ...], seeds: list[int]) -> Iterator[LossRun]:
    """The rows' runs, the shorter ones first, all of one seed before the next."""
    for steps in lengths:
        for seed in seeds:
            yield from (tuned_rows(ledger.made, steps, seed) | fixed_rows(steps, seed)).values()


def options_given(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = training_arguments(__doc__)
    parser.add_argument("--steps", nargs="+", type=int, help="lengths of training; all by default")
    options = parser.parse_args(given)
    if options.output is None:  # figures that mean nothing stay out of the repository
        kept = options.budget == "full"
        options.output = RESULTS / "loss_study.json" if kept else options.cache / f"loss_study-{options.budget}.json"
    return options


def main(given: list[str] | None = None) -> None:
    """Train what is missing."""
    options = options_given(given)
    torch.set_num_threads(options.threads)
    budget, lengths = BUDGETS[options.budget], LENGTHS[options.budget]
    shop = LossShop(Workshop(options.cache / options.budget, budget, options.device), VALIDATION_CLIPS[options.budget])
    facts = {"budget": asdict(budget), "lengths": list(lengths), "validation_clips": shop.clips}
    ledger = LossLedger(options.output, facts)
    shop.render()
    ledger.pairs = shop.test_pairs()
    for loss in TUNED:
        for run in grid(loss, lengths[0]):
            ledger.get(run, lambda run=run: measure_loss(shop, run, test=False))
    for run in wanted(ledger, tuple(options.steps or lengths), options.seeds):
        ledger.get(run, lambda run=run: measure_loss(shop, run, test=True))
    ledger.write()


if __name__ == "__main__":
    main()
