"""The page of promises names tests that exist, and the figures of the committed report."""

import json
import re

import pytest
from paths import BENCHMARKS, ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "indexing").is_dir(), reason="needs the sources, not a wheel")
PAGE = ROOT / "docs" / "security.md"


def test_every_promise_is_held_by_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.count("|") == 4][2:]
    assert len(rows) >= 6
    for row in rows:
        held_by = re.findall(r"`(tests/[\w./]+)`", row.split("|")[3])
        assert held_by, row
        assert [name for name in held_by if not (ROOT / name).exists()] == []


def test_the_figures_are_those_of_the_report() -> None:
    kinds = json.loads((BENCHMARKS / "results" / "fuzz.json").read_text(encoding="utf-8"))["kinds"]
    text = PAGE.read_text(encoding="utf-8")
    for figures in kinds.values():
        found = sum(figures["findings"].values())
        refused = figures["cases"] - figures["fine"] - found
        assert f"| {figures['cases']:,} | {figures['fine']:,} | {refused:,} | {found} |" in text
