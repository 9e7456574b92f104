"""Write the figures of all benchmarks into the pages of `docs/`.

    python benchmarks/pages.py            # all pages, from benchmarks/results
    python benchmarks/pages.py --plots    # and their plots, which needs matplotlib

A page has sections between `<!-- figures: NAME.BLOCK -->` and `<!-- end -->`: block BLOCK of the Jinja template `pages/NAME.md`,
filled with `results/NAME.json` and with what `views` computes from it. A third word in the marker is the block's `argument`. The
help texts in docs/cli.md come from the program itself. Tests compare the pages with the figures.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # torch brings it along
from reports import DOCS, HERE, RESULTS, arguments, load
from views import VIEWS, decimal, minus, spread

from colbert_video.durable import write_text

PAGES = ("ablations.md", "cli.md", "how-it-works.md", "performance.md", "scale.md", "video.md")
SECTION = re.compile(r"(<!-- figures: (\w+)\.(\w+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def rule(columns: int) -> str:
    """The line below a table's headings: words on the left, and columns of figures."""
    return "|---|" + "--:|" * columns


def environment() -> Environment:
    """Jinja with the few helpers of our templates; a name that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "pages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    made.globals["rule"] = rule
    made.filters |= {
        "f": format,
        "mean": mean,
        "each": lambda values, spec: ", ".join(format(value, spec) for value in values),
        "decimal": decimal,
        "minus": minus,
        "spread": spread,
    }
    return made


def render(name: str, block: str, figures: Mapping[str, Any], argument: str | None = None) -> str:
    """One section of a page.

    Args:
        name: A template in `pages/`, and its view.
        block: A block of the template.
        figures: The report that it is filled with.
        argument: Which of several tables the block shall be.
    """
    context = {"figures": figures, "argument": argument, **VIEWS.get(name, lambda _: {})(figures)}
    template = environment().get_template(f"{name}.md")
    text = "".join(template.blocks[block](template.new_context(context)))
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def fill(text: str, results: Path = RESULTS) -> str:
    """A page with its sections written again; one without a report in `results` stays as it is."""

    def section(match: re.Match[str]) -> str:
        start, name, block, argument, end = match.groups()
        figures = {} if name == "cli" else load(results / f"{name}.json")
        return match[0] if figures is None else f"{start}\n{render(name, block, figures, argument)}\n\n{end}"

    return SECTION.sub(section, text)


def main() -> None:
    """Write the pages, and the plots if they are asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--plots", action="store_true", help="draw the plots again, too")
    options = parser.parse_args()
    for name in PAGES:
        page = DOCS / name
        write_text(page, fill(page.read_text(encoding="utf-8")))
    if options.plots:
        from plots import draw_all  # needs matplotlib

        draw_all(RESULTS, DOCS / "figures")


if __name__ == "__main__":
    main()
