"""Draw why a video was found: how well each word of a query fits each frame.

    python examples/explain_a_hit.py my.index "a dog catches a frisbee" --picture why.png

Needs matplotlib.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from colbert_video import Explanation, Searcher


def draw(why: Explanation, query: str, picture: Path) -> None:
    """One strip a bag: words × frames, the best frame of each word marked."""
    words = [row for row, token in enumerate(why.tokens) if not token.token.startswith("<")]
    figure = Figure(figsize=(9, 1 + 0.35 * len(words) * len(why.similarities)), layout="constrained")
    figure.suptitle(f"{query} → {why.id}")
    grid = figure.subplots(len(why.similarities), 1, squeeze=False)[:, 0]
    for axes, (bag, cosines) in zip(grid, why.similarities.items(), strict=True):
        shown = cosines[words, : len(why.times)]  # expansion tokens belong to no frame
        axes.imshow(shown, aspect="auto")
        axes.scatter(shown.argmax(axis=1), range(len(words)), marker="x", color="red")
        axes.set_title(f"{bag} tokens, score {why.scores[bag]:.3f}", loc="left")
        axes.set_yticks(range(len(words)), [why.tokens[row].token for row in words])
        axes.set_xticks(range(len(why.times)), [f"{time:.1f} s" for time in why.times])
    figure.savefig(picture)


def main() -> None:
    """Explain the best hit of a query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("query")
    parser.add_argument("--picture", type=Path, default=Path("why.png"))
    options = parser.parse_args()

    with Searcher(options.index) as searcher:
        best = searcher.search(options.query, k=1)[0]
        draw(searcher.explain(options.query, best.id), options.query, options.picture)
    print(f"{best.id}, {best.start:.1f} to {best.end:.1f} s; see {options.picture}")


if __name__ == "__main__":
    main()
