"""The search page in a real browser, against a real service."""

import itertools
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import av
import numpy as np
import pytest
from page_browser import PAGE_CAPTIONS, PAGE_CLIPS, PREFIX, expect, open_by_address, running, search, until, watched
from page_corpus import HOSTILE, SCENE_SECONDS, page_scenes
from serving import TOKEN
from thorough import cases

from colbert_video.indexing.catalog.filters import compile_filter

CLIPS = PAGE_CLIPS
FRAME_RATE = 12
CAPTIONS = PAGE_CAPTIONS
AXE = find_spec("axe_playwright_python")
EVERY_RULE = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
FRAME = """video => {
  const canvas = new OffscreenCanvas(8, 8), context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(video, 0, 0, 8, 8);
  return [...context.getImageData(0, 0, 8, 8).data];
}"""

Watched = Any  # opens a page that is watched


def playing_time(page: Any) -> float:
    return page.evaluate("document.querySelector('#player video').currentTime")


def test_results_come_while_typing_and_only_the_last_words_count(page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: "api/search?" in request.url and asked.append(request.url))
    page.locator("#query").press_sequentially(CAPTIONS[2], delay=2)
    expect(page.locator(".card .title").first).to_have_text(CAPTIONS[2])
    assert len(asked) <= 2
    expect(page.locator("#status")).to_have_text(re.compile(r"^8 results in [\d.]+ ms$"))
    assert not page.locator(".card .number").first.is_visible()
    page.get_by_role("button", name="Numbers").click()
    expect(page.locator(".bar-legend .term").first).to_be_visible()
    score = page.locator(".card .number").first.text_content()
    total, frame, video = (float(part.replace("−", "-")) for part in re.split("[=+]", score))
    assert total == pytest.approx(frame + video, abs=0.011)
    widths = page.locator(".card .bar").first.locator("span").evaluate_all("parts => parts.map(one => one.offsetWidth)")
    assert widths[0] / widths[1] == pytest.approx(frame / video, rel=0.1)


def test_an_older_answer_never_replaces_a_newer_one(page: Any) -> None:
    held: list[Any] = []
    page.route("**/api/search?query=slow*", lambda route: held.append(route))
    page.locator("#query").fill("slow words")
    page.wait_for_timeout(400)
    search(page, CAPTIONS[1])
    assert len(held) == 1
    held[0].fulfill(json={"query": "slow words", "index": "x", "version": 1, "milliseconds": 1, "topk": []})
    page.wait_for_timeout(200)
    expect(page.locator(".card .title").first).to_have_text(CAPTIONS[1])


def test_a_result_opens_at_its_moment_and_plays(page: Any, corpus: Path) -> None:
    search(page, CAPTIONS[CLIPS + 3])
    card = page.locator(".card", has_text="tour.mp4")
    card.scroll_into_view_if_needed()
    moment = card.locator(".moment").text_content()
    start = float(moment.split("–")[0])
    card.click()
    video = page.locator("#player video")
    until(page, "document.querySelector('#player video')?.currentTime > 0")
    until(page, f"document.querySelector('#player video').currentTime > {start + 0.3}")
    video.evaluate("video => video.pause()")
    assert start + 0.3 < playing_time(page) < start + 2.5
    seen = np.array(video.evaluate(FRAME), dtype=float).reshape(8, 8, 4)[..., :3]
    with av.open(str(corpus / "clips" / "tour.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    small = np.stack([frame.reshape(8, 12, 8, 12, 3).mean(axis=(1, 3)) for frame in frames])
    differences = np.abs(small - seen).mean(axis=(1, 2, 3))  # (frames,)
    at = int(playing_time(page) * FRAME_RATE)
    assert differences[at - 2 : at + 3].min() < 8 < 40 < np.median(differences)
    page.locator("#moments .chip").nth(1).click()
    second = float(page.locator("#moments .chip").nth(1).get_attribute("data-start"))
    until(page, f"Math.abs(document.querySelector('#player video').currentTime - {second}) < 0.1")
    expect(page.locator(".strip").first.locator(".time").first).to_have_text(
        f"{SCENE_SECONDS * (second // SCENE_SECONDS) + 0.3} s"
    )


def test_heat_strips_show_the_service_s_numbers_and_seek(page: Any, address: str) -> None:
    query = "a red circle moves"
    open_by_address(page, "clip-0001.mp4", query)
    explained = page.request.get(f"{address}api/explain", params={"query": query, "id": "clip-0001.mp4"}).json()
    padding = sum(token["padding"] for token in explained["tokens"])
    words = len(explained["tokens"]) - padding
    for strip, bag in zip(page.locator(".strip").all(), ("frame", "video"), strict=True):
        rows = strip.locator("tbody tr")
        expect(rows).to_have_count(words + 1)
        expect(rows.last.locator("th")).to_have_text(f"padding × {padding}")
        row = [token["token"] for token in explained["tokens"]].index("red")
        values = explained["similarities"][bag][row]
        names = rows.nth(row).locator(".cell").evaluate_all("cells => cells.map(one => one.ariaLabel)")
        shown = [float(name.split(", ")[2].replace("−", "-")) for name in names]
        np.testing.assert_allclose(shown, values, atol=0.0051)
        assert names[int(np.argmax(values))].endswith(", best")
        expect(strip.locator("thead .expansion")).to_have_count(len(values) - len(explained["times"]))
    cell = page.locator(".strip").first.locator("tbody tr").nth(2).locator(".cell").nth(4)
    assert re.fullmatch(r"red, 2\.3 s, −?0\.\d\d(, best)?", cell.get_attribute("aria-label"))
    cell.click()
    until(page, f"Math.abs(document.querySelector('#player video').currentTime - {explained['times'][4]}) < 0.05")
    expect(page.locator(".strip").first.locator(".time.now")).to_have_text("2.3 s")
    expect(page.locator(".readout")).to_contain_text("red")


def test_everything_can_be_done_by_keyboard(page: Any) -> None:
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.insert_text(CAPTIONS[2])
    expect(page.locator(".card .title").first).to_have_text(CAPTIONS[2])
    page.keyboard.press("ArrowDown")
    expect(page.locator(".card").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    chosen = page.locator(".card").nth(1)
    expect(chosen).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(".cell").first.wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('cell')"):
            break
    first = page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    moved = page.evaluate("[document.activeElement.ariaLabel, Number(document.activeElement.dataset.time)]")
    assert moved[0] != first
    assert page.locator(".strip").first.locator('.cell[tabindex="0"]').count() == 1
    page.keyboard.press("Enter")
    until(page, f"Math.abs(document.querySelector('#player video').currentTime - {moved[1]}) < 0.7")
    page.keyboard.press("]")
    expect(page.locator("#viewer-sub")).to_contain_text("result 3")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page.locator(".card").nth(2)).to_be_focused()


def test_the_address_is_the_state_and_back_goes_back(page: Any, visit: Watched) -> None:
    search(page, CAPTIONS[2])
    page.locator(".card").first.click()
    page.locator(".cell").first.wait_for()
    page.locator("#player video").evaluate("video => { video.pause(); video.currentTime = 2 }")
    page.wait_for_url("**/*t=2.0*")
    with visit() as other:
        other.goto(page.url)
        until(other, "document.querySelector('#player video')?.currentTime === 2")
        expect(other.locator("#viewer-title")).to_have_text(CAPTIONS[2])
        expect(other.locator("#query")).to_have_value(CAPTIONS[2])
    page.go_back()
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page.locator(".card .title").first).to_have_text(CAPTIONS[2])
    page.go_forward()
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    until(page, "!location.search.includes('open')")
    page.go_back()
    expect(page.locator("#query")).to_have_value("")
    expect(page.locator(".card")).to_have_count(0)


def test_html_stays_text(page: Any) -> None:
    attack = "<img src=x onerror=alert(1)><b>bold</b>"
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    search(page, attack)
    card = page.locator(".card", has_text=HOSTILE)
    expect(card.locator(".title")).to_have_text(HOSTILE)
    expect(card.locator(".facts")).to_have_text("note: <b>bold</b>")
    card.click()
    page.locator(".cell").first.wait_for()
    expect(page.locator("#viewer-title")).to_have_text(HOSTILE)
    expect(page.locator("#facts")).to_contain_text("<b>bold</b>")
    until(page, "document.querySelector('#player video')?.readyState >= 2")
    assert page.locator("b, [onerror], img[src='x']").count() == 0
    assert attack in page.title()


def test_filters_are_built_from_rows_and_from_json(page: Any) -> None:
    background = page_scenes(CLIPS)[0].background
    search(page, CAPTIONS[0])
    page.locator("#filters-toggle").click()
    page.locator(".field").fill("background")
    page.locator(".value").fill(background)
    page.wait_for_url("**/*where=*")
    expect(page.locator("#filters-count")).to_have_text(" · 1")
    wanted = sum(scene.background == background for scene in page_scenes(CLIPS)[:CLIPS]) + 1
    expect(page.locator(".card")).to_have_count(wanted)
    page.locator(".filters summary").click()
    expect(page.locator(".raw textarea")).to_have_value(json.dumps({"background": background}, separators=(",", ":")))
    page.locator(".raw textarea").fill("{no json")
    expect(page.locator(".filters .problem-text")).to_contain_text("This is not JSON")
    page.locator(".raw textarea").fill('{"background": "none such"}')
    expect(page.locator("#status")).to_have_text("No results")
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator(".card")).to_have_count(8)
    page.get_by_label("Every part of long videos").check()
    expect(page.locator(".card")).to_have_count(10)
    page.locator(".card", has_text="tour.mp4#t=3,6").click()
    expect(page.locator(".strip").first.locator(".time").first).to_have_text("3.3 s")


WHERES: list[dict[str, Any]] = [
    {"channel": "news"},
    {"duration": {">": 60}},
    {"or": [{"number": 3}, {"number": "3"}, {"flag": True}, {"nothing": None}]},
    {"and": [{"tags": {"contains": "a"}}, {"year": {"in": [1, "two", "3"]}}, {"note": {"exists": False}}]},
    {"channel": {"!=": "x"}, "duration": {"<=": 2.5}},
    {"id": "12"},
]


@pytest.mark.parametrize("where", WHERES)
def test_rows_mean_the_same_as_the_filter(page: Any, where: dict[str, Any]) -> None:
    there_and_back = """async where => {
      const { fromWhere, toWhere } = await import(new URL("static/conditions.js", document.baseURI));
      return toWhere(fromWhere(where));
    }"""
    again = json.loads(page.evaluate(there_and_back, json.dumps(where)))
    expected = where if len(where) == 1 else {"and": [{name: value} for name, value in where.items()]}
    assert again == expected
    compile_filter(again)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg for the copy")
def test_a_file_that_browsers_refuse_is_a_flip_book_until_it_is_converted(page: Any) -> None:
    open_by_address(page, "old camera.avi")
    expect(page.locator(".player-note")).to_contain_text("AVI")
    picture = page.locator(".flip img")
    before = picture.get_attribute("src")
    until(page, "document.querySelector('.flip img').naturalWidth > 0")
    page.locator(".strip").first.locator(".cell").nth(3).click()
    assert picture.get_attribute("src") != before
    page.get_by_role("button", name="Convert to play").click()
    until(page, "document.querySelector('#player video')?.readyState >= 2")
    assert 1.25 < playing_time(page) < 5  # from where the flip book was; it plays on meanwhile


def test_a_missing_file_is_a_note_and_no_broken_player(page: Any) -> None:
    open_by_address(page, "gone.mp4")
    expect(page.locator(".player-note")).to_contain_text("not where it was")
    assert page.locator("#player video, #player img").count() == 0


def test_pictures_search_too_and_have_an_address(page: Any, visit: Watched, corpus: Path) -> None:
    with av.open(str(corpus / "clips" / "clip-0002.mp4")) as container:
        picture = next(container.decode(video=0)).to_image()
    picture.save(corpus / "frame.png")
    page.locator("#image-file").set_input_files(corpus / "frame.png")
    expect(page.locator(".card").first).to_be_visible()
    expect(page.locator("#image-chip")).to_contain_text("frame.png")
    found = page.locator(".card .title").all_text_contents()[:2]
    assert CAPTIONS[1] in found
    page.locator(".card").first.click()
    expect(page.locator(".heat-note")).to_contain_text("not found by words")
    page.keyboard.press("Escape")
    address = page.url
    with visit() as other:
        other.goto(address)
        expect(other.locator("#image-chip img")).to_be_visible()
        expect(other.locator(".card .title").first).to_have_text(page.locator(".card .title").first.text_content())
        assert other.locator(".card .title").all_text_contents()[:2] == found
    page.get_by_role("button", name="Remove the image").click()
    expect(page.locator(".card")).to_have_count(0)


def test_a_pasted_file_that_is_no_picture_is_refused(visit: Watched) -> None:
    with visit(allowed=["415", "422"]) as page:
        page.goto("./")
        page.locator("#welcome .lead").wait_for()
        paste_a_drawing_as_png(page)
        expect(page.locator("#image-chip")).to_contain_text("bad.png")
        expect(page.locator("#problem")).to_be_visible()


def paste_a_drawing_as_png(page: Any) -> None:
    page.evaluate("""async () => {
      const file = new File([await (await fetch("static/icon.svg")).blob()], "bad.png", { type: "image/png" });
      const clipboardData = new DataTransfer();
      clipboardData.items.add(file);
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
    }""")


def test_errors_say_what_to_do(visit: Watched) -> None:
    with visit(allowed=["422"]) as page:
        page.goto("?q=red&k=5000")
        expect(page.locator("#problem")).to_contain_text(
            "5000 results are more than this service gives. Ask for at most 1000 results."
        )
        page.route("**/api/search?*", lambda route: route.abort())
    with visit(allowed=["ERR_FAILED"]) as page:
        page.route("**/api/search?*", lambda route: route.abort())
        page.goto("?q=red")
        expect(page.locator("#problem")).to_contain_text("The service does not answer.")
        page.unroute("**/api/search?*")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".card")).to_have_count(8)


def test_missing_shards_are_told(page: Any) -> None:
    def lose(route: Any) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "shards_failed": ["shard-0001"]})

    page.route("**/api/search?*", lose)
    search(page, CAPTIONS[0])
    note = page.get_by_role("status").filter(has_text="Incomplete: shard-0001 of the index did not answer.")
    expect(note).to_be_visible()
    page.unroute("**/api/search?*")
    search(page, CAPTIONS[1])
    expect(page.locator("#status")).to_have_text(re.compile(r"^8 results in [\d.]+ ms$"))


def test_a_token_is_asked_for_and_the_page_works_under_a_prefix(corpus: Path, browser: Any) -> None:
    with (
        running([corpus / "index"], prefix=PREFIX, token=TOKEN) as address,
        watched(browser, address, allowed=["401"]) as page,
    ):
        page.goto("?q=red")
        page.locator("#token").fill("a wrong one")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#login-problem")).to_contain_text("This is not the service's token.")
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator(".card").first).to_be_visible()
        expect(page.locator("#login")).not_to_be_visible()
        until(page, "document.querySelector('.card img').naturalWidth > 0")
        page.get_by_role("button", name="Log out").click()
        expect(page.locator("#login")).to_be_visible()


def test_cards_play_when_pointed_at_unless_motion_is_unwanted(visit: Watched) -> None:
    for motion, videos in (("no-preference", 1), ("reduce", 0)):
        with visit(reduced_motion=motion) as page:
            page.goto(f"?q={quote_plus(CAPTIONS[2])}")
            page.locator(".card").first.hover()
            page.wait_for_timeout(700)
            expect(page.locator(".preview")).to_have_count(videos)
            if videos:
                until(page, "document.querySelector('.preview.ready').currentTime > 0")
                assert page.locator(".preview").evaluate("video => video.muted")
                page.locator("#query").hover()
                expect(page.locator(".preview")).to_have_count(0)


def test_the_theme_follows_the_system_until_it_is_chosen(visit: Watched) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    with visit(color_scheme="dark") as page:
        page.goto("./")
        dark = page.evaluate(background)
        page.locator("#theme").click()
        assert page.evaluate(background) != dark
        page.reload()
        assert page.evaluate(background) != dark
        expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: light")


def test_words_stay_when_a_picture_is_added_and_both_count(page: Any, corpus: Path, address: str) -> None:
    with av.open(str(corpus / "clips" / "clip-0002.mp4")) as container:
        next(container.decode(video=0)).to_image().save(corpus / "both.png")
    search(page, CAPTIONS[0])
    with page.expect_request("**/api/search/image?*") as asked:
        page.locator("#image-file").set_input_files(corpus / "both.png")
    expect(page.locator("#query")).to_have_value(CAPTIONS[0])
    sent = asked.value.url
    assert f"query={quote_plus(CAPTIONS[0])}" in sent
    content = (corpus / "both.png").read_bytes()
    both, alone = (page.request.post(url, data=content).json()["topk"] for url in (sent, f"{address}api/search/image"))
    assert [result["score"] for result in alone] != [result["score"] for result in both]
    shown = page.locator(".card .title").all_text_contents()
    page.reload()
    expect(page.locator("#image-chip img")).to_be_visible()
    expect(page.locator("#query")).to_have_value(CAPTIONS[0])
    expect(page.locator(".card")).to_have_count(len(shown))


def test_more_like_a_moment_is_a_search_with_an_address(page: Any, visit: Watched, address: str) -> None:
    open_by_address(page, "tour.mp4", CAPTIONS[-2])
    chip = page.locator("#moments .chip").first
    start, end = (float(chip.get_attribute(f"data-{name}")) for name in ("start", "end"))
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page.locator("#like-chip")).to_contain_text("More like tour.mp4")
    asked = {"id": "tour.mp4", "t": start, "end": end}
    wanted = [result["id"] for result in page.request.get(f"{address}api/more_like", params=asked).json()["topk"]]
    assert "tour.mp4" not in wanted
    expect(page.locator(".card")).to_have_count(len(wanted))
    titles = page.locator(".card .title").all_text_contents()
    with visit() as other:
        other.goto(page.url)
        expect(other.locator(".card")).to_have_count(len(wanted))
        assert other.locator(".card .title").all_text_contents() == titles
    page.go_back()
    expect(page.locator("#viewer")).to_be_visible()
    page.go_forward()
    expect(page.locator("#like-chip")).to_be_visible()
    page.get_by_role("button", name="Remove the example").click()
    expect(page.locator(".tile").first).to_be_visible()


def test_parts_of_a_question_are_asked_and_in_the_address(page: Any, address: str) -> None:
    page.goto(f"?q={quote_plus(CAPTIONS[0])}")
    page.locator(".card").first.wait_for()
    page.locator("#filters-toggle").click()
    with page.expect_response(lambda answer: "without=" in answer.url and "/api/search?" in answer.url) as answer:
        page.get_by_label("Not shown").fill(CAPTIONS[0])
        page.get_by_label("Not shown").press("Enter")
    asked = {"query": CAPTIONS[0], "without": CAPTIONS[0]}
    wanted = [result["id"] for result in page.request.get(f"{address}api/search", params=asked).json()["topk"]]
    assert [result["id"] for result in answer.value.json()["topk"]] == wanted
    expect(page.locator("#filters-count")).to_have_text(" · 1")
    page.reload()
    page.locator("#filters-toggle").click()
    expect(page.get_by_label("Not shown")).to_have_value(CAPTIONS[0])


def test_a_picture_that_is_not_kept_any_more_says_so(visit: Watched) -> None:
    with visit(allowed=["404"]) as page:
        page.goto(f"?image={'0' * 32}")
        expect(page.locator("#problem")).to_contain_text("Choose the picture again.")


def test_a_description_that_was_cut_says_so(page: Any) -> None:
    search(page, CAPTIONS[0])
    note = page.locator("#welcome", has_text="longer than this model reads")
    expect(note).not_to_be_visible()
    search(page, " and ".join(CAPTIONS))
    expect(note).to_be_visible()
    page.goto(f"?q={quote_plus(' and '.join(CAPTIONS))}+")  # spaces around the words change nothing
    expect(note).to_be_visible()


def test_words_of_the_trade_are_explained(page: Any) -> None:
    search(page, CAPTIONS[0])
    page.get_by_role("button", name="Numbers").click()
    word = page.locator(".bar-legend .term").first
    tip = word.get_by_role("tooltip")
    expect(tip).not_to_be_visible()
    word.focus()
    expect(tip).to_have_text("How well single frames show what was asked.")
    expect(tip).to_be_visible()
    page.keyboard.press("Escape")
    expect(tip).not_to_be_visible()
    page.locator(".card").first.click()
    page.locator(".cell").first.wait_for()
    page.locator(".strip-block .term").first.focus()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).not_to_be_visible()


def test_pictures_have_their_shape_and_captions_come_from_the_metadata(page: Any) -> None:
    search(page, CAPTIONS[0])
    until(page, "document.querySelector('.card img').naturalWidth > 0")
    box = page.locator(".card .picture").first.bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)  # toy clips are squares
    names = page.evaluate("""async () => {
      const { captionOf, factsOf } = await import(new URL("static/captions.js", document.baseURI));
      const some = [{ text: "a" }, { caption: "b", year: 1 }, { captions: ["c", "d"] }, { title: " " }, { text: 5, title: "e" }];
      return some.map(one => [captionOf(one, "id"), factsOf(one).map(([name]) => name)]);
    }""")
    assert names == [["a", []], ["b", ["year"]], ["c", ["captions"]], ["id", ["title"]], ["e", []]]


def test_the_search_box_is_cleared_by_a_button_of_the_page(page: Any) -> None:
    clear = page.get_by_role("button", name="Clear the search")
    expect(clear).not_to_be_visible()
    search(page, CAPTIONS[0])
    clear.click()
    expect(page.locator("#query")).to_have_value("")
    expect(page.locator("#query")).to_be_focused()
    expect(page.locator(".tile").first).to_be_visible()


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_times_above_the_strips_do_not_touch(visit: Watched, width: int) -> None:
    with visit(viewport={"width": width, "height": 844}) as page:
        open_by_address(page, "clip-0001.mp4")
        for strip in page.locator(".strip").all():
            boxes = [one.bounding_box() for one in strip.locator(".time span:not(.hidden)").all()]
            assert len(boxes) >= 2
            assert all(one["x"] + one["width"] + 2 <= other["x"] for one, other in itertools.pairwise(boxes))


def test_small_screens_need_no_sideways_scrolling(visit: Watched) -> None:
    with visit(viewport={"width": 320, "height": 640}) as page:
        open_by_address(page, "tour.mp4")
        wide = "element => element.scrollWidth > element.clientWidth"
        assert not page.locator("#viewer").evaluate(wide)
        page.keyboard.press("Escape")
        page.locator("#filters-toggle").click()
        assert not page.locator("html").evaluate(wide)


def labelled(page: Any, labels: list[str | None]) -> None:
    """Let the service say how well its results match."""

    def answer(route: Any) -> None:
        found = route.fetch().json()
        for result, label in zip(found["topk"], labels, strict=False):
            result["match"] = label
        route.fulfill(json={**found, "topk": found["topk"][: len(labels)]})

    page.route(re.compile(r"api/search\?"), answer)


def test_results_say_in_a_word_how_well_they_match(page: Any) -> None:
    with page.expect_response(lambda response: "api/search?" in response.url) as answered:
        search(page, CAPTIONS[0])
    words = [result["match"] for result in answered.value.json()["topk"]]
    assert None not in words
    shown = [text.split()[0].lower() for text in page.locator(".card .match").all_text_contents()]
    assert shown == words
    assert page.locator(".card.weak").count() == words.count("weak")


def test_weak_results_are_faded_and_the_page_says_if_there_are_no_others(visit: Watched) -> None:
    with visit() as page:
        labelled(page, ["strong", "fair", "weak", None])
        page.goto("./")
        search(page, CAPTIONS[0])
        cards = page.locator(".card")
        expect(cards).to_have_count(4)
        assert [card.get_attribute("class") for card in cards.all()] == ["card", "card", "card weak", "card"]
        assert page.locator(".match").all_text_contents() == ["Strong match", "Fair match", "Weak match"]
        assert "chance" in (page.locator(".match").first.get_attribute("title") or "")
        expect(page.locator("#status")).not_to_contain_text("Nothing here")
    with visit() as page:
        labelled(page, ["weak", "weak"])
        page.goto("./")
        search(page, CAPTIONS[0])
        expect(page.locator("#status")).to_contain_text("2 results in")
        expect(page.locator("#status")).to_contain_text("Nothing here matches well.")


@pytest.mark.skipif(AXE is None, reason="pip install axe-playwright-python")
@pytest.mark.parametrize(
    ("scheme", "rules"), cases([("light", EVERY_RULE), ("dark", ["color-contrast"])], thorough=[("dark", EVERY_RULE)])
)
def test_no_serious_accessibility_findings(visit: Watched, scheme: str, rules: list[str]) -> None:
    """Everything on light pages; of dark ones, which have other colours, these by default."""
    with visit(color_scheme=scheme) as page:
        page.goto("./")
        page.locator("#welcome .lead").wait_for()
        page.evaluate((Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
        assert serious(page, rules) == []
        page.locator("#filters-toggle").click()
        labelled(page, ["strong", "fair", "weak"])
        search(page, CAPTIONS[0])
        assert serious(page, rules) == []
        page.locator(".card").first.click()
        page.locator(".cell").first.wait_for()
        assert serious(page, rules) == []
        page.get_by_role("button", name="More like this").click()
        expect(page.locator("#like-chip")).to_be_visible()
        assert serious(page, rules) == []
        open_by_address(page, "tour.mp4", "a large square")
        page.locator(".occurrence-list .chip").first.wait_for()
        page.evaluate((Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
        assert serious(page, rules) == []


def serious(page: Any, rules: list[str]) -> list[str]:
    """What axe-core finds by some rules that is serious or critical."""
    expect(page.locator('[aria-busy="true"]')).to_have_count(0)  # results are dimmed while others are looked for
    page.wait_for_timeout(300)  # transitions of colours
    options = {"resultTypes": ["violations"], "runOnly": rules}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]
