import io
from pathlib import Path

import pytest
from rich.console import Console

from colbert_video.cli.tables import MAX_FAILURES, description_table, hit_table, report_text
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.search.hit import Hit, format_moment, format_time


def _rendered(value: object) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(value)
    return console.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0:00.0"), (5.25, "0:05.2"), (65.5, "1:05.5"), (3600.0, "60:00.0"), (None, "-")]
)
def test_times_as_a_player_shows_them(seconds: float | None, text: str) -> None:
    assert format_time(seconds) == text


def test_a_moment_needs_both_ends() -> None:
    assert format_moment(1.0, 2.5) == "0:01.0–0:02.5"
    assert format_moment(None, 2.5) == "-"


def test_hits_are_listed_with_markup_left_as_text() -> None:
    hit = Hit(1, "[bold]clip[/bold].mp4", 1.25, 0.5, 0.75, 1.0, 2.0, None, {})
    text = _rendered(hit_table([hit]))
    assert "[bold]clip[/bold].mp4" in text
    assert "0:01.0–0:02.0" in text
    assert "1.250" in text
    assert _rendered(hit_table([])).strip() == "no video is eligible"


def test_a_report_names_every_refused_file_up_to_a_limit() -> None:
    failures = tuple(
        Failure(f"v{number}", f"/v{number}", "empty", "the file is empty") for number in range(MAX_FAILURES + 3)
    )
    report = IndexReport(Path("i"), 5, 2, 1, failures, 4, 9, 1.5)
    text = report_text(report)
    for part in (
        "5 videos indexed in 1.5 s, 9 in the index",
        "2 of them",
        "1 unchanged",
        "4 other files",
        "v0: empty",
        "and 3 more",
    ):
        assert part in text


def test_refusals_are_counted_by_kind_and_damage_is_listed() -> None:
    kinds = ["no_video", "unreadable", "timeout", "unreadable", "no_video", "unreadable"]
    failures = tuple(Failure(f"v{number}", "/v", kind, "words") for number, kind in enumerate(kinds))
    damaged = {f"d{number}": ("10 damaged packets or frames", "it ends early") for number in range(60)}
    report = IndexReport(Path("i"), 5, 0, 0, failures, 0, 9, 1.5, damaged=damaged)
    assert list(report.failures_by_kind.items()) == [("unreadable", 3), ("no_video", 2), ("timeout", 1)]
    lines = report_text(report).splitlines()
    assert "6 videos were refused (3 unreadable, 2 no_video, 1 timeout):" in lines
    start = lines.index("60 videos are damaged and were indexed as far as they decode:")
    assert lines[start + 1] == "  d0: 10 damaged packets or frames; it ends early"
    assert lines[start + MAX_FAILURES + 1] == f"  and {60 - MAX_FAILURES} more"


def test_a_description_lists_its_failures() -> None:
    description = {"videos": 3, "failures": [{"id": "a", "kind": "empty", "detail": "no bytes"}]}
    text = _rendered(description_table(description))
    assert "a: empty: no bytes" in text
    assert "none" in _rendered(description_table({"failures": []}))
