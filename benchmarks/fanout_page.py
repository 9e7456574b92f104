"""The tables and the plot of `fanout.py` in docs/scale.md."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from decode_page import table
from matplotlib.figure import Figure
from search_figures import FIXED, plain_numbers

Figures = Mapping[str, Any]
COLOURS = {"wait for all": "C3", "ask a copy after p95": "C0", "deadline": "C2"}
"""What is drawn; a deadline hides what copies add to it."""
SHOWN = (1, 3, 10, 100, 1000)


def fanout_table(figures: Figures) -> str:
    """Median and tail by number of shards, for every way to wait."""
    headings = ["way to wait", "shards", "p50 ms", "p95 ms", "p99 ms", "results lost", "asked twice"]
    rows = [
        [
            policy,
            f"{tail['shards']:,}",
            *(f"{tail[name]:.0f}" for name in ("p50", "p95", "p99")),
            f"{100 * tail['lost']:.2f} %",
            f"{100 * tail['asked_twice']:.1f} %",
        ]
        for policy, tails in figures["tails"].items()
        for tail in tails
        if tail["shards"] in SHOWN
    ]
    return f"{table(headings, rows)}\n\n{_sources(figures)}"


def check_text(figures: Figures) -> str:
    """The simulation beside a fan-out that was measured."""
    check = figures["check"]
    if check is None:
        return "No fan-out was measured beside this simulation."
    names = ("p50", "p95", "p99")
    rows = [[title, *(f"{check[title][name]:.1f}" for name in names)] for title in ("measured", "simulated")]
    return table([f"{check['shards']} shards", *(f"{name} ms" for name in names)], rows)


def _sources(figures: Figures) -> str:
    shard = figures["shard"]
    return (
        f"One shard: {figures['source']}; p50 {shard['p50']:.1f} ms, p95 {shard['p95']:.1f} ms, p99 {shard['p99']:.1f} ms. "
        f"A copy is asked after {figures['hedge_ms']:.0f} ms; the deadline is {figures['deadline_ms']:.0f} ms. "
        f"{figures['queries']:,} simulated queries, seed {figures['seed']}."
    )


def draw(figures: Figures, path: Path) -> None:
    """99th percentile and median against the number of shards, a colour a way to wait."""
    with mpl.rc_context(FIXED):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        for policy, colour in COLOURS.items():
            tails = figures["tails"][policy]
            shards = [tail["shards"] for tail in tails]
            for name, line in (("p99", "-"), ("p50", ":")):
                axes.plot(
                    shards,
                    [tail[name] for tail in tails],
                    color=colour,
                    linestyle=line,
                    label=f"{policy}, {name}",
                )
        axes.set(xlabel="shards that a query asks", ylabel="ms until the slowest has answered")
        plain_numbers(axes.xaxis)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
        figure.savefig(path, metadata={"Date": None})


SECTIONS: dict[str, Callable[[Figures], str]] = {"fanout": fanout_table, "check": check_text}
