"""The page of the ablations: every table with the paper's figures beside ours, and whether the two agree."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from ablation_measures import LENGTHS, Measurement
from ablation_training import INFONCE, SIGMOID, Budget
from ablation_variants import TABLES, VARIANTS, Settings, Variant, choose_variants

COUNTS = 2.0
"""Points of R@1 that a difference has to exceed: about the standard error of R@1 on 500 captions."""
MINUS = "−"

INTRODUCTION = """# Ablations

What the design choices of Video-ColBERT (Reddy et al., CVPR 2025) bring, measured again on the synthetic world of
moving shapes, where a training takes minutes on one core. The command is

    python benchmarks/ablations.py

and this page is made from its figures by `python benchmarks/ablations.py --page`.

## What the figures can say

The paper's figures are R@1 on MSR-VTT with CLIP ViT-B/32. Ours are R@1 on {test_clips} rendered clips that no run was
trained or tuned on, half of them in *motion pairs*: two clips of the very same frames, one in reverse order, so that
nothing but order tells their captions apart. "Motion pairs" is how often a caption of such a clip ranks it above its
reversal; chance is 50. The levels of the two columns have nothing to do with each other. What can be compared is which
row of a table is better.

**The start.** The paper starts from CLIP. Here, every run starts from the image and text towers of the shipped toy
checkpoint (3 vision layers, 4 text layers, 64 dimensions). They are closer to the task than CLIP is: they were trained
on this world together with a temporal transformer, with padding 0 scored, so they know shapes, colours and places, and
expect that padding.

**Each row** throws that temporal transformer away, puts a new one in its place, copied from the text tower, and trains
{steps} steps of {batch} captions on {train_clips:,} clips, with clips that look alike in one batch. Learning rates are {learning_rate:g} for the new layers and
{pretrained_learning_rate:g} for the towers; as in the paper, embeddings stay frozen and the rate falls
linearly after 10 % of warm-up. Sigmoid losses have the fixed scale {sigmoid_scale:g} and bias {sigmoid_bias},
InfoNCE the scale {infonce_scale:g}; the paper's exp(4.77) and −12.93 suit CLIP's cosines. A combined loss sees the sum
of two scores and gets half the scale. The default has 6 frames instead of 12, and is the paper's otherwise.

**Reading the tables.** Figures are means over seeds, ± their standard deviation. A seed changes the new
weights and the order of clips; towers and clips stay the same. "Δ" is R@1 against the paper's choice, in bold, seed by seed.
A difference is taken as real if it has one sign in at least two seeds, all there are, and exceeds {counts:g} points,
about the standard error of R@1 on 500 captions; a smaller one is undecided. A dash stands where the paper has no such
row or a run is missing.
"""

NOTES = {
    "interaction": (
        "The paper trains each interaction on its own, and so do we; RRF fuses the ranks of the model that MMS_FV trained. MMS_F "
        "and mean pooling of frame tokens have no temporal layers, so motion pairs are a coin's toss for them by construction. "
        "The world asks for more temporal modelling than MSR-VTT does: half of its test captions cannot be told without it, while many "
        "captions of MSR-VTT can be told from one frame. So a gain of video tokens should be larger here, and frame tokens, "
        "which say nothing about half of the captions, have less to add to them in MMS_FV."
    ),
    "loss": (
        "Scale and bias are chosen for the toy, not searched for every loss; a short training favours the loss that gets going "
        "fastest. With batches of look-alikes InfoNCE has hard negatives in every row. The shipped checkpoint starts with InfoNCE "
        "and ends with a sigmoid loss for the same reason."
    ),
    "augmentation": (
        "Off, padding is left out of the mean over query tokens. The paper's Figure 3 shows the effect by the length of the query; its "
        "figures are not repeated here. The world's captions are all of one kind, 11 to 23 tokens, which leaves 5 to 17 tokens of "
        "padding in a query of 28: far fewer short queries than on MSR-VTT. The towers were trained with augmentation on, which "
        "favours it."
    ),
    "frames": (
        "Our frames are half of the paper's in each row. A clip of the world lasts three seconds and has one motion or two "
        "events, so six frames show nearly all of it, and two, one from each half, can tell a motion from its reversal. In a "
        "training this short the easier task may win."
    ),
    "depth": (
        "The paper's row of 8 layers (48.5) has no counterpart: the toy's text tower has 4 layers to copy. One motion in six "
        "frames is a small task, for which fewer layers may do."
    ),
    "pad": (
        "CLIP has seen ids 31, 3002 and 13530 as words, and the ids that start and end a text in every caption. The toy's "
        "towers were trained with padding 0, and have never seen the other three, which are random vectors to them: the "
        "table favours 0."
    ),
    "labels": (
        "For this table alone every training clip has two captions, the same scene in other words, and both come in one batch. "
        "Diagonal labels call the other caption of a clip wrong, labels from video ids call it right. On MSVD, with some "
        "forty captions a video, a batch of 256 has about 27 such pairs."
    ),
}


@dataclass(frozen=True)
class Row:
    """A variant with its figures, one of each seed in the order of seeds."""

    variant: Variant
    """What was measured."""
    runs: dict[int, Measurement]
    """Its run of each seed."""

    def figures(self, metric: str) -> dict[int, float]:
        """A metric in percent, by seed."""
        return {
            seed: 100 * run.metrics[self.variant.interaction][metric]
            for seed, run in self.runs.items()
            if metric in run.metrics[self.variant.interaction]
        }

    def by_length(self, length: str) -> dict[int, float]:
        """R@1 of the captions of one length in percent, by seed."""
        found = {seed: run.by_length[self.variant.interaction] for seed, run in self.runs.items()}
        return {seed: 100 * values[length] for seed, values in found.items() if length in values}


def write_page(path: Path, runs: list[Measurement], budget: Budget) -> None:
    """Write the page of all tables that have figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs, budget), encoding="utf-8")


def page(runs: list[Measurement], budget: Budget) -> str:
    """The page as Markdown."""
    parts = [introduction(budget), summary(runs)]
    parts += [section(table, rows_of(table, runs)) for table in TABLES]
    return "\n".join(parts)


def introduction(budget: Budget) -> str:
    """How the figures were made."""
    return INTRODUCTION.format(
        **vars(budget),
        sigmoid_scale=SIGMOID["loss_scale"],
        sigmoid_bias=f"{SIGMOID['loss_bias']:g}".replace("-", MINUS),
        infonce_scale=INFONCE["loss_scale"],
        counts=COUNTS,
    )


def rows_of(table: str, runs: list[Measurement]) -> list[Row]:
    """The rows of a table, those without a run too."""
    return [
        Row(variant, {run.seed: run for run in runs if run.settings == variant.settings})
        for variant in choose_variants([table])
    ]


def section(table: str, rows: list[Row]) -> str:
    """One table, what it says, and why it may say something else than the paper."""
    parts = [f"## {TABLES[table]}\n", markdown(rows), ""]
    if table == "augmentation":
        parts += ["By tokens of the caption, start and end of text included:\n", length_table(rows), ""]
    parts += [*verdicts(rows), "", NOTES[table], ""]
    return "\n".join(parts)


def default_of(rows: list[Row]) -> Row:
    """The paper's choice."""
    return next(row for row in rows if row.variant.is_default)


def markdown(rows: list[Row]) -> str:
    """A table in Markdown; the paper's figures stand first."""
    head = ["", "paper R@1", "paper Δ", "R@1", "Δ", "R@5", "nDCG@10", "motion pairs", "seeds"]
    reference = default_of(rows)
    body = [
        [
            row.variant.name,
            decimal(row.variant.paper),
            signed(paper_difference(row, reference)),
            spread(row.figures("R@1")),
            "" if row is reference else spread(differences(row, reference), sign=True),
            spread(row.figures("R@5")),
            spread(row.figures("nDCG@10")),
            spread(row.figures("motion pairs")),
            str(len(row.runs)),
        ]
        for row in rows
    ]
    return grid(head, body)


def length_table(rows: list[Row]) -> str:
    """R@1 of short, medium and long captions."""
    names = [f"{name} ({_range(*LENGTHS[name])})" for name in LENGTHS]
    body = [[row.variant.name, *(spread(row.by_length(length)) for length in LENGTHS)] for row in rows]
    off, on = rows
    gains = [paired(on.by_length(length), off.by_length(length)) for length in LENGTHS]
    body.append(["gain", *(spread(gain, sign=True) for gain in gains)])
    return grid(["R@1", *names], body)


def verdicts(rows: list[Row]) -> list[str]:
    """For every row with figures on both sides, whether paper and toy agree about it."""
    reference = default_of(rows)
    judged: dict[str, list[str]] = {"agree": [], "disagree": [], "undecided": []}
    for row in rows:
        paper, ours = paper_difference(row, reference), differences(row, reference)
        if paper is not None and ours:
            text = f"{row.variant.name} ({signed(paper)} in the paper, {signed(mean(ours.values()))} here)"
            judged[judgement(paper, list(ours.values()))].append(text)
    words = {
        "agree": "**As in the paper**",
        "disagree": "**Other than in the paper**",
        "undecided": "**Undecided**",
    }
    return [f"- {words[name]}: {'; '.join(found)}." for name, found in judged.items() if found]


def judgement(paper: float, ours: list[float]) -> str:
    """Whether differences of some seeds have the sign of the paper's: "agree", "disagree" or "undecided"."""
    one_sign = len({difference > 0 for difference in ours}) == 1
    if len(ours) < 2 or not one_sign or abs(mean(ours)) <= COUNTS:
        return "undecided"
    return "agree" if (mean(ours) > 0) == (paper > 0) else "disagree"


def differences(row: Row, reference: Row) -> dict[int, float]:
    """R@1 against the reference, for every seed that both have."""
    return paired(row.figures("R@1"), reference.figures("R@1"))


def paired(figures: dict[int, float], reference: dict[int, float]) -> dict[int, float]:
    """Differences by seed."""
    return {seed: value - reference[seed] for seed, value in figures.items() if seed in reference}


def paper_difference(row: Row, reference: Row) -> float | None:
    """The same difference in the paper; None where it has none, and for the reference itself."""
    if row.variant.paper is None or reference.variant.paper is None or row is reference:
        return None
    return row.variant.paper - reference.variant.paper


def summary(runs: list[Measurement]) -> str:
    """How many runs there are, and on how many seeds."""
    wanted = len({variant.settings for variant in VARIANTS})
    seeds = sorted({run.seed for run in runs})
    complete = sum(sum(run.seed == seed for run in runs) == wanted for seed in seeds)
    default = [run.cpu_seconds for run in runs if run.settings == Settings()]
    took = f" The default's run takes {mean(default):.0f} seconds of one core." if default else ""
    return f"So far: {len(runs)} runs; {complete} of {len(seeds)} seeds are complete ({wanted} runs each).{took}\n"


def grid(head: list[str], body: list[list[str]]) -> str:
    """Cells as a Markdown table whose figures are right-aligned."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *body])


def spread(figures: dict[int, float], *, sign: bool = False) -> str:
    """Mean and standard deviation over seeds; a dash for no figure."""
    values = list(figures.values())
    if not values:
        return "–"
    middle = signed(mean(values)) if sign else decimal(mean(values))
    return middle if len(values) == 1 else f"{middle} ± {stdev(values):.1f}"


def decimal(value: float | None) -> str:
    """One decimal; a dash for no figure."""
    return "–" if value is None else f"{value:.1f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """One decimal with its sign; a dash for no figure."""
    return "–" if value is None else f"{value:+.1f}".replace("-", MINUS)


def _range(least: int, most: int) -> str:
    if least == 0:
        return f"up to {most}"
    return f"{least} and more" if most == LENGTHS["long"][1] else f"{least} to {most}"
