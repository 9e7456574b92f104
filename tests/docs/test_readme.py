"""What a newcomer sees first in the README; its blocks are run by test_docs.py."""

import json
import re
from typing import Any

from doc_blocks import ROOT, read_blocks

README = ROOT / "README.md"


def test_the_first_screen_has_the_two_commands() -> None:
    first, second = read_blocks(README)[:2]
    assert "pip install . && colbert-video demo" in first.text
    assert 'pip install -e ".[test]" && python -m pytest' in second.text
    assert second.line < 30


def test_most_of_it_is_run() -> None:
    blocks = read_blocks(README)
    assert {block.language for block in blocks} == {"bash", "python", "text", "bibtex"}
    assert len(blocks) > 8
    assert not any(block.skipped for block in blocks)


def test_the_first_screen_shows_what_it_is() -> None:
    first = README.read_text(encoding="utf-8").partition("\n## ")[0]
    assert (
        first.index("](docs/figures/heat_strip.svg)")
        < first.index("pip install .")
        < first.index("from colbert_video import")
    )
    assert len(first.splitlines()) < 50
    python = next(block for block in read_blocks(README) if block.language == "python")
    assert len([line for line in python.text.splitlines() if line]) <= 6


def test_its_figures_are_those_that_were_measured() -> None:
    text = README.read_text(encoding="utf-8")
    toy, search = (result(name) for name in ("toy", "search"))
    assert f"| {toy['interactions']['mms_fv']['R@1']:.0%} |".replace("%", " %") in text
    (row,) = [row for row in search["rows"] if (row["engine"], row["size"]) == ("ours-4bit", 100_000)]
    measured = row["results"][row["best"]]
    assert f"at recall {measured['recall']:.2f} | {measured['cpu_ms']['p50']:.0f} ms |" in text
    scripts = re.findall(r"`python (benchmarks/\w+\.py)`", text)
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
