import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from colbert_video.cli.listing import Listing
from colbert_video.cli.tables import MAX_FAILURES, description_table, hit_listing, report_text, video_listing
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.upkeep.contents import ListedVideo
from colbert_video.search.hit import Hit, Moment, format_moment, format_time
from colbert_video.search.match_levels import MatchLevels


def _rendered(value: object) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(value)
    return console.export_text()


def _shown(listing: Listing, *, width: int, terminal: bool = True) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
    listing.show(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


LONG = "a-very-long-name-of-a-video-" * 4 + "end.mp4"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 400])
@pytest.mark.parametrize("bags", [False, True])
def test_a_table_cuts_neither_ids_nor_times(width: int, bags: bool) -> None:
    moments = (Moment(5.0, 6.0, 0.5, "w"), Moment(7.0, 8.0, 0.4, "x"))
    hits = [
        Hit(1, LONG, 1.25, 0.5, 0.75, 3601.0, 3602.5, None, {}, moments=moments),
        Hit(2, "b", 1, 1, 0, 1, 2, None, {}),
    ]
    text = _shown(hit_listing(hits, bags=bags), width=width)
    assert "…" not in text
    assert "60:01.0–60:02.5" in text
    cells = [re.split("[│┃|\t]", line) for line in text.splitlines()]  # a line's cells; a table begins with a border
    names = (row[2 if row[0] == "" else 1].strip() for row in cells if len(row) > 2)
    assert LONG in "".join(names)
    assert ("frame bag" in text) == (bags and "┃" in text)


def test_a_pipe_gets_a_line_a_hit_with_tabs() -> None:
    hits = [Hit(1, LONG, 1.25, 0.5, 0.75, 1.0, 2.5, None, {}), Hit(2, "b\nc", 1.0, 1.0, 0.0, None, None, None, {})]
    lines = _shown(hit_listing(hits), width=20, terminal=False).splitlines()
    assert lines == [f"1\t{LONG}\t0:01.0–0:02.5\t1.250", "2\tb\\nc\t-\t1.000"]


def test_a_table_says_in_a_word_how_well_hits_match() -> None:
    hits = [
        Hit(1, "a", 1.25, 0.5, 0.75, 1.0, 2.5, None, {}, confidence=0.9),
        Hit(2, "b", 1.0, 1.0, 0.0, 1.0, 2.0, None, {}),
    ]
    lines = _shown(hit_listing(hits, levels=MatchLevels(0.5, 0.8)), width=80).splitlines()
    assert ["match" in lines[1], "strong" in lines[3], lines[4].split()[-2]] == [True, True, "-"]


def test_videos_are_listed_with_length_and_text() -> None:
    videos = [
        ListedVideo("a.mp4", None, None, None, 12.25, {"text": "a dog"}, 0),
        ListedVideo("b.mp4", None, None, None, None, {"channel": "news", "views": 3}, 2),
        ListedVideo("b.mp4#t=0,10", "b.mp4", 0.0, 10.0, None, {}, 0),
    ]
    lines = _shown(video_listing(videos), width=20, terminal=False).splitlines()
    assert lines == ["a.mp4\t12.2\t0\ta dog", "b.mp4\t-\t2\tchannel: news, views: 3", "b.mp4#t=0,10\t0.0-10.0\t0\t-"]


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
    text = _shown(hit_listing([hit]), width=120)
    assert "[bold]clip[/bold].mp4" in text
    assert "0:01.0–0:02.0" in text
    assert "1.250" in text
    assert _shown(hit_listing([]), width=120).strip() == "no video is eligible"
    cut = _shown(hit_listing([], least=0.5), width=120).strip()
    assert cut == "no video matches with a confidence of 0.5 or more"


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
    assert "6 videos refused (3 unreadable, 2 no_video, 1 timeout):" in lines
    start = lines.index("60 videos indexed, though a part could not be read:")
    assert lines[start + 1] == "  d0: 10 damaged packets or frames; it ends early"
    assert lines[start + MAX_FAILURES + 1] == f"  and {60 - MAX_FAILURES} more"


def test_a_description_lists_its_failures() -> None:
    description = {"videos": 3, "failures": [{"id": "a", "kind": "empty", "detail": "no bytes"}]}
    text = _rendered(description_table(description))
    assert "a: empty: no bytes" in text
    assert "none" in _rendered(description_table({"failures": []}))
