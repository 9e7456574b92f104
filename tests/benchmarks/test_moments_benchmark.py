"""The table on moments in docs/video.md is that of the committed figures."""

import importlib
import json

import pytest
from paths import BENCHMARKS


def test_committed_page_is_that_of_the_committed_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    page = importlib.import_module("moments_page")
    figures = json.loads(page.RESULTS.read_text(encoding="utf-8"))
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, figures) == text
    assert "<!-- moments -->" in text
    assert f"{100 * figures['one long file']['right_minute']:.0f} % of the captions" in text


def test_a_row_says_what_the_figures_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    row = {"queries": 200, "found_first": 150, "iou_at_least_0.5": 0.9, "iou_at_least_0.7": 0.625}
    text = importlib.import_module("moments_page").filled(
        "a\n<!-- moments -->\nold\n<!-- end -->\nb", {"whole": row, "seed": 1}
    )
    assert "| whole | 200 | 75 % | 90 % | 62 % |" in text
    assert "old" not in text
