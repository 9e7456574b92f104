"""The viewer of the page: its timeline, the end of a moment, and files of moments."""

import csv
import io
from pathlib import Path
from typing import Any

import av
import pytest
from page_browser import PAGE_CAPTIONS, expect, open_by_address, search, until

VIDEO = "document.querySelector('#player video')"
TOUR = PAGE_CAPTIONS[-2]
SQUARES = "a large square"
"""Shown in several parts of the tour."""


def moments(page: Any) -> list[tuple[float, float]]:
    """The moments of the open video, as the list beside the player has them."""
    read = "chips => chips.map(chip => [Number(chip.dataset.start), Number(chip.dataset.end)])"
    return [tuple(found) for found in page.locator("#moments .chip").evaluate_all(read)]


def test_the_timeline_shows_all_moments_and_the_curve_of_relevance(page: Any, address: str) -> None:
    open_by_address(page, "tour.mp4", TOUR)
    marks = page.locator(".timeline-mark")
    found = moments(page)
    expect(marks).to_have_count(len(found))
    assert len(found) > 2
    track = page.locator(".timeline-track").bounding_box()
    for mark, (start, end) in zip(marks.all(), found, strict=True):
        box = mark.bounding_box()
        assert box["x"] - track["x"] == pytest.approx(track["width"] * start / 15, abs=2)
        assert box["width"] == pytest.approx(track["width"] * (end - start) / 15, abs=2)
    curve = page.request.get(f"{address}api/relevance", params={"query": TOUR, "id": "tour.mp4"}).json()
    until(page, "document.querySelector('#timeline path').getAttribute('d')")
    drawn = page.locator("#timeline path").get_attribute("d")
    points = [tuple(map(float, pair.split(","))) for pair in drawn.replace("L", "").split()[2:-3]]
    assert [x for x, _ in points] == pytest.approx([1000 * time / 15 for time in curve["times"]], abs=0.1)
    highest = min(range(len(points)), key=lambda place: points[place][1])
    assert curve["relevance"][highest] == max(curve["relevance"])


def test_the_timeline_seeks_by_pointer_and_by_keyboard(page: Any) -> None:
    open_by_address(page, "tour.mp4", TOUR)
    until(page, f"{VIDEO}?.readyState >= 2")
    box = page.locator(".timeline-track").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + 10)
    until(page, f"Math.abs({VIDEO}.currentTime - 9) < 0.2")
    slider = page.get_by_role("slider", name="Position in the video")
    before = float(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) > before
    until(page, f"{VIDEO}.currentTime > {before}")
    assert slider.get_attribute("aria-valuetext").endswith(" s")
    page.keyboard.press("Home")
    until(page, f"{VIDEO}.currentTime === 0")


@pytest.mark.parametrize("choice", ["stop", "loop", "on"])
def test_playing_stops_or_begins_again_at_the_end_of_the_moment(page: Any, choice: str) -> None:
    search(page, TOUR)
    page.locator(".card", has_text="tour.mp4").click()
    until(page, f"{VIDEO}?.readyState >= 2")
    start, end = moments(page)[0]
    page.locator("#at-end").select_option(choice)
    page.evaluate(f"{VIDEO}.currentTime = {end - 0.5}; {VIDEO}.play()")
    if choice == "stop":
        until(page, f"{VIDEO}.paused && {VIDEO}.currentTime >= {end}")
        assert page.evaluate(f"{VIDEO}.currentTime") < end + 0.4
        page.evaluate(f"{VIDEO}.play()")  # once more goes on behind it
        until(page, f"{VIDEO}.currentTime > {end + 0.4}")
    elif choice == "loop":
        until(page, f"!{VIDEO}.paused && {VIDEO}.currentTime > {start} && {VIDEO}.currentTime < {end - 0.6}")
    else:
        until(page, f"!{VIDEO}.paused && {VIDEO}.currentTime > {end + 0.4}")
    page.reload()
    expect(page.locator("#at-end")).to_have_value(choice)


def test_a_clip_of_the_moment_that_is_watched_is_saved(page: Any, tmp_path: Path) -> None:
    open_by_address(page, "tour.mp4", TOUR)
    page.locator("#moments .chip").nth(1).click()
    start, end = moments(page)[1]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save clip").click()
    assert saved.value.suggested_filename == f"tour {start:g}-{end:g}s.mp4"
    saved.value.save_as(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(end - start, abs=0.11)
    expect(page.locator("#clip-state")).to_have_text("Saved")


def test_all_moments_are_saved_as_a_table_and_as_a_cut_list(page: Any, address: str, tmp_path: Path) -> None:
    search(page, TOUR)
    answer = page.request.get(f"{address}api/search", params={"query": TOUR}).json()["topk"]
    wanted = [
        (result["id"], start, end)
        for result in answer
        for start, end in [
            (result["start"], result["end"]),
            *((moment["start"], moment["end"]) for moment in result["moments"]),
        ]
    ]
    rows = list(csv.reader(io.StringIO(saved_text(page, "Save all moments as a table (CSV)", tmp_path))))
    assert rows[0] == ["number", "video", "start", "end", "score", "text"]
    assert [(row[1], float(row[2]), float(row[3])) for row in rows[1:]] == [
        (video, pytest.approx(start, abs=1e-3), pytest.approx(end, abs=1e-3)) for video, start, end in wanted
    ]
    check_cut_list(saved_text(page, "Save all moments as a cut list (EDL)", tmp_path), wanted, rate=12)
    page.locator(".card", has_text="tour.mp4").click()
    page.locator("#moments .chip").first.wait_for()
    own = [row for row in wanted if row[0] == "tour.mp4"]
    check_cut_list(saved_text(page, "EDL", tmp_path), own, rate=12)


def test_every_occurrence_is_on_the_timeline_and_in_a_list(page: Any, address: str, tmp_path: Path) -> None:
    open_by_address(page, "tour.mp4", SQUARES)
    found = page.request.get(f"{address}api/occurrences", params={"query": SQUARES, "id": "tour.mp4"}).json()[
        "occurrences"
    ]
    assert len(found) > 1
    chips, marks = page.locator(".occurrence-list .chip"), page.locator(".timeline-part")
    expect(chips).to_have_count(len(found))
    expect(page.locator("#occurrences h3")).to_have_text(f"Every place: {len(found)} parts")
    track = page.locator(".timeline-track").bounding_box()
    for mark, chip, part in zip(marks.all(), chips.all(), found, strict=True):
        box, (start, end) = mark.bounding_box(), (part["start"], part["end"])
        assert box["x"] - track["x"] == pytest.approx(track["width"] * start / 15, abs=2)
        assert box["width"] == pytest.approx(track["width"] * (end - start) / 15, abs=2)
        shown = (float(chip.get_attribute("data-start")), float(chip.get_attribute("data-end")))
        assert shown == (pytest.approx(start), pytest.approx(end))
        assert chip.locator(".chip-score").text_content() == f"{part['score']:.2f}"
    until(page, f"{VIDEO}?.readyState >= 2")
    longest = max(range(len(found)), key=lambda number: found[number]["end"] - found[number]["start"])
    marks.nth(longest).click()
    until(page, f"{VIDEO}.paused && {VIDEO}.currentTime >= {found[longest]['end']}")  # played to the end of the part
    chips.first.focus()
    page.keyboard.press("Enter")
    until(page, f"{VIDEO}.currentTime < {found[0]['end']}")
    expect(chips.first).to_have_attribute("aria-current", "true")
    wanted = [("tour.mp4", part["start"], part["end"]) for part in found]
    check_cut_list(saved_text(page, "Save every place as a cut list (EDL)", tmp_path), wanted, rate=12)
    rows = list(csv.reader(io.StringIO(saved_text(page, "Save every place as a table (CSV)", tmp_path))))
    assert [(float(row[2]), float(row[4])) for row in rows[1:]] == [
        (pytest.approx(part["start"], abs=1e-3), pytest.approx(part["score"], abs=1e-3)) for part in found
    ]


def test_a_video_found_by_no_words_lists_no_occurrences(page: Any) -> None:
    page.goto("?open=tour.mp4")
    until(page, f"{VIDEO}?.readyState >= 2")
    expect(page.locator("#occurrences")).to_be_hidden()
    expect(page.locator(".timeline-lane")).to_be_hidden()


def saved_text(page: Any, button: str, folder: Path) -> str:
    with page.expect_download() as saved:
        page.get_by_role("button", name=button, exact=True).click()
    saved.value.save_as(folder / "saved")
    return (folder / "saved").read_bytes().decode()


def check_cut_list(text: str, wanted: list[tuple[str, float, float]], *, rate: int) -> None:
    """An EDL has one event a moment: its frames in the source, and its place in a sequence without gaps."""
    lines = text.split("\r\n")
    assert lines[0].startswith("TITLE: ")
    assert lines[1] == "FCM: NON-DROP FRAME"
    events = [line.split() for line in lines if line[:3].isdecimal()]
    names = [line.removeprefix("* FROM CLIP NAME: ") for line in lines if line.startswith("* FROM CLIP NAME")]
    assert names == [" ".join(video.split()) for video, _, _ in wanted]
    record = 3600 * rate
    for number, (event, (_, start, end)) in enumerate(zip(events, wanted, strict=True), start=1):
        assert event[:4] == [f"{number:03}", "AX", "V", "C"]
        first, last, begin, stop = (frames_of(code, rate) for code in event[4:])
        assert (first, last) == (round(start * rate), max(round(end * rate), first + 1))
        assert (begin, stop) == (record, record + last - first)
        record = stop


def frames_of(timecode: str, rate: int) -> int:
    hours, minutes, seconds, frames = map(int, timecode.split(":"))
    assert frames < rate
    return ((hours * 60 + minutes) * 60 + seconds) * rate + frames


def test_tables_take_no_text_for_a_formula(page: Any) -> None:
    made = page.evaluate("""async () => {
      const { toCsv, toEdl } = await import(new URL("static/momentfiles.js", document.baseURI));
      const rows = [{ id: "=cmd()", start: 0, end: 1.5, score: 0.5, text: 'a "red", blue\\nthing', rate: 30000 / 1001 }];
      return [toCsv(rows), toEdl(rows, "x")];
    }""")
    assert list(csv.reader(io.StringIO(made[0])))[1] == [
        "1",
        "'=cmd()",
        "0.000",
        "1.500",
        "0.5000",
        'a "red", blue\nthing',
    ]
    assert "001  AX       V     C        00:00:00:00 00:00:01:15 01:00:00:00 01:00:01:15" in made[1]


def test_back_keeps_the_scroll_position(visit: Any) -> None:
    with visit(viewport={"width": 390, "height": 600}) as page:
        page.goto("./")
        search(page, TOUR)
        card = page.locator(".card").nth(4)
        card.scroll_into_view_if_needed()
        at = page.evaluate("scrollY")
        assert at > 500
        card.click()
        page.locator(".cell").first.wait_for()
        page.go_back()
        expect(page.locator("#viewer")).not_to_be_visible()
        assert page.evaluate("scrollY") == at
        page.goto("api/docs")
        page.go_back()
        page.locator(".card").first.wait_for()
        until(page, f"Math.abs(scrollY - {at}) < 2")
        page.evaluate("scrollTo(0, 0)")
        page.locator("#query").fill(PAGE_CAPTIONS[0])
        page.locator("#query").press("Enter")
        expect(page.locator(".card .title").first).to_have_text(PAGE_CAPTIONS[0])
